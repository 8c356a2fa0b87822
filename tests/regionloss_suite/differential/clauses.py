"""Which clause separates two losses on a batch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np

from regionloss import DomainError, evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_spec import Batch, Case, Profile, ProfileError, load_cases
from regionloss_spec.clause import View
from regionloss_suite.diagnosis.differences import clause_of
from regionloss_suite.diagnosis.known_causes import matching_causes
from regionloss_suite.diagnosis.ranking import rank_clauses
from regionloss_suite.differential.subjects import Subject, ask
from regionloss_suite.judging.judge import Judge, Observation

#: How many of the smallest golden cases are tried to see what else a loss does.
_CASES = 40


@dataclass(frozen=True)
class Reason:
    """Why two losses disagree, as far as it can be determined.

    Attributes:
        clause: id of the clause that separates them, or an empty string.
        words: the axes and their values, or the known cause that the deviating loss looks like.
    """

    clause: str = ""
    words: str = ""


def reason(one: Subject, other: Subject, batch: Batch, dtype: str, named: Collection[str] = ()) -> Reason:
    """The clause that separates two losses on a batch on which they disagree, preferably one that is not yet `named`.

    If both follow their profiles there, it is the clause of the axes that make the difference, of a single axis if
    possible. Otherwise it is the clause of the loss that deviates (the second, if both do), as the suite diagnoses it.
    """
    first, second = _departure(one, batch, dtype), _departure(other, batch, dtype)
    if first is None and second is None:
        return _axes(one.profile, other.profile, batch, dtype, named)
    subject, departure = (one, first) if second is None else (other, second)
    if departure is None or isinstance(departure, str):
        return Reason(words=f"{subject.name} {departure}" if departure else "")
    agreeing = _agreeing(subject)
    causes = matching_causes([departure], agreeing)
    if causes:
        return Reason(causes[0].clause, f"{subject.name} looks like {causes[0].words}")
    ranked = rank_clauses([*agreeing, departure])
    return Reason(ranked[0].clause, f"{subject.name} deviates from its profile") if ranked else Reason()


def _departure(subject: Subject, batch: Batch, dtype: str) -> Observation | str | None:
    """How a loss deviates from its profile: an observation, or a description; `None` if it does not."""
    exchange = ask(subject, batch, dtype)
    try:
        evaluate(batch, subject.profile)
    except DomainError as error:
        return None if exchange.outcome == "refused" else f"returns an answer outside the domain: {error}"
    if exchange.comparison is None:
        return f"{exchange.outcome}: {exchange.message}"
    with np.errstate(all="ignore"):
        departs = exchange.comparison.difference(View("everything")) is not None
    return Observation(exchange, departs=True) if departs else None


def _axes(one: Profile, other: Profile, batch: Batch, dtype: str, named: Collection[str]) -> Reason:
    """The axes on which two profiles differ and that make the difference on a batch."""
    pairs = one.differences(other)
    alone = [axis for axis, (_, value) in pairs.items() if _matters(one, {axis: value}, batch, dtype)]
    chosen = alone or [axis for axis in pairs if axis == "printed_cost"] or list(pairs)
    words = ", ".join(f"{axis}: {pairs[axis][0]} against {pairs[axis][1]}" for axis in chosen)
    clauses = [clause for axis in chosen if (clause := clause_of(axis, one) or clause_of(axis, other))]
    clauses.sort(key=lambda clause: clause in named)
    return Reason(clauses[0] if clauses else "", words)


def _matters(profile: Profile, options: dict[str, object], batch: Batch, dtype: str) -> bool:
    """Whether other values of axes change the gradient or the potential of a batch, or whether it is refused."""
    try:
        changed = profile.replace(**options)
    except ProfileError:  # it requires another axis to change as well
        return False
    try:
        with np.errstate(all="ignore"):
            mine, its = evaluate(batch, profile), evaluate(batch, changed)
            allowed = bounds(mine, PRECISIONS[dtype]), bounds(its, PRECISIONS[dtype])
            apart = np.abs(mine.gradient - its.gradient) > allowed[0].gradient + allowed[1].gradient
    except DomainError:
        return True
    return bool(apart.any() or abs(mine.potential - its.potential) > allowed[0].potential + allowed[1].potential)


@cache
def _agreeing(subject: Subject) -> list[Observation]:
    """Golden cases on which a subject follows its profile: correct answers are evidence too."""
    smallest = sorted(_of_profile(subject.profile), key=lambda case: np.size(case.batch.predictions))
    judge = Judge(subject.adapter, smallest[:_CASES], subject.profile.name) if smallest else None
    if judge is None:
        return []
    for clause in judge.clauses:
        judge.verdict(clause)
    return [observation for observation in judge.observations if not observation.departs]


def _of_profile(profile: Profile) -> list[Case]:
    return [case for case in load_cases() if case.base == profile.name]
