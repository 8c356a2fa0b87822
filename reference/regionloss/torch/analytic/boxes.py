"""Boxes in cells and their IoU for the analytic path, in NumPy or PyTorch."""

from __future__ import annotations

import numpy as np
import torch

from regionloss.torch.arrays import Array, cast, library_of
from regionloss.torch.assignment import Assignment, Grid

#: A box of this size overlaps no truth beyond any threshold, and its area is finite.
MAX_SIZE = {torch.float32: 2.0**60, torch.float64: 2.0**500, np.dtype("f4"): 2.0**60, np.dtype("f8"): 2.0**500}

#: The smallest positive number of a type.
MIN_POSITIVE = {
    torch.float32: 2.0**-149,
    torch.float64: 2.0**-1074,
    np.dtype("f4"): 2.0**-149,
    np.dtype("f8"): 2.0**-1074,
}


def boxes_of(truths: Assignment, grid: Grid) -> Array:
    """Left, top, right, bottom and area of truths, in the type of the arithmetic, `[5, M]`."""
    library, dtype = library_of(truths.size), grid.corners.dtype
    _, height, width = grid.shape
    half = truths.size / 2
    # An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (`iou.zero-area`).
    area = (truths.area * (height * width)).clip(min=MIN_POSITIVE[dtype])
    return cast(library.concatenate([truths.centre - half, truths.centre + half, area[None]]), dtype)


def half_sizes(t: Array, half_anchors: Array) -> Array:
    """Half the width and height of predicted boxes, of tw and th `[2, ...]` (`decode.size`)."""
    half = library_of(t).exp(t)
    half *= half_anchors
    return half.clip(max=MAX_SIZE[t.dtype])


def iou(centre: Array, half: Array, boxes: Array) -> Array:
    """IoU of boxes, by centre and half size `[2, ...]`, with others `[5, ...]` of `boxes_of`; 0 or below if apart."""
    library = library_of(centre)
    area = half[0] * half[1]
    area *= 4
    across, down = library.minimum(centre + half, boxes[2:4]) - library.maximum(centre - half, boxes[:2])
    shared = across.clip(min=0)  # not positive for boxes apart: one side of 0 is enough
    shared *= down
    area += boxes[4]
    area -= shared
    return shared / area
