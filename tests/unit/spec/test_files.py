"""Profiles and cases as files: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss_spec import Case, CaseError, ProfileError, load_case, load_cases, load_profile
from regionloss_spec.case import CASES, check_schema, read_json
from regionloss_spec.case_writer import write_case

SMALL: dict[str, Any] = {
    "title": "Small.",
    "grid": {"height": 1, "width": 2},
    "anchors": [[1, 1]],
    "classes": 1,
    "images_seen": 0,
    "truths": [[[0.5, 0.5, 0.5, 0.5, 0]]],
    "predictions": {
        "default": 0,
        "at": [{"image": 0, "anchor": 0, "row": 0, "column": 1, "values": [1, 2, 3, 4, 5, 6]}],
    },
}


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "small.json"
    path.write_text(json.dumps({key: value for key, value in (SMALL | changed).items() if value is not None}))
    return path


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    case = load_case(written(tmp_path))
    assert case.id == "small"
    assert case.batch.predictions[0, :, 0].tolist() == [[0, k] for k in range(1, 7)]
    assert case.expected.gradient is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"surprise": 1}, r"\$: Additional properties .*'surprise'"),
        ({"anchors": None}, r"\$: 'anchors' is a required property"),
        ({"classes": "three"}, r"\$.classes: 'three' is not of type 'integer'"),
        ({"expected": {"terms": {"coord": 1}}}, r"\$.expected.terms: 'no_object' is a required"),
        ({"profile": "nobody"}, "no profile 'nobody'"),
        ({"options": {"thresh": "high"}}, "thresh is 'high'; it takes a number"),
        ({"options": {"treshold": 0.5}}, "unknown axis 'treshold'"),
        ({"predictions": [0, 1, 2]}, "predictions: got 3 numbers for the shape"),
        ({"predictions": {"file": "absent.npz", "array": "x"}}, "absent.npz cannot be read"),
        (
            {
                "predictions": {
                    "default": 0,
                    "at": [{"image": 0, "anchor": 0, "row": 1, "column": 0, "values": [0] * 6}],
                }
            },
            r"6 values at image, anchor, row, column \[0, 0, 1, 0\] do not fit",
        ),
    ],
)
def test_a_broken_case_names_file_and_field(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=message) as caught:
        load_case(written(tmp_path, **changed))
    assert "small.json" in str(caught.value)


def test_the_bundled_cases_meet_the_schema_that_reading_them_does_not_ask_for() -> None:
    for path in sorted(CASES.glob("*.json")):
        check_schema(read_json(path), path)


def test_what_is_not_json_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(CaseError, match="not JSON"):
        load_case(tmp_path / "x.json")
    with pytest.raises(CaseError, match="No such file"):
        load_case(tmp_path / "y.json")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", predictions=np.array([object()]))
    with pytest.raises(CaseError, match="allow_pickle"):
        load_case(written(tmp_path, predictions={"file": "bad.npz", "array": "predictions"}))


def test_numbers_that_json_lacks_are_written_as_text(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, predictions=["nan", "inf", *[0] * 10]))
    assert np.isnan(case.batch.predictions.flat[0])
    assert case.batch.predictions.flat[1] == np.inf


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.id)
def test_a_case_that_is_written_reads_back_the_same(case: Case, tmp_path: Path) -> None:
    again = load_case(write_case(case, tmp_path))
    assert (again.id, again.title, again.clauses, again.profile) == (case.id, case.title, case.clauses, case.profile)
    for one, other in (
        (again.batch.predictions, case.batch.predictions),
        (again.expected.gradient, case.expected.gradient),
    ):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
    assert all((a == b).all() or np.isnan(a).any() for a, b in zip(again.batch.truths, case.batch.truths, strict=True))
    assert again.expected.responsible == case.expected.responsible
    assert again.expected.error == case.expected.error


def test_a_profile_file_states_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "marvis"\nname = "mine"\ntitle = "t"\nsource = "s"\nthresh = 0.5\n')
    mine = load_profile(path)
    assert mine.differences(load_profile("marvis")) == {"thresh": (0.5, 0.6)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thresh = ", "not TOML"),
        ('title = "t"\nsource = "s"\n', "missing key 'name'"),
        ('name = "n"\ntitle = "t"\nsource = "s"\nweather = 1\n', "unknown key 'weather'"),
        (
            'name = "n"\ntitle = "t"\nsource = "s"\ncollision = "both"\n',
            "collision is 'both'; it takes 'last', 'first', 'sum'",
        ),
        ('name = "n"\ntitle = "t"\nsource = "s"\nthresh = -1\n', "finite number that is not negative"),
        ('name = "n"\ntitle = "t"\nsource = "s"\nthresh = nan\n', "finite number"),
        ('name = "n"\ntitle = "t"\nsource = "s"\nmax_truths = 1.5\n', "takes a whole number"),
        ('name = "n"\ntitle = "t"\nsource = "s"\nsmall_box_exponent = true\n', "small_box_exponent is True"),
        (
            'name = "n"\ntitle = "t"\nsource = "s"\nclass_collision = "accumulate"\n',
            "which needs class_term 'logistic' or 'tree', not 'cross-entropy' \\(assign.class-accumulates\\)",
        ),
        ('extends = "nobody"\nname = "n"\ntitle = "t"\nsource = "s"\n', "no profile 'nobody'"),
    ],
)
def test_a_broken_profile_names_the_axis(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_profile(path)
