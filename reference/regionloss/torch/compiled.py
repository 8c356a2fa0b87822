"""The path for the host in C: one pass over the predictions forward, and one backward.

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
from regionloss.torch.analytic import Forward
from regionloss.torch.checks import check_slots
from regionloss.torch.ops import define, is_early
from regionloss.torch.paths import PathError
from regionloss.torch.settings import Settings

_SOURCE = Path(__file__).with_suffix(".c")

#: For vectors, nobody looks at errno or at traps; products are not fused with sums, which could move a tie.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC", "-shared")

#: Of some compilers the first is not to be had, and then there is one thread.
_THREADING = (("-fopenmp",), ())

_TYPES = {torch.float32: ("float", "SINGLE"), torch.float64: ("double", "DOUBLE")}


#: What the functions in C are called with: names and types there.
_CALL = {
    **dict.fromkeys(("images", "anchors", "classes", "height", "width", "slots", "early", "threads"), "int64_t "),
    **dict.fromkeys(("p_image", "p_channel", "p_row", "p_column"), "int64_t "),  # strides of the predictions
    **dict.fromkeys(("g_image", "g_channel", "g_row", "g_column"), "int64_t "),  # strides of the gradient
    "factor": "double ",
    **dict.fromkeys(("predictions", "gradient", "overlap", "loss", "terms"), "void *"),
    **dict.fromkeys(("rows", "sizes"), "const double *"),
    "counts": "const int64_t *",
    "state": "uint8_t *",
    "bad": "uint8_t *",
    "owner": "int32_t *",
    "sums": "double *",
}

_IN_C: dict[str, Any] = {"int64_t ": ctypes.c_int64, "double ": ctypes.c_double}


class _Call(ctypes.Structure):
    _fields_ = [(name, _IN_C.get(kind, ctypes.c_void_p)) for name, kind in _CALL.items()]


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in Settings._fields]


def _forward(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    seen: int,
    anchors: Sequence[float],
    settings: Settings,
) -> Forward:
    outputs, given, sizes = _prepared(predictions, rows, anchors)
    images, _, height, width = outputs.shape
    found = Forward(
        outputs.new_empty(()),
        outputs.new_empty(5),
        outputs.new_empty((images, len(anchors) // 2, height, width), dtype=torch.uint8),
        outputs.new_empty(rows.shape[:2], dtype=torch.int32),
        outputs.new_empty(rows.shape[:2]),
    )
    bad = torch.zeros(rows.shape[:2], dtype=torch.bool)
    sums = torch.zeros(images, 5, dtype=torch.float64)
    lengths = None if counts is None else counts.to(torch.int64).contiguous()
    early = bool(is_early(images_seen, seen, settings))
    call = _call(outputs, None, given, sizes, found.state, found.owner, found.overlap)
    call.early, call.loss, call.terms = early, found.loss.data_ptr(), found.terms.data_ptr()
    call.bad, call.sums = bad.data_ptr(), sums.data_ptr()
    call.counts = None if lengths is None else lengths.data_ptr()
    _run("pay", outputs.dtype, call, settings)
    if bad.any():
        check_slots(rows, bad, call.classes)
    return found


def _backward(
    upstream: Tensor,
    predictions: Tensor,
    rows: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
    anchors: Sequence[float],
    settings: Settings,
) -> Tensor:
    outputs, given, sizes = _prepared(predictions, rows, anchors)
    gradient = torch.empty_like(outputs)
    saved = state.contiguous(), owner.contiguous(), overlap.contiguous()
    call = _call(outputs, gradient, given, sizes, *saved)
    call.factor = float(upstream) / (max(len(outputs), 1) if settings.per_image else 1)
    _run("write_gradient", outputs.dtype, call, settings)
    return gradient.to(predictions.dtype)


def _prepared(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions in a type of `_TYPES`; truths, and sizes of the anchors in turn, float64 in one piece."""
    numbers = torch.promote_types(predictions.dtype, torch.float32)
    return predictions.detach().to(numbers), rows.detach().double().contiguous(), _sizes(tuple(anchors))


@cache
def _sizes(anchors: tuple[float, ...]) -> Tensor:
    return torch.tensor(anchors, dtype=torch.float64)


def _call(
    outputs: Tensor,
    gradient: Tensor | None,
    rows: Tensor,
    sizes: Tensor,
    state: Tensor,
    owner: Tensor,
    overlap: Tensor,
) -> _Call:
    """The tensors are not kept: whoever calls holds them until the call is over."""
    images, channels, height, width = outputs.shape
    anchors = len(sizes) // 2
    # Forward writes no gradient, and any strides will do.
    strides = (*outputs.stride(), *(outputs if gradient is None else gradient).stride())
    names = [f"{of}_{axis}" for of in "pg" for axis in ("image", "channel", "row", "column")]
    return _Call(
        images=images,
        anchors=anchors,
        classes=channels // anchors - 5,
        height=height,
        width=width,
        slots=rows.shape[1],
        threads=torch.get_num_threads(),
        **dict(zip(names, strides, strict=True)),
        predictions=outputs.data_ptr(),
        gradient=None if gradient is None else gradient.data_ptr(),
        rows=rows.data_ptr(),
        sizes=sizes.data_ptr(),
        state=state.data_ptr(),
        owner=owner.data_ptr(),
        overlap=overlap.data_ptr(),
    )


def _run(name: str, dtype: torch.dtype, call: _Call, settings: Settings) -> None:
    if not getattr(_library(dtype), name)(ctypes.byref(call), ctypes.byref(_Settings(*settings))):
        raise MemoryError("there is no memory for the truths of an image and the predictors that answer for them")


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


define("compiled", _forward, _backward)
