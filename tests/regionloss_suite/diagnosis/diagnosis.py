"""The clause to blame for what departs, and what only follows from it.

A deviation rarely comes alone: one wrong IoU departs in indicators, targets and terms at once. So the clauses are
ranked by how well each explains what departs and what does not (`suspects`). If a known loss or mistake answers just as
the loss did (`likenesses`), its clause is the one to blame; else the first suspect is, and beside it the clauses that
explain what it leaves unexplained. Where several known ones explain together what none does alone, each is blamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regionloss_suite.diagnosis.known_causes import answers_so, likeness
from regionloss_suite.diagnosis.ranking import besides, suspects
from regionloss_suite.diagnosis.several import Several, several
from regionloss_suite.diagnosis.symptoms import looks_so
from regionloss_suite.judging.judge import Judge, Observation, Refusal
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Comparison


@dataclass(frozen=True)
class Diagnosis:
    """The clause to blame and, where one is known, what answers the same.

    Attributes:
        clause: id of the clause that is broken first.
        looks_like: in words, or an empty text when nothing known answers the same.
        besides: ids of the clauses that seem to be broken as well, and do not follow from the first.
        others: ids of the clauses that might be broken instead, the likeliest first; none when something known answers
            the same.
        apart: by name of a case or drawn batch that the first does not explain, which of `besides` does.
        alike: by clause out of `besides`, what it looks like, where that is known.
    """

    clause: str
    looks_like: str = ""
    besides: tuple[str, ...] = ()
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
    alone = {name: [seen for seen in some if seen.departs] for name, some in (drawn or {}).items()}
    if any(seen.departs for seen in judge.observations):
        diagnosis, explained = _blamed(judge.observations, ids, without)
        left = {name: some for name, some in alone.items() if not all(map(explained, some))}
        return _with(diagnosis, judge, ids, left) if left else diagnosis
    found = [seen for some in alone.values() for seen in some]
    if found:
        return _blamed([*judge.observations, *found], ids, without)[0]
    return Diagnosis(max(ids, key=lambda clause: (tally or {}).get(clause, 0.0)))


def _blamed(
    observations: list[Observation], ids: list[str], without: str
) -> tuple[Diagnosis, Callable[[Observation], bool]]:
    """The diagnosis of what departs, and what tells whether it explains something else that departs."""
    ranked = suspects(observations)
    known = likeness(observations, ranked, without=without)
    if known is not None:
        return Diagnosis(known.clause, known.words), lambda seen: answers_so(known, seen)
    together = several(observations, ranked, without=without)
    if together is not None:
        return _of_several(together, observations, ids), together.explains
    if _sums_only(observations):
        ranked = [suspect for suspect in ranked if suspect.clause in ids]
    if not ranked:
        return Diagnosis(ids[0]), lambda seen: False
    blamed = [ranked[0], *(one for one in besides(observations, ranked[0]) if one.clause in ids)]
    signs = frozenset[str]().union(*(suspect.signs for suspect in blamed))
    clauses = [suspect.clause for suspect in blamed]
    others = [suspect.clause for suspect in ranked if suspect.clause not in clauses and not _crashed(observations)]
    diagnosis = Diagnosis(clauses[0], besides=tuple(clauses[1:]), others=tuple(others[:2]))
    return diagnosis, lambda seen: looks_so(seen, signs)


def _of_several(together: Several, observations: list[Observation], ids: list[str]) -> Diagnosis:
    """The diagnosis of known losses and mistakes at once, and of what they leave."""
    first, *others = together.likenesses
    clauses = [one.clause for one in together.likenesses]
    if together.left:
        agreeing = [seen for seen in observations if not seen.departs]
        ranked = [suspect.clause for suspect in suspects([*agreeing, *together.left]) if suspect.clause in ids]
        clauses += [clause for clause in ranked[:1] if clause not in clauses]
    apart = dict(together.explained) | {seen.case.id: clauses[-1] for seen in together.left}
    alike = {one.clause: one.words for one in others}
    return Diagnosis(first.clause, first.words, besides=tuple(clauses[1:]), apart=apart, alike=alike)


def _with(diagnosis: Diagnosis, judge: Judge, ids: list[str], left: Drawn) -> Diagnosis:
    """The diagnosis with another clause for the drawn batches that it leaves unexplained."""
    agreeing = [seen for seen in judge.observations if not seen.departs]
    ranked = suspects([*agreeing, *(seen for some in left.values() for seen in some)])
    clause = next((suspect.clause for suspect in ranked if suspect.clause in ids), diagnosis.clause)
    more = (clause,) if clause not in (diagnosis.clause, *diagnosis.besides) else ()
    apart = {**diagnosis.apart, **dict.fromkeys(left, clause)}
    return dataclasses.replace(diagnosis, besides=diagnosis.besides + more, apart=apart)


def _sums_only(observations: list[Observation]) -> bool:
    """Whether nothing but sums was answered: such a loss is not accused of what nobody can see in it."""
    answers = [seen.asked.answer for seen in observations if isinstance(seen.asked, Comparison)]
    return bool(answers) and all(answer.gradient is None and answer.terms is None for answer in answers)


def _crashed(observations: list[Observation]) -> bool:
    """Whether the loss broke wherever it departs, which says little about clauses."""
    departing = [seen.asked for seen in observations if seen.departs]
    return all(isinstance(asked, Refusal) and asked.kind == "crashed" for asked in departing)


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
            reason = "; ".join(said for said in (origin.reason, instead) if said)
            changes = {"verdict": "deviating", "first": origin.first, "looks_like": diagnosis.looks_like}
            folded.append(dataclasses.replace(verdict, reason=reason, **changes))  # type: ignore[arg-type]
        elif verdict.verdict == "deviating" and verdict.clause not in diagnosis.besides:
            name = "" if verdict.first is None else verdict.first.case
            folded.append(dataclasses.replace(verdict, follows=diagnosis.apart.get(name, diagnosis.clause)))
        elif verdict.verdict == "deviating" and verdict.clause in diagnosis.alike:
            folded.append(dataclasses.replace(verdict, looks_like=diagnosis.alike[verdict.clause]))
        else:
            folded.append(verdict)
    return folded
