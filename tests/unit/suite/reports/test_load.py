"""Reports read back from their JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports import html, junit, markdown
from regionloss_suite.reports.annotations import render as annotate
from regionloss_suite.reports.load import StoredReportError, read_report
from unit.suite.reports.made_up import (
    departure,
    hostile,
    small,
)


def test_a_stored_report_comes_back_as_it_was(tmp_path: Path) -> None:
    before = hostile()
    before.verdicts.append(
        Verdict(
            clause="decode.centre",
            level="MUST",
            verdict="deviating",
            properties=("padding",),
            first=departure(got=float("-inf"), bound=float("inf")),
        )
    )
    before.write_json(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a report: $"),
        ('{"adapter": "x"}', "not a report: $: 'profile' is a required property"),
        (json.dumps(small().to_json() | {"cases": "2"}), "not a report: $.cases: '2' is not of type 'integer'"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(StoredReportError, match=re.escape(message)):
        read_report(tmp_path / "report.json")


def test_commands_end_a_failure_and_survive_storage(tmp_path: Path) -> None:
    report = small()
    commands = {"reproduce": "regionloss check mine:Loss --cases x", "explain": "regionloss explain x"}
    report.verdicts[3] = dataclasses.replace(report.verdicts[3], **commands)  # type: ignore[arg-type]
    lines = report.lines(colour=False)
    assert "  reproduce: regionloss check mine:Loss --cases x" in lines
    assert "  explain: regionloss explain x" in lines
    report.write_json(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    for text in (junit.render(report), html.render(report), markdown.render(report), "".join(annotate(report))):
        assert "regionloss check mine:Loss --cases x" in text
