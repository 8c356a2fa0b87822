"""The path for the host in C: forward in one pass over the predictions, backward in one over the gradient.

The C is compiled when it is first needed, which takes about a second and is done once (`regionloss.c_compiler`). It
takes predictions of any strides and truths of any shape; the half types are computed in float32. Images are shared out
among as many threads as PyTorch has, and the answer does not depend on how many that are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regionloss.c_compiler import CompilerError, build, processor
from regionloss.torch.checks import check_truths
from regionloss.torch.ops import Forward, define, is_early, slopes_kept
from regionloss.torch.paths import PathError
from regionloss.torch.settings import Settings

_SOURCE = Path(__file__).with_suffix(".c")

#: For vectors, nobody looks at errno or at traps; products are not fused with sums, which could move a tie.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC", "-shared")

#: Of some compilers the first is not to be had, and then there is one thread; without the second it is slower.
_THREADING = (("-fopenmp",), ("-fopenmp-simd",), ())

_TYPES = {torch.float32: ("float", "SINGLE"), torch.float64: ("double", "DOUBLE")}


#: What the functions in C are called with: names and types there, in the order of `_call`.
_CALL = {
    **dict.fromkeys(("images", "anchors", "classes", "height", "width", "slots", "early", "threads"), "int64_t "),
    **dict.fromkeys(
        ("of_image", "of_channel", "of_row", "of_column"), "int64_t "
    ),  # strides of predictions or gradient
    "factor": "double ",
    "sizes": "const double *",
    "state": "uint8_t *",
    "owner": "int32_t *",
    **dict.fromkeys(("active", "slopes"), "void *"),
    "gradient": "void *",  # from here on for one of the two functions alone
    "predictions": "const void *",
    "rows": "const double *",
    "counts": "const int64_t *",
    **dict.fromkeys(("loss", "terms"), "void *"),
}

_IN_C: dict[str, Any] = {"int64_t ": ctypes.c_int64, "double ": ctypes.c_double}


class _Call(ctypes.Structure):
    _fields_ = [(name, _IN_C.get(kind, ctypes.c_void_p)) for name, kind in _CALL.items()]


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in Settings._fields]


#: What the functions in C answer.
_NO_MEMORY, _BAD_TRUTH = 1, 2


def _forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: Sequence[float],
    settings: Settings,
) -> Forward:
    outputs = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    given = rows.double().contiguous()
    lengths = None if counts is None else counts.to(torch.int64).contiguous()
    images, _, height, width = outputs.shape
    found = Forward(
        outputs.new_empty(()),
        outputs.new_empty(5),
        outputs.new_empty((images, len(anchors) // 2, height, width), dtype=torch.uint8),
        outputs.new_empty(rows.shape[:2], dtype=torch.int32),
        slopes_kept(outputs, rows, anchors),
    )
    call = _call(outputs, anchors, found.state, found.owner, *found.kept)
    call.early = bool(is_early(images_seen, seen, settings))
    call.predictions, call.rows = outputs.data_ptr(), given.data_ptr()
    call.counts = None if lengths is None else lengths.data_ptr()
    call.loss, call.terms = found.loss.data_ptr(), found.terms.data_ptr()
    if _run("pay", outputs.dtype, call, settings) == _BAD_TRUTH:
        check_truths(rows, counts, anchors, call.classes, settings)
    return found


def _backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    kept: Sequence[Tensor],
    anchors: Sequence[float],
    settings: Settings,
) -> Tensor:
    active, slopes = kept
    gradient = torch.empty_like(predictions, dtype=active.dtype)
    saved = state.contiguous(), owner.contiguous(), active.contiguous(), slopes.contiguous()
    call = _call(gradient, anchors, *saved)
    call.factor = float(upstream) / (max(len(gradient), 1) if settings.per_image else 1)
    call.gradient = gradient.data_ptr()
    _run("write_gradient", gradient.dtype, call, settings)
    return gradient.to(predictions.dtype)


def _call(
    planes: Tensor, anchors: Sequence[float], state: Tensor, owner: Tensor, active: Tensor, slopes: Tensor
) -> _Call:
    """The tensors are not kept: whoever calls holds them until the call is over.

    `planes` are the predictions or their gradient, `[N, A*(5+C), H, W]`.
    """
    images, channels, height, width = planes.shape
    count = len(anchors) // 2
    # fmt: off
    return _Call(
        images, count, channels // count - 5, height, width, owner.shape[1], 0, torch.get_num_threads(),
        *planes.stride(), 0, _sizes(tuple(anchors)).data_ptr(),
        state.data_ptr(), owner.data_ptr(), active.data_ptr(), slopes.data_ptr(),
    )
    # fmt: on


@cache
def _sizes(anchors: tuple[float, ...]) -> Tensor:
    return torch.tensor(anchors, dtype=torch.float64)


def _run(name: str, dtype: torch.dtype, call: _Call, settings: Settings) -> int:
    answer: int = getattr(_library(dtype), name)(ctypes.byref(call), _settings(settings))
    if answer == _NO_MEMORY:
        raise MemoryError("there is no memory for the truths of an image and the predictors that answer for them")
    return answer


@cache
def _settings(settings: Settings) -> Any:
    return ctypes.byref(_Settings(*settings))


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """The functions for a type of `_TYPES`.

    Raises:
        PathError: they cannot be compiled.
    """
    real, single = _TYPES[dtype]
    source = f"{_declarations()}#define REAL {real}\n#define {single} 1\n{_SOURCE.read_text(encoding='utf-8')}"
    why_not: CompilerError | None = None
    for threading in _THREADING:
        try:
            arguments = [*_FLAGS, *threading, "-x", "c", "-", "-lm"]
            return ctypes.CDLL(str(build(f"region-loss-{real}", arguments, source=source, made_of=[processor()])))
        except CompilerError as error:
            why_not = why_not or error
    raise PathError(f"the path 'compiled' cannot be compiled, path='analytic' needs no compiler: {why_not}")


def _declarations() -> str:
    call = "".join(f"    {kind}{name};\n" for name, kind in _CALL.items())
    settings = "".join(f"    double {name};\n" for name in Settings._fields)
    headers = "".join(f"#include <{name}.h>\n" for name in ("math", "stdint", "stdlib", "string"))
    return f"{headers}typedef struct {{\n{call}}} Call;\ntypedef struct {{\n{settings}}} Settings;\n"


define("compiled", _forward, _backward, slopes_kept)
