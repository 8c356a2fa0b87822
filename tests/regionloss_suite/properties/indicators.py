"""The indicators: MaxIOU and the threshold, and the zeros of each state (spec chapters 0, 3 and 5)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec import Batch, Profile
from regionloss_spec.clause import View
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.oracle.comparison import VIEWS
from regionloss_suite.properties.geometry import by_predictor, with_predictions
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response

#: The states that an answer can show.
_STATES = tuple(view for view in VIEWS if view.answer == "indicator" or "o" in view.blocks or view.term == "no_object")


def _has_threshold(profile: Profile) -> bool:
    """Whether MaxIOU makes any predictor ignored."""
    return profile.ignore != "none" and profile.no_object_target == "zero"


def _beside(draw: st.DataObject, profile: Profile, share: float, sides: int) -> Batch:
    """A network whose outputs are 0, and one truth that covers a given share of the box of another predictor.

    The truth's cell has that predictor, whose anchor is larger, and one whose anchor has the truth's shape. All numbers
    are short binary fractions, so that the IoU equals the share in every precision.
    """
    height, width = draw.draw(st.sampled_from((1, 2, 4))), draw.draw(st.sampled_from((1, 2, 4)))
    j, i = draw.draw(st.integers(0, height - 1)), draw.draw(st.integers(0, width - 1))
    large = np.array([draw.draw(st.sampled_from((0.5, 1.0))), draw.draw(st.sampled_from((0.5, 1.0)))])
    exact = (large * ((share, 1) if sides == 0 else (1, share))).astype(np.float32).astype(np.float64)
    anchors = np.array([large, exact] if draw.draw(st.booleans()) else [exact, large])
    classes = draw.draw(st.integers(1, 3))
    tree = (-1,) * classes if profile.class_term == "tree" else None
    row = [(i + 0.5) / width, (j + 0.5) / height, exact[0] / width, exact[1] / height, float(classes - 1)]
    return Batch(
        predictions=np.zeros((1, 2 * (5 + classes), height, width)),
        truths=(np.array([row]),),
        anchors=anchors,
        classes=classes,
        images_seen=draw.draw(st.sampled_from((0, 10 * max(profile.prior_until, 1)))),
        tree=tree,
    )


@pins("noobj.equality", "noobj.equality-ignored", "noobj.threshold", "noobj.max-iou", when=_has_threshold,
      every_format=True)  # fmt: skip
def at_the_threshold_itself_the_profile_decides(harness: PropertyHarness, data: st.DataObject) -> None:
    """MaxIOU and the threshold are both ½, ¼ or ¾."""
    thresh = data.draw(st.sampled_from((0.5, 0.25, 0.75)))
    batch = _beside(data, harness.profile, thresh, data.draw(st.integers(0, 1)))
    harness.ask(batch, harness.profile.replace(thresh=thresh)).conforms(_STATES)


@pins("noobj.threshold", "noobj.max-iou", "iou.definition", when=_has_threshold, every_format=True)
def just_beside_the_threshold_the_side_decides(harness: PropertyHarness, data: st.DataObject) -> None:
    """MaxIOU is a few float32 ulps above or below the threshold, or slightly further away."""
    thresh = data.draw(st.sampled_from((harness.profile.thresh, harness.profile.thresh, 0.5, 0.25)))
    assume(0 < thresh < 1)
    batch = _beside(data, harness.profile, thresh, 0)
    off = 1 + data.draw(st.sampled_from((-4, -2, -1, 1, 2, 4))) * data.draw(st.sampled_from((2.0**-23, 2.0**-16, 2e-3)))
    rows = batch.truths[0].copy()
    rows[0, 2] = np.float32(rows[0, 2] * off)
    harness.ask(dataclasses.replace(batch, truths=(rows,)), harness.profile.replace(thresh=thresh)).conforms(_STATES)


@pins("iou.touching", "noobj.equality", when=lambda profile: _has_threshold(profile) and profile.ignore == "above")
def boxes_that_touch_do_not_overlap(harness: PropertyHarness, data: st.DataObject) -> None:
    """With threshold 0, a predictor whose box shares an edge or a corner with a truth pays the no-object term."""
    batch = _beside(data, harness.profile, 0.5, 0)
    height, width = batch.predictions.shape[2:]
    assume(width > 1)
    anchors = np.array([[1.0, 1.0], [0.5, data.draw(st.sampled_from((0.5, 1.0)))]])
    i, j = data.draw(st.integers(0, width - 2)), data.draw(st.integers(0, height - 1))
    # The left edge of the truth is the right edge of the cells to its left, whose boxes have the size of a cell.
    row = [(i + 1.25) / width, (j + 0.5) / height, 0.5 / width, 0.5 / height, float(batch.classes - 1)]
    batch = dataclasses.replace(batch, anchors=anchors, truths=(np.array([row]),))
    harness.ask(batch, harness.profile.replace(thresh=0.0)).conforms(_STATES)


@pins("noobj.every-truth", "noobj.same-image", "noobj.max-iou", "noobj.not-responsible", "object.overrides-ignore",
      "class.ignored-full", "class.ignored-by-objectness",
      when=_has_threshold)  # fmt: skip
def a_truth_of_another_cell_can_silence_a_predictor(harness: PropertyHarness, data: st.DataObject) -> None:
    """A large truth just beyond the border of a cell, and the predictor before the border with the same box.

    If that predictor is responsible for a truth of its own, it stays so; in another image, without the large truth,
    it is responsible for none.
    """
    cells, classes = data.draw(st.sampled_from((2, 4))), data.draw(st.integers(1, 3))
    column = data.draw(st.integers(0, cells - 2))
    away, size = data.draw(st.sampled_from((1 / 16, 1 / 8))), data.draw(st.sampled_from((0.5, 0.75, 1.0)))
    label = float(classes - 1)
    large = [(column + 1 + away) / cells, 0.5 / cells, size, 0.5, label]
    own = [(column + 0.5) / cells, 0.5 / cells, size, 0.5, 0.0]
    far = [(cells - 0.5) / cells, (cells - 0.5) / cells, 0.125, 0.125, 0.0]
    twin = [*large[:4], 0.0]  # of another class: ignored predictors that pay a class pay that of the first of the two
    besides = data.draw(st.sampled_from(([], [own], [twin])))
    rows = data.draw(st.permutations([large, far, *besides]))
    anchors = np.array([[size * cells, 0.5 * cells]])
    t = np.zeros((2, 1, 5 + classes, cells, cells))
    t[:, :, 0] = data.draw(st.sampled_from((4.0, 2.5)))
    t[:, :, 4] = data.draw(st.sampled_from((0.0, 2.0, -3.0)))
    batch = Batch(
        predictions=t.reshape(2, -1, cells, cells),
        truths=(np.array(rows), np.array([far])),
        anchors=anchors,
        classes=classes,
        images_seen=10 * harness.profile.prior_until,
        tree=(-1,) * classes if harness.profile.class_term == "tree" else None,
    )
    harness.ask(batch).conforms()


@pins("noobj.not-suppression", "table.other-anchors")
def the_state_of_a_predictor_depends_on_no_other_prediction(harness: PropertyHarness, data: st.DataObject) -> None:
    """Some predictors change, and the others are not affected.

    If predictions choose the anchor, those of a cell change together; a class-only image depends on all predictors.
    """
    batch = harness.draw(data, boxless=False)
    t = by_predictor(batch)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    staying = generator.random(t.shape[:2] + t.shape[3:])[:, :, None] < 0.5
    if harness.profile.anchor_choice.startswith("predicted"):
        staying = np.broadcast_to(staying[:, :1], staying.shape)
    assume(0 < np.count_nonzero(staying) < staying.size)
    others = generator.normal(size=t.shape)
    if data.draw(st.booleans()):  # every box covers the image: non-max suppression would merge them
        t[:, :, 2:4] = others[:, :, 2:4] = 3.0
    others[:, :, 4] = data.draw(st.sampled_from((-12.0, 0.0, 12.0)))
    changed = quantised(np.where(staying, t, others), harness.dtype)
    one, other = harness.ask(with_predictions(batch, t)), harness.ask(with_predictions(batch, changed))
    harness.agree(one, other, where=staying)


@pins("noobj.not-suppression", "noobj.max-iou", "constant.max-iou")
def the_states_depend_on_boxes_alone(harness: PropertyHarness, data: st.DataObject) -> None:
    """With other objectnesses and classes, every predictor keeps its state and the gradient of its box."""
    batch = harness.draw(data, boxless=False)
    t = by_predictor(batch)
    seed = data.draw(st.integers(0, 2**16))
    t[:, :, 4:] = quantised(3 * np.random.default_rng(seed).normal(size=t[:, :, 4:].shape), harness.dtype)
    where = np.zeros((1, 1, t.shape[2], 1, 1), dtype=bool)
    where[:, :, : 4 if harness.profile.object_target_gradient == "constant" else 0] = True
    one, other = harness.ask(batch), harness.ask(with_predictions(batch, t))
    harness.agree(one, other, where=where)
    states = one.states
    other.hold("state", other.states, states, np.zeros(1), (states >= 0) & (other.states >= 0))


@pins("table.structural-zeros", "coord.only-responsible", "class.only-responsible", "object.only-responsible",
      "noobj.gradient", "constant.max-iou", "tree.off-path", "tree.class-only-silence", needs=("gradient",),
      every_format=True)  # fmt: skip
def what_no_term_reaches_is_zero_exactly(harness: PropertyHarness, data: st.DataObject) -> None:
    """Also beside outputs that overflow everything."""
    batch = harness.draw(data)
    t = by_predictor(batch)
    if data.draw(st.booleans()):
        t *= data.draw(st.sampled_from((16.0, 64.0, 4096.0)))
    # In the other size spaces the result itself contains an exponential.
    limit = 4e3 if harness.profile.size_space == "log" else 30.0
    t = quantised(np.clip(t, -limit, limit), harness.dtype)
    harness.ask(with_predictions(batch, t)).conforms((View("structural zeros"),))


@pins("numerics.exp-overflow", "numerics.underflow", "iou.overflow", "iou.zero-area", "class.large-logits",
      "numerics.log-of-zero", every_format=True)  # fmt: skip
def every_finite_input_has_a_finite_answer(harness: PropertyHarness, data: st.DataObject) -> None:
    """Outputs whose exponentials and areas overflow and underflow, in any channel."""
    # In the other size spaces the result itself contains an exponential.
    far = (30.0, -30.0) if harness.profile.size_space != "log" else (90.0, -90.0, 750.0, -750.0, 4e3, -4e3)
    batch = harness.draw(data)
    t = by_predictor(batch)
    for _ in range(data.draw(st.integers(1, 6))):
        place = tuple(data.draw(st.integers(0, size - 1)) for size in t.shape)
        t[place] = data.draw(st.sampled_from(far))
    if data.draw(st.booleans()):
        t[:, :, 2] = data.draw(st.sampled_from(far))
    if harness.profile.size_space == "log" and data.draw(st.booleans()):
        # A truth so small that its area underflows, as do boxes of its size.
        tiny = 1e-170 if harness.dtype == "float64" else float(np.float32(1e-30))
        batch = dataclasses.replace(batch, truths=(np.array([[0.375, 0.625, tiny, tiny, 0.0]]), *batch.truths[1:]))
        t[0, :, 2:4] = data.draw(st.sampled_from((-390.0, -70.0, -4e3, 0.0)))
    response = harness.ask(with_predictions(batch, quantised(t, harness.dtype)))
    if not _finite(response):
        infinite = response.deviation("answer", "not finite", "finite")
        infinite.clauses = ("numerics.exp-overflow", "numerics.underflow")
        raise infinite
    response.conforms()


def _finite(response: Response) -> bool:
    """Whether every number of an answer is finite."""
    terms = response.answer.terms or {}
    totals = [*terms.values(), 0.0 if response.answer.potential is None else response.answer.potential]
    gradient = np.zeros(1) if response.answer.gradient is None else response.gradient
    return bool(np.isfinite(totals).all() and np.isfinite(gradient).all())
