"""A wrong MaxIOU, with a right IoU and right assignments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, Mistake, always
from regionloss.boxes import decode, iou
from regionloss.decisions import Decisions
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.tools import Answering, Given, decided, needs, redecided

#: What stands in place of MaxIOU `[A, H, W]`, from the IoUs `[T, A, H, W]` with the truths `[T, 5]` of an image.
Combined = Callable[[Array, Array], Array]


def _ious(given: Given, image: int, rows: Array) -> Array:
    """IoUs of all predictors of an image with some truths, `[T, A, H, W]`."""
    boxes = decode(given.t[image], given.anchors)
    return np.array([iou(boxes, row[:4]) for row in rows]).reshape(len(rows), *boxes.shape[1:])


def _each_image(measure: Callable[[Given, int], Array]) -> Answering:
    def change(decisions: Decisions, given: Given) -> Decisions:
        max_iou = decisions.max_iou.copy()
        for image in np.flatnonzero(~decisions.class_only):
            max_iou[image] = measure(given, int(image))
        return redecided(decisions, given, max_iou=max_iou)

    return decided(change)


def _combined(combine: Combined) -> Answering:
    def measure(given: Given, image: int) -> Array:
        ious = _ious(given, image, given.truths[image])
        return combine(ious, given.truths[image]) if len(ious) else np.zeros(ious.shape[1:])

    return _each_image(measure)


def _largest(ious: Array) -> Array:
    return np.asarray(ious.max(axis=0, initial=0.0))


def _of_images(choose: Callable[[int, int], list[int]]) -> Answering:
    """With the truths of other images, chosen by this one and the number of all."""

    def measure(given: Given, image: int) -> Array:
        rows = [given.truths[other] for other in choose(image, len(given.truths))]
        return _largest(_ious(given, image, np.concatenate([np.zeros((0, 5)), *rows])))

    return _each_image(measure)


def _without_own_cell(given: Given, image: int) -> Array:
    """A truth does not count for the predictors of its own cell."""
    rows = given.truths[image]
    ious = _ious(given, image, rows)
    _, _, height, width = ious.shape
    for truth, (x, y, *_) in enumerate(rows):
        ious[truth, :, int(y * height), int(x * width)] = 0.0
    return _largest(ious)


def _nearest(given: Given, image: int) -> Array:
    """The IoU with the truth whose centre is nearest to that of the box."""
    rows = given.truths[image]
    boxes = decode(given.t[image], given.anchors)
    if not len(rows):
        return np.zeros(boxes.shape[1:])
    apart = np.array([(boxes[0] - row[0]) ** 2 + (boxes[1] - row[1]) ** 2 for row in rows])
    (of_nearest,) = np.take_along_axis(_ious(given, image, rows), apart.argmin(axis=0)[None], axis=0)
    return np.asarray(of_nearest)


def _with_zeroed(channels: slice) -> Answering:
    """From boxes some of whose outputs are taken as 0."""

    def measure(given: Given, image: int) -> Array:
        t = given.t[image].copy()
        t[:, channels] = 0.0
        boxes = decode(t, given.anchors)
        ious = np.array([iou(boxes, row[:4]) for row in given.truths[image]]).reshape(-1, *boxes.shape[1:])
        return _largest(ious)

    return _each_image(measure)


def _largest_in_cell(decisions: Decisions, given: Given) -> Decisions:
    largest = decisions.max_iou.max(axis=1, keepdims=True, initial=0.0)
    return redecided(decisions, given, max_iou=np.broadcast_to(largest, decisions.max_iou.shape).copy())


def _transposed(decisions: Decisions, given: Given) -> Decisions:
    _, _, height, width = decisions.max_iou.shape
    needs(height == width, "a square grid")
    return redecided(decisions, given, max_iou=decisions.max_iou.swapaxes(2, 3).copy())


def _anchors_reversed(decisions: Decisions, given: Given) -> Decisions:
    return redecided(decisions, given, max_iou=decisions.max_iou[:, ::-1].copy())


def _responsible_first(decisions: Decisions, given: Given) -> Decisions:
    """A truth counts only for predictors whose IoU with it exceeds that of the responsible one."""
    max_iou = np.zeros_like(decisions.max_iou)
    for match in decisions.matches:
        if not decisions.class_only[match.image]:
            (ious,) = _ious(given, match.image, given.row(match)[None])
            beaten = np.where(ious > match.iou, ious, 0.0)
            max_iou[match.image] = np.maximum(max_iou[match.image], beaten)
    return redecided(decisions, given, max_iou=max_iou)


def _behind_the_end(question: Question) -> Answer:
    """Rows after the end of a list count for MaxIOU, and for nothing else."""

    def change(decisions: Decisions, given: Given) -> Decisions:
        max_iou = decisions.max_iou.copy()
        for image in np.flatnonzero(~decisions.class_only):
            rows = np.asarray(question.batch.truths[image], dtype=np.float64).reshape(-1, 5)
            boxes = rows[np.isfinite(rows).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)]
            max_iou[image] = np.maximum(max_iou[image], _largest(_ious(given, int(image), boxes)))
        return redecided(decisions, given, max_iou=max_iou)

    return decided(change)(question)


def _mistake(
    id: str,
    title: str,
    answer: Answering,
    right: tuple[str, ...],
    family: tuple[str, ...] = (),
    answers: tuple[str, ...] = EVERYTHING,
    profile: str = "darknet",
    shown: bool = True,
) -> Mistake:
    return Mistake(
        id=id,
        kind="max-iou",
        title=title,
        right=right,
        family=family,
        answers=answers,
        profile=profile,
        shown=shown,
        begin=always(answer),
    )


MAX = ("noobj.max-iou",)
EVERY = ("noobj.every-truth",)
SAME = ("noobj.same-image",)

MISTAKES = [
    _mistake(
        "max-iou-sum",
        "MaxIOU is the sum of the IoUs with all truths",
        _combined(lambda ious, rows: ious.sum(axis=0)),
        MAX,
        EVERY,
    ),
    _mistake(
        "max-iou-mean",
        "MaxIOU is the mean of the IoUs with all truths",
        _combined(lambda ious, rows: ious.mean(axis=0)),
        MAX,
        EVERY,
        BOTH,
    ),
    _mistake(
        "max-iou-smallest",
        "MaxIOU is the smallest IoU with a truth",
        _combined(lambda ious, rows: ious.min(axis=0)),
        MAX,
        EVERY,
    ),
    _mistake(
        "max-iou-noisy-or",
        "MaxIOU is 1 minus the product of 1 - IoU over all truths",
        _combined(lambda ious, rows: 1 - np.prod(1 - ious, axis=0)),
        MAX,
        EVERY,
    ),
    _mistake(
        "max-iou-of-the-first",
        "MaxIOU looks at the first truth only",
        _combined(lambda ious, rows: ious[0]),
        EVERY,
        MAX,
        BOTH,
    ),
    _mistake(
        "max-iou-of-the-first-two",
        "MaxIOU looks at the first two truths only",
        _combined(lambda ious, rows: _largest(ious[:2])),
        EVERY,
        (*MAX, "truths.capacity"),
    ),
    _mistake(
        "max-iou-without-the-last",
        "MaxIOU leaves out the last truth",
        _combined(lambda ious, rows: _largest(ious[:-1])),
        EVERY,
        (*MAX, "truths.capacity"),
    ),
    _mistake(
        "max-iou-of-the-largest",
        "MaxIOU looks only at the truth with the largest area",
        _combined(lambda ious, rows: ious[int(np.argmax(rows[:, 2] * rows[:, 3]))]),
        EVERY,
        MAX,
        BOTH,
        "darknet-2016",
    ),
    _mistake(
        "max-iou-without-small-truths",
        "truths of less than a tenth of the image do not silence anybody",
        _combined(lambda ious, rows: _largest(ious[rows[:, 2] * rows[:, 3] >= 0.1])),
        EVERY,
        MAX,
    ),
    _mistake(
        "max-iou-of-next-image",
        "MaxIOU is taken with the truths of the next image",
        _of_images(lambda image, images: [(image + 1) % images]),
        SAME,
        MAX,
    ),
    _mistake(
        "max-iou-of-image-zero",
        "MaxIOU is taken with the truths of the first image",
        _of_images(lambda image, images: [0]),
        SAME,
        MAX,
        BOTH,
    ),
    _mistake(
        "max-iou-list-grows",
        "the list of truths for MaxIOU is not emptied between images",
        _of_images(lambda image, images: list(range(image + 1))),
        SAME,
        MAX,
    ),
    _mistake(
        "max-iou-without-own-cell",
        "a truth does not silence predictors of its own cell",
        _each_image(_without_own_cell),
        EVERY,
        (*MAX, "table.other-anchors"),
    ),
    _mistake(
        "max-iou-of-the-nearest",
        "MaxIOU is the IoU with the truth whose centre is nearest",
        _each_image(_nearest),
        (*MAX, *EVERY),
    ),
    _mistake(
        "max-iou-of-anchor-size",
        "MaxIOU is that of the decoded centre with the size of the anchor",
        _with_zeroed(slice(2, 4)),
        MAX,
        ("decode.size",),
    ),
    _mistake(
        "max-iou-of-cell-centre",
        "MaxIOU is that of the decoded size in the middle of the cell",
        _with_zeroed(slice(0, 2)),
        MAX,
        ("decode.centre",),
        BOTH,
    ),
    _mistake(
        "max-iou-of-the-cell",
        "every predictor has the largest MaxIOU of its cell",
        decided(_largest_in_cell),
        (*MAX, "table.other-anchors"),
        ("noobj.not-suppression", "notation.predictor", *EVERY),
    ),
    _mistake(
        "max-iou-transposed",
        "MaxIOU of row j and column i is used at row i and column j",
        decided(_transposed),
        MAX,
        ("notation.grid-axes", "notation.predictor", *EVERY),
        BOTH,
    ),
    _mistake(
        "max-iou-anchors-reversed",
        "MaxIOU of anchor k is used at anchor A - 1 - k",
        decided(_anchors_reversed),
        MAX,
        ("notation.predictor", "noobj.not-suppression"),
    ),
    _mistake(
        "max-iou-above-the-responsible",
        "a truth silences only predictors that overlap it more than the responsible one does",
        decided(_responsible_first),
        (*MAX, *EVERY),
        ("noobj.not-suppression", "noobj.threshold"),
        SCALAR,
    ),
    _mistake(
        "max-iou-behind-the-end",
        "rows after the end of a list still silence predictors",
        _behind_the_end,
        ("truths.terminator", "truths.padding", "truths.capacity"),
        (*MAX, *EVERY, "domain.unread-rows"),
        shown=False,  # no golden case has a predictor near a row after the end
    ),
]
