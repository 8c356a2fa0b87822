"""Decoding and intersection over union (spec chapter 3)."""

from __future__ import annotations

import numpy as np

from regionloss_spec.batch import Array


def sigmoid(t: Array) -> Array:
    """σ(t) = 1/(1 + e^-t), without overflow on either side; any shape."""
    small = np.exp(-np.abs(t))
    return np.asarray(np.where(t >= 0, 1.0, small) / (1.0 + small))


def sigmoid_grad(t: Array) -> Array:
    """σ'(t) = σ(t)·σ(-t), exact far out on both sides, where 1 - σ(t) would cancel; any shape."""
    return sigmoid(t) * sigmoid(-t)


def decode(t: Array, anchors: Array) -> Array:
    """Boxes of all predictors of one image (`decode.centre`, `decode.size`, `notation.grid-axes`).

    Args:
        t: raw predictions of the image, `[A, 5+C, H, W]`.
        anchors: `[A, 2]`, cells.

    Returns:
        `[4, A, H, W]`: centre x, centre y, width, height, fractions of the image.
    """
    _, _, height, width = t.shape
    column = np.arange(width, dtype=t.dtype)
    row = np.arange(height, dtype=t.dtype)[:, None]
    with np.errstate(over="ignore"):  # an infinite size has IoU 0 with everything (`numerics.exp-overflow`)
        return np.stack(
            [
                (column + sigmoid(t[:, 0])) / width,
                (row + sigmoid(t[:, 1])) / height,
                np.exp(t[:, 2]) * anchors[:, 0, None, None] / width,
                np.exp(t[:, 3]) * anchors[:, 1, None, None] / height,
            ]
        )


def iou(boxes: Array, truth: Array) -> Array:
    """Intersection over union of boxes with one other box (`iou.definition`, `iou.touching`).

    Args:
        boxes: `[4, ...]`, centre x, centre y, width, height, in any unit.
        truth: `[4]`, or `[4, ...]` of the same shape, in the same unit.

    Returns:
        `[...]` in [0, 1]; 0 where the boxes do not overlap or the union is not a positive finite number.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        across = _overlap(boxes[0], boxes[2], truth[0], truth[2])
        down = _overlap(boxes[1], boxes[3], truth[1], truth[3])
        intersection = np.where((across < 0) | (down < 0), 0.0, across * down)
        union = boxes[2] * boxes[3] + truth[2] * truth[3] - intersection
        # `iou.zero-area`, `iou.overflow`, `numerics.underflow`
        return np.where((union > 0) & np.isfinite(union), intersection / union, 0.0)


def shape_iou(widths: Array, heights: Array, width: float, height: float) -> Array:
    """IoU of boxes that share one centre: shapes alone (`assign.anchor-shape`). Sizes in one unit, `[...]`."""
    zeros = np.zeros_like(widths)
    return iou(np.stack([zeros, zeros, widths, heights]), np.array([0.0, 0.0, width, height], dtype=zeros.dtype))


def iou_grad(box: Array, truth: Array) -> Array:
    """Derivative of `iou(box, truth)` with respect to the box `[4]`; 0 where they do not overlap.

    Where two edges coincide the derivative of the truth's side is taken: the edge does not move with the box.
    """
    if iou(box, truth) == 0:
        return np.zeros(4)
    across = _overlap(box[0], box[2], truth[0], truth[2])
    down = _overlap(box[1], box[3], truth[1], truth[3])
    intersection = across * down
    union = box[2] * box[3] + truth[2] * truth[3] - intersection
    x_edges, w_edges = _overlap_grad(box[0], box[2], truth[0], truth[2])
    y_edges, h_edges = _overlap_grad(box[1], box[3], truth[1], truth[3])
    d_intersection = np.array([x_edges * down, y_edges * across, w_edges * down, h_edges * across])
    d_union = np.array([0.0, 0.0, box[3], box[2]]) - d_intersection
    return np.asarray((d_intersection * union - intersection * d_union) / union**2)


def _overlap(centre: Array, size: Array, other_centre: Array, other_size: Array) -> Array:
    """Length of the overlap of two intervals, negative where they are apart."""
    right = np.minimum(centre + size / 2, other_centre + other_size / 2)
    left = np.maximum(centre - size / 2, other_centre - other_size / 2)
    return right - left


def _overlap_grad(centre: float, size: float, other_centre: float, other_size: float) -> tuple[float, float]:
    """Derivatives of the overlap with respect to the first interval's centre and size."""
    right_moves = float(centre + size / 2 < other_centre + other_size / 2)
    left_moves = float(centre - size / 2 > other_centre - other_size / 2)
    return right_moves - left_moves, (right_moves + left_moves) / 2
