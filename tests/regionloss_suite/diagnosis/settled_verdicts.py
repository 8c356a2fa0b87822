"""Verdicts on the clauses of a loss once something is blamed, or crashes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from regionloss_suite.diagnosis.crashes import CrashKind
from regionloss_suite.judging.differences import MeasuredDifference
from regionloss_suite.judging.judge import Observation
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference


def accounted(verdict: Verdict, blamed: Mapping[str, MeasuredDifference]) -> Verdict:
    """A verdict where everything is explained: a clause that is not blamed conforms."""
    if verdict.clause in blamed:
        one = blamed[verdict.clause]
        return dataclasses.replace(
            verdict, verdict="deviating", first=one.first or verdict.first, looks_like=one.words, reason=""
        )
    if verdict.verdict != "deviating":
        return verdict
    names = ", ".join(dict.fromkeys(one.clause for one in blamed.values()))
    reason = f"its cases agree once {names} {'is' if len(blamed) == 1 else 'are'} taken into account"
    return dataclasses.replace(verdict, verdict="conforming", first=None, reason=reason)


def behind(
    verdict: Verdict,
    blamed: Mapping[str, MeasuredDifference],
    left: Mapping[str, Verdict],
    first: str,
) -> Verdict:
    """A verdict where a rest remains: `hidden` behind the first clause of the rest, or `unexplained` without one."""
    if verdict.clause in blamed or (verdict.clause not in left and verdict.clause != first):
        return accounted(verdict, blamed)
    if verdict.clause == first:
        return dataclasses.replace(verdict, verdict="deviating", first=left.get(first, verdict).first or verdict.first)
    if first:
        return dataclasses.replace(verdict, verdict="hidden", follows=first, reason=f"cannot be told behind {first}")
    return dataclasses.replace(
        verdict, verdict="unexplained", first=left[verdict.clause].first,
        reason="its cases depart, and no measurement and no known mistake tells why",
    )  # fmt: skip


def crashing(verdict: Verdict, kind: CrashKind, crashed: list[Observation]) -> Verdict:
    """The verdict on the clause that asks for an answer to a kind of input on which the loss crashes."""
    own = next((one for one in crashed if verdict.clause in one.case.clauses), crashed[0])
    first = Difference(
        case=own.case.id, dtype="", quantity="error", got=f"crashed: {own.exchange.message}", expected="an answer"
    )
    return dataclasses.replace(verdict, verdict="deviating", first=first, looks_like=f"it crashes on {kind.words}")
