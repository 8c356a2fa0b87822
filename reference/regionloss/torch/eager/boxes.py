"""Decoding and intersection over union on tensors (spec chapter 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def decode(raw: Tensor, column: Tensor, row: Tensor, anchors: Tensor, height: int, width: int) -> Tensor:
    """Boxes of predictors (`decode.centre`, `decode.size`).

    Args:
        raw: tx, ty, tw, th, `[4, ...]`.
        column: i of the predictors, in a shape that broadcasts with `[...]`.
        row: j, likewise.
        anchors: their widths and heights in cells, `[2, ...]`, likewise.
        height: H, cells.
        width: W, cells.

    Returns:
        `[4, ...]`: centre x, centre y, width, height, fractions of the image; infinite where the exponential overflows.
    """
    return torch.stack(
        [
            (column + torch.sigmoid(raw[0])) / width,
            (row + torch.sigmoid(raw[1])) / height,
            anchors[0] * torch.exp(raw[2]) / width,
            anchors[1] * torch.exp(raw[3]) / height,
        ]
    )


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes `[4, ...]` with others `[4, ...]`, broadcast against each other.

    It is 0 where the union is not a positive finite number (`iou.overflow`, `iou.zero-area`). Its derivative is right
    where it is positive; elsewhere it must not be used, because the unused branch of `where` may be NaN.
    """
    across = _overlap(boxes[0], boxes[2], others[0], others[2])
    down = _overlap(boxes[1], boxes[3], others[1], others[3])
    intersection = across * down
    union = boxes[2] * boxes[3] + others[2] * others[3] - intersection
    sound = (union > 0) & torch.isfinite(union)
    return torch.where(sound, intersection / union, torch.zeros_like(union))


def _overlap(centre: Tensor, size: Tensor, other_centre: Tensor, other_size: Tensor) -> Tensor:
    """Length of the overlap of two intervals, 0 where they are apart (`iou.touching`)."""
    right, other_right = centre + size / 2, other_centre + other_size / 2
    left, other_left = centre - size / 2, other_centre - other_size / 2
    # Not torch.minimum, which halves the derivative where edges coincide: there the fixed edge of the other counts.
    inner_right = torch.where(right < other_right, right, other_right)
    inner_left = torch.where(left > other_left, left, other_left)
    return (inner_right - inner_left).clamp(min=0)
