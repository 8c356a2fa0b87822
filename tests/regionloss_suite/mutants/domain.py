"""Inputs outside the domain that are repaired or let through, and its edges (spec chapter 11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss.domain import CLASS_ONLY
from regionloss_adapters import Answer, CannotAnswerError, Question, RefusedError
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched, right
from regionloss_suite.mutants.tools import Answering, read, repaired, rows_read


def _rows(change: Callable[[Array, Batch], Array]) -> Answering:
    """The rows of truths that are read `[T, 5]` repaired; lists of another shape are left as they are."""

    def answer(question: Question) -> Answer:
        truths = []
        for rows in question.batch.truths:
            table = np.array(rows, dtype=np.float64) if np.asarray(rows).dtype != object else rows
            fits = table.ndim == 2 and table.shape[1] == 5 and len(table)
            truths.append(change(rows_read(table, question.profile), question.batch) if fits else rows)
        return repaired(lambda batch: dataclasses.replace(batch, truths=tuple(truths)))(question)

    return answer


def _boxed(table: Array) -> Array:
    """Rows that do not stand for a class alone, bool `[T]`."""
    return np.asarray(~(table[:, :2] > CLASS_ONLY).all(axis=1))


def _nan_passed_on(question: Question) -> Answer:
    """The numbers are not checked: NaN gives NaN."""

    def unchecked(predictions: Any, anchors: int, classes: int) -> Array:
        t = np.array(predictions, dtype=np.float64)
        images, _, height, width = t.shape
        return t.reshape(images, anchors, 5 + classes, height, width)

    values = np.asarray(question.batch.predictions)
    if values.ndim != 4 or np.isfinite(values).all():
        return right(question)
    with np.errstate(all="ignore"):
        return patched(domain___read_predictions=unchecked)(question)


def _nan_is_zero(batch: Batch) -> Batch:
    return dataclasses.replace(batch, predictions=np.nan_to_num(np.asarray(batch.predictions), posinf=50, neginf=-50))


def _surplus_channels(batch: Batch) -> Batch:
    """Surplus channels dropped; with too few channels, fewer classes."""
    channels, anchors = np.asarray(batch.predictions).shape[1], len(batch.anchors)
    if channels >= anchors * (5 + batch.classes):
        return dataclasses.replace(batch, predictions=batch.predictions[:, : anchors * (5 + batch.classes)])
    return dataclasses.replace(batch, classes=channels // max(anchors, 1) - 5)


def _guessed_shape(batch: Batch) -> Batch:
    values, channels = np.asarray(batch.predictions), len(batch.anchors) * (5 + batch.classes)
    if values.ndim == 4 or not values.size:
        return batch
    grid = values.shape[-2:]
    if values.size % (channels * grid[0] * grid[1]):
        return batch
    return dataclasses.replace(batch, predictions=values.reshape(-1, channels, *grid))


def _lists_to_fit(batch: Batch) -> Batch:
    images = len(batch.predictions)
    empty = (np.zeros((0, 5)),) * images
    return dataclasses.replace(batch, truths=(*batch.truths, *empty)[:images])


def _numbers_dropped(table: Array, batch: Batch) -> Array:
    return np.asarray(table[np.isfinite(table).all(axis=1)])


def _centre_clamped(table: Array, batch: Batch) -> Array:
    table[:, :2] = np.where(_boxed(table)[:, None], np.clip(table[:, :2], 0.0, np.nextafter(1.0, 0.0)), table[:, :2])
    return table


def _centre_in_pixels(table: Array, batch: Batch) -> Array:
    """Numbers above 1 are treated as pixels of an input of 416."""
    table[:, :4] = np.where((table[:, :4] > 1) & _boxed(table)[:, None], table[:, :4] / 416, table[:, :4])
    return table


def _size_clamped(table: Array, batch: Batch) -> Array:
    table[:, 2:4] = np.where(_boxed(table)[:, None], np.clip(table[:, 2:4], 1e-6, 1.0), table[:, 2:4])
    return table


def _small_dropped(table: Array, batch: Batch) -> Array:
    """As a data loader drops boxes under .001."""
    return np.asarray(table[~(table[:, 2:4] < 0.001).any(axis=1) | ~_boxed(table)])


def _class_truncated(table: Array, batch: Batch) -> Array:
    finite = np.isfinite(table[:, 4])
    table[finite, 4] = np.trunc(table[finite, 4])
    return table


def _class_skipped(table: Array, batch: Batch) -> Array:
    return np.asarray(table[~(table[:, 4] >= batch.classes)])


def _class_negative(table: Array, batch: Batch) -> Array:
    return np.asarray(table[~(table[:, 4] < 0)])


def _faulty_dropped(table: Array, batch: Batch) -> Array:
    """Every invalid row is silently dropped."""
    places, sizes, label = table[:, :2], table[:, 2:4], table[:, 4]
    good = (places >= 0).all(axis=1) & (places < 1).all(axis=1) & (sizes > 0).all(axis=1) & (sizes <= 1).all(axis=1)
    good &= (label >= 0) & (label < batch.classes) & (label == np.floor(label))
    return np.asarray(table[good | ~_boxed(table)])


def _anchors_taken(batch: Batch) -> Batch:
    anchors = np.asarray(batch.anchors)
    if anchors.ndim != 2 or anchors.shape[1] < 2:
        return batch
    sizes = np.nan_to_num(np.abs(anchors[:, :2]), nan=1.0, posinf=1e3)
    return dataclasses.replace(batch, anchors=np.maximum(sizes, 1e-6))


def _counter_taken(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images_seen=max(batch.images_seen, 0))


def _empty_batch_nan(question: Question) -> Answer:
    """A mean over no images is 0/0."""
    answer = right(question)
    if len(question.batch.truths):
        return answer
    nothing = float("nan")
    return dataclasses.replace(answer, potential=nothing, terms=dict.fromkeys(answer.terms or {}, nothing))


def _one_cell_refused(question: Question) -> Answer:
    answer = right(question)
    _, _, _, height, width = read(question).t.shape
    if height * width == 1 and len(question.batch.anchors) == 1 and question.batch.classes == 1:
        raise RefusedError("the predictions have lost their axes of length 1")
    return answer


def _places_from_one(question: Question) -> Answer:
    """The error counts images and truths from 1."""
    try:
        return right(question)
    except RefusedError as error:
        image = None if error.image is None else error.image + 1
        truth = None if error.truth is None else error.truth + 1
        raise RefusedError(str(error), image, truth) from error


def _repaired_or_not(answering: Answering) -> Answering:
    """If the repair itself fails, the input is still refused."""

    def answer(question: Question) -> Answer:
        try:
            return answering(question)
        except (IndexError, ValueError, TypeError, AttributeError) as error:
            try:
                return right(question)
            except RefusedError:
                raise
            except Exception as other:
                raise CannotAnswerError(f"the mistake cannot be made on this input: {error}") from other

    return answer


MUTANTS: list[Mutant] = [
    Mutant(
        id="nan-passed-on",
        clause="domain.predictions-finite",
        title="predictions are not checked, and a NaN is passed on",
        answer=_nan_passed_on,
    ),
    Mutant(
        id="nan-is-zero",
        clause="domain.predictions-finite",
        title="a NaN among the predictions is read as 0, an infinity as a large number",
        answer=_repaired_or_not(repaired(_nan_is_zero)),
    ),
    Mutant(
        id="channels-to-fit",
        clause="domain.channels",
        title="surplus channels are dropped, and missing ones mean fewer classes",
        answer=_repaired_or_not(repaired(_surplus_channels)),
    ),
    Mutant(
        id="shape-guessed",
        clause="domain.ranks",
        title="predictions of another rank are reshaped",
        answer=_repaired_or_not(repaired(_guessed_shape)),
    ),
    Mutant(
        id="lists-to-fit",
        clause="domain.ranks",
        title="surplus lists of truths are dropped, and missing ones count as empty",
        answer=_repaired_or_not(repaired(_lists_to_fit)),
    ),
    Mutant(
        id="truths-with-nan-dropped",
        clause="domain.truths-finite",
        title="a truth that contains a NaN or an infinity is dropped",
        answer=_repaired_or_not(_rows(_numbers_dropped)),
    ),
    Mutant(
        id="centre-clamped",
        clause="domain.centre",
        title="a centre at 1 is moved into the last cell",
        after="eriklindernoren/PyTorch-YOLOv3#131 and #224",
        answer=_repaired_or_not(_rows(_centre_clamped)),
    ),
    Mutant(
        id="centre-in-pixels",
        clause="domain.centre",
        title="numbers above 1 are treated as pixels of an input of 416",
        answer=_repaired_or_not(_rows(_centre_in_pixels)),
    ),
    Mutant(
        id="size-clamped",
        clause="domain.size",
        title="a size of 0 is replaced by a small one, and one above 1 is clipped",
        after="marvis/pytorch-yolo2",
        answer=_repaired_or_not(_rows(_size_clamped)),
    ),
    Mutant(
        id="small-truths-dropped",
        clause="domain.size",
        title="truths without a size are dropped",
        answer=_repaired_or_not(_rows(_small_dropped)),
    ),
    Mutant(
        id="class-truncated",
        clause="domain.class",
        title="a class that is not an integer is truncated",
        answer=_repaired_or_not(_rows(_class_truncated)),
    ),
    Mutant(
        id="class-too-large-skipped",
        clause="domain.class",
        title="a truth with an invalid class is skipped",
        after="AlexeyAB/darknet",
        answer=_repaired_or_not(_rows(_class_skipped)),
    ),
    Mutant(
        id="class-minus-one-is-padding",
        clause="domain.class",
        title="a class of -1 is treated as padding",
        after="eavise-kul/lightnet",
        answer=_repaired_or_not(_rows(_class_negative)),
    ),
    Mutant(
        id="anchors-repaired",
        clause="domain.anchors",
        title="anchors are made positive and finite, and a third number of each is dropped",
        answer=_repaired_or_not(repaired(_anchors_taken)),
    ),
    Mutant(
        id="counter-below-zero",
        clause="domain.images-seen",
        title="a negative number of images seen is treated as 0",
        answer=repaired(_counter_taken),
    ),
    Mutant(
        id="empty-batch-nan",
        clause="domain.empty-batch",
        title="a batch without images has the loss NaN",
        answer=_empty_batch_nan,
    ),
    Mutant(
        id="axes-squeezed",
        clause="domain.smallest",
        title="axes of length 1 are squeezed, and the smallest input is refused for its rank",
        answer=_one_cell_refused,
    ),
    Mutant(
        id="places-from-one",
        clause="domain.error-message",
        title="errors count images and truths from 1",
        answer=_places_from_one,
    ),
    Mutant(
        id="faulty-truths-dropped",
        clause="domain.no-repair",
        title="every invalid truth is silently dropped",
        answer=_repaired_or_not(_rows(_faulty_dropped)),
    ),
]
