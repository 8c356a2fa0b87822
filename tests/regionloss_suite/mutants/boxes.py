"""Mistakes of the intersection over union (spec chapter 3), which MaxIOU, anchor choice and target use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regionloss.boxes import _overlap as overlap
from regionloss.boxes import iou
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, read, with_iou


def _shared(piece: Callable[[Array, Array], Array]) -> Answering:
    return patched(**with_iou(piece))


def _parts(boxes: Array, truth: Array) -> tuple[Array, Array, Array]:
    """The overlaps across and down, and the sum of the two areas."""
    across = overlap(boxes[0], boxes[2], truth[0], truth[2])
    down = overlap(boxes[1], boxes[3], truth[1], truth[3])
    return across, down, np.asarray(boxes[2] * boxes[3] + truth[2] * truth[3])


def _ratio(intersection: Array, union: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return np.where((union > 0) & np.isfinite(union), intersection / union, 0.0)


def _plus_one(question: Question) -> Answer:
    """Sides in cells, each with 1 added; the places of the boxes are in cells too."""
    _, _, _, height, width = read(question).t.shape

    def piece(boxes: Array, truth: Array) -> Array:
        with np.errstate(invalid="ignore", over="ignore"):
            across, down, _ = _parts(boxes, truth)
            intersection = np.maximum(across * width + 1, 0) * np.maximum(down * height + 1, 0)
            area = (boxes[2] * width + 1) * (boxes[3] * height + 1)
            other = (truth[2] * width + 1) * (truth[3] * height + 1)
            return _ratio(intersection, area + other - intersection)

    return _shared(piece)(question)


def _enclosing(boxes: Array, truth: Array) -> Array:
    sides = []
    with np.errstate(invalid="ignore", over="ignore"):
        for centre, size in ((0, 2), (1, 3)):
            right = np.maximum(boxes[centre] + boxes[size] / 2, truth[centre] + truth[size] / 2)
            left = np.minimum(boxes[centre] - boxes[size] / 2, truth[centre] - truth[size] / 2)
            sides.append(right - left)
        return np.minimum(_ratio(sides[0] * sides[1], _parts(boxes, truth)[2]), 1.0)


def _two_negatives(boxes: Array, truth: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        across, down, areas = _parts(boxes, truth)
        intersection = np.maximum(across * down, 0)
        return _ratio(intersection, areas - intersection)


def _clipped(boxes: Array, truth: Array) -> Array:
    """Both boxes clipped to the image; shapes at the origin, which have no place in it, are not clipped."""

    def cut(box: Array) -> Array:
        sides = []
        for centre, size in ((0, 2), (1, 3)):
            right = np.minimum(box[centre] + box[size] / 2, 1.0)
            left = np.maximum(box[centre] - box[size] / 2, 0.0)
            sides.append(((left + right) / 2, right - left))
        return np.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]])

    if not np.any(truth[:2]):
        return iou(boxes, truth)
    with np.errstate(invalid="ignore", over="ignore"):
        return iou(cut(boxes), cut(truth))


def _over_sum(boxes: Array, truth: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        across, down, areas = _parts(boxes, truth)
        return _ratio(np.maximum(across, 0) * np.maximum(down, 0), areas)


def _touching(boxes: Array, truth: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        across, down, _ = _parts(boxes, truth)
        touching = (across >= 0) & (down >= 0) & (across * down == 0) & (boxes[2] * boxes[3] > 0)
        return np.where(touching, 1e-9, iou(boxes, truth))


def _underflowed(value: float) -> Answering:
    """Areas in single precision, in which the square of 2^-80 is 0."""

    def piece(boxes: Array, truth: Array) -> Array:
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            areas = _parts(boxes, truth)[2].astype(np.float32)
        return np.where(areas == 0, value, iou(boxes, truth))

    return _shared(piece)


def _overflowed(value: float) -> Answering:
    def piece(boxes: Array, truth: Array) -> Array:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(np.isfinite(_parts(boxes, truth)[2]), iou(boxes, truth), value)

    return _shared(piece)


MUTANTS: list[Mutant] = [
    Mutant(
        id="iou-plus-one",
        clause="iou.definition",
        title="1 is added to every side in cells, as for boxes of whole pixels",
        after="a port that keeps its boxes in cells",
        answer=_plus_one,
    ),
    Mutant(
        id="iou-enclosing-box",
        clause="iou.definition",
        title="the intersection is the smallest box that contains both",
        answer=_shared(_enclosing),
    ),
    Mutant(
        id="iou-two-negatives",
        clause="iou.definition",
        title="two negative overlaps make a positive area",
        answer=_shared(_two_negatives),
    ),
    Mutant(
        id="iou-clipped",
        clause="iou.definition",
        title="boxes are clipped to the image before they are compared",
        answer=_shared(_clipped),
    ),
    Mutant(
        id="iou-over-the-sum",
        clause="iou.definition",
        title="the union is the sum of the areas without subtracting the intersection",
        answer=_shared(_over_sum),
    ),
    Mutant(
        id="iou-touching",
        clause="iou.touching",
        title="boxes that share only an edge or a corner have an IoU above 0",
        answer=_shared(_touching),
    ),
    Mutant(
        id="iou-zero-over-zero",
        clause="iou.zero-area",
        title="areas that underflow are divided, and 0/0 is NaN",
        after="pjreddie/darknet#79",
        answer=_underflowed(float("nan")),
    ),
    Mutant(
        id="iou-smoothed",
        clause="iou.zero-area",
        title="an epsilon is added to intersection and union, so two areas that underflow have IoU 1",
        answer=_underflowed(1.0),
    ),
    Mutant(
        id="iou-overflow-nan",
        clause="iou.overflow",
        title="an IoU whose union overflows is NaN",
        after="pjreddie/darknet#79",
        answer=_overflowed(float("nan")),
    ),
    Mutant(
        id="iou-overflow-one",
        clause="iou.overflow",
        title="a box of infinite size has IoU 1 with everything",
        answer=_overflowed(1.0),
    ),
]
