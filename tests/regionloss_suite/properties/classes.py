"""The class term: changes that do not affect a softmax (spec chapters 9 and 13)."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss.classes import groups_of
from regionloss_spec import Batch, Profile
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.oracle.comparison import VIEWS
from regionloss_suite.properties.geometry import by_predictor, with_predictions
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.lists import with_rows
from regionloss_suite.properties.registry import pins

_CLASS_VIEWS = tuple(view for view in VIEWS if "c" in view.blocks or view.term == "class" or view.answer == "potential")


def _softmax(profile: Profile) -> bool:
    """Whether the classes form softmaxes of their own; with a background class they are only part of one."""
    return profile.class_term not in ("squared-linear", "logistic") and profile.objectness == "logistic"


@pins("class.gradient", "decode.class-probabilities", "tree.groups", needs=("gradient",), when=_softmax)
def the_class_gradient_of_a_predictor_adds_up_to_zero(harness: PropertyHarness, data: st.DataObject) -> None:
    """In each softmax, the class gradients add up to 0."""
    response = harness.ask(harness.draw(data))
    assume(not response.edges)
    groups = [slice(0, None)] if harness.profile.class_term != "tree" else groups_of(response.result.tree or ())
    for group in groups:
        part = slice(5 + (group.start or 0), None if group.stop is None else 5 + group.stop)
        total, bound = (
            array[:, :, part].sum(axis=2, keepdims=True) for array in (response.gradient, response.gradient_bound)
        )
        response.hold("sum of the class gradients", total, np.zeros_like(total), bound)


@pins("class.large-logits", "decode.class-probabilities", when=_softmax, every_format=True)
def adding_one_number_to_all_class_outputs_changes_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """The outputs are half-integers up to 116, so that the sum is exact in every format."""
    batch = harness.draw(data, boxless=False)
    t = by_predictor(batch)
    t[:, :, 5:] = np.clip(np.round(2 * t[:, :, 5:]) / 2, -16, 16)
    shifted = t.copy()
    shifted[:, :, 5:] += data.draw(st.sampled_from((8.0, -64.0, 100.0, -100.0)))
    harness.agree(harness.ask(with_predictions(batch, t)), harness.ask(with_predictions(batch, shifted)))


@pins("class.large-logits", "numerics.log-of-zero", every_format=True)
def confident_and_wrong_classes_have_a_finite_loss(harness: PropertyHarness, data: st.DataObject) -> None:
    """The probability of the true class underflows, but its logarithm does not."""
    batch = harness.draw(data, boxless=False)
    assume(batch.classes > 1 and any(len(rows) for rows in batch.truths))
    t = by_predictor(batch)
    far = data.draw(st.sampled_from((50.0, 100.0, 400.0)))
    t[:, :, 5:] = far * np.random.default_rng(int(far)).integers(-1, 2, size=t[:, :, 5:].shape)
    harness.ask(with_predictions(batch, quantised(t, harness.dtype))).conforms(_CLASS_VIEWS)


@pins("class.only-responsible", "class.ignored-none", needs=("gradient",))
def the_classes_of_other_predictors_get_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Changing the class outputs of predictors that do not pay for a class changes no answer at all."""
    batch = harness.draw(data, boxless=False)
    one = harness.ask(batch)
    # With a background class, the softmax of every predictor contains the class outputs; ignored ones may pay a class.
    assume(harness.profile.objectness == "logistic" and harness.profile.ignored_class == "none")
    t = by_predictor(batch)
    quiet = ~one.result.decisions.responsible
    t[:, :, 5:][np.broadcast_to(quiet[:, :, None], t[:, :, 5:].shape)] = data.draw(
        st.sampled_from((-100.0, 3.0, 100.0))
    )
    harness.agree(one, harness.ask(with_predictions(batch, t)))


@pins("tree.class-only-image", "tree.class-only-choice", "tree.class-only-silence", "domain.unread-rows",
      when=lambda profile: profile.class_term == "tree")  # fmt: skip
def an_image_with_a_class_and_no_box_pays_for_that_class_alone(harness: PropertyHarness, data: st.DataObject) -> None:
    """Independent of the rest of its list, and paid by the predictor with the highest score."""
    batch = harness.draw(data)
    image = data.draw(st.integers(0, len(batch.truths) - 1))
    label = float(data.draw(st.integers(0, batch.classes - 1)))
    rows = batch.truths[image]
    boxes = rows[rows[:, 0] <= 1]
    only = np.array([[2e5, 3e5, 0.0, -1.0, label]])
    alone, among = with_rows(batch, image, only), with_rows(batch, image, np.vstack([boxes, only]))
    one = harness.ask(alone)
    one.conforms()
    harness.agree(one, harness.ask(among))


@pins("tree.class-only-choice", when=lambda profile: profile.class_term == "tree")
def of_equally_sure_predictors_the_first_pays_for_a_class_without_a_box(
    harness: PropertyHarness, data: st.DataObject
) -> None:
    """In the order row, column, anchor, among the predictors that remain when the scores of some are lowered."""
    anchors, height, width = (data.draw(st.integers(*limits)) for limits in ((2, 3), (1, 3), (2, 3)))
    t = np.zeros((1, anchors, 8, height, width))
    less = np.random.default_rng(data.draw(st.integers(0, 2**16))).random((1, anchors, height, width)) < 0.6
    t[:, :, 4][less] = -2.0
    batch = Batch(
        predictions=t.reshape(1, -1, height, width),
        truths=(np.array([[2e5, 2e5, 0.5, 0.5, float(data.draw(st.integers(0, 2)))]]),),
        anchors=np.ones((anchors, 2)),
        classes=3,
        images_seen=data.draw(st.sampled_from((0, 10 * harness.profile.prior_until))),
        tree=(-1, -1, 0),
    )
    harness.ask(batch).conforms()
