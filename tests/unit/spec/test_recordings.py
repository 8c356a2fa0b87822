"""The reference against darknet's own numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regionloss import evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters import load_adapter
from regionloss_spec import Case, CaseError, load_cases
from regionloss_spec.recording import load_folder, recording_from_json
from regionloss_suite.judging.judge import Judge

RECORDED = [case for case in load_cases() if case.recorded]
BY_NAME = pytest.mark.parametrize("case", RECORDED, ids=[case.id for case in RECORDED])


def test_all_recordings_are_here() -> None:
    assert len(RECORDED) == 62
    assert sum(case.base == "darknet" for case in RECORDED) == 29
    assert {case.provenance["commit"][:7] for case in RECORDED} == {"f6afaab", "59596d7"}


@BY_NAME
def test_gradient_is_darknets(case: Case) -> None:
    recorded = case.expected.gradient
    assert recorded is not None
    error = np.abs(evaluate(case.batch, case.profile).gradient - recorded)
    assert error.max() <= 5e-6 * (1 + np.abs(recorded).max())


@BY_NAME
def test_gradient_is_darknets_within_the_bound_of_each_element(case: Case) -> None:
    result = evaluate(case.batch, case.profile)
    error = np.abs(result.gradient - case.expected.gradient)
    assert (error <= bounds(result, PRECISIONS["float32"]).gradient).all()


@BY_NAME
def test_printed_cost_is_darknets(case: Case) -> None:
    printed = case.expected.printed_cost
    assert printed is not None
    result = evaluate(case.batch, case.profile)
    # In `near-perfect` every residual is a difference of equal numbers: darknet's is rounding, some 1e-9 in all.
    slack = bounds(result, PRECISIONS["float32"]).printed_cost if case.id.endswith("near-perfect") else 0.0
    assert result.printed_cost == pytest.approx(printed, rel=1e-5, abs=slack)


def recorded_states(case: Case) -> NDArray[np.str_]:
    """Who is responsible, ignored or no-object, read off darknet's numbers without the reference, `[N, A, H, W]`."""
    batch, profile = case.batch, case.profile
    images, _, height, width = batch.predictions.shape
    by_channel = (images, len(batch.anchors), 5 + batch.classes, height, width)
    gradient = np.asarray(case.expected.gradient).reshape(by_channel)[:, :, 4]
    b = 1 / (1 + np.exp(-batch.predictions.reshape(by_channel)[:, :, 4]))
    alone = profile.no_object_weight * b * b * (1 - b)
    as_no_object = np.abs(gradient - alone) <= 4e-6 * alone + 1e-7 * b
    return np.where(gradient == 0, "ignored", np.where(as_no_object, "no-object", "responsible"))


@BY_NAME
def test_indicators_are_darknets(case: Case) -> None:
    if case.profile.no_object_target == "max-iou" or case.base == "yolo9000":
        pytest.skip("its objectness channel alone does not tell the states apart")
    decisions = evaluate(case.batch, case.profile).decisions
    ours = np.where(decisions.responsible, "responsible", np.where(decisions.no_object, "no-object", "ignored"))
    assert (ours == recorded_states(case)).all()
    assert (ours == "responsible").sum() == int(decisions.responsible.sum())


@BY_NAME
def test_what_the_case_says_of_indicators_is_what_the_reference_decides(case: Case) -> None:
    decisions = evaluate(case.batch, case.profile).decisions
    responsible = np.zeros_like(decisions.responsible)
    for image, _, anchor, row, column in case.expected.responsible or ():
        responsible[image, anchor, row, column] = True
    ignored = np.zeros_like(decisions.ignored)
    for image, anchor, row, column in case.expected.ignored or ():
        ignored[image, anchor, row, column] = True
    assert (responsible == decisions.responsible).all()
    assert (ignored == decisions.ignored).all()


