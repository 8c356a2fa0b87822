"""Shrink a batch while a condition holds: fewer images, truths, anchors, cells and classes, simpler numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from regionloss_spec import Batch

#: The most batches to try.
_MOST = 1500


def smaller(batch: Batch, holds: Callable[[Batch], bool], *, most: int = _MOST) -> Batch:
    """The smallest batch found for which the condition holds; a removed part is never put back."""
    tried = 0
    for step in (_images, _truths, _anchors, _rows, _columns, _labels, _classes, _seen, _zeros, _rounded):
        again = True
        while again and tried < most:
            again = False
            for one in step(batch):
                tried += 1
                if tried >= most:
                    break
                if holds(one):
                    batch, again = one, True
                    break
    return batch


def _images(batch: Batch) -> Iterator[Batch]:
    """One image alone, or all but one."""
    count = len(batch.truths)
    if count > 1:
        kept = [[n] for n in range(count)] + [[m for m in range(count) if m != n] for n in range(count) if count > 2]
        for images in kept:
            truths = tuple(batch.truths[n] for n in images)
            yield dataclasses.replace(batch, predictions=batch.predictions[images], truths=truths)


def _truths(batch: Batch) -> Iterator[Batch]:
    for n, rows in enumerate(batch.truths):
        for at in range(len(rows)):
            yield _with_rows(batch, n, np.delete(rows, at, axis=0))


def _anchors(batch: Batch) -> Iterator[Batch]:
    count = len(batch.anchors)
    for k in range(count if count > 1 else 0):
        n, _, height, width = batch.predictions.shape
        t = np.delete(batch.predictions.reshape(n, count, -1, height, width), k, axis=1)
        yield dataclasses.replace(
            batch, predictions=t.reshape(n, -1, height, width), anchors=np.delete(batch.anchors, k, axis=0)
        )


def _rows(batch: Batch) -> Iterator[Batch]:
    return _cut(batch, axis=2)


def _columns(batch: Batch) -> Iterator[Batch]:
    return _cut(batch, axis=3)


def _cut(batch: Batch, axis: int) -> Iterator[Batch]:
    """One row or column of cells alone, or all but the first or the last; boxes keep their size in cells."""
    cells = batch.predictions.shape[axis]
    if cells < 2:
        return
    spans = [(k, k + 1) for k in range(cells)] + [(0, cells - 1), (1, cells)]
    for low, high in dict.fromkeys(spans):
        truths = []
        for rows in batch.truths:
            moved, column = rows.copy(), 3 - axis  # x and w scale with the columns, y and h with the rows
            moved[:, column] = (rows[:, column] * cells - low) / (high - low)
            moved[:, column + 2] = rows[:, column + 2] * cells / (high - low)
            moved = moved.astype(np.float32).astype(np.float64)
            inside = (moved[:, column] >= 0) & (moved[:, column] < 1) & (moved[:, column + 2] <= 1)
            truths.append(moved[inside])
        kept = batch.predictions.take(range(low, high), axis=axis)
        yield dataclasses.replace(batch, predictions=kept, truths=tuple(truths))


def _classes(batch: Batch) -> Iterator[Batch]:
    """Without the last class, if no truth has it."""
    used = max((int(rows[:, 4].max()) for rows in batch.truths if len(rows)), default=0)
    if batch.tree is None and batch.classes > max(used + 1, 1):
        n, channels, height, width = batch.predictions.shape
        t = batch.predictions.reshape(n, len(batch.anchors), -1, height, width)[:, :, :-1]
        fewer = channels - len(batch.anchors)
        yield dataclasses.replace(batch, predictions=t.reshape(n, fewer, height, width), classes=batch.classes - 1)


def _seen(batch: Batch) -> Iterator[Batch]:
    return (dataclasses.replace(batch, images_seen=t) for t in (12800, 0) if batch.images_seen not in (12800, t))


def _zeros(batch: Batch) -> Iterator[Batch]:
    """All outputs 0, those of one predictor, or one alone."""
    if not batch.predictions.any():
        return
    yield dataclasses.replace(batch, predictions=np.zeros_like(batch.predictions))
    n, _, height, width = batch.predictions.shape
    t = batch.predictions.reshape(n, len(batch.anchors), -1, height, width)
    for image, k, j, i in sorted({(image, k, j, i) for image, k, _, j, i in np.argwhere(t).tolist()}):
        if np.count_nonzero(t[image, k, :, j, i]) > 1:
            changed = t.copy()
            changed[image, k, :, j, i] = 0
            yield dataclasses.replace(batch, predictions=changed.reshape(batch.predictions.shape))
    for place in np.argwhere(t).tolist():
        changed = t.copy()
        changed[tuple(place)] = 0
        yield dataclasses.replace(batch, predictions=changed.reshape(batch.predictions.shape))


def _labels(batch: Batch) -> Iterator[Batch]:
    for n, rows in enumerate(batch.truths):
        for at in np.flatnonzero(rows[:, 4]):
            changed = rows.copy()
            changed[at, 4] = 0
            yield _with_rows(batch, n, changed)


def _rounded(batch: Batch) -> Iterator[Batch]:
    """Outputs and truths with fewer digits, one by one; only those that get shorter."""
    for digits in (0, 1, 2):
        for place in np.argwhere(batch.predictions != _short(batch.predictions, digits)).tolist():
            changed = batch.predictions.copy()
            changed[tuple(place)] = _short(changed[tuple(place)], digits)
            if _length(changed[tuple(place)]) < _length(batch.predictions[tuple(place)]):
                yield dataclasses.replace(batch, predictions=changed)
        for n, rows in enumerate(batch.truths):
            for at, column in np.argwhere(rows != _short(rows, digits)).tolist():
                changed = rows.copy()
                changed[at, column] = _short(changed[at, column], digits)
                if _length(changed[at, column]) < _length(rows[at, column]):
                    yield _with_rows(batch, n, changed)


def _short(values: object, digits: int) -> np.ndarray:
    """Rounded to a number of digits, then to float32."""
    return np.round(np.asarray(values, dtype=np.float64), digits).astype(np.float32).astype(np.float64)


def _length(value: float) -> int:
    return len(np.format_float_positional(np.float32(value), unique=True, trim="-"))


def _with_rows(batch: Batch, image: int, rows: np.ndarray) -> Batch:
    return dataclasses.replace(batch, truths=(*batch.truths[:image], rows, *batch.truths[image + 1 :]))
