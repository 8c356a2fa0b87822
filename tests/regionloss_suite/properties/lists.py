"""The list of truths: where it ends, which rows are read, and what their order decides (spec chapter 11)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss import evaluate
from regionloss.decisions import Match
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.oracle.strategies import raw_of
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins

#: Rows that no loss may read: invalid in every way, and one ordinary truth.
_JUNK = (
    (float("nan"),) * 5,
    (0.5, 0.5, 0.5, 0.5, 0.0),
    (-3.0, 7.0, 0.0, 2.0, 99.0),
    (0.25, 0.5, 0.0, -1.0, 0.5),
    (1.0, float("inf"), 1e30, 0.1, -1.0),
    (1e6, 1e6, 0.0, 0.0, 0.0),  # with a tree, a class without a box
)
#: A row in the middle of the image, for lists that need one.
ROW = (0.375, 0.375, 0.5, 0.25, 0.0)


def ended_by_zero(profile: Profile) -> bool:
    """Whether a row with x = 0 ends the list."""
    return profile.truth_end == "x-zero"


def with_rows(batch: Batch, image: int, rows: Array) -> Batch:
    """The batch with another list of truths for one image."""
    rows = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
    return dataclasses.replace(batch, truths=(*batch.truths[:image], rows, *batch.truths[image + 1 :]))


def draw_image(data: st.DataObject, batch: Batch) -> int:
    """One image of a batch."""
    return data.draw(st.integers(0, len(batch.truths) - 1))


def draw_junk(data: st.DataObject) -> Array:
    """A few rows that are never read."""
    return np.array(data.draw(st.lists(st.sampled_from(_JUNK), min_size=1, max_size=4)))


def without_collisions(batch: Batch, profile: Profile) -> Batch:
    """The batch with only the last of the truths that collide on a predictor."""
    last: dict[tuple[int, ...], Match] = {}
    for match in evaluate(batch, profile).decisions.matches:
        last[match.predictor] = match
    kept = [sorted(match.truth for match in last.values() if match.image == n) for n in range(len(batch.truths))]
    return dataclasses.replace(
        batch, truths=tuple(rows[places] for rows, places in zip(batch.truths, kept, strict=True))
    )


def with_boxes_on_truths(harness: PropertyHarness, batch: Batch) -> Batch:
    """The batch in which the last anchor of each truth's cell predicts that truth's box, responsible or not."""
    predictions = batch.predictions.copy()
    height, width = predictions.shape[2:]
    start = predictions.shape[1] - 5 - batch.classes
    for image, rows in enumerate(batch.truths):
        for row in rows:
            j, i = int(row[1] * height), int(row[0] * width)
            raw = raw_of(row, j, i, batch.anchors[-1], height, width)
            predictions[image, start : start + 4, j, i] = quantised(raw, harness.dtype)
    return dataclasses.replace(batch, predictions=predictions)


@pins("truths.terminator", "truths.padding", "domain.unread-rows", "tree.class-only-image", when=ended_by_zero)
def padding_changes_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Rows after a row with x = 0, and the rest of that row, are not read."""
    batch = harness.draw(data)
    image = draw_image(data, batch)
    end = (data.draw(st.sampled_from((0.0, -0.0))), *data.draw(st.sampled_from(_JUNK))[1:])
    padded = with_rows(batch, image, np.vstack([batch.truths[image], [end], draw_junk(data)]))
    harness.agree(harness.ask(batch), harness.ask(padded))


@pins("truths.no-terminator", when=lambda profile: not ended_by_zero(profile))
def a_truth_at_the_left_border_of_the_image_is_a_truth(harness: PropertyHarness, data: st.DataObject) -> None:
    """No list ends at x = 0: neither this truth nor those after it are lost."""
    batch = harness.draw(data, boxless=False)
    image = draw_image(data, batch)
    rows = np.vstack([[[0.0, *ROW[1:]]], batch.truths[image]])
    harness.ask(with_rows(batch, image, rows)).conforms()


@pins("truths.capacity", "domain.unread-rows", when=lambda profile: profile.max_truths > 0, share=0.4)
def a_full_list_is_read_and_what_is_beyond_it_is_not(harness: PropertyHarness, data: st.DataObject) -> None:
    """The last row within the capacity is learnt, the next one is not; and each image has its own list."""
    batch = harness.draw(data, images=(1, 2), boxless=False)
    rows = batch.truths[0] if len(batch.truths[0]) else np.array([ROW])
    full = np.resize(rows, (harness.profile.max_truths, 5))
    # The last one has a cell or a shape of its own, so that a loss that does not read it misses it.
    full[-1] = (*data.draw(st.sampled_from(((0.9375, 0.9375), (0.0625, 0.5)))), 0.25, 0.5, batch.classes - 1)
    one = harness.ask(with_rows(batch, 0, full))
    one.conforms()
    harness.agree(one, harness.ask(with_rows(batch, 0, np.vstack([full, draw_junk(data)]))))


@pins("truths.capacity", when=lambda profile: profile.max_truths == 0, share=0.4)
def a_list_without_limit_is_read_to_its_end(harness: PropertyHarness, data: st.DataObject) -> None:
    """Forty rows, the last of them alone in its cell or with its shape."""
    batch = harness.draw(data, images=(1, 1), boxless=False)
    rows = batch.truths[0] if len(batch.truths[0]) else np.array([ROW])
    full = np.resize(rows, (40, 5))
    full[-1] = (0.9375, 0.9375, 0.25, 0.5, batch.classes - 1)
    harness.ask(with_rows(batch, 0, full)).conforms()


@pins("truths.order")
def the_order_of_truths_changes_nothing_without_a_collision(harness: PropertyHarness, data: st.DataObject) -> None:
    """No two truths on one predictor, by construction; class-only rows, of which the first counts, are left out."""
    batch = with_boxes_on_truths(harness, harness.draw(data, boxless=False))
    batch = without_collisions(batch, harness.profile)
    assume(any(len(rows) > 1 for rows in batch.truths))
    shuffled = tuple(rows[data.draw(st.permutations(range(len(rows))))] for rows in batch.truths)
    harness.agree(harness.ask(batch), harness.ask(dataclasses.replace(batch, truths=shuffled)))


@pins("truths.empty", "noobj.empty-image")
def an_image_without_truths_pays_for_background_alone(harness: PropertyHarness, data: st.DataObject) -> None:
    """For every way to write the empty list, and any truths in the other images."""
    batch = harness.draw(data)
    image = draw_image(data, batch)
    batch = with_rows(batch, image, np.zeros((0, 5)))
    one = harness.ask(batch)
    one.conforms()
    if ended_by_zero(harness.profile):
        harness.agree(one, harness.ask(with_rows(batch, image, np.zeros((2, 5)))))
