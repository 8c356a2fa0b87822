"""Judging from Python: `check_loss`, and the decorator that puts the whole suite into a user's own test file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import load_clauses
from regionloss_spec.case import CASES, load_case
from regionloss_suite import check_loss
from regionloss_suite.judging.judge import NothingToJudgeError
from regionloss_suite.pytest_api import conforms

pytestmark = pytest.mark.slow  # they run pytest in a process of its own

NAMES = ("pj-ignored-same-cell", "hand-small-box-weight-1")

TESTS = """
import dataclasses
import numpy as np
from regionloss_adapters import Answer, CannotAnswerError, Description
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import load_clauses
from regionloss_spec.case import CASES, load_case
from regionloss_suite.pytest_api import conforms

CASES = [load_case(CASES / f"{name}.json") for name in ("pj-ignored-same-cell", "hand-small-box-weight-1")]


class Right:
    def describe(self):
        return Description("right", answers=("gradient",), dtypes=("float32",))

    def answer(self, question):
        return Answer(gradient=NumpyAdapter().answer(question).gradient.astype(np.float32))


class NoSmallBoxWeight(Right):
    def answer(self, question):
        return super().answer(dataclasses.replace(question, profile=question.profile.replace(small_box_exponent=0)))


class Silent(Right):
    def answer(self, question):
        raise CannotAnswerError("it only knows faces")


@conforms(Right(), cases=CASES)
def test_right(tmp_path, clause):
    assert tmp_path.is_dir() and clause.id


@conforms(NoSmallBoxWeight(), cases=CASES)
def test_wrong() -> None: ...


@conforms(NoSmallBoxWeight(), cases=CASES, expected={"coord.small-box-weight": "trained without it"})
def test_expected() -> None: ...


@conforms(Right(), cases=CASES, expected={"noobj.max-iou": "not so", "scale.potential": "not asked"})
def test_stale() -> None: ...


@conforms(Silent(), cases=CASES)
def test_silent() -> None: ...


@conforms(Right(), cases=CASES)
def test_body(clause) -> None:
    assert clause.id != "noobj.max-iou", "the body ran"
"""

WHOLE = (
    TESTS.split("@conforms")[0]
    + """
ran = []


@conforms(Right())
def test_whole(clause):
    ran.append(clause.id)


@conforms(NoSmallBoxWeight(), expected={"coord.small-box-weight": "trained without it"})
def test_whole_expected() -> None: ...


@conforms(NoSmallBoxWeight())
def test_whole_wrong() -> None: ...


@conforms(Right(), golden=True)
def test_golden() -> None: ...


def test_the_body_ran_for_clauses_alone():
    assert ran and all("." in clause for clause in ran)
