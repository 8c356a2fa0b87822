"""The operators of the path of CUDA, `regionloss::triton` and `triton_backward`: three launches of fused kernels.

Forward reads five channels of every predictor and the classes of the responsible ones; backward writes the gradient
once. Nothing waits for the device, so that a step can be captured in a CUDA graph. Importing this module needs Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from regionloss.torch.ops import BackwardInputs, Forward, ForwardInputs, define
from regionloss.torch.settings import TRITON_DTYPES, Settings
from regionloss.torch.triton.backward import backward_kernel
from regionloss.torch.triton.device import Anchors, Outputs, Saved, Sizes, Threshold, TruthRows
from regionloss.torch.triton.forward import forward_kernel, reduction_kernel

#: Whether the kernels run in Triton's interpreter; TRITON_INTERPRET decided that when they were imported.
INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)

# The block sizes, in one place for tuning; powers of two. They are not measured on a GPU: they follow from the
# registers that the compiler counts, and from how many instructions share a piece of work.
#: Forward: one warp, so that what a tile does once (the assignment, in float64) is done by 32 threads and not by 128,
#: one truth for each, and sums need no barrier. Two cells for each thread take 85 registers, which lets 23 warps live
#: on a multiprocessor; four cells take 122, and of 13 x 13 cells a third of the threads would have none.
FORWARD: dict[str, int] = {"BLOCK": 64, "CHUNK": 32, "num_warps": 1}
#: Backward: what a program writes at a time are whole lines of 32 numbers for each warp, along the cells where those
#: are neighbours, else along the channels. 64 registers, which let 32 warps live there.
BACKWARD: dict[str, int] = {"BLOCK": 128, "CHANNELS": 16, "num_warps": 4}
BACKWARD_CHANNELS_LAST: dict[str, int] = {"BLOCK": 32, "CHANNELS": 32, "num_warps": 4}
#: The sum of all programs is the work of one, which waits for memory and for little else: wide, to wait less often.
REDUCTION: dict[str, int] = {"LANES": 1024, "num_warps": 8}
#: Classes of a predictor that are read at a time.
CLASSES = 256


def forward(inputs: ForwardInputs) -> Forward:
    """The loss of a batch.

    Raises:
        TypeError: predictions in another type than `TRITON_DTYPES`.
        ValueError: tensors on a device that the kernels do not run on, or on several.
    """
    predictions, rows, counts, images_seen, seen, anchors, settings = inputs
    _check(predictions, rows, counts)
    sizes = _sizes(predictions, rows, anchors)
    cells = sizes.height * sizes.width
    saved = Saved(
        predictions.new_empty((sizes.images, len(anchors) // 2, sizes.height, sizes.width), dtype=torch.uint8),
        predictions.new_empty((sizes.images, sizes.length), dtype=torch.int32),
        predictions.new_empty((sizes.images, sizes.length), dtype=torch.float32),
    )
    tiles = len(anchors) // 2 * triton.cdiv(cells, FORWARD["BLOCK"])
    dense, payers = sizes.images * tiles, sizes.images * sizes.length
    sums = predictions.new_empty((2 * dense + 4 * payers,), dtype=torch.float32)
    loss, terms = predictions.new_empty((), dtype=torch.float32), predictions.new_empty((5,), dtype=torch.float32)
    if images_seen is not None and images_seen.device != predictions.device:
        seen, images_seen = int(images_seen), None  # on the host, where reading it waits for nothing
    with _on(predictions.device):
        if dense + payers:
            forward_kernel[(dense + payers,)](
                Outputs(predictions, *predictions.stride()),
                _truths(rows, counts, settings),
                seen if images_seen is None else images_seen,
                int(settings.prior_until),
                saved,
                sums,
                sizes,
                settings,
                threshold_of(settings.thresh, settings.ignores == 2),
                anchors=anchors_of(tuple(anchors), sizes.height, sizes.width),
                CLASSES=_classes_at_a_time(sizes.classes),
                enable_fp_fusion=False,
                **FORWARD,
            )
        reduction_kernel[(1,)](
            sums, loss, terms, dense, payers, _divisor(sizes, settings), enable_fp_fusion=False, **REDUCTION
        )
    return Forward(loss, terms, saved.state, saved.predictor_of_truth, (saved.overlap,))


def backward(inputs: BackwardInputs) -> Tensor:
    """The gradient with respect to the predictions; raises as `forward`."""
    upstream, predictions, rows, state, predictor_of_truth, kept, anchors, settings = inputs
    _check(predictions, rows, None)
    sizes = _sizes(predictions, rows, anchors)
    gradient = torch.empty_like(predictions)
    shape = BACKWARD_CHANNELS_LAST if gradient.stride(1) == 1 and gradient.stride(3) > 1 else BACKWARD
    tiles = len(anchors) // 2 * triton.cdiv(sizes.height * sizes.width, shape["BLOCK"])
    programs = sizes.images * (tiles + sizes.length)
    with _on(predictions.device):
        if programs:
            backward_kernel[(programs,)](
                upstream,
                _divisor(sizes, settings),
                Outputs(predictions, *predictions.stride()),
                _truths(rows, None, settings),
                Saved(state, predictor_of_truth, *kept),
                Outputs(gradient, *gradient.stride()),
                sizes,
                settings,
                anchors=anchors_of(tuple(anchors), sizes.height, sizes.width),
                CLASSES=_classes_at_a_time(sizes.classes),
                FLAT=_flat(predictions) and _flat(gradient),
                enable_fp_fusion=False,
                **shape,
            )
    return gradient


@lru_cache(maxsize=64)
def anchors_of(anchors: tuple[float, ...], height: int, width: int) -> Anchors:
    """Anchors, widths and heights in turn in cells, as the kernels take them for a grid of `height` × `width` cells."""
    sizes = np.array(anchors, dtype=np.float64)
    fractions = sizes / np.array([width, height] * (len(sizes) // 2), dtype=np.float64)
    return Anchors(*(tuple(values.view(np.int64).tolist()) for values in (sizes, fractions)))


@lru_cache(maxsize=64)
def threshold_of(thresh: float, at_or_above: bool) -> Threshold:
    """The float32 that an IoU must be above to silence, as `exceeds` wants it.

    At or above a threshold is above the float32 before it.
    """
    below = np.float32(thresh)
    if at_or_above:
        below = np.nextafter(below, np.float32(-np.inf))
    half_step = (np.nextafter(below, np.float32(np.inf)) - below) / 2
    return Threshold(float(below), float(half_step))


def _check(predictions: Tensor, rows: Tensor, counts: Tensor | None) -> None:
    if predictions.dtype not in TRITON_DTYPES:
        raise TypeError(
            f"predictions are {predictions.dtype}; the triton path takes float32, float16 and bfloat16, "
            "and leaves float64 to the analytic path"
        )
    if predictions.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"predictions are on {predictions.device}; the triton path runs on CUDA devices, and elsewhere only in "
            "Triton's interpreter (TRITON_INTERPRET=1 before the first import)"
        )
    for name, other in (("truths", rows), ("counts", counts)):
        if other is not None and other.device != predictions.device:
            raise ValueError(f"{name} are on {other.device}, expected {predictions.device}, like the predictions")


def _sizes(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> Sizes:
    images, channels, height, width = predictions.shape
    return Sizes(images, height, width, channels // (len(anchors) // 2) - 5, rows.shape[1])


def _divisor(sizes: Sizes, settings: Settings) -> float:
    return float(max(sizes.images, 1)) if settings.per_image else 1.0


def _truths(rows: Tensor, counts: Tensor | None, settings: Settings) -> TruthRows:
    capacity = rows.shape[1]
    if settings.max_truths:
        capacity = min(capacity, int(settings.max_truths))
    n, t, v = rows.stride()
    return TruthRows(rows, n, t, v, None if counts is None else counts.contiguous(), capacity)


def _flat(outputs: Tensor) -> bool:
    return outputs.stride(2) == outputs.shape[3] * outputs.stride(3)


def _classes_at_a_time(classes: int) -> int:
    return min(CLASSES, int(triton.next_power_of_2(classes)))


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Launch on the device of the tensors, which need not be the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _kept(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor]:
    """The IoU of each truth with its predictor, float32 `[N, T]`; arbitrary for a truth without one."""
    return (predictions.new_empty(rows.shape[:2], dtype=torch.float32),)


define("triton", forward, backward, _kept)
