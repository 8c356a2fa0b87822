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
from regionloss_suite.diagnosis.known_causes import clause_of, likeness
from regionloss_suite.diagnosis.ranking import suspects
from regionloss_suite.differential.subjects import Side, ask
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.properties.harness import case_of

#: So many of the smallest golden cases say what else a loss does.
_CASES = 40


@dataclass(frozen=True)
class Reason:
    """Why two losses disagree, as far as it can be told.

    Attributes:
        clause: id of the clause that separates them, or an empty text.
        words: the axes and their values, or what the one that departs looks like.
    """

    clause: str = ""
    words: str = ""


def reason(one: Side, other: Side, batch: Batch, dtype: str, named: Collection[str] = ()) -> Reason:
    """The clause that separates two losses on a batch on which they disagree; rather one that is not `named` already.

    If both are what their profiles say there, it is that of the axes which make the difference, each alone if it can.
    Else it is that of the one that departs, the second before the first, as the suite diagnoses it.
    """
    mine, its = _departure(one, batch, dtype), _departure(other, batch, dtype)
    if mine is None and its is None:
        return _axes(one.profile, other.profile, batch, dtype, named)
    side, seen = (one, mine) if its is None else (other, its)
    if seen is None or isinstance(seen, str):
        return Reason(words=f"{side.name} {seen}" if seen else "")
    agreeing = _agreeing(side)
    ranked = suspects([*agreeing, seen])
    known = likeness([*agreeing, seen], ranked, without="")
    if known is not None:
        return Reason(known.clause, f"{side.name} looks like {known.words}")
    return Reason(ranked[0].clause, f"{side.name} departs from its profile") if ranked else Reason()


def _departure(side: Side, batch: Batch, dtype: str) -> Observation | str | None:
    """What a side does otherwise than its profile says: an answer that departs, or in words; `None` for nothing."""
    said = ask(side, batch, dtype)
    case = case_of("drawn", "drawn", batch, side.profile)
    try:
        evaluate(batch, side.profile)
    except DomainError as error:
        return None if said.kind == "refused" else f"answers what lies outside the domain: {error}"
    if said.answer is None:
        return f"{said.kind}: {said.words}"
    with np.errstate(all="ignore"):
        asked = Comparison(case, said.answer, dtype)
        departs = asked.difference(View("everything")) is not None
    return Observation(case, asked, departs=True) if departs else None


def _axes(one: Profile, other: Profile, batch: Batch, dtype: str, named: Collection[str]) -> Reason:
    """The axes on which two profiles differ and that make the difference on a batch."""
    pairs = one.differences(other)
    alone = [axis for axis, (_, there) in pairs.items() if _matters(one, {axis: there}, batch, dtype)]
    chosen = alone or [axis for axis in pairs if axis == "printed_cost"] or list(pairs)
    words = ", ".join(f"{axis}: {pairs[axis][0]} against {pairs[axis][1]}" for axis in chosen)
    clauses = [clause for axis in chosen if (clause := clause_of(axis, one) or clause_of(axis, other))]
    clauses.sort(key=lambda clause: clause in named)
    return Reason(clauses[0] if clauses else "", words)


def _matters(profile: Profile, options: dict[str, object], batch: Batch, dtype: str) -> bool:
    """Whether other values of axes change the gradient or the potential of a batch, or whether it is refused."""
    try:
        changed = profile.replace(**options)
    except ProfileError:  # it takes another axis with it
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
def _agreeing(side: Side) -> list[Observation]:
    """Golden cases that a side answers as its profile says: what it does right is evidence too."""
    smallest = sorted(_of_profile(side.profile), key=lambda case: np.size(case.batch.predictions))
    judge = Judge(side.adapter, smallest[:_CASES], side.profile.name) if smallest else None
    if judge is None:
        return []
    for clause in judge.clauses:
        judge.verdict(clause)
    return [seen for seen in judge.observations if not seen.departs]


def _of_profile(profile: Profile) -> list[Case]:
    return [case for case in load_cases() if case.base == profile.name]
