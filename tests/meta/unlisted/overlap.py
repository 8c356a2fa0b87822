"""A wrong IoU: another measure, another denominator, other edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, Mistake, always
from regionloss.boxes import _overlap as overlap
from regionloss.boxes import iou
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import patched
from regionloss_suite.mutants.tools import Answering, read, with_iou

Measure = Callable[[Array, Array], Array]


def _everywhere(measure: Measure) -> Answering:
    """For MaxIOU, target and choice of anchor alike."""

    def quietly(boxes: Array, truth: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(measure(boxes, truth))

    return patched(**with_iou(quietly))


def _placed(measure: Measure) -> Answering:
    """For boxes at their places; the shapes of anchors are compared rightly."""

    def quietly(boxes: Array, truth: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(measure(boxes, truth))

    return patched(decisions__iou=quietly, terms__iou=quietly)


def _on_grid(measure: Callable[[Array, Array, Array], Array], places: bool = True) -> Answering:
    """A measure that also knows W, H, W, H, `[4]`."""

    def answer(question: Question) -> Answer:
        _, _, _, height, width = read(question).t.shape
        grid = np.array([width, height, width, height], dtype=np.float64)
        make = _placed if places else _everywhere
        return make(lambda boxes, truth: measure(boxes, truth, grid))(question)

    return answer


def _scaled(boxes: Array, by: Array) -> Array:
    return np.asarray(boxes * by.reshape((4,) + (1,) * (boxes.ndim - 1)))


def _areas(boxes: Array, truth: Array) -> tuple[Array, Array, Array]:
    """Intersection, area of the box, area of the truth."""
    across = overlap(boxes[0], boxes[2], truth[0], truth[2])
    down = overlap(boxes[1], boxes[3], truth[1], truth[3])
    return np.where((across < 0) | (down < 0), 0.0, across * down), boxes[2] * boxes[3], truth[2] * truth[3]


def _ratio(over: Array, under: Array) -> Array:
    return np.where((under > 0) & np.isfinite(under) & np.isfinite(over), over / under, 0.0)


def _enclosing(boxes: Array, truth: Array) -> tuple[Array, Array]:
    """Sides of the smallest box around both."""
    sides = [
        np.maximum(boxes[centre] + boxes[size] / 2, truth[centre] + truth[size] / 2)
        - np.minimum(boxes[centre] - boxes[size] / 2, truth[centre] - truth[size] / 2)
        for centre, size in ((0, 2), (1, 3))
    ]
    return sides[0], sides[1]


def _giou(boxes: Array, truth: Array) -> Array:
    inner, first, second = _areas(boxes, truth)
    across, down = _enclosing(boxes, truth)
    outer = across * down
    return iou(boxes, truth) - _ratio(outer - (first + second - inner), outer)


def _distance(boxes: Array, truth: Array) -> Array:
    across, down = _enclosing(boxes, truth)
    apart = (boxes[0] - truth[0]) ** 2 + (boxes[1] - truth[1]) ** 2
    return _ratio(apart, across**2 + down**2)


def _diou(boxes: Array, truth: Array) -> Array:
    return iou(boxes, truth) - _distance(boxes, truth)


def _ciou(boxes: Array, truth: Array) -> Array:
    plain = iou(boxes, truth)
    angle = 4 / np.pi**2 * (np.arctan2(truth[2], truth[3]) - np.arctan2(boxes[2], boxes[3])) ** 2
    return plain - _distance(boxes, truth) - _ratio(angle**2, 1 - plain + angle)


def _with_epsilon(epsilon: float) -> Measure:
    def measure(boxes: Array, truth: Array) -> Array:
        inner, first, second = _areas(boxes, truth)
        return _ratio(inner, first + second - inner + epsilon)

    return measure


def _plus_one_pixel(boxes: Array, truth: Array, grid: Array) -> Array:
    """Inclusive pixels of an image with 32 of them in a cell."""
    boxes, truth = _scaled(boxes, 32 * grid), truth * 32 * grid
    across = np.maximum(overlap(boxes[0], boxes[2], truth[0], truth[2]) + 1, 0)
    down = np.maximum(overlap(boxes[1], boxes[3], truth[1], truth[3]) + 1, 0)
    first, second = (boxes[2] + 1) * (boxes[3] + 1), (truth[2] + 1) * (truth[3] + 1)
    return _ratio(across * down, first + second - across * down)


def _cell_in_intersection(boxes: Array, truth: Array, grid: Array) -> Array:
    """The 1 of whole cells in the intersection, and not in the two areas."""
    boxes, truth = _scaled(boxes, grid), truth * grid
    across = np.maximum(overlap(boxes[0], boxes[2], truth[0], truth[2]) + 1, 0)
    down = np.maximum(overlap(boxes[1], boxes[3], truth[1], truth[3]) + 1, 0)
    return _ratio(across * down, boxes[2] * boxes[3] + truth[2] * truth[3] - across * down)


def _absolute(boxes: Array, truth: Array) -> Array:
    across = np.abs(overlap(boxes[0], boxes[2], truth[0], truth[2]))
    down = np.abs(overlap(boxes[1], boxes[3], truth[1], truth[3]))
    return _ratio(across * down, boxes[2] * boxes[3] + truth[2] * truth[3] - across * down)


def _clamped_across(boxes: Array, truth: Array) -> Array:
    across = np.maximum(overlap(boxes[0], boxes[2], truth[0], truth[2]), 0)
    down = overlap(boxes[1], boxes[3], truth[1], truth[3])
    return _ratio(across * down, boxes[2] * boxes[3] + truth[2] * truth[3] - across * down)


def _box_from_its_corner(boxes: Array, truth: Array) -> Array:
    moved = np.stack([boxes[0] + boxes[2] / 2, boxes[1] + boxes[3] / 2, boxes[2], boxes[3]])
    return iou(moved, truth)


def _whole_sides(boxes: Array, truth: Array) -> Array:
    """Edges at centre ± side, areas of the given sides."""
    twice = np.array([1.0, 1.0, 2.0, 2.0])
    inner, _, _ = _areas(_scaled(boxes, twice), truth * twice)
    return _ratio(inner, boxes[2] * boxes[3] + truth[2] * truth[3] - inner)


def _height_from_width(boxes: Array, truth: Array) -> Array:
    return iou(boxes[[0, 1, 2, 2]], truth[[0, 1, 2, 2]])


def _across_for_down(boxes: Array, truth: Array) -> Array:
    """The vertical overlap computed from the horizontal centres."""
    return iou(boxes[[0, 0, 2, 3]], truth[[0, 0, 2, 3]])


def _over(denominator: Callable[[Array, Array, Array], Array], factor: float = 1.0) -> Measure:
    def measure(boxes: Array, truth: Array) -> Array:
        inner, first, second = _areas(boxes, truth)
        return _ratio(factor * inner, denominator(inner, first, second))

    return measure


def _over_enclosing(boxes: Array, truth: Array) -> Array:
    across, down = _enclosing(boxes, truth)
    return _ratio(_areas(boxes, truth)[0], across * down)


def _whole_pixels(boxes: Array, truth: Array, grid: Array) -> Array:
    """Edges cut to whole pixels of an image with 32 of them in a cell."""
    pixels = 32 * grid

    def cut(box: Array) -> Array:
        box = _scaled(box, pixels)
        low, high = np.trunc(box[:2] - box[2:4] / 2), np.trunc(box[:2] + box[2:4] / 2)
        return np.concatenate([(low + high) / 2, high - low])

    return iou(cut(boxes), cut(truth))


def _mistake(
    id: str,
    title: str,
    answer: Answering,
    answers: tuple[str, ...] = EVERYTHING,
    family: tuple[str, ...] = (),
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind="iou",
        title=title,
        right=("iou.definition",),
        family=family,
        profile=profile,
        answers=answers,
        begin=always(answer),
    )


MISTAKES = [
    _mistake("giou", "GIoU is used wherever the spec has the IoU", _everywhere(_giou)),
    _mistake("diou", "DIoU is used wherever the spec has the IoU", _everywhere(_diou), BOTH),
    _mistake("ciou", "CIoU is used wherever the spec has the IoU", _everywhere(_ciou)),
    _mistake("iou-epsilon-1e-2", "the union has 1e-2 of the image added", _everywhere(_with_epsilon(1e-2))),
    _mistake(
        "iou-epsilon-1e-6",
        "the union has 1e-6 of the image added",
        _everywhere(_with_epsilon(1e-6)),
        BOTH,
        ("iou.zero-area", "numerics.bound"),
    ),
    _mistake(
        "iou-epsilon-1e-10",
        "the union has 1e-10 of the image added",
        _everywhere(_with_epsilon(1e-10)),
        family=("iou.zero-area", "numerics.bound", "numerics.float64"),
    ),
    _mistake("iou-plus-one-pixel", "1 is added to every side in pixels", _on_grid(_plus_one_pixel, places=False)),
    _mistake(
        "iou-cell-in-intersection",
        "1 cell is added to the sides of the intersection alone",
        _on_grid(_cell_in_intersection),
        BOTH,
        ("iou.touching",),
    ),
    _mistake("iou-absolute-overlaps", "the absolute values of the two overlaps are multiplied", _everywhere(_absolute)),
    _mistake("iou-clamped-across-only", "only the overlap across is clamped at 0", _everywhere(_clamped_across)),
    _mistake(
        "iou-box-from-its-corner",
        "the centre of the predicted box is read as its upper left corner, for the IoU alone",
        _placed(_box_from_its_corner),
        BOTH,
        ("decode.centre",),
    ),
    _mistake(
        "iou-whole-sides",
        "edges lie a whole side from the centre instead of half",
        _everywhere(_whole_sides),
        profile="darknet-2016",
    ),
    _mistake(
        "iou-height-from-width", "both boxes are compared with their width as height", _everywhere(_height_from_width)
    ),
    _mistake(
        "iou-across-for-down",
        "the vertical overlap is computed from the horizontal centres",
        _placed(_across_for_down),
        BOTH,
        ("notation.grid-axes",),
    ),
    _mistake(
        "iou-over-the-smaller",
        "the smaller area is the denominator",
        _everywhere(_over(lambda inner, first, second: np.minimum(first, second))),
        SCALAR,
    ),
    _mistake(
        "iou-over-the-larger",
        "the larger area is the denominator",
        _everywhere(_over(lambda inner, first, second: np.maximum(first, second))),
    ),
    _mistake(
        "iou-over-the-truth",
        "the area of the truth is the denominator",
        _everywhere(_over(lambda inner, first, second: second + 0 * first)),
        BOTH,
    ),
    _mistake(
        "iou-over-the-box",
        "the area of the predicted box is the denominator",
        _everywhere(_over(lambda inner, first, second: first)),
        profile="marvis",
    ),
    _mistake(
        "iou-dice",
        "twice the intersection is divided by the sum of the areas",
        _everywhere(_over(lambda inner, first, second: first + second, factor=2)),
        profile="lightnet",
    ),
    _mistake(
        "iou-over-the-mean-side",
        "the root of the product of the areas is the denominator",
        _everywhere(_over(lambda inner, first, second: np.sqrt(first * second))),
        BOTH,
    ),
    _mistake(
        "iou-subtracted-twice",
        "the intersection is subtracted twice from the sum of the areas",
        _everywhere(_over(lambda inner, first, second: first + second - 2 * inner)),
    ),
    _mistake("iou-over-enclosing", "the box around both is the denominator", _everywhere(_over_enclosing)),
    _mistake(
        "iou-cells-with-fractions",
        "the predicted box is compared in cells with the truth in fractions of the image",
        _on_grid(lambda boxes, truth, grid: iou(_scaled(boxes, grid), truth)),
        family=("notation.truth-units",),
    ),
    _mistake("iou-whole-pixels", "edges are cut to whole pixels before they are compared", _on_grid(_whole_pixels)),
]
