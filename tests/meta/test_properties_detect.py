"""Every property can fail: at least one wrong loss is caught by it; and the reference passes all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss_adapters import Adapter, Answer, CannotAnswerError, Description, Question, RefusedError
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS, DERIVATIVES
from regionloss_spec import Profile, load_case, load_clauses, load_profile
from regionloss_spec.case_writer import write_case
from regionloss_suite.cli.main import main
from regionloss_suite.judging.exchange import drawn_case
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue
from regionloss_suite.properties import PROPERTIES, Property, run_property
from regionloss_suite.properties.property import EVERYTHING

RIGHT = NumpyAdapter()
DARKNET = load_profile("darknet")
OWN = ("darknet", "darknet-2016", "formula", "yolo9000")
BATCHES = 40


class Double:
    """A loss that is wrong in how it treats its inputs, which no mutant of the loss itself can be."""

    def __init__(self, answer: Callable[[Question], Answer]) -> None:
        self.answer = answer

    def describe(self) -> Description:
        return Description("double", ("*",), (*ANSWERS, *DERIVATIVES), ("float64",))


def later_images_weigh_more(question: Question) -> Answer:
    answer = RIGHT.answer(question)
    assert answer.gradient is not None
    return dataclasses.replace(
        answer, gradient=answer.gradient * np.arange(1, len(answer.gradient) + 1)[:, None, None, None]
    )


def writes_into_its_inputs(question: Question) -> Answer:
    answer = RIGHT.answer(question)
    question.batch.predictions[..., 0] = 0.5
    return answer


def reads_memory_as_it_lies(question: Question) -> Answer:
    predictions = question.batch.predictions
    laid = predictions.ravel(order="K").reshape(predictions.shape)
    return RIGHT.answer(dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=laid)))


def ignores_what_comes_from_above(question: Question) -> Answer:
    return RIGHT.answer(dataclasses.replace(question, upstream=1.0))


def adds_to_what_is_left() -> Callable[[Question], Answer]:
    """The gradient of the call before is added to, unless it is of another shape."""
    left: Any = np.zeros(0)

    def answer(question: Question) -> Answer:
        nonlocal left
        right = RIGHT.answer(question)
        assert right.gradient is not None
        left = right.gradient + (left if left.shape == right.gradient.shape else 0.0)
        return dataclasses.replace(right, gradient=left)

    return answer


def takes_its_gradient_once(question: Question) -> Answer:
    return RIGHT.answer(question)


def is_differentiated_once(question: Question) -> Answer:
    """As where a backward pass is written by hand and taken for a constant."""
    return dataclasses.replace(RIGHT.answer(question), curvature=np.zeros(question.batch.predictions.shape))


def squares_the_class_weight(question: Question) -> Answer:
    weight = question.profile.class_weight
    profile = question.profile.replace(class_weight=weight**2)
    return RIGHT.answer(dataclasses.replace(question, profile=profile))


def adds_up_in_half_precision(question: Question) -> Answer:
    answer = RIGHT.answer(question)
    assert answer.terms is not None
    # Cumulated, since a sum alone is taken pairwise.
    share = np.full(question.batch.predictions[:, 0].size, answer.terms["no_object"], np.float64)
    total = float(np.cumsum((share / share.size).astype(np.float16), dtype=np.float16)[-1])
    return dataclasses.replace(answer, potential=total)


def drifts() -> Callable[[Question], Answer]:
    calls = itertools.count()

    def answer(question: Question) -> Answer:
        right = RIGHT.answer(question)
        assert right.gradient is not None
        return dataclasses.replace(right, gradient=right.gradient * (1 + 1e-16 * (next(calls) % 7)) + 0.0)

    return answer


DOUBLES: dict[str, Callable[[Question], Answer]] = {
    "the order of the images changes nothing": later_images_weigh_more,
    "the inputs are left as they are": writes_into_its_inputs,
    "how the inputs lie in memory means nothing": reads_memory_as_it_lies,
    "the gradient from above multiplies the gradient": ignores_what_comes_from_above,
    "the loss is linear in the class-weight": squares_the_class_weight,
    "a sum of many small terms does not stop growing": adds_up_in_half_precision,
    "the same question has the same answer": drifts(),
    "a call adds nothing to the gradient of the call before": adds_to_what_is_left(),
    "a gradient taken again from one evaluation adds up": takes_its_gradient_once,
    "the gradient changes as that of the reference does": is_differentiated_once,
}

#: Which mutant each property catches; where the mutant breaks another clause than the property pins, it says so.
CAUGHT = {
    "the indicators agree with the reference": "raw-centre",
    "the gradient of tx and ty agrees with the reference": "prior-at-the-corner",
    "the gradient of tw and th agrees with the reference": "prior-slope-on-sizes",
    "the gradient of the objectness agrees with the reference": "raw-centre",
    "the gradient of the classes agrees with the reference": "class-of-the-first",
    "the value of each term agrees with the reference": "objectness-in-softmax",
    "the potential agrees with the reference": "prior-of-decoded-sizes",
    "the printed cost agrees with the reference": "cost-of-gradient",
    "the statistics line agrees with the reference": "avg-iou-of-max-iou",
    "everything that decides the loss agrees with the reference": "raw-centre",
    "padding changes nothing": "terminator-skipped",
    "a truth at the left border of the image is a truth": "terminator-heeded",
    "a full list is read and what is beyond it is not": "truths-without-limit",
    "a list without limit is read to its end": "thirty-truths",
    "the order of truths changes nothing without a collision": "last-truth-only",
    "an image without truths pays for background alone": "empty-images-skipped",
    "of two truths that differ in class one is learned alone": "first-truth-wins",
    "a truth that is repeated counts once": "repeated-truth-paid-twice",
    "truths that meet are paid as the profile says": "classes-replaced",
    "a truth that loses its predictor leaves no trace there": "best-truth-wins",
    "a centre on a border belongs to the later cell": "border-to-the-earlier-cell",
    "of equal anchors the first is responsible": "last-of-equal-anchors",
    "every truth has one predictor and every predictor one state": "poor-match-dropped",
    "shifting everything by a cell shifts the gradient": "cell-rounded",
    "a picture in the mirror has the gradient in the mirror": "raw-centre-compared",
    "exchanging rows and columns exchanges them in the gradient": "grid-width-for-height",
    "the order of the anchors changes nothing without a tie": "shared-objectness",
    "the names of the classes mean nothing": "classes-first",
    "the class gradient of a predictor adds up to zero": "softmax-over-all-channels",
    "adding one number to all class outputs changes nothing": "class-logits-clipped",
    "confident and wrong classes have a finite loss": "log-of-rounded-probability",
    "the classes of other predictors get nothing": "class-of-background",
    "an image with a class and no box pays for that class alone": "class-only-in-the-first-row",
    "of equally sure predictors the first pays for a class without a box": "class-only-anchors-first",
    "a prediction that is not finite is refused": "nan-passed-on",
    "a number of channels that does not fit is refused": "channels-to-fit",
    "an array of predictions of another rank is refused": "shape-guessed",
    "a list of truths too many or of another width is refused": "lists-to-fit",
    "a truth that is not finite is refused": "truths-with-nan-dropped",
    "a centre outside the image is refused": "centre-clamped",
    "a size outside the domain is refused": "size-clamped",
    "a class that does not exist is refused": "class-truncated",
    "an anchor without a size is refused": "anchors-repaired",
    "a negative number of images seen is refused": "counter-below-zero",
    "a tree that is none is refused": "tree-mended",
    "an error says where the fault lies": "places-from-one",
    "a batch is the sum of its images": "mean-over-images",
    "a batch without images is answered": "empty-batch-nan",
    "the smallest grid is computed like any other": "axes-squeezed",
    "at the threshold itself the profile decides": "ignored-at-equality",
    "just beside the threshold the side decides": "thresh-unset",
    "boxes that touch do not overlap": "iou-touching",
    "a truth of another cell can silence a predictor": "truths-of-the-cell-only",
    "a picture in half of a larger one is judged as it was": "decoded-by-the-other-side",
    "the state of a predictor depends on no other prediction": "non-max-suppression",
    "the states depend on boxes alone": "gradient-through-max-iou",
    "what no term reaches is zero exactly": "weight-decay",
    "every finite input has a finite answer": "size-overflow-nan",
    "the prior ends exactly at its limit": "prior-at-the-limit",
    "the target of objectness is constant": "gradient-through-target",
    "the gradient of a size is linear in its output": "small-box-weight-of-prediction",
    "the loss moves with each block of outputs as its terms do": "printed-cost-as-loss",
    "the no-object term alone is what the reference answers": "no-object-weight-of-v1",
    "the loss is linear in the no-object-weight": "no-object-weight-twice",
    "the prior term alone is what the reference answers": "prior-weight-one",
    "the loss is linear in the prior-weight": "prior-weight-squared",
    "the coord term alone is what the reference answers": "coordinate-value-of-centres",
    "the loss is linear in the coord-weight": "coordinate-weight-squared",
    "the object term alone is what the reference answers": "objectness-weight-squared",
    "the loss is linear in the object-weight": "objectness-weight-squared",
    "the class term alone is what the reference answers": "class-weight-doubled",
    "the loss is linear in the factor of the squares": "squares-not-halved",
}
#: Properties whose mutant breaks a clause that they do not pin, since what they pin has no mutant that they see.
BESIDES = {"the order of truths changes nothing without a collision"}

every_property = pytest.mark.parametrize("prop", PROPERTIES.values(), ids=lambda prop: prop.id)


def wrong_loss(prop: Property) -> tuple[Adapter, Profile]:
    """A loss that the property has to catch, and the profile that it is caught under."""
    if prop.name in DOUBLES:
        return Double(DOUBLES[prop.name]), DARKNET
    mutant: Mutant = catalogue()[CAUGHT[prop.name]]
    return MutantAdapter(mutant), load_profile(mutant.profile).replace(**mutant.options)


@pytest.mark.slow
@every_property
def test_every_property_catches_a_wrong_loss(
    prop: Property, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, profile = wrong_loss(prop)
    outcome = run_property(prop, adapter, profile, "float64", examples=BATCHES, shrinking=40)
    assert outcome.verdict == "deviating"
    assert set(outcome.clauses) <= set(prop.clauses)
    assert outcome.clauses
    if prop.name in CAUGHT and prop.name not in BESIDES:
        assert catalogue()[CAUGHT[prop.name]].clause in outcome.clauses
    # What is found can be kept, read again and looked at.
    departed = outcome.deviation
    assert departed is not None
    path = write_case(drawn_case(prop.id, str(outcome.first), departed.batch, departed.profile), tmp_path)
    assert np.array_equal(load_case(path).batch.predictions, departed.batch.predictions, equal_nan=True)
    assert load_case(path).profile.differences(departed.profile) == {}
    assert main(["explain", str(path)]) == 0
    assert prop.id in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sample(every=len(OWN))
@pytest.mark.parametrize("name", OWN)
def test_the_reference_has_every_property(name: str, record_property: Callable[[str, object], None]) -> None:
    batches = 0
    profile = load_profile(name)
    for prop in PROPERTIES.values():
        if not prop.when(profile) or set(prop.needs) & set(DERIVATIVES):
            continue
        outcome = run_property(prop, RIGHT, profile, "float64", examples=8, start=1)
        assert outcome.verdict == "conforming", f"{name}: {prop.name}: {outcome.first or outcome.reason}"
        batches += outcome.batches
    record_property("batches", batches)
    print(f"{batches} drawn batches, no accusation of the reference")
    assert batches > 750


@pytest.mark.slow
@pytest.mark.sample(every=len(OWN))
@pytest.mark.parametrize("name", OWN)
def test_the_loss_in_torch_has_the_properties_of_its_derivatives(name: str) -> None:
    pytest.importorskip("torch")
    from regionloss_adapters.torch.eager import TorchEagerAdapter

    profile = load_profile(name)
    for prop in PROPERTIES.values():
        if prop.when(profile) and set(prop.needs) & set(DERIVATIVES):
            outcome = run_property(prop, TorchEagerAdapter(), profile, "float64", examples=BATCHES, start=1)
            assert outcome.verdict == "conforming", f"{prop.name}: {outcome.first or outcome.reason}"


def test_every_must_has_a_property() -> None:
    pinned = {clause for prop in PROPERTIES.values() for clause in prop.clauses}
    assert [clause.id for clause in load_clauses().values() if clause.level == "MUST" and clause.id not in pinned] == []
    assert pinned <= set(load_clauses())


def test_the_smallest_failing_batch_is_small() -> None:
    prop = PROPERTIES["a batch is the sum of its images"]
    adapter, profile = wrong_loss(prop)
    outcome = run_property(prop, adapter, profile, "float64", examples=BATCHES)
    assert outcome.deviation is not None
    assert outcome.deviation.batch.predictions.size <= 60
    assert outcome.first == outcome.deviation.difference


def test_a_loss_that_cannot_be_asked_is_not_accused() -> None:
    def answer(question: Question) -> Answer:
        raise CannotAnswerError("it has no such option")

    outcome = run_property(PROPERTIES["padding changes nothing"], Double(answer), DARKNET, "float64", examples=BATCHES)
    assert (outcome.verdict, outcome.reason, outcome.batches) == ("not-answerable", "it has no such option", 0)


def test_a_loss_that_breaks_or_refuses_what_it_should_answer_departs() -> None:
    def crash(question: Question) -> Answer:
        raise ZeroDivisionError("no truths")

    def refuse(question: Question) -> Answer:
        raise RefusedError("not today")

    prop = PROPERTIES["padding changes nothing"]
    crashed, refused = (
        run_property(prop, Double(answer), DARKNET, "float64", examples=2) for answer in (crash, refuse)
    )
    assert crashed.first is not None
    assert crashed.first.got == "crashed: ZeroDivisionError: no truths"
    assert "ZeroDivisionError: no truths" in crashed.crash
    assert refused.first is not None
    assert refused.first.got == "refused: not today"
    assert not refused.crash


def test_what_a_property_needs_is_named() -> None:
    class Silent(Double):
        def describe(self) -> Description:
            return Description("silent", ("*",), ("potential",), ("float64",))

    prop = PROPERTIES["what no term reaches is zero exactly"]
    outcome = run_property(prop, Silent(RIGHT.answer), DARKNET, "float64", examples=2)
    assert outcome.reason == "needs gradient, which silent does not return"


def test_a_scalar_alone_is_judged_by_its_differences() -> None:
    class Scalar(Double):
        def describe(self) -> Description:
            return Description("scalar", ("darknet",), ("potential",), ("float64",))

    def five_times_the_objectness_squared(question: Question) -> Answer:
        profile = question.profile.replace(object_weight=25.0)
        return Answer(potential=RIGHT.answer(dataclasses.replace(question, profile=profile)).potential)

    prop = PROPERTIES["the loss moves with each block of outputs as its terms do"]
    outcome = run_property(prop, Scalar(five_times_the_objectness_squared), DARKNET, "float64", examples=3 * BATCHES)
    assert outcome.first is not None
    assert outcome.first.quantity.startswith("change of the potential")


def test_a_loss_that_says_nothing_is_not_conforming() -> None:
    for prop in PROPERTIES.values():
        if "errors" not in prop.needs:
            outcome = run_property(prop, Double(lambda question: Answer()), DARKNET, "float64", examples=4)
            assert outcome.verdict == "not-answerable", prop.name


def test_a_declared_reduction_is_multiplied_out() -> None:
    class Mean(Double):
        def describe(self) -> Description:
            return Description("mean", ("*",), ("gradient",), ("float64",), reduction="per-object", factor=2.0)

    def mean(question: Question) -> Answer:
        answer = RIGHT.answer(question)
        assert answer.gradient is not None
        return Answer(gradient=2 * answer.gradient / max(len(answer.responsible or ()), 1))

    for name in (EVERYTHING, "a batch is the sum of its images"):
        assert run_property(PROPERTIES[name], Mean(mean), DARKNET, "float64", examples=BATCHES).verdict == "conforming"
    # The same numbers are wrong where nothing is declared.
    undeclared = run_property(
        PROPERTIES["a batch is the sum of its images"], Double(mean), DARKNET, "float64", examples=BATCHES
    )
    assert undeclared.verdict == "deviating"


def test_a_departure_that_shows_everywhere_is_not_blamed_on_what_is_special() -> None:
    def target_one(question: Question) -> Answer:
        profile = question.profile.replace(object_target="one")
        return RIGHT.answer(dataclasses.replace(question, profile=profile))

    prop = PROPERTIES["a full list is read and what is beyond it is not"]
    outcome = run_property(prop, Double(target_one), DARKNET, "float64", examples=BATCHES)
    assert outcome.verdict == "not-answerable"
    assert "deviates on ordinary batches too" in outcome.reason
