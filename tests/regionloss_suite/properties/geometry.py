"""Symmetries: shift, flip, transpose; permuted anchors and classes (spec chapters 2 to 4).

All on a lattice (`strategies.batches`), where moving a centre is exact, and without class-only images, whose
predictor depends on the order of the grid if scores are equal.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss.decisions import anchor_fit
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response


def by_predictor(batch: Batch) -> Array:
    """A copy of the predictions, `[N, A, 5+C, H, W]`."""
    images, _, height, width = batch.predictions.shape
    shape = (images, len(batch.anchors), 5 + batch.classes, height, width)
    return np.array(batch.predictions).reshape(shape)


def with_predictions(batch: Batch, t: Array) -> Batch:
    """The batch with other predictions, given as `[N, A, 5+C, H, W]`."""
    images, anchors, channels, height, width = t.shape
    return dataclasses.replace(batch, predictions=t.reshape(images, anchors * channels, height, width))


def _symmetrical(profile: Profile) -> bool:
    """Whether the anchor choice is symmetric in left and right; the corner of the cell is not."""
    return profile.anchor_choice != "anchor-corner"


@pins("assign.cell", "notation.truth-units", "decode.centre")
def shifting_everything_by_a_cell_shifts_the_gradient(harness: PropertyHarness, data: st.DataObject) -> None:
    """There are no truths in the last column or row, which would leave the image; what wraps around is not compared."""
    batch = harness.draw(data, lattice=True, boxless=False)
    axis = data.draw(st.sampled_from((3, 4)))  # of [N, A, E, H, W]
    height, width = batch.predictions.shape[2:]
    cells, place = (height, 1) if axis == 3 else (width, 0)
    assume(cells > 1)
    staying = tuple(rows[rows[:, place] < 1 - 1 / cells] for rows in batch.truths)
    assume(any(len(rows) for rows in staying))
    moved = tuple(rows.copy() for rows in staying)
    for rows in moved:
        rows[:, place] += 1 / cells
    t = np.roll(by_predictor(batch), 1, axis=axis)
    one = harness.ask(dataclasses.replace(batch, truths=staying))
    other = harness.ask(dataclasses.replace(with_predictions(batch, t), truths=moved))
    here = np.ones((1, 1, 1, height, width), dtype=bool)
    here[:, :, :, slice(1) if axis == 3 else slice(None), slice(1) if axis == 4 else slice(None)] = False
    harness.agree(one, other, carry=lambda array: np.roll(array, 1, axis=axis), where=here)


@pins("coord.centre-target", "decode.centre", "iou.definition", when=_symmetrical)
def a_picture_in_the_mirror_has_the_gradient_in_the_mirror(harness: PropertyHarness, data: st.DataObject) -> None:
    """Left and right, or top and bottom, are swapped, and tx or ty changes its sign.

    No centre is on a border between cells, because its mirror image would belong to the wrong cell.
    """
    batch = harness.draw(data, lattice=True, boxless=False)
    axis, channel = data.draw(st.sampled_from(((4, 0), (3, 1))))
    t = np.flip(by_predictor(batch), axis=axis).copy()
    t[:, :, channel] *= -1
    truths = tuple(rows.copy() for rows in batch.truths)
    for rows in truths:
        rows[:, channel] = 1 - rows[:, channel]

    def turned(gradient: Array) -> Array:
        gradient = gradient.copy()
        gradient[:, :, channel] *= -1
        return gradient

    one, other = harness.ask(batch), harness.ask(dataclasses.replace(with_predictions(batch, t), truths=truths))
    harness.agree(one, other, carry=lambda array: np.flip(array, axis=axis), channels=turned)


@pins("notation.grid-axes", "notation.channel-order")
def exchanging_rows_and_columns_exchanges_them_in_the_gradient(harness: PropertyHarness, data: st.DataObject) -> None:
    """H and W, x and y, w and h, and the sides of the anchors are swapped."""
    batch = harness.draw(data, lattice=True, boxless=False)

    def exchanged(array: Array) -> Array:
        return array[:, :, [1, 0, 3, 2, *range(4, array.shape[2])]]

    t = exchanged(np.swapaxes(by_predictor(batch), 3, 4))
    other = dataclasses.replace(
        with_predictions(batch, np.ascontiguousarray(t)),
        truths=tuple(rows[:, [1, 0, 3, 2, 4]] for rows in batch.truths),
        anchors=batch.anchors[:, ::-1].copy(),
    )
    harness.agree(
        harness.ask(batch), harness.ask(other), carry=lambda array: np.swapaxes(array, 3, 4), channels=exchanged
    )


@pins("notation.grid-axes", "notation.anchor-units", "notation.truth-units", "decode.size")
def a_picture_in_half_of_a_larger_one_is_judged_as_it_was(harness: PropertyHarness, data: st.DataObject) -> None:
    """Twice as many columns or rows, with everything in the first half: measured in cells, nothing changes.

    A box is half as large as a fraction of the larger image, so the boxes of responsible predictors are compared only
    if neither the weight nor the size term uses fractions.
    """
    batch = harness.draw(data, boxless=False)
    axis, place = data.draw(st.sampled_from(((3, 1), (4, 0))))  # of [N, A, E, H, W]
    t = by_predictor(batch)
    cells = t.shape[axis]
    larger = np.concatenate([t, t], axis=axis)
    truths = tuple(rows.copy() for rows in batch.truths)
    for rows in truths:
        rows[:, [place, place + 2]] /= 2
    one = harness.ask(batch)
    other = harness.ask(dataclasses.replace(with_predictions(batch, larger), truths=truths))
    where = np.ones(larger.shape, dtype=bool)
    where[(slice(None),) * axis + (slice(cells, None),)] = False
    if harness.profile.small_box_exponent or harness.profile.size_space == "square-root":
        where[:, :, :4] &= ~other.result.decisions.responsible[:, :, None]
    harness.agree(one, other, carry=lambda array: np.concatenate([array, array], axis=axis), where=where)


@pins("table.other-anchors", "assign.one-predictor", "notation.predictor", "notation.anchor-units")
def the_order_of_the_anchors_changes_nothing_without_a_tie(harness: PropertyHarness, data: st.DataObject) -> None:
    """Anchors are permuted, and their predictors with them.

    A tie goes to the first of them, so truths with two equally good anchors are left out.
    """
    batch = harness.draw(data, boxless=False)
    assume(len(batch.anchors) > 1)
    batch = _without_ties(harness.ask(batch))
    order = list(data.draw(st.permutations(range(len(batch.anchors)))))
    t = by_predictor(batch)[:, order]
    other = dataclasses.replace(with_predictions(batch, t), anchors=batch.anchors[order])
    harness.agree(harness.ask(batch), harness.ask(other), carry=lambda array: array[:, order])


@pins("decode.class-probabilities", "notation.channel-order", when=lambda profile: profile.class_term != "tree")
def the_names_of_the_classes_mean_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Class outputs and labels are permuted; not in a tree, where the position of a class matters."""
    batch = harness.draw(data)
    assume(batch.classes > 1)
    order = list(data.draw(st.permutations(range(batch.classes))))
    channels = [*range(5), *(5 + place for place in order)]
    label = np.argsort(order)
    truths = tuple(rows.copy() for rows in batch.truths)
    for rows in truths:
        rows[:, 4] = label[rows[:, 4].astype(int)]
    t = by_predictor(batch)[:, :, channels]
    other = dataclasses.replace(with_predictions(batch, t), truths=truths)
    harness.agree(harness.ask(batch), harness.ask(other), channels=lambda array: array[:, :, channels])


def _without_ties(response: Response) -> Batch:
    """The batch without the truths that two anchors fit equally well."""
    result, batch = response.result, response.case.batch
    kept: list[list[int]] = [[] for _ in batch.truths]
    for match in result.decisions.matches:
        row, boxes = result.truths[match.image][match.truth], result.boxes[match.image]
        fit = anchor_fit(match.row, match.column, row, boxes, result.anchors, result.profile)
        if (fit == fit.max()).sum() == 1:
            kept[match.image].append(match.truth)
    return dataclasses.replace(
        batch, truths=tuple(rows[places] for rows, places in zip(batch.truths, kept, strict=True))
    )
