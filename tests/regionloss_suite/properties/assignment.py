"""Which predictor is responsible, and what happens when truths collide (spec chapter 4)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec import Batch, Profile
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.oracle.comparison import VIEWS
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.lists import ROW, draw_image, with_rows
from regionloss_suite.properties.registry import pins


def one_wins(profile: Profile) -> bool:
    """Whether only one of several truths on a predictor counts."""
    return profile.collision != "sum" and profile.class_collision == "replace"


def one_wins_everywhere(profile: Profile) -> bool:
    """The same, and the others have no other effect: an ignored predictor may pay the class of the first of equals."""
    return one_wins(profile) and profile.ignored_class == "none"


def _with_twin(
    harness: PropertyHarness, data: st.DataObject, *, alike: bool, size: tuple[float, float] = (1.0, 1.0)
) -> tuple[Batch, Batch]:
    """A batch, and the same with a second truth that loses against one of its truths on the same predictor.

    The second truth has the same place and by default the same size; it has another class, unless it is to
    be alike.
    """
    batch = harness.draw(data, boxless=False)
    image = draw_image(data, batch)
    if not len(batch.truths[image]):
        batch = with_rows(batch, image, np.array([ROW]))
    rows = batch.truths[image]
    at = data.draw(st.integers(0, len(rows) - 1))
    twin = rows[at].copy()
    if not alike:
        assume(batch.classes > 1)
        twin[4] = (twin[4] + data.draw(st.integers(1, batch.classes - 1))) % batch.classes
    twin[2:4] = np.minimum(quantised(twin[2:4] * size, "float32"), 1.0)
    # Directly before or after its twin: at another place in the list it could collide with a third truth.
    before = at if harness.profile.collision == "last" else at + 1
    return batch, with_rows(batch, image, np.insert(rows, before, twin, axis=0))


@pins("assign.last-truth-wins", "assign.first-truth-wins", "assign.class-replaced", "truths.order",
      when=one_wins_everywhere)  # fmt: skip
def of_two_truths_that_differ_in_class_one_is_learned_alone(harness: PropertyHarness, data: st.DataObject) -> None:
    """The later one wins, or the earlier one under some profiles; the boxes are equal, so MaxIOU is the same."""
    batch, twins = _with_twin(harness, data, alike=False)
    harness.agree(harness.ask(batch), harness.ask(twins))


@pins("assign.repeated-truth", when=one_wins)
def a_truth_that_is_repeated_counts_once(harness: PropertyHarness, data: st.DataObject) -> None:
    """The same row twice is a collision in which nothing changes."""
    batch, twins = _with_twin(harness, data, alike=True)
    harness.agree(harness.ask(batch), harness.ask(twins))


@pins(
    "assign.every-truth-pays",
    "assign.class-accumulates",
    "assign.repeated-truth",
    "tree.collision",
    "assign.last-truth-wins",
    "class.ignored-full",
    "class.ignored-by-objectness",
    when=lambda profile: not one_wins_everywhere(profile),
)
def truths_that_meet_are_paid_as_the_profile_says(harness: PropertyHarness, data: st.DataObject) -> None:
    """Two truths with the same box, of the same class or of two classes."""
    _, twins = _with_twin(harness, data, alike=data.draw(st.booleans()))
    harness.ask(twins).conforms()


@pins(
    "assign.last-truth-wins", "assign.first-truth-wins", "truths.order", needs=("gradient",),
    when=lambda profile: one_wins(profile) and profile.anchor_choice.startswith("anchor"),
)  # fmt: skip
def a_truth_that_loses_its_predictor_leaves_no_trace_there(harness: PropertyHarness, data: st.DataObject) -> None:
    """Truths of any shape on one predictor; the loser may still count for MaxIOU of other predictors.

    Objectness is left out if its target or the no-object term depends on MaxIOU of the responsible predictor too.
    """
    resized = data.draw(st.sampled_from(((1.0, 1.0), (0.875, 1.0), (1.125, 1.125), (0.75, 0.75))))
    _, batch = _with_twin(harness, data, alike=data.draw(st.booleans()), size=resized)
    both = harness.ask(batch)
    losers = [match for match in both.result.decisions.matches if not match.pays_box]
    assume(losers)
    keep = [
        [at for at in range(len(rows)) if not any(match.image == n and match.truth == at for match in losers)]
        for n, rows in enumerate(batch.truths)
    ]
    truths = tuple(rows[places] for rows, places in zip(batch.truths, keep, strict=True))
    where = np.broadcast_to(both.result.decisions.responsible[:, :, None], both.result.t.shape).copy()
    if harness.profile.no_object_applies == "every-predictor" or harness.profile.object_target == "max-iou":
        where[:, :, 4] = False
    # The losers pay nothing, so only the answers at the predictors that stay responsible are compared.
    winners = harness.ask(dataclasses.replace(batch, truths=truths))
    harness.agree(winners, both, where=where)


@pins("assign.cell-border", "assign.cell")
def a_centre_on_a_border_belongs_to_the_later_cell(harness: PropertyHarness, data: st.DataObject) -> None:
    """On grids of 2 and 4 cells, whose borders are exact in every format."""
    batch = harness.draw(data, lattice=True, boxless=False)
    height, width = batch.predictions.shape[2:]
    assume(height > 1 or width > 1)
    image = draw_image(data, batch)
    # Never at 0, which ends the list under some profiles and is the border of the image, not between two cells.
    x = data.draw(st.sampled_from([k / width for k in range(1, width)] or [0.375]))
    y = data.draw(st.sampled_from([k / height for k in range(1, height)] or [0.375]))
    row = (x, y, 0.25, 0.5, float(batch.classes - 1))
    harness.ask(with_rows(batch, image, np.vstack([batch.truths[image], [row]]))).conforms()


@pins(
    "assign.anchor-tie", "assign.anchor-shape", "assign.anchor-corner", "assign.predicted-shape",
    "assign.predicted-iou",
)  # fmt: skip
def of_equal_anchors_the_first_is_responsible(harness: PropertyHarness, data: st.DataObject) -> None:
    """Two equal anchors: the second gets no truth, whatever it predicts, unless predictions choose the anchor."""
    batch = harness.draw(data, boxless=False)
    assume(any(len(rows) for rows in batch.truths))
    channels = 5 + batch.classes
    twice = np.concatenate([batch.predictions[:, :channels], batch.predictions], axis=1)
    if harness.profile.anchor_choice.startswith("anchor"):
        twice[:, channels:] += 0.5
    anchors = np.vstack([batch.anchors[:1], batch.anchors])
    predictions = quantised(twice, harness.dtype)
    harness.ask(dataclasses.replace(batch, predictions=predictions, anchors=anchors)).conforms()


@pins("assign.one-predictor", "table.three-states", needs=("indicators",))
def every_truth_has_one_predictor_and_every_predictor_one_state(harness: PropertyHarness, data: st.DataObject) -> None:
    """A responsible predictor is in the cell of the truth's centre, and never ignored."""
    batch = harness.draw(data)
    height, width = batch.predictions.shape[2:]
    if data.draw(st.booleans()):  # two anchors with an almost equal fit
        anchor = batch.anchors[0]
        row = (0.375, 0.375, min(anchor[0] / width, 1.0), min(anchor[1] / height, 1.0), 0.0)
        batch = dataclasses.replace(
            with_rows(batch, 0, quantised(np.array([row]), "float32")),
            predictions=np.concatenate([batch.predictions, batch.predictions[:, : 5 + batch.classes]], axis=1),
            anchors=np.vstack([batch.anchors, anchor * (1.125, 1.0)]),
        )
    response = harness.ask(batch)
    response.conforms(VIEWS[:1])
    if response.answer.responsible is None or response.answer.ignored is None:
        return
    states = response.states
    response.hold("responsible and ignored", np.minimum(states[:, :, :1], states[:, :, 1:]), np.zeros(1), np.zeros(1))
    paid = sum(match.pays_box for match in response.result.decisions.matches)
    response.hold_number("number of truths that are paid", len(response.answer.responsible), paid, 0)
