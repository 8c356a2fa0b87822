"""The report on the terminal."""

from __future__ import annotations

import re

import pytest

from regionloss_suite.judging.verdict import Verdict
from unit.suite.reports.made_up import (
    CASE,
    departure,
    hostile,
    small,
)


def test_the_terminal_shows_failures_and_what_could_not_be_judged_and_the_rest_on_request() -> None:
    report = small()
    by_kind = {verdict.verdict: verdict for verdict in report.verdicts}
    shown = "\n".join(report.lines(colour=False))
    assert by_kind["conforming"].clause not in shown
    assert f"! {by_kind['expected'].clause} " in shown
    assert (
        f"· 1 clause not answerable: {by_kind['not-answerable'].reason}\n    {by_kind['not-answerable'].clause}"
        in shown
    )
    every = [line.split()[1] for line in report.lines(every=True, colour=False)[: len(report.verdicts)]]
    assert every == [verdict.clause for verdict in report.verdicts]


def test_verdicts_are_folded_under_what_they_follow_on_the_terminal() -> None:
    lines = small().lines(every=True, colour=False)
    departure = (
        "image 0, cell (1, 1), anchor 0 · ty gradient 1.000, expected 1.820 ± 3e-7 · looks like profile darknet-2016"
    )
    at = lines.index(f"✗ coord.small-box-weight deviates · {departure}")
    assert lines[at + 1 : at + 3] == [f"  first seen: case {CASE}, in float32", "  1 clause follows from it"]
    assert any(line.startswith("↳ assign.cell ") and line.endswith("follows coord.small-box-weight") for line in lines)
    assert not any(line.startswith("✗ assign.cell deviates") for line in lines)
    assert "note: Answers only its gradient." in lines
    assert lines[-1] == (
        "mine:Loss (profile darknet): not conforming · "
        "6 clauses: 1 conforming, 3 deviating, 1 expected, 1 not-answerable · 2 cases"
    )


def test_an_adapter_cannot_steer_the_terminal_or_begin_a_workflow_command() -> None:
    text = "\n".join(hostile().lines(colour=False))
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ud800]", text)
    assert not re.search(r"^\s*::", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"got": 1.0, "expected": 1.0 + 2e-6}, "ty gradient 1.000000, expected 1.000002 ± 3e-7"),
        ({"got": float("nan")}, "ty gradient nan, expected 1.820 ± 3e-7"),
        ({"got": 0.25, "expected": 0.0, "bound": 0.0}, "ty gradient 0.2500, expected 0 exactly"),
        ({"bound": 9.7e-8}, "ty gradient 1.000, expected 1.820 ± 1e-7"),
        ({"bound": float("inf")}, "ty gradient 1.000, expected 1.820 ± inf"),
        (
            {"quantity": "error", "got": "an answer", "expected": "a refusal", "bound": None},
            "an answer, expected a refusal",
        ),
    ],
)
def test_a_departure_is_told_with_as_many_digits_as_it_needs(changed: dict[str, object], said: str) -> None:
    verdict = Verdict(clause="decode.size", level="MUST", verdict="deviating", first=departure(**changed))
    assert verdict.sentence == f"decode.size deviates · image 0, cell (1, 1), anchor 0 · {said}"