"""
)


def ran(folder: Path, *arguments: str, tests: str = TESTS) -> str:
    (folder / "test_mine.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "regionloss_suite.plugin"]
    done = subprocess.run(
        [*command, *arguments, "test_mine.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "400"},
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ran(tmp_path_factory.mktemp("user"))


def lines(output: str, test: str, outcome: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(outcome) and f"::{test}[" in line]


def test_a_right_loss_passes_clause_by_clause_and_skips_what_it_does_not_answer(output: str) -> None:
    assert "PASSED test_mine.py::test_right[noobj.max-iou]" in output
    assert len(lines(output, "test_right", "PASSED")) > 20
    assert lines(output, "test_right", "FAILED") == []


def test_a_wrong_loss_fails_with_the_place_and_what_it_looks_like(output: str) -> None:
    failed = lines(output, "test_wrong", "FAILED")
    named = [line for line in failed if "[coord.small-box-weight]" in line]
    assert len(named) == 1
    assert "cell (0, 0), anchor 0 · tx gradient" in named[0]
    assert "small_box_exponent = 0, expected 1" in named[0]
    clauses = load_clauses()
    names = {line.split("[")[1].split("]")[0] for line in failed}
    assert names & set(clauses) == {"coord.small-box-weight"}  # all others agree once it is taken into account
    assert lines(output, "test_wrong", "PASSED")


def test_an_expected_deviation_and_what_follows_from_it_do_not_fail(output: str) -> None:
    assert lines(output, "test_expected", "FAILED") == []
    expected = lines(output, "test_expected", "XFAIL")
    assert len(expected) == len(lines(output, "test_wrong", "FAILED") + lines(output, "test_wrong", "XFAIL"))
    assert all("trained without it" in line for line in expected)


def test_an_expectation_that_expects_nothing_fails(output: str) -> None:
    assert sorted(line.split("[")[1].split("]")[0] for line in lines(output, "test_stale", "FAILED")) == [
        "noobj.max-iou",
        "scale.potential",
    ]
    assert "noobj.max-iou is expected to deviate (not so), but no longer deviates" in output
    assert "scale.potential is expected to deviate (not asked), but was not answerable" in output


def test_a_loss_that_answers_nothing_does_not_pass_by_skipping(output: str) -> None:
    assert lines(output, "test_silent", "PASSED") == []
    assert lines(output, "test_silent", "FAILED")
    assert "the loss answers no clause at all" in output


def test_the_body_runs_where_a_clause_is_met(output: str) -> None:
    failed = lines(output, "test_body", "FAILED")
    assert len(failed) == 1
    assert "[noobj.max-iou] - AssertionError: the body ran" in failed[0]


#: Three properties, in their names as tests: one that a missing weight breaks, and two that it does not.
BROKEN = "darknet-float32-cpu-the-gradient-of-tw-and-th-agrees-with-the-reference"
HELD = ("darknet-float32-cpu-padding-changes-nothing", "darknet-float32-cpu-the-same-question-has-the-same-answer")


def test_the_decorator_tries_the_properties_too(tmp_path: Path) -> None:
    chosen = " or ".join([BROKEN, *HELD, "coord.small-box-weight", "body_ran", "noobj.max-iou"])
    output = ran(tmp_path, "-k", chosen, tests=WHOLE)
    for name in (BROKEN, *HELD):
        assert f"PASSED test_mine.py::test_whole[{name}]" in output
    assert "PASSED test_mine.py::test_the_body_ran_for_clauses_alone" in output
    assert lines(output, "test_golden", "PASSED"), "the clauses are there"
    assert not any(name in line for line in lines(output, "test_golden", "PASSED") for name in (BROKEN, *HELD))
    wrong = lines(output, "test_whole_wrong", "FAILED")
    assert sorted(line.split("[")[1].split("]")[0] for line in wrong) == ["coord.small-box-weight", BROKEN]
    assert f"PASSED test_mine.py::test_whole_wrong[{HELD[0]}]" in output
    expected = lines(output, "test_whole_expected", "XFAIL")
    assert len(expected) == len(wrong)
    assert all("trained without it" in line for line in expected)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_suite_as_a_package_runs_cases_and_properties(tmp_path: Path, processes: str) -> None:
    (tmp_path / "mine.py").write_text(WHOLE)
    chosen = " or ".join([*HELD, "noobj.max-iou"])
    command = [sys.executable, "-m", "pytest", "--pyargs", "regionloss_suite", "-k", chosen, "-rA", "-n", processes]
    command += ["--regionloss-adapter", "mine:Right", "-p", "no:cacheprovider", "-p", "regionloss_suite.plugin"]
    command += ["-c", os.devnull, "--rootdir", str(tmp_path), "--import-mode=importlib"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "COLUMNS": "400"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_golden.py::test_clause[noobj.max-iou]" in done.stdout
    for name in HELD:
        assert f"test_properties.py::test_property[{name}]" in done.stdout


def test_the_decorator_works_in_several_processes(tmp_path: Path) -> None:
    output = ran(tmp_path, "-n", "2", "-k", "test_right")
    assert len(lines(output, "test_right", "PASSED")) > 20
    assert lines(output, "test_right", "FAILED") == []


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"coord.nobody": "x"}, "no clause 'coord.nobody'"),
        ({"coord.constant-weight": "x"}, "does not bind profile darknet"),
        ({"coord.small-box-weight": " "}, "expected a reason"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused_where_it_is_written(expected: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conforms("numpy", profile="darknet", cases=[load_case(CASES / f"{NAMES[0]}.json")], expected=expected)


class Halved(NumpyAdapter):
    """A loss that forgot a factor and prints as it goes."""

    def describe(self) -> Description:
        return Description("halved", answers=("gradient",), dtypes=("float64",))

    def answer(self, question: Question) -> Answer:
        print("halving")
        gradient = super().answer(question).gradient
        assert gradient is not None
        return Answer(gradient=gradient / 2)


def test_check_loss_takes_an_adapter_and_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--maxfail=1 --no-such-option")
    report = check_loss(Halved(), cases=[load_case(CASES / f"{name}.json") for name in NAMES])
    assert (report.adapter, report.profile, report.cases, report.exit_code) == ("halved", "darknet", 2, 1)
    assert {verdict.clause for verdict in report.deviating} == {"scale.squared-factor", "scale.class-weight"}
    assert os.environ["PYTEST_ADDOPTS"] == "--maxfail=1 --no-such-option"
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_check_loss_takes_a_name_and_a_folder(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.json").write_bytes((CASES / f"{name}.json").read_bytes())
    report = check_loss("numpy", profile="darknet", cases=tmp_path)
    assert (report.adapter, report.profile, report.cases, report.exit_code) == ("numpy", "darknet", 2, 0)


def test_check_loss_refuses_to_judge_by_no_case() -> None:
    with pytest.raises(NothingToJudgeError):
        check_loss("numpy", cases=[])
