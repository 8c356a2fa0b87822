"""A loss that remembers: until that is mended, no answer says what it computes (`numerics.repeatability`)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss_suite.judging.differences import MeasuredDifference
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference

_CLAUSE = "numerics.repeatability"
#: How many departing cases are put once more.
_AGAIN = 8


def another_answer(judge: Judge, departing: list[Observation]) -> MeasuredDifference | None:
    """A departing case that has another answer when it is put again; `None` if all asked again have the same one.

    The smallest are put again, in the opposite order, so that another batch lies between.
    """
    answered = [one for one in departing if one.exchange.outcome == "answered" and judge.puts(one.case)]
    some = sorted(answered, key=lambda one: np.size(one.case.batch.predictions))[:_AGAIN]
    for observation in reversed(some):
        evidence = _apart(observation.exchange, judge.ask_again(observation.exchange))
        if evidence:
            cases = len({one.case.id for one in departing})
            first = Difference(
                case=observation.case.id, dtype=observation.exchange.dtype, quantity="error",
                got=evidence, expected="the same answer to the same question",
            )  # fmt: skip
            return MeasuredDifference(
                choice="another answer to the same question", measured=None, expected=None, clause=_CLAUSE,
                evidence=evidence, changes=cases, departing=cases, case=observation.case.id, first=first,
            )  # fmt: skip
    return None


def _apart(before: Exchange, again: Exchange) -> str:
    """How two answers to the same question differ, beyond another order of sums; empty if they do not."""
    if again.returned is None or before.returned is None:
        return f"an answer, and then {again.message or again.outcome}"
    for name in ("gradient", "potential"):
        one, other = getattr(before.returned, name), getattr(again.returned, name)
        if one is None or other is None or np.shape(one) != np.shape(other):
            continue
        noise = 1e-6 * float(np.abs(one).max(initial=0.0, where=np.isfinite(one)))
        if not np.allclose(one, other, rtol=1e-5, atol=noise, equal_nan=True):
            where = np.unravel_index(np.argmax(np.abs(np.subtract(one, other))), np.shape(one))
            pair = np.asarray(one)[where], np.asarray(other)[where]
            return f"{name} {pair[0]:.9g}, and then {pair[1]:.9g} for the same question"
    return ""


def hidden_behind(verdicts: list[Verdict], difference: MeasuredDifference) -> list[Verdict]:
    """The verdicts with everything that departs hidden behind the clause of repeatability."""
    settled = []
    for verdict in verdicts:
        if verdict.clause == _CLAUSE:
            verdict = dataclasses.replace(
                verdict, verdict="deviating", first=difference.first, reason="", looks_like=difference.words
            )
        elif verdict.verdict == "deviating":
            verdict = dataclasses.replace(
                verdict, verdict="hidden", follows=_CLAUSE, reason=f"cannot be told behind {_CLAUSE}"
            )
        settled.append(verdict)
    return settled
