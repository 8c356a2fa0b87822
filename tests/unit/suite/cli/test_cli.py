"""The command line: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regionloss_spec import load_clauses
from regionloss_spec.case import CASES
from regionloss_suite.cli.main import main

pytestmark = [pytest.mark.usefixtures("small_cases"), pytest.mark.slow]

ADAPTERS = '''
import dataclasses
import numpy as np
from regionloss_adapters import Answer, CannotAnswerError, Description
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


class WrongOnThreeRows(GradientOnly):
    """Wrong on a grid of three rows and one column, which no golden case has."""

    def change(self, gradient):
        return gradient * 2 if gradient.shape[2:] == (3, 1) else gradient


class Forgetful(GradientOnly):
    """Answers otherwise when the very same is asked again at once."""

    last = None

    def answer(self, question):
        again, self.last = question.batch is self.last, question.batch
        said = super().answer(question)
        return Answer(gradient=said.gradient * np.float32(1 + 1e-3 * again))


class Dies(GradientOnly):
    """Takes its process with it where a grid has three rows and one column."""

    def change(self, gradient):
        if gradient.shape[2:] == (3, 1):
            import os

            os._exit(9)
        return gradient


class Crashes(GradientOnly):
    def change(self, gradient):
        raise ZeroDivisionError("float division by zero")


class SkipsEverything(GradientOnly):
    def change(self, gradient):
        raise CannotAnswerError("it only knows faces")


class Marvis(GradientOnly):
    profiles = ("marvis",)


class Thing:
    pass
'''


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(ADAPTERS)
    (tmp_path / "broken.py").write_text("anchors = 5\nratio = anchors / 0\n")
    (tmp_path / "unread.py").write_text("adapter = from_torch(\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def checked(*arguments: str) -> tuple[int, dict[str, Any]]:
    """The golden part alone."""
    return checked_in_full(*arguments, "--golden")


def checked_in_full(*arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", *arguments, "--json", "report.json"])
    return code, json.loads(Path("report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
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
    assert "does not return" in by_clause["statistics.avg-iou"]["reason"]


def test_a_missing_small_box_weight_is_named_first_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked("mine:NoSmallBoxWeight")
    assert code == 1
    deviating = {verdict["clause"]: verdict for verdict in report["verdicts"] if verdict["verdict"] == "deviating"}
    assert [slug for slug, verdict in deviating.items() if "follows" not in verdict] == ["coord.small-box-weight"]
    looks_like = deviating["coord.small-box-weight"]["looks_like"]
    assert looks_like.startswith("profiles darknet-2016")
    assert "small_box_exponent = 0, coord.constant-weight" in looks_like
    first = deviating["coord.small-box-weight"]["first"]
    assert set(first) >= {"case", "image", "row", "column", "anchor", "quantity", "got", "expected", "bound"}
    assert first["quantity"] in ("tx gradient", "ty gradient", "tw gradient", "th gradient")
    assert abs(first["got"]) < abs(first["expected"])
    place = f"image {first['image']}, cell ({first['row']}, {first['column']}), anchor {first['anchor']}"
    headline = f"coord.small-box-weight deviates · {place} · {first['quantity']} "
    assert headline in capsys.readouterr().out


def program(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in a process of its own, as it is printed."""
    words = shlex.split(command)
    runs = {
        "regionloss": [
            sys.executable,
            "-c",
            "import sys; from regionloss_suite.cli.main import main; sys.exit(main())",
        ],
        "python": [sys.executable],
    }
    options = ["-p", "regionloss_suite.plugin", "-p", "no:cacheprovider"] if "pytest" in words else []
    return subprocess.run(
        [*runs[words[0]], *words[1:], *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def printed(output: str, name: str) -> list[str]:
    """The commands of a kind that a report ends its failures with."""
    return [line.split(": ", 1)[1] for line in output.splitlines() if line.strip().startswith(f"{name}: ")]


@pytest.mark.slow
def test_a_failing_golden_case_ends_with_commands_that_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked("mine:NoSmallBoxWeight")[0] == 1
    output = capsys.readouterr().out
    (reproduce,), (explain,) = printed(output, "reproduce"), printed(output, "explain")
    again = program(reproduce)
    assert (again.returncode, again.stderr) == (1, "")
    assert "✗ coord.small-box-weight deviates · " in again.stdout
    assert program(explain).returncode == 0


@pytest.mark.slow
def test_the_whole_suite_finds_what_no_golden_case_has_and_writes_its_smallest_batch(
    capsys: pytest.CaptureFixture[str], suite_options: Callable[..., None]
) -> None:
    suite_options("-k", "the-gradient-of or everything-that-decides")  # of which several see that grid
    assert checked("mine:WrongOnThreeRows")[0] == 0
    capsys.readouterr()
    code, report = checked_in_full("mine:WrongOnThreeRows", "--jobs", "1")
    assert code == 1
    output = capsys.readouterr().out
    leading = [one for one in report["verdicts"] if one["verdict"] == "deviating" and "follows" not in one]
    assert len(leading) <= 3, "one mistake, not one for each property that sees it"
    (case,) = Path("regionloss-failures").glob("*.json")
    written = json.loads(case.read_text(encoding="utf-8"))
    assert (written["grid"]["height"], written["grid"]["width"]) == (3, 1)
    reproduce = next(command for command in printed(output, "reproduce") if str(case) in command)
    assert reproduce.startswith("regionloss check mine:WrongOnThreeRows --cases ")
    again = program(reproduce)
    assert again.returncode == 1, again.stdout + again.stderr
    explain = next(command for command in printed(output, "explain") if str(case) in command)
    assert "grid 3 rows × 1 column" in program(explain).stdout


@pytest.mark.slow
def test_what_takes_several_calls_to_see_is_reproduced_by_its_property(
    capsys: pytest.CaptureFixture[str], suite_options: Callable[..., None]
) -> None:
    suite_options("-k", "the-gradient-from-above or padding-changes-nothing")
    assert checked("mine:Forgetful")[0] == 0
    capsys.readouterr()
    assert checked_in_full("mine:Forgetful", "--jobs", "1")[0] == 1
    output = capsys.readouterr().out
    assert "violates: " in output
    reproduce = printed(output, "reproduce")[0]
    assert reproduce.startswith("python -m pytest --pyargs regionloss_suite.test_properties -k ")
    again = program(reproduce)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 failed" in again.stdout


@pytest.mark.slow
def test_several_processes_find_the_same(
    capsys: pytest.CaptureFixture[str], suite_options: Callable[..., None]
) -> None:
    """Also what a process of their own finds, and that repeatability, which no case can show, is judged by default."""
    suite_options("-k", "the-same-question or padding or everything-that-decides")
    assert checked_in_full("mine:GradientOnly", "--jobs", "1")[0] == 0
    alone = capsys.readouterr().out
    code, report = checked_in_full("mine:GradientOnly", "--jobs", "2")
    assert (code, capsys.readouterr().out) == (0, alone)
    by_clause = {verdict["clause"]: verdict for verdict in report["verdicts"]}
    assert by_clause["numerics.repeatability"]["verdict"] == "conforming"
    assert by_clause["numerics.repeatability"]["properties"]
    assert not Path("regionloss-failures").exists(), "where nothing fails nothing is written"


@pytest.mark.slow
def test_a_loss_that_dies_in_a_process_of_its_own_has_crashed(suite_options: Callable[..., None]) -> None:
    suite_options("-k", "the-gradient-of-tx or the-gradient-of-tw")
    code, report = checked_in_full("mine:Dies", "--jobs", "2")
    assert code == 3
    assert any("crashed while running" in message for message in report["crashes"].values())


@pytest.mark.parametrize("what", ["pj-ignored-same-cell", "folder", "folder/mine.json"])
def test_cases_are_a_folder_a_file_or_an_id(what: str) -> None:
    Path("folder").mkdir()
    Path("folder/mine.json").write_bytes((CASES / "pj-ignored-same-cell.json").read_bytes())
    code, report = checked_in_full("numpy", "--cases", what)
    assert (code, report["cases"]) == (0, 1)
    assert all(not verdict["properties"] for verdict in report["verdicts"]), "cases of one's own are all that is asked"


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["mine:Nan", "mine:WrongShape"])
def test_what_is_no_gradient_deviates(adapter: str) -> None:
    code, report = checked(adapter)
    assert code == 1
    assert sum(verdict["verdict"] == "deviating" for verdict in report["verdicts"]) > 20


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["check", "broken:adapter"], "broken.py, line 2: ZeroDivisionError: division by zero"),
        (["check", "unread:adapter"], "unread.py, line 1: SyntaxError"),
        (["check", "mine:Absent"], "has no attribute 'Absent'"),
        (["check", "mine:Thing"], "lacks describe() or answer()"),
        (["check", "numpy", "--profile", "nobody"], "no profile 'nobody'"),
        (["check", "numpy", "--cases", "absent"], "no case 'absent' and no such file or folder"),
        (["check", "numpy", "--cases", "."], "no case and no recording"),
        (["check", "numpy", "--golden", "--json", "absent/report.json"], "cannot write absent/report.json"),
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
    page = capsys.readouterr().out
    assert "anchor 0 wins" in page
    assert "MaxIOU 0.94444 (truth 0) > 0.6" in page
    assert "this is not non-max suppression" in page
    assert "anchor 1, ignored, pays nothing" in page


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


@pytest.mark.slow
def test_the_command_runs_as_a_program_and_paints_nothing_into_a_pipe() -> None:
    ran = program("regionloss check mine:Crashes --golden")
    assert ran.returncode == 3, ran.stderr
    assert "\x1b" not in ran.stdout
    assert ran.stderr == "", "progress is for a terminal"
    assert ran.stderr == ""
