"""The golden cases, clause by clause."""

from __future__ import annotations

import pytest

from regionloss_spec import Clause
from regionloss_suite.judging.judge import Judge
from regionloss_suite.plugin import record


def test_clause(request: pytest.FixtureRequest, regionloss_judge: Judge, regionloss_clause: Clause) -> None:
    verdict = regionloss_judge.verdict(regionloss_clause)
    record(request, [verdict])
    if verdict.verdict == "not-answerable":
        pytest.skip(verdict.reason)
    if verdict.verdict == "deviating":
        pytest.fail(f"{verdict.clause} deviates · {verdict.first}", pytrace=False)
