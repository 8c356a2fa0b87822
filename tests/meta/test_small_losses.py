"""Small losses of which it is known what is right to say: each is judged by the golden cases, measured, or both."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from meta import small_losses
from meta.several import clauses_of, small_cases
from meta.small_losses import DARKNET, DIVISORS, WITHOUT_PRIOR
from regionloss_adapters import Adapter
from regionloss_spec import load_profile
from regionloss_spec.clause import TERMS
from regionloss_suite.cli.main import main
from regionloss_suite.diagnosis.diagnosis import Diagnosis, diagnose
from regionloss_suite.judging.judge import Judge
from regionloss_suite.measure import Identified, identify
from regionloss_suite.measure.formula import lines, measured_differences
from regionloss_suite.measure.profile import canonical
from regionloss_suite.measure.verify import verify

pytestmark = pytest.mark.slow  # each takes a second or more

#: What the wrapper of a loss with fixed choices cannot show: it returns no printed cost, and ends lists itself.
NOT_SHOWN = {"printed_cost", "truth_end"}
#: Losses several choices away from darknet.
SEVERAL: dict[str, dict[str, Any]] = {
    "six choices": {
        "ignore": "none",
        "prior_until": 0,
        "small_box_exponent": 0,
        "object_target": "one",
        "coord_weight": 10.0,
        "object_weight": 2.0,
    },
    "three weights": {"object_weight": 10.0, "no_object_weight": 2.0, "prior_until": 0},
    "threshold and factor": {"thresh": 0.5, "prior_until": 0, "squared_factor": 1.0},
}
#: The clauses that state the sign of the gradient of each term.
SIGN = {
    "no_object": {"noobj.value", "noobj.gradient"},
    "prior": {"prior.value", "prior.gradient"},
    "coord": {"coord.value", "coord.centre-gradient", "coord.size-gradient"},
    "object": {"object.value", "object.gradient"},
    "class": {"class.cross-entropy", "class.gradient"},
}
#: The clauses of a MaxIOU that is not that of the anchor's shape with the truths of its cell.
SHAPE_FOR_MAX_IOU = {"noobj.max-iou", "noobj.every-truth"}
#: The clauses of a responsible predictor that becomes silent again.
ERASED = {"table.three-states", "assign.one-predictor", "object.overrides-ignore"}


def wrong_today(reason: str) -> pytest.MarkDecorator:
    """Marks what is right and not said yet."""
    return pytest.mark.xfail(strict=True, reason=reason)


def judged(loss: Adapter) -> Diagnosis:
    """The diagnosis of a loss that claims darknet, by the small golden cases."""
    judge = Judge(loss, small_cases(), "darknet")
    return diagnose(judge, [judge.verdict(clause) for clause in judge.clauses])


def blamed(diagnosis: Diagnosis) -> set[str]:
    """The clauses that are blamed."""
    return {verdict.clause for verdict in diagnosis.verdicts if verdict.verdict == "deviating"}


def measured_axes(found: Identified) -> set[str]:
    """The axes that are told as differences from darknet."""
    return {axis for axis, *_ in measured_differences(found, DARKNET)}


def assert_all_explained(diagnosis: Diagnosis) -> None:
    """Nothing departs beside what is blamed."""
    assert diagnosis.unexplained is None
    assert not {verdict.clause for verdict in diagnosis.verdicts if verdict.verdict in ("hidden", "unexplained")}


def test_minus_the_gradient_is_blamed_as_one_sign() -> None:
    diagnosis = judged(small_losses.minus_gradient)
    assert blamed(diagnosis) == {"scale.potential"}
    (difference,) = diagnosis.differences
    assert difference.measured == -1.0
    assert "δ" in difference.evidence
    assert_all_explained(diagnosis)


def test_minus_the_gradient_has_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identify", "meta.small_losses:minus_gradient", "--batches", "3"]) == 1
    said = capsys.readouterr().out
    assert all(f"the gradient of {term} is -1 times this" in said for term in TERMS)
    assert "Differences from darknet (weights of squared terms for a factor of ½):\n  none" in said


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_wrong_sign_is_blamed(term: str) -> None:
    diagnosis = judged(small_losses.flipped(term))
    assert blamed(diagnosis)
    assert blamed(diagnosis) <= SIGN[term]
    assert [one.measured for one in diagnosis.differences] == [-1.0]
    assert_all_explained(diagnosis)


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_wrong_sign_has_a_formula(term: str) -> None:
    loss = small_losses.flipped(term)
    found = identify(loss)
    assert found.factors.gradient == {term: -1.0}
    assert canonical(found.profile).differences(canonical(found.asked)).keys() <= NOT_SHOWN
    said = lines(found, verify(loss, found, number=3))
    assert [line for line in said if "times this" in line] == [f"the gradient of {term} is -1 times this"]


def test_twice_the_loss_is_its_factor_and_its_class_weight() -> None:
    diagnosis = judged(small_losses.doubled)
    assert blamed(diagnosis) == {"scale.squared-factor", "scale.class-weight"}
    assert {one.choice: one.measured for one in diagnosis.differences} == {"squared_factor": 1.0, "class_weight": 2.0}
    assert_all_explained(diagnosis)


@cache
def sizes_in_anchors() -> Diagnosis:
    """It takes longest of all, and two tests read it."""
    return judged(small_losses.in_anchors)


def test_sizes_in_anchors_are_blamed_on_sizes() -> None:
    assert "coord.size-target" in blamed(sizes_in_anchors())
    assert blamed(sizes_in_anchors()) <= {"coord.size-target", "coord.size-gradient"}


def test_sizes_in_anchors_are_told_as_such() -> None:
    differences = sizes_in_anchors().differences
    assert any("anchor" in f"{one.words} {one.evidence}" for one in differences)


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("name", SEVERAL)
def test_several_choices_are_blamed_and_nothing_else(name: str) -> None:
    choices = SEVERAL[name]
    diagnosis = judged(small_losses.of_profile(**choices))
    assert {one.choice: one.measured for one in diagnosis.differences} == choices
    by_axis = clauses_of(choices)
    assert blamed(diagnosis) <= set().union(*by_axis.values())
    assert all(clauses & blamed(diagnosis) for clauses in by_axis.values())
    assert_all_explained(diagnosis)


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("name", SEVERAL)
def test_several_choices_are_read_off(name: str) -> None:
    loss = small_losses.of_profile(**SEVERAL[name])
    found = identify(loss)
    assert canonical(found.profile).differences(canonical(DARKNET.replace(**SEVERAL[name]))).keys() <= NOT_SHOWN
    assert set(found.unknown) == NOT_SHOWN
    assert found.odd == []
    assert verify(loss, found, number=5).whole


def test_square_roots_of_sizes_are_verified_where_a_size_overflows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {form: tmp_path / f"found.{form}" for form in ("json", "toml")}
    options = [part for form, path in files.items() for part in (f"--{form}", str(path))]
    assert main(["identify", "meta.small_losses:square_root", "--batches", "3", *options]) == 0
    assert "size_space = square-root" in capsys.readouterr().out
    assert json.loads(files["json"].read_text(encoding="utf-8"))["profile"]["size_space"] == "square-root"
    assert load_profile(files["toml"]).size_space == "square-root"


@pytest.mark.parametrize("columns", ["x1 y1 x2 y2 class", "x y w h class"])
def test_a_loss_that_stops_at_an_empty_image_is_measured_whole(columns: str) -> None:
    loss = small_losses.never_empty(columns)
    found = identify(loss)
    assert canonical(found.profile).differences(canonical(DARKNET)).keys() <= NOT_SHOWN
    assert set(found.unknown) == NOT_SHOWN
    assert [finding.axis for finding in found.odd] == ["empty image"]
    assert not any("would be" in finding.evidence for finding in found.odd)  # every box is one that corners hold
    assert set(verify(loss, found, number=5).left) == {"it crashed"}


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("erases", [False, True])
def test_silence_by_the_shape_of_the_anchor_accuses_nothing_that_is_met(erases: bool) -> None:
    wrong = SHAPE_FOR_MAX_IOU | (ERASED if erases else set())
    found = blamed(judged(small_losses.silent_by_shape(erases=erases)))
    assert found & wrong
    assert "prior.limit" in found
    assert found <= wrong | {"prior.limit"}


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("erases", [False, True])
def test_silence_by_the_shape_of_the_anchor_is_no_threshold_of_max_iou(erases: bool) -> None:
    assert measured_axes(identify(small_losses.silent_by_shape(erases=erases))) == {"prior_until"}


def test_silence_by_the_shape_of_the_anchor_is_told_as_such() -> None:
    found = identify(small_losses.silent_by_shape(erases=False))
    said = [f"{finding.axis}: {finding.evidence}" for finding in found.odd]
    assert any("anchor" in one and "shape" in one for one in said)


@wrong_today("no question has two truths in one cell of which the later silences the predictor of the earlier")
def test_silence_that_erases_an_earlier_match_is_told_apart() -> None:
    one, other = (identify(small_losses.silent_by_shape(erases=erases)) for erases in (False, True))
    assert {(a.axis, a.evidence) for a in one.odd} != {(a.axis, a.evidence) for a in other.odd}


#: The reduction that `identify` should find; a count of responsible predictors is one of objects.
FOUND = {name: "per-object" if name == "per-responsible" else name for name in DIVISORS}


@pytest.mark.sample(every=3)
@pytest.mark.parametrize(
    "divisor",
    [
        pytest.param(name, marks=wrong_today("collisions are measured with a count of all truths"))
        if name == "per-responsible"
        else name
        for name in DIVISORS
    ],
)
def test_a_divisor_is_taken_out_before_the_rest_is_measured(divisor: str) -> None:
    found = identify(small_losses.divided(divisor))
    if divisor == "per-image":  # the one that profiles have
        assert (found.profile.reduction, found.factors.divisor) == ("per-image", "")
    else:
        assert found.factors.divisor == FOUND[divisor]
    rest = canonical(found.profile).differences(canonical(WITHOUT_PRIOR))
    assert rest.keys() <= NOT_SHOWN | {"reduction"}
    assert set(found.unknown) <= NOT_SHOWN | {"reduction"}
    assert {finding.axis for finding in found.odd} <= {"reduction"}


@pytest.mark.sample(every=3)
@pytest.mark.parametrize("divisor", DIVISORS)
def test_a_formula_with_its_divisor_explains_every_batch(divisor: str) -> None:
    loss = small_losses.divided(divisor)
    assert verify(loss, identify(loss), number=20).whole


@pytest.mark.sample(every=3)
@pytest.mark.parametrize(
    "divisor",
    [
        pytest.param(  # this takes twenty seconds
            name,
            marks=pytest.mark.sweep,
        )
        if name == "per-object"
        else name
        for name in DIVISORS
    ],
)
def test_a_divisor_is_blamed_on_the_reduction(divisor: str) -> None:
    diagnosis = judged(small_losses.divided(divisor))
    assert blamed(diagnosis) == {"scale.sum", "prior.limit"}
    assert_all_explained(diagnosis)


def test_a_cell_added_to_boxes_is_blamed_on_the_iou_and_not_on_the_threshold() -> None:
    assert blamed(judged(small_losses.with_a_cell_added(flows=False))) == {"iou.definition", "prior.limit"}


def test_a_cell_added_to_boxes_leaves_the_threshold() -> None:
    found = identify(small_losses.with_a_cell_added(flows=False))
    assert "iou" in [finding.axis for finding in found.odd]
    assert measured_axes(found) == {"prior_until"}


@wrong_today("sizes are blamed for the gradient of the target, and the target is not")
def test_a_target_that_flows_is_blamed_beside_a_wrong_iou() -> None:
    found = blamed(judged(small_losses.with_a_cell_added(flows=True)))
    assert found == {"iou.definition", "prior.limit", "object.target-constant"}


@wrong_today("the gradient of the target is taken for one of sizes in no known space")
def test_a_target_that_flows_is_measured_beside_a_wrong_iou() -> None:
    found = identify(small_losses.with_a_cell_added(flows=True))
    assert found.findings["object_target_gradient"].value == "flows"
    assert found.findings["size_space"].value == "log"


def test_a_loss_that_crashes_at_every_question_is_shown_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = judged(small_losses.misspelt)
    assert {verdict.verdict for verdict in diagnosis.verdicts} == {"not-answerable"}
    assert main(["check", "meta.small_losses:misspelt", "--golden"]) == 3
    said = capsys.readouterr().out
    assert "no_such_attribute, predictions" in said
    assert "AttributeError" in said
    assert "✗" not in said
