"""Which clause a loss breaks, when nothing known answers as it does.

Every clause is put two questions, and each is answered by the Ochiai coefficient of fault localisation:
√(share of what departs that the clause explains × share of what it should make depart that does).
The first is about cases: a clause explains those that reach it, and should make those depart that pin it.
The second is about signs (`symptoms`): a clause is known by what a loss looks like that breaks it (`clause_signs`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache

from regionloss_spec import Case, Clause, load_clauses
from regionloss_spec.clause import View
from regionloss_suite.diagnosis.clause_symptoms import signs_of_clause
from regionloss_suite.diagnosis.symptoms import Symptom, symptoms
from regionloss_suite.judging.judge import Observation
from regionloss_suite.oracle.comparison import Comparison, reference_of
from regionloss_suite.oracle.coverage import clauses_reached

#: What is left of a clause that one of the two questions knows nothing of: the other one decides.
_DOUBT = 0.02

#: A second mistake is looked for where more than this share of the departing cases looks otherwise than the first one,
#: and is believed in from this score on; more than so many at once nobody can tell apart.
_UNEXPLAINED, _BELIEVED, _MOST = 0.1, 0.3, 3


@dataclass(frozen=True)
class Suspect:
    """A clause that a loss may break.

    Attributes:
        clause: its id.
        score: how well it explains what departs and what does not, from 0 to about 1.
        signs: by what it is known.
    """

    clause: str
    score: float
    signs: frozenset[str]


def suspects(observations: list[Observation], found: list[Symptom] | None = None) -> list[Suspect]:
    """The clauses that a loss may break, the likeliest first; none for a loss that departs in nothing.

    Args:
        observations: everything that was asked, and what came back.
        found: the symptoms that are to be explained; all that there are if left out.
    """
    if found is None:
        found = symptoms([seen for seen in observations if seen.departs])
    departing, degrees = [symptom.seen for symptom in found], _degrees(found)
    told = _told(departing)
    ranked = []
    for clause in load_clauses().values():
        by_cases = _by_cases(clause, observations, departing)
        if by_cases is not None:
            signs = signs_of_clause(clause.id, told)
            score = (_DOUBT + by_cases) * (_DOUBT + _by_signs(signs, degrees))
            ranked.append(Suspect(clause.id, score, frozenset[str]().union(*signs)))
    return sorted(ranked, key=lambda suspect: -suspect.score)


def besides(observations: list[Observation], first: Suspect) -> list[Suspect]:
    """Further clauses that a loss seems to break: those that explain best what the first suspect leaves unexplained."""
    found = symptoms([seen for seen in observations if seen.departs])
    limit, known, chosen = _UNEXPLAINED * len(found), first.signs, [first]
    while len(chosen) < _MOST:
        told = [suspect.clause for suspect in chosen]
        left = [Symptom(symptom.seen, symptom.signs - known) for symptom in found if symptom.signs - known]
        if len(left) <= limit:
            break
        ranked = [suspect for suspect in suspects(observations, left) if suspect.clause not in told]
        if not ranked or ranked[0].score < _BELIEVED:
            break
        chosen.append(ranked[0])
        known |= ranked[0].signs
    return chosen[1:]


def _told(departing: list[Observation]) -> str:
    """What tells whether a value is right: `terms`, the `potential` alone, or `nothing`."""
    answers = [seen.asked.answer for seen in departing if isinstance(seen.asked, Comparison)]
    if any(answer.terms is not None for answer in answers):
        return "terms"
    return "potential" if any(answer.potential is not None for answer in answers) else "nothing"


def _by_cases(clause: Clause, observations: list[Observation], departing: list[Observation]) -> float | None:
    """How well the cases that depart are those of a clause; `None` where it is seen to be met."""
    explained = sum(clause.id in _reached(seen.case) for seen in departing if _binds(clause, seen))
    pinned = [seen for seen in observations if clause.id in seen.case.clauses and _binds(clause, seen)]
    own = sum(_shows(clause, seen) for seen in pinned if seen.departs)
    return math.sqrt(explained / len(departing) * own / len(pinned)) if own else None


def _binds(clause: Clause, seen: Observation) -> bool:
    """Whether a clause says anything of a case, in the format that it was asked in."""
    precise = clause.id.split(".")[1] in ("float64", "float32", "float16", "bfloat16")
    of_format = not precise or (isinstance(seen.asked, Comparison) and clause.id == f"numerics.{seen.asked.dtype}")
    return of_format and clause.applies_to(seen.case.profile)


def _shows(clause: Clause, seen: Observation) -> bool:
    """Whether a departure shows in what a clause is seen in; where only sums are answered, in those."""
    asked = seen.asked
    if not isinstance(asked, Comparison):
        return True
    if any(asked.answers(view) for view in clause.seen):
        return any(asked.difference(view) is not None for view in clause.seen)
    sums = asked.answer.gradient is None and asked.difference(View("potential")) is not None
    return sums and any(view.answer in ("term", "indicator") for view in clause.seen)


@cache
def _reached(case: Case) -> frozenset[str]:
    if case.expected.error is not None:
        return frozenset(case.clauses)
    return frozenset(case.clauses) | frozenset(clauses_reached(reference_of(case), case.batch.images_seen))


def _degrees(found: list[Symptom]) -> Counter[str]:
    """By sign, its share of all that departs: each case has one vote, which its signs share."""
    degrees: Counter[str] = Counter()
    for symptom in found:
        for sign in symptom.signs:
            degrees[sign] += 1 / (len(symptom.signs) * len(found))  # type: ignore[assignment]
    return degrees


def _by_signs(expected: tuple[frozenset[str], ...], observed: Counter[str]) -> float:
    """How well the signs that were observed are those of a clause."""
    if not expected:
        return 0.0
    explained = sum(observed[sign] for sign in frozenset[str]().union(*expected))
    shown = sum(any(observed[sign] for sign in alternatives) for alternatives in expected)
    return math.sqrt(explained * shown / len(expected))
