"""Boxes in cells, and how much of each other they cover, for the analytic path."""

from __future__ import annotations

import torch
from torch import Tensor

from regionloss.torch.slots import Grid, Truths

#: A size of a box that overlaps nothing that a threshold could tell, whose area is still a number.
VAST = {torch.float32: 2.0**60, torch.float64: 2.0**500}

#: The smallest positive number of a type.
LEAST = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}


def boxes_of(truths: Truths, grid: Grid) -> Tensor:
    """Left, top, right, bottom and area of truths, in the type of the arithmetic, `[5, M]`."""
    _, height, width = grid.shape
    half = truths.size / 2
    # An area that rounds to 0 would make an IoU 0/0, where that of a prediction underflows too (`iou.zero-area`).
    area = (truths.area * (height * width)).clamp_(min=LEAST[grid.corners.dtype])
    return torch.cat([truths.place - half, truths.place + half, area[None]]).to(grid.corners.dtype)


def half_sizes(t: Tensor, half_anchors: Tensor) -> Tensor:
    """Half the width and height of predicted boxes, of tw and th `[2, ...]` (`decode.size`)."""
    return torch.exp(t).mul_(half_anchors).clamp_(max=VAST[t.dtype])


def iou(centre: Tensor, half: Tensor, boxes: Tensor) -> Tensor:
    """IoU of boxes, by centre and half size `[2, ...]`, with others `[5, ...]` of `boxes_of`; 0 or below if apart."""
    area = (half[0] * half[1]).mul_(4)
    across, down = torch.minimum(centre + half, boxes[2:4]).sub_(torch.maximum(centre - half, boxes[:2]))
    across.clamp_(min=0)  # one of the two is enough to keep the product of apart sides from being positive
    shared = torch.mul(across, down)
    return shared / area.add_(boxes[4]).sub_(shared)