@pytest.mark.slow
@pytest.mark.parametrize("entries", [2, pytest.param(6, marks=pytest.mark.sweep)])
def test_one_entry_changed_by_a_thousandth_is_refused(entries: int) -> None:
    rng = np.random.default_rng(7)
    caught = missed = 0
    for case in RECORDED:
        gradient = np.asarray(case.expected.gradient)
        result = evaluate(case.batch, case.profile)
        bound = bounds(result, PRECISIONS["float32"]).gradient + bounds(result, PRECISIONS["float64"]).gradient
        places = np.argwhere(gradient != 0)
        for place in rng.permutation(places)[:entries]:
            tampered = gradient.copy()
            tampered[tuple(place)] *= 1.001
            judge = Judge(
                load_adapter("numpy"),
                [dataclasses.replace(case, expected=dataclasses.replace(case.expected, gradient=tampered))],
            )
            deviates = [clause for clause in judge.clauses if judge.verdict(clause).verdict == "deviating"]
            if deviates:
                caught += 1
            else:  # only where float32 cannot hold that digit: a residual of nearly equal numbers
                assert bound[tuple(place)] > 4e-4 * abs(gradient[tuple(place)])
                missed += 1
    assert caught > 60 * missed
    assert caught + missed > 50 * entries


def recording(case: Case) -> dict[str, object]:
    """A recording made from a case of the second repository, where delta is minus the gradient."""
    batch = case.batch
    anchors, classes = len(batch.anchors), batch.classes
    return {
        "id": case.id,
        "title": case.title,
        "source": {key: value for key, value in case.provenance.items() if key != "kind"},
        "config": {
            "batch": len(batch.truths),
            "height": batch.predictions.shape[2],
            "width": batch.predictions.shape[3],
            "num": anchors,
            "classes": classes,
            "anchors": batch.anchors.tolist(),
            "softmax": 1,
            "rescore": 1,
            "bias_match": 1,
            "thresh": 0.6,
            "coord_scale": 1.0,
            "object_scale": 5.0,
            "noobject_scale": 1.0,
            "class_scale": 1.0,
            "images_seen": batch.images_seen,
        },
        "truths": [rows.tolist() for rows in batch.truths],
        "reported_cost": case.expected.printed_cost,
        "shape": list(batch.predictions.shape),
        "predictions": batch.predictions.ravel().tolist(),
        "delta": (-np.asarray(case.expected.gradient)).ravel().tolist(),
    }


@pytest.fixture
def raw() -> dict[str, object]:
    return recording(next(case for case in RECORDED if case.id == "ab-one-object-one-anchor"))


def test_a_recording_is_read_as_the_case_that_was_made_of_it(raw: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(raw))
    (read,) = load_folder(tmp_path)
    (kept,) = [case for case in RECORDED if case.id == "ab-one-object-one-anchor"]
    assert (read.profile, read.base) == (kept.profile, "darknet-2016")
    assert (np.asarray(read.expected.gradient) == kept.expected.gradient).all()


def test_delta_of_the_first_repository_lacks_the_logistic_derivative(raw: dict[str, object], tmp_path: Path) -> None:
    raw["source"] = {"repository": "pjreddie/darknet", "commit": "0", "function": "f", "build": "b"}
    half = np.zeros((1, 24, 3, 3))
    raw |= {
        "predictions": half.ravel().tolist(),
        "activated": (half + 0.5).ravel().tolist(),
        "delta": np.ones(216).tolist(),
    }
    case = recording_from_json(raw, tmp_path / "x.json")
    gradient = np.asarray(case.expected.gradient).reshape(3, 8, 9)
    assert (gradient[:, [0, 1, 4]] == -0.25).all()
    assert (gradient[:, [2, 3, 5, 6, 7]] == -1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": {"repository": "somebody/darknet"}}, "source.repository is 'somebody/darknet'"),
        ({"truths": None}, "no field 'truths'"),
        ({"config": {"surprise": 1}}, "unknown option 'surprise'"),
        ({"delta": [0.0]}, "cannot reshape"),
        ({"config": {"batch": 2}}, "config says"),
    ],
)
def test_a_broken_recording_names_file_and_field(
    raw: dict[str, object], change: dict[str, object], message: str, tmp_path: Path
) -> None:
    for key, value in change.items():
        if value is None:
            del raw[key]
        elif isinstance(value, dict):
            raw[key] = {**raw[key], **value}  # type: ignore[dict-item]
        else:
            raw[key] = value
    with pytest.raises(CaseError, match=message) as caught:
        recording_from_json(raw, tmp_path / "broken.json")
    assert "broken.json" in str(caught.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no case and no recording"):
        load_folder(tmp_path)
