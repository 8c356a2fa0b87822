"""Which path computes the loss, and why a path cannot."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from regionloss.torch.settings import TRITON_DTYPES, PathError, refusal
from regionloss_spec import Profile

F = TypeVar("F", bound=Callable[..., Any])

#: `eager` computes every profile in plain, differentiable PyTorch. The fast paths have their gradients written down:
#: `analytic` on any device, `compiled` in C++ on the host (it needs a compiler), `triton` on CUDA.
Path = Literal["eager", "analytic", "compiled", "triton"]

PATHS: tuple[Path, ...] = get_args(Path)

#: The module of each path; that of a fast path registers its operators.
_MODULES: dict[Path, str] = {
    "eager": "eager.loss",
    "analytic": "analytic.operators",
    "compiled": "cpp.operators",
    "triton": "triton.operators",
}

_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


def check_path(wanted: Path | Literal["auto"], profile: Profile) -> None:
    """Refuse an unknown path, and one that does not express a profile.

    Raises:
        PathError: names the known paths, or the axis that the path does not express.
    """
    if wanted not in ("auto", *PATHS):
        raise PathError(f"unknown path {wanted!r}; expected one of auto, {', '.join(PATHS)}")
    why_not = None if wanted in ("auto", "eager") else refusal(profile)
    if why_not is not None:
        raise PathError(f"the path {wanted!r} does not express this loss: {why_not}; path='eager' does")


def choose_path(wanted: Path | Literal["auto"], predictions: Tensor, profile: Profile) -> Path:
    """The path that computes predictions of this device and type under a profile.

    Args:
        wanted: a path by name, or `auto`: eager for a profile that the fast paths do not express, else triton on CUDA
            for float32 and the half types, else analytic.
        predictions: only their device and type are used.
        profile: the choices of the loss.

    Raises:
        PathError: the path by this name cannot compute them, or a package that it needs is not installed.
    """
    check_path(wanted, profile)
    path = _quickest(predictions, profile) if wanted == "auto" else wanted
    load_path(path)
    if path == "compiled" and predictions.device.type != "cpu":
        raise PathError(f"the path 'compiled' runs on the host, and the predictions are on {predictions.device}")
    if path == "triton":
        if predictions.dtype not in TRITON_DTYPES:
            raise PathError(f"the path 'triton' does not take {predictions.dtype}; path='analytic' does")
        if predictions.device.type != "cuda" and not _interprets_triton():
            raise PathError(
                f"the path 'triton' takes predictions on {predictions.device} only with TRITON_INTERPRET=1 in the "
                "environment, which is slow; path='analytic' takes them"
            )
    return path


def _quickest(predictions: Tensor, profile: Profile) -> Path:
    if refusal(profile) is not None:
        return "eager"
    fused = predictions.device.type == "cuda" and predictions.dtype in TRITON_DTYPES
    return "triton" if fused and _has_triton() else "analytic"


def _constant_when_compiled(function: F) -> F:
    """Mark a function whose result does not change while the process lives, so `torch.compile` need not trace it.

    This is `torch.compiler.assume_constant_result`, which imports `torch._dynamo`: that doubles the time to import this
    package, also for those who never compile.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# `torch.compile` cannot trace an import.
@_constant_when_compiled
def load_path(path: Path) -> None:
    """Import the module of a path; that of a fast path registers `torch.ops.regionloss.<path>`.

    Raises:
        PathError: a package that it needs is not installed.
    """
    try:
        importlib.import_module(f"regionloss.torch.{_MODULES[path]}")
    except ModuleNotFoundError as error:
        raise PathError(f"the path {path!r} needs {error.name}, which is not installed") from error


@_constant_when_compiled
def _has_triton() -> bool:
    if not _TRITON_INSTALLED:
        warnings.warn("Triton is not installed: the loss takes path 'analytic' on CUDA, which is slower", stacklevel=2)
    return _TRITON_INSTALLED


@_constant_when_compiled
def _interprets_triton() -> bool:
    return bool(importlib.import_module("regionloss.torch.triton.operators").INTERPRETED)
