"""What changed between two reports."""

from __future__ import annotations

import pytest

from regionloss_suite.judging.report import CONFORMING, REGRESSED
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports import diff
from unit.suite.reports.made_up import (
    changed,
    departure,
    small,
)


@pytest.mark.parametrize(
    ("before", "after", "kind", "code"),
    [
        ("conforming", "deviating", "newly deviating", REGRESSED),
        ("conforming", "not-answerable", "no longer answerable", REGRESSED),
        ("conforming", "expected", "newly deviating, as expected", CONFORMING),
        ("conforming", "", "no longer judged", CONFORMING),
        ("deviating", "conforming", "fixed", CONFORMING),
        ("deviating", "expected", "expected from now on", CONFORMING),
        ("deviating", "not-answerable", "no longer answerable", CONFORMING),
        ("expected", "conforming", "fixed", CONFORMING),
        ("expected", "deviating", "no longer expected", CONFORMING),
        ("not-answerable", "conforming", "newly answerable", CONFORMING),
        ("not-answerable", "deviating", "newly answerable, deviating", CONFORMING),
        ("", "deviating", "newly judged, deviating", CONFORMING),
        ("", "conforming", "newly judged", CONFORMING),
        ("", "not-answerable", "newly judged, not answerable", CONFORMING),
    ],
)
def test_a_change_has_a_name_and_a_regression_an_exit_code(before: str, after: str, kind: str, code: int) -> None:
    changes = diff.compare(changed("decode.size", before), changed("decode.size", after))
    assert [change.kind for change in changes] == [kind]
    assert diff.exit_code(changes) == code


def test_a_should_that_breaks_is_shown_and_does_not_decide() -> None:
    changes = diff.compare(
        changed("statistics.obj", "conforming", "SHOULD"), changed("statistics.obj", "deviating", "SHOULD")
    )
    assert [change.kind for change in changes] == ["newly deviating"]
    assert diff.exit_code(changes) == CONFORMING


def test_a_diff_names_regressions_first_and_sums_up() -> None:
    old, new = small(), small()
    new.verdicts[0] = Verdict(clause="decode.centre", level="MUST", verdict="conforming")
    new.verdicts[3] = Verdict(clause="coord.small-box-weight", level="MUST", verdict="conforming")
    new.verdicts[4] = Verdict(clause="scale.potential", level="MUST", verdict="conforming")
    new.verdicts.append(Verdict(clause="iou.zero-area", level="MUST", verdict="deviating", first=departure()))
    old.verdicts.append(Verdict(clause="iou.zero-area", level="MUST", verdict="conforming"))
    lines = diff.lines(old, new, colour=False)
    assert lines[1].split() == ["✗", "iou.zero-area", "MUST", "newly", "deviating"]
    assert lines[2].strip() == str(departure())
    assert lines[-1] == "1 regression, 3 changes"
    assert diff.lines(old, old, colour=False)[-1] == "no regression, 0 changes"
