"""The command line: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from regionloss_spec import load_clauses
from regionloss_spec.case import CASES
from regionloss_suite.cli import main

ADAPTERS = '''
import dataclasses
import numpy as np
from regionloss_adapters import Answer, CannotAnswer, Description
from regionloss_adapters.numpy_reference import NumpyAdapter


class GradientOnly:
    """Answers in float32 and says nothing but the gradient; `change` spoils it."""

    profiles = ("darknet",)

    def describe(self):
        return Description("gradient only", self.profiles, ("gradient",), ("float32",))

    def answer(self, question):
        return Answer(gradient=self.change(NumpyAdapter().answer(question).gradient.astype(np.float32)))

    def change(self, gradient):
        return gradient


class NoSmallBoxWeight(GradientOnly):
    def answer(self, question):
        return super().answer(dataclasses.replace(question, profile=question.profile.replace(small_box_exponent=0)))


class Nan(GradientOnly):
    def change(self, gradient):
        return gradient * np.nan


class WrongShape(GradientOnly):
    def change(self, gradient):
        return gradient[:, :-1]


class Crashes(GradientOnly):
    def change(self, gradient):
        raise ZeroDivisionError("float division by zero")


class SkipsEverything(GradientOnly):
    def change(self, gradient):
        raise CannotAnswer("it only knows faces")


class Marvis(GradientOnly):
    profiles = ("marvis",)


class Thing:
    pass
'''


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(ADAPTERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def checked(*arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", *arguments, "--json", "report.json"])
    return code, json.loads(Path("report.json").read_text(encoding="utf-8"))


def test_the_reference_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked("numpy")
    assert code == 0
    assert (report["adapter"], report["profile"], report["conforming"]) == ("numpy", "any", True)
    assert {verdict["verdict"] for verdict in report["verdicts"]} <= {"conforming", "not-answerable"}
    musts = [verdict for verdict in report["verdicts"] if verdict["level"] == "MUST"]
    # It computes in float64, whatever it is given, and so it is asked in nothing else.
    assert [verdict["clause"] for verdict in musts if verdict["verdict"] != "conforming"] == ["numerics.float32"]
    assert "conforming" in capsys.readouterr().out.splitlines()[-1]


def test_a_loss_that_answers_only_its_gradient_in_float32_conforms() -> None:
    code, report = checked("mine:GradientOnly")
    assert code == 0
    by_clause = {verdict["clause"]: verdict for verdict in report["verdicts"]}
    assert by_clause["scale.potential"]["verdict"] in ("conforming", "not-answerable")
    assert by_clause["statistics.avg-iou"]["verdict"] == "not-answerable"
    assert "does not answer" in by_clause["statistics.avg-iou"]["reason"]


def test_a_missing_small_box_weight_is_named_first_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked("mine:NoSmallBoxWeight")
    assert code == 1
    deviating = {verdict["clause"]: verdict for verdict in report["verdicts"] if verdict["verdict"] == "deviating"}
    assert [slug for slug, verdict in deviating.items() if "follows" not in verdict] == ["coord.small-box-weight"]
    assert "as in profile darknet-2016" in deviating["coord.small-box-weight"]["looks_like"]
    first = deviating["coord.small-box-weight"]["first"]
    assert set(first) >= {"case", "image", "row", "column", "anchor", "quantity", "got", "expected", "bound"}
    assert first["quantity"] in ("tx gradient", "ty gradient", "tw gradient", "th gradient")
    assert abs(first["got"]) < abs(first["expected"])
    assert f"case {first['case']}, image {first['image']}" in capsys.readouterr().out


def test_properties_are_tried_as_well_when_asked_for() -> None:
    code, report = checked("mine:NoSmallBoxWeight", "--properties")
    assert code == 1
    by_clause = {verdict["clause"]: verdict for verdict in report["verdicts"]}
    assert by_clause["numerics.repeatability"]["verdict"] == "conforming"
    assert by_clause["numerics.repeatability"]["properties"]
    assert by_clause["coord.small-box-weight"]["verdict"] == "deviating"
    assert "follows" not in by_clause["coord.small-box-weight"]


@pytest.mark.parametrize("adapter", ["mine:Nan", "mine:WrongShape"])
def test_what_is_no_gradient_deviates(adapter: str) -> None:
    code, report = checked(adapter)
    assert code == 1
    assert sum(verdict["verdict"] == "deviating" for verdict in report["verdicts"]) > 20


def test_a_crash_has_an_exit_code_of_its_own_and_keeps_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked("mine:Crashes")
    assert code == 3
    assert "ZeroDivisionError" in next(iter(report["crashes"].values()))
    assert "ZeroDivisionError: float division by zero" in capsys.readouterr().out


def test_a_loss_that_answers_nothing_does_not_conform() -> None:
    code, report = checked("mine:SkipsEverything")
    assert code == 1
    assert {verdict["verdict"] for verdict in report["verdicts"]} == {"not-answerable"}
    assert any(verdict.get("reason") == "it only knows faces" for verdict in report["verdicts"])


def test_a_dialect_is_judged_on_darknets_inputs() -> None:
    code, report = checked("mine:Marvis")
    assert (code, report["profile"]) == (0, "marvis")
    slugs = {verdict["clause"] for verdict in report["verdicts"] if verdict["verdict"] == "conforming"}
    assert "coord.constant-weight" in slugs
    assert "coord.small-box-weight" not in slugs


def test_a_loss_judged_as_what_it_is_not_deviates() -> None:
    code, report = checked("mine:GradientOnly", "--profile", "darknet-2016")
    assert code == 0  # it is asked under that profile and answers it
    assert report["profile"] == "darknet-2016"


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    Path("mine.toml").write_text('extends = "darknet"\nname = "mine"\ntitle = "t"\nsource = "s"\nthresh = 0.5\n')
    code, report = checked("numpy", "--profile", "mine.toml")
    assert (code, report["profile"]) == (0, "mine.toml")


def test_a_folder_of_cases_is_judged_and_a_changed_entry_is_refused(tmp_path: Path) -> None:
    data = json.loads((CASES / "pj-one-object-one-anchor.json").read_text(encoding="utf-8"))
    Path("folder").mkdir()
    Path("folder/kept.json").write_text(json.dumps(data | {"id": "kept"}))
    assert checked("numpy", "--cases", "folder")[0] == 0
    largest = max(range(216), key=lambda at: abs(data["expected"]["gradient"][at]))
    data["expected"]["gradient"][largest] *= 1.001
    Path("folder/kept.json").write_text(json.dumps(data | {"id": "kept"}))
    code, report = checked("numpy", "--cases", "folder")
    assert code == 1
    assert any(verdict["verdict"] == "deviating" and verdict["level"] == "MUST" for verdict in report["verdicts"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nobody"], "no adapter 'nobody'"),
        (["check", "absent:Loss"], "No module named 'absent'"),
        (["check", "mine:Absent"], "has no attribute 'Absent'"),
        (["check", "mine:Thing"], "lacks describe() or answer()"),
        (["check", "numpy", "--profile", "nobody"], "no profile 'nobody'"),
        (["check", "numpy", "--cases", "absent"], "no case and no recording"),
        (["check", "numpy", "--json", "absent/report.json"], "cannot be written"),
        (["explain", "nobody"], "no case 'nobody'"),
        (["explain", "one-object-one"], "did you mean"),
        (["explain", "mine.py"], "not JSON"),
        (["clauses", "noobj"], "did you mean noobj.max-iou"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_two(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_clauses_are_listed_with_what_pins_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clauses", "--json", "clauses.json"]) == 0
    entries = json.loads(Path("clauses.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in entries] == list(load_clauses())
    for entry in entries:
        assert set(entry) >= {"id", "level", "cases", "properties", "mutants"}
    assert all("untestable" in entry for entry in entries if not load_clauses()[entry["id"]].seen)
    assert f"{len(entries)} clauses" in capsys.readouterr().out


def test_one_clause_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clauses", "noobj.not-responsible"]) == 0
    page = capsys.readouterr().out
    assert "MUST NOT pay the no-object term" in page
    assert "pj-responsible-below-thresh" in page


def test_explain_answers_both_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "pj-ignored-same-cell"]) == 0
    said = capsys.readouterr().out
    assert "anchor 0 wins" in said
    assert "MaxIOU 0.94444 (truth 0) > 0.6" in said
    assert "it is not non-max suppression" in said
    assert "anchor 1, ignored, pays nothing" in said


def test_explain_takes_a_small_file_and_says_why_a_bad_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    small = {
        "title": "Mine.",
        "grid": {"height": 2, "width": 2},
        "anchors": [[1, 1], [2, 2]],
        "classes": 2,
        "images_seen": 12800,
        "truths": [[[0.25, 0.25, 0.5, 0.5, 1]]],
        "predictions": {"default": 0, "at": []},
    }
    Path("small.json").write_text(json.dumps(small))
    assert main(["explain", "small.json"]) == 0
    assert "cell (row 0, column 0)" in capsys.readouterr().out
    Path("small.json").write_text(json.dumps(small | {"truths": [[[0.25, 1.0, 0.5, 0.5, 1]]]}))
    assert main(["explain", "small.json"]) == 0
    assert "image 0, truth 0: y is 1.0" in capsys.readouterr().out


def test_the_command_runs_as_a_program_and_paints_nothing_into_a_pipe(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; from regionloss_suite.cli import main; sys.exit(main())"]
    roots = os.pathsep.join(sys.path)
    ran = subprocess.run(
        [*program, "check", "mine:Crashes"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": roots},
    )
    assert ran.returncode == 3, ran.stderr
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""
