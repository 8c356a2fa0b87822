"""The clause to blame for what departs, and what only follows from it.

A deviation rarely comes alone: one wrong IoU departs in indicators, targets and terms at once. So the clauses are
ranked by how well each explains what departs and what does not (`ranking`). If a known cause answers just as the loss
did (`known_causes`), its clause is the one to blame; else the first of the ranking is, and beside it the clauses that
explain what it leaves unexplained. Where several known causes explain together what none does alone, each is blamed.
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
    """The clause to blame and, where one is known, what answers the same.

    Attributes:
        clause: id of the clause that is broken first.
        looks_like: in words, or an empty text when nothing known answers the same.
        further: ids of the clauses that seem to be broken as well, and do not follow from the first.
        others: ids of the clauses that might be broken instead, the likeliest first; none when something known answers
            the same.
        apart: by name of a case or drawn batch that the first does not explain, which of `further` does.
        alike: by clause out of `further`, what it looks like, where that is known.
    """

    clause: str
    looks_like: str = ""
    further: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict)
    alike: Mapping[str, str] = field(default_factory=dict)


#: Drawn batches on which properties depart, by name: what comes back for each, put to the adapter alone.
Drawn = Mapping[str, list[Observation]]


def diagnose(
    judge: Judge,
    deviating: list[Verdict],
    *,
    drawn: Drawn | None = None,
    tally: Mapping[str, float] | None = None,
    without: str = "",
) -> Diagnosis | None:
    """What a loss looks like that departed from the reference.

    Args:
        judge: who asked it, and still knows every answer.
        deviating: the verdicts that say that it departed.
        drawn: what the properties found.
        tally: by clause, how well it explains which properties depart and which do not; it decides where each answer is
            right for itself, and only several of them contradict each other.
        without: id of a mutant that is not to be thought of.
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
    """The diagnosis of what departs, and what tells whether it explains something else that departs."""
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
    """The diagnosis of known losses and mistakes at once, and of what they leave."""
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
    """The diagnosis with another clause for the drawn batches that it leaves unexplained."""
    agreeing = [observation for observation in judge.observations if not observation.departs]
    ranked = rank_clauses([*agreeing, *(observation for some in left.values() for observation in some)])
    clause = next((clause.clause for clause in ranked if clause.clause in ids), diagnosis.clause)
    more = (clause,) if clause not in (diagnosis.clause, *diagnosis.further) else ()
    apart = {**diagnosis.apart, **dict.fromkeys(left, clause)}
    return dataclasses.replace(diagnosis, further=diagnosis.further + more, apart=apart)


def _sums_only(observations: list[Observation]) -> bool:
    """Whether nothing but sums was answered: such a loss is not accused of what nobody can see in it."""
    comparisons = [
        observation.exchange.comparison for observation in observations if observation.exchange.comparison is not None
    ]
    answers = [comparison.answer for comparison in comparisons]
    return bool(answers) and all(answer.gradient is None and answer.terms is None for answer in answers)


def _crashed(observations: list[Observation]) -> bool:
    """Whether the loss broke wherever it departs, which says little about clauses."""
    return all(observation.exchange.outcome == "crashed" for observation in observations if observation.departs)


def fold(verdicts: list[Verdict], diagnosis: Diagnosis | None) -> list[Verdict]:
    """The verdicts with the blamed clause marked, and with what follows from it folded under it."""
    if diagnosis is None:
        return verdicts
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    blamed = next((verdict for verdict in deviating if verdict.clause == diagnosis.clause), None)
    # A clause that is seen in everything does not come forward by itself: it takes the first departure that there is.
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
