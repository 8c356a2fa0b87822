"""Which of the ways to compute the loss is taken, and why another is not."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from regionloss.torch.settings import refusal
from regionloss_spec import Profile

#: `eager` is every profile in plain, differentiable PyTorch; the others write the gradient down. `analytic` runs on any
#: device, `compiled` is that with its dense part compiled by `torch.compile`, `triton` is fused for CUDA.
Path = Literal["eager", "analytic", "compiled", "triton"]

PATHS: tuple[Path, ...] = get_args(Path)

#: What the kernels compute: they accumulate in float32, which is not enough for float64.
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class PathError(ValueError):
    """A path that cannot compute what it was asked for; the message says which can."""


def choose_path(wanted: Path | Literal["auto"], predictions: Tensor, profile: Profile) -> Path:
    """The path that is taken for predictions of this device and type under a profile.

    Args:
        wanted: a path by name, or `auto`: eager for a profile that the fast paths do not express, else triton on CUDA
            for float32 and the half types, else analytic.
        predictions: only their device and type are looked at.
        profile: the choices of the loss.

    Raises:
        PathError: the path by this name cannot compute it.
    """
    why_not = refusal(profile)
    if wanted == "auto":
        if why_not is not None:
            return "eager"
        fused = predictions.device.type == "cuda" and predictions.dtype in _TRITON_DTYPES
        return "triton" if fused and _has_triton() else "analytic"
    if wanted not in PATHS:
        raise PathError(f"no path {wanted!r}; there are auto, {', '.join(PATHS)}")
    if wanted != "eager" and why_not is not None:
        raise PathError(f"the path {wanted!r} does not express this loss: {why_not}; path='eager' does")
    if wanted == "triton" and predictions.dtype not in _TRITON_DTYPES:
        raise PathError(f"the path 'triton' does not take {predictions.dtype}; path='analytic' does")
    return wanted


def load_path(path: Path) -> None:
    """Import what registers the operators of a path.

    Raises:
        PathError: what it needs is not installed.
    """
    _load(path)


@cache
def _load(path: Path) -> None:
    module = {"analytic": "ops", "compiled": "compiled", "triton": "triton_path"}[path]
    try:
        importlib.import_module(f"regionloss.torch.{module}")
    except ModuleNotFoundError as error:
        raise PathError(f"the path {path!r} needs {error.name}, which is not installed") from error


@cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        warnings.warn("Triton is not installed: the loss takes path 'analytic' on CUDA, which is slower", stacklevel=2)
    return found
