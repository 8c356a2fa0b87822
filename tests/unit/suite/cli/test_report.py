"""The forms of a report, written by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from regionloss_spec.case import CASES, load_case
from regionloss_suite.cli.main import main
from regionloss_suite.judging.reproduce import Commands
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference
from unit.suite.reports.made_up import (
    CASE,
    FORMS,
    Page,
    check,
)

pytestmark = pytest.mark.slow  # together they take long: processes, compilers or whole runs


def test_check_writes_every_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("NoSmallBoxWeight", *FORMS, "--github") == 1
    output = capsys.readouterr().out
    assert (
        "::error title=ported%3ANoSmallBoxWeight%3A coord.small-box-weight (MUST)::coord.small-box-weight deviates"
        in output
    )
    assert "note: A port." in output
    assert ElementTree.parse(folder / "r.xml").find("testsuite") is not None
    assert "coord.small-box-weight" in (folder / "r.md").read_text(encoding="utf-8")
    assert json.loads((folder / "r.svg.json").read_text(encoding="utf-8"))["color"] == "red"
    page = Page((folder / "r.html").read_text(encoding="utf-8"))
    anchors = len(load_case(CASES / f"{CASE}.json").batch.anchors)
    labels = [one["aria-label"] or "" for one in page.all("svg")]
    answered = [label for label in labels if label.startswith("Difference of the gradients")]
    assert len(answered) == anchors, "what was answered is drawn too"


def test_a_regression_has_an_exit_code_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("Right", "--json", "right.json") == 0
    assert check("NoSmallBoxWeight", "--json", "wrong.json", "--against", "right.json") == 4
    assert "newly deviating" in capsys.readouterr().out
    assert check("NoSmallBoxWeight", "--against", "wrong.json") == 1
    assert check("Right", "--against", "wrong.json") == 0
    assert main(["report", "right.json", "wrong.json"]) == 4
    assert main(["report", "wrong.json", "right.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("no regression")


def test_expected_deviations_come_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "expected.toml").write_text('["coord.small-box-weight"]\nreason = "trained without it"\n')
    assert check("NoSmallBoxWeight", "--expect", "expected.toml", "--json", "r.json") == 0
    assert "trained without it" in capsys.readouterr().out
    assert check("Right", "--expect", "expected.toml", "--json", "r.json") == 1
    assert "no longer deviates" in capsys.readouterr().out
    assert len(json.loads((folder / "r.json").read_text(encoding="utf-8"))["stale"]) == 1


def test_a_stored_report_is_shown_as_it_was_and_in_other_forms(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("NoSmallBoxWeight", *FORMS)
    shown = capsys.readouterr().out
    first = {name: (folder / name).read_bytes() for name in ("r.xml", "r.md", "r.svg.json")}
    assert main(["report", "r.json", *FORMS[2:]]) == 0
    assert capsys.readouterr().out == shown
    assert {name: (folder / name).read_bytes() for name in first} == first
    anchors = len(load_case(CASES / f"{CASE}.json").batch.anchors)
    labels = [one["aria-label"] or "" for one in Page((folder / "r.html").read_text(encoding="utf-8")).all("svg")]
    assert [label.startswith("States") for label in labels].count(True) == anchors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "numpy", "--expect", "absent.toml"], "absent.toml: No such file"),
        (["check", "numpy", "--against", "absent.json"], "absent.json: No such file"),
        (["report", "ported.py"], "ported.py: not JSON"),
        (["check", "numpy", "--cases", "cases", "--html", "absent/r.html"], "cannot write absent/r.html"),
    ],
)
def test_wrong_usage_is_one_sentence(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_crash_that_no_verdict_leads_to_can_be_shown_again() -> None:
    crash, other = "hand-empty-batch", "hand-overflowed-box"
    error = Difference(case=crash, dtype="float32", quantity="error", got="crashed", expected="an answer")
    leading = Verdict(clause="domain.empty-batch", level="MUST", verdict="deviating", first=error, reproduce="this")
    commands = Commands("mine:adapter", "darknet")
    again = f"`regionloss check mine:adapter --profile darknet --cases {other}` shows the crash on {other} again."
    assert commands.crashed([crash, other], [leading]) == (again,)
    assert commands.crashed([crash], [leading]) == ()
    assert commands.crashed(["a drawn batch that was not kept"], []) == ()
    assert Commands(None).crashed([other], []) == ()
