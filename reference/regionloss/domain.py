"""The domain and its errors (spec chapter 11): checked once, here, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from regionloss_spec import Profile
from regionloss_spec.batch import Array

#: A row whose centre lies beyond this on both axes gives a class and no box (`tree.class-only-image`).
CLASS_ONLY = 100000


class DomainError(ValueError):
    """An input outside the domain, which is never repaired (`domain.no-repair`, `domain.error-message`).

    `image` and `truth` say where, when the fault has a place; `clause` which rule.
    """

    def __init__(self, clause: str, message: str, image: int | None = None, truth: int | None = None) -> None:
        place = "" if image is None else f"image {image}: " if truth is None else f"image {image}, truth {truth}: "
        super().__init__(f"{place}{message} [{clause}]")
        self.clause = clause
        self.image = image
        self.truth = truth


def read_inputs(
    predictions: ArrayLike,
    truths: Sequence[ArrayLike],
    anchors: ArrayLike,
    classes: int,
    images_seen: int,
    profile: Profile,
    tree: Sequence[int] | None,
) -> tuple[Array, list[Array], Array]:
    """Check every input against the domain and bring it into the shapes that the reference works in.

    Returns:
        predictions `[N, A, 5+C, H, W]`, the rows of each image that are read `[T, 5]`, anchors `[A, 2]`; all float64.

    Raises:
        DomainError: anything outside the domain, with the image, the truth and the clause.
    """
    sizes = read_anchors(anchors)
    check_classes(classes)
    check_images_seen(images_seen)
    t = _read_predictions(predictions, len(sizes), int(classes))
    if len(truths) != len(t):
        raise DomainError("domain.ranks", f"got {len(truths)} truth lists for {len(t)} images")
    _check_tree(tree, int(classes), profile)
    return t, [_read_truths(image, rows, int(classes), profile) for image, rows in enumerate(truths)], sizes


def read_anchors(anchors: ArrayLike) -> Array:
    """Anchors as float64 `[A, 2]`, refused where they are not positive finite sizes (`domain.anchors`)."""
    sizes = _numbers("domain.anchors", "anchors", anchors)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes):
        raise DomainError("domain.anchors", f"anchors have shape {list(sizes.shape)}, expected [A, 2] with A >= 1")
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise DomainError("domain.anchors", f"anchors are {sizes.tolist()}, expected positive finite sizes in cells")
    return sizes


def check_classes(classes: int) -> None:
    """Refuse a number of classes that is none (`domain.channels`)."""
    if not _whole(classes) or classes < 1:
        raise DomainError("domain.channels", f"classes is {classes}, expected a whole number >= 1")


def check_images_seen(images_seen: int) -> None:
    """Refuse a number of images that is none (`domain.images-seen`)."""
    if not _whole(images_seen) or images_seen < 0:
        raise DomainError("domain.images-seen", f"images_seen is {images_seen}, expected a whole number >= 0")


def _read_predictions(predictions: ArrayLike, anchors: int, classes: int) -> Array:
    t = _numbers("domain.ranks", "predictions", predictions)
    if t.ndim != 4:
        raise DomainError("domain.ranks", f"predictions have rank {t.ndim}, expected 4: [N, A*(5+C), H, W]")
    images, channels, height, width = t.shape
    if channels != anchors * (5 + classes):
        raise DomainError(
            "domain.channels",
            f"predictions have {channels} channels, expected A*(5+C) = {anchors}*{5 + classes} = "
            f"{anchors * (5 + classes)}",
        )
    if height < 1 or width < 1:  # and there is no other lower limit: `domain.smallest`
        raise DomainError("domain.ranks", f"the grid is {height} x {width} cells, expected at least 1 x 1")
    check_predictions_finite(t)
    return t.reshape(images, anchors, 5 + classes, height, width)


def check_predictions_finite(predictions: Array) -> None:
    """Refuse predictions `[N, A*(5+C), H, W]` that are not all finite (`domain.predictions-finite`)."""
    for image, t in enumerate(predictions):
        if not np.isfinite(t).all():
            channel, row, column = np.argwhere(~np.isfinite(t))[0]
            raise DomainError(
                "domain.predictions-finite",
                f"prediction at channel {channel}, row {row}, column {column} is {t[channel, row, column]}",
                image,
            )


def _read_truths(image: int, rows: ArrayLike, classes: int, profile: Profile) -> Array:
    """The rows that are read, up to the terminator and the capacity; no other is judged (`domain.unread-rows`)."""
    table = _numbers("domain.ranks", "truths", rows, image)
    if table.size == 0:
        return np.zeros((0, 5))
    if table.ndim != 2 or table.shape[1] != 5:
        raise DomainError("domain.ranks", f"truths have shape {list(table.shape)}, expected [T, 5]", image)
    if profile.truth_end == "x-zero":  # `truths.terminator`, `truths.padding`, `truths.no-terminator`
        ends = np.flatnonzero(table[:, 0] == 0)
        table = table[: ends[0]] if len(ends) else table
    if profile.max_truths:  # `truths.capacity`
        table = table[: profile.max_truths]
    if profile.class_term == "tree":
        for truth, row in enumerate(table):
            if (row[:2] > CLASS_ONLY).all():  # the image has no boxes; its other rows are not read
                _check_class(image, truth, row[4], classes)
                return table[truth : truth + 1]
    for truth, row in enumerate(table):
        check_truth(image, truth, row, classes)
    return table


def check_truth(image: int, truth: int, row: Array, classes: int) -> None:
    """Refuse a truth `[5]` outside the domain (`domain.truths-finite`, `domain.centre`, `domain.size`)."""
    if not np.isfinite(row).all():
        raise DomainError(
            "domain.truths-finite", f"x, y, w, h, class are {row.tolist()}, expected finite", image, truth
        )
    for name, value in zip("xy", row[:2], strict=True):
        if not 0 <= value < 1:
            raise DomainError(
                "domain.centre", f"{name} is {value}, expected 0 <= {name} < 1 (a fraction of the image)", image, truth
            )
    for name, value in zip("wh", row[2:4], strict=True):
        if not 0 < value <= 1:
            raise DomainError(
                "domain.size", f"{name} is {value}, expected 0 < {name} <= 1 (a fraction of the image)", image, truth
            )
    _check_class(image, truth, row[4], classes)


def _check_class(image: int, truth: int, value: float, classes: int) -> None:
    if not (_whole(value) and 0 <= value < classes):
        raise DomainError(
            "domain.class", f"class is {value}, expected a whole number from 0 to {classes - 1}", image, truth
        )


def _check_tree(tree: Sequence[int] | None, classes: int, profile: Profile) -> None:
    if profile.class_term != "tree":
        return
    if tree is None or len(tree) != classes:
        got = "none" if tree is None else f"{len(tree)} entries"
        raise DomainError("tree.groups", f"the tree is {got}, expected a parent for each of the {classes} classes")
    for node, parent in enumerate(tree):
        if not -1 <= parent < node:
            raise DomainError("tree.groups", f"the parent of class {node} is {parent}, expected -1 or an earlier class")


def _whole(value: float) -> bool:
    return bool(np.isfinite(value)) and value == int(value)


def _numbers(clause: str, what: str, values: ArrayLike, image: int | None = None) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DomainError(clause, f"{what} cannot be read as an array of numbers: {error}", image) from error
