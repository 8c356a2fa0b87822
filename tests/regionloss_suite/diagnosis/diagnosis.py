"""The clause to blame for the deviations, and the clauses that follow from it.

A deviation rarely comes alone: one wrong IoU shows in indicators, targets and terms at once. So the clauses are ranked
by how well each explains what deviates and what does not (`ranking`). If a known cause gives the same answers as the
loss (`known_causes`), its clause is blamed; otherwise the first clause of the ranking is, together with clauses that
explain the rest. If only several known causes together explain everything, each of them is blamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regionloss_suite.diagnosis.known_causes import JointCauses, joint_causes, matching_cause, same_answer
from regionloss_suite.diagnosis.ranking import further_clauses, rank_clauses
from regionloss_suite.diagnosis.symptoms import has_only
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.verdict import Verdict


@dataclass(frozen=True)
class Diagnosis:
    """The clause to blame and, if known, the cause with the same answers.

    Attributes:
        clause: id of the clause that is broken first.
        looks_like: the known cause in words, or an empty string.
        further: ids of the clauses that seem to be broken as well and do not follow from the first.
        others: ids of the clauses that might be broken instead, the likeliest first; empty if a known cause gives the
            same answers.
        apart: for each case or random batch that the first clause does not explain, its clause out of `further`.
        alike: for each clause of `further`, its known cause, if any.
    """

    clause: str
    looks_like: str = ""
    further: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict)
    alike: Mapping[str, str] = field(default_factory=dict)


#: The random batches on which properties fail, by name: the observations on each, put to the adapter alone.
Drawn = Mapping[str, list[Observation]]


def diagnose(
    judge: Judge,
    deviating: list[Verdict],
    *,
    drawn: Drawn | None = None,
    tally: Mapping[str, float] | None = None,
    without: str = "",
) -> Diagnosis | None:
    """Diagnose a loss that deviates from the reference.

    Args:
        judge: has put every question, and keeps every answer.
        deviating: the verdicts that deviate.
        drawn: the failures of the properties.
        tally: by clause, how well it explains which properties fail and which do not; it decides if every single answer
            is right and only several of them contradict each other.
        without: id of a mutant to leave out of the known causes.
    """
    if not deviating:
        return None
    ids = [verdict.clause for verdict in deviating]
    alone = {name: [observation for observation in some if observation.departs] for name, some in (drawn or {}).items()}
    if any(observation.departs for observation in judge.observations):
        diagnosis, explained = _blamed(judge.observations, ids, without)
        left = {name: some for name, some in alone.items() if not all(map(explained, some))}
        return _with(diagnosis, judge, ids, left) if left else diagnosis
    departing = [observation for some in alone.values() for observation in some]
    if departing:
        return _blamed([*judge.observations, *departing], ids, without)[0]
    return Diagnosis(max(ids, key=lambda clause: (tally or {}).get(clause, 0.0)))


def _blamed(
    observations: list[Observation], ids: list[str], without: str
) -> tuple[Diagnosis, Callable[[Observation], bool]]:
    """The diagnosis of the deviations, and a function that returns whether it explains another deviation."""
    ranked = rank_clauses(observations)
    cause = matching_cause(observations, ranked, without=without)
    if cause is not None:
        return Diagnosis(cause.clause, cause.words), lambda observation: same_answer(cause, observation)
    together = joint_causes(observations, ranked, without=without)
    if together is not None:
        return _of_several(together, observations, ids), together.explains
    if _sums_only(observations):
        ranked = [clause for clause in ranked if clause.clause in ids]
    if not ranked:
        return Diagnosis(ids[0]), lambda observation: False
    blamed = [ranked[0], *(one for one in further_clauses(observations, ranked[0]) if one.clause in ids)]
    symptoms = frozenset[str]().union(*(clause.symptoms for clause in blamed))
    clauses = [clause.clause for clause in blamed]
    others = [clause.clause for clause in ranked if clause.clause not in clauses and not _crashed(observations)]
    diagnosis = Diagnosis(clauses[0], further=tuple(clauses[1:]), others=tuple(others[:2]))
    return diagnosis, lambda observation: has_only(observation, symptoms)


def _of_several(together: JointCauses, observations: list[Observation], ids: list[str]) -> Diagnosis:
    """The diagnosis of several known causes at once, and of the rest."""
    first, *others = together.causes
    clauses = [one.clause for one in together.causes]
    if together.left:
        agreeing = [observation for observation in observations if not observation.departs]
        ranked = [clause.clause for clause in rank_clauses([*agreeing, *together.left]) if clause.clause in ids]
        clauses += [clause for clause in ranked[:1] if clause not in clauses]
    apart = dict(together.explained) | {observation.case.id: clauses[-1] for observation in together.left}
    alike = {one.clause: one.words for one in others}
    return Diagnosis(first.clause, first.words, further=tuple(clauses[1:]), apart=apart, alike=alike)


def _with(diagnosis: Diagnosis, judge: Judge, ids: list[str], left: Drawn) -> Diagnosis:
    """The diagnosis with another clause for the random batches that it leaves unexplained."""
    agreeing = [observation for observation in judge.observations if not observation.departs]
    ranked = rank_clauses([*agreeing, *(observation for some in left.values() for observation in some)])
    clause = next((clause.clause for clause in ranked if clause.clause in ids), diagnosis.clause)
    more = (clause,) if clause not in (diagnosis.clause, *diagnosis.further) else ()
    apart = {**diagnosis.apart, **dict.fromkeys(left, clause)}
    return dataclasses.replace(diagnosis, further=diagnosis.further + more, apart=apart)


def _sums_only(observations: list[Observation]) -> bool:
    """Whether the loss returns only sums: it is not accused of anything that a sum cannot show."""
    comparisons = [
        observation.exchange.comparison for observation in observations if observation.exchange.comparison is not None
    ]
    answers = [comparison.answer for comparison in comparisons]
    return bool(answers) and all(answer.gradient is None and answer.terms is None for answer in answers)


def _crashed(observations: list[Observation]) -> bool:
    """Whether the loss crashed wherever it deviates, which says little about clauses."""
    return all(observation.exchange.outcome == "crashed" for observation in observations if observation.departs)


def fold(verdicts: list[Verdict], diagnosis: Diagnosis | None) -> list[Verdict]:
    """The verdicts with the blamed clause marked, and its consequences placed under it."""
    if diagnosis is None:
        return verdicts
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    blamed = next((verdict for verdict in deviating if verdict.clause == diagnosis.clause), None)
    # A clause with a broad view may have no deviation of its own; then it takes the first one that there is.
    origin = blamed or deviating[0]
    folded = []
    for verdict in verdicts:
        if verdict.clause == diagnosis.clause:
            instead = f"it might be {' or '.join(diagnosis.others)} instead" if diagnosis.others else ""
            reason = "; ".join(sentence for sentence in (origin.reason, instead) if sentence)
            changes = {"verdict": "deviating", "first": origin.first, "looks_like": diagnosis.looks_like}
            folded.append(dataclasses.replace(verdict, reason=reason, **changes))  # type: ignore[arg-type]
        elif verdict.verdict == "deviating" and verdict.clause not in diagnosis.further:
            name = "" if verdict.first is None else verdict.first.case
            folded.append(dataclasses.replace(verdict, follows=diagnosis.apart.get(name, diagnosis.clause)))
        elif verdict.verdict == "deviating" and verdict.clause in diagnosis.alike:
            folded.append(dataclasses.replace(verdict, looks_like=diagnosis.alike[verdict.clause]))
        else:
            folded.append(verdict)
    return folded
