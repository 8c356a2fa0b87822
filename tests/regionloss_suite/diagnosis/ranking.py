"""Rank the clauses that a loss may break, for deviations that no known cause explains.

Every clause has two scores, each an Ochiai coefficient as in fault localisation:
√(share of the deviations that the clause explains × share of what it should affect that does deviate).
The first score is about cases: a clause explains the cases that reach it, and should affect those that pin it.
The second is about symptoms: each clause has known symptoms of a loss that breaks it (`clause_symptoms`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache

from regionloss_spec import Case, Clause, load_clauses
from regionloss_spec.clause import View
from regionloss_suite.diagnosis.clause_symptoms import symptoms_of_clause
from regionloss_suite.diagnosis.symptoms import CaseSymptoms, symptoms_of
from regionloss_suite.judging.judge import Observation
from regionloss_suite.oracle.comparison import reference_of
from regionloss_suite.oracle.coverage import clauses_reached

#: The score of a clause that one of the two scores cannot judge: the other score decides.
_DOUBT = 0.02


@dataclass(frozen=True)
class RankedClause:
    """A clause that a loss may break, with its score.

    Attributes:
        clause: its id.
        score: how well it explains what deviates and what does not, from 0 to about 1.
    """

    clause: str
    score: float


def rank_clauses(observations: list[Observation], cases: list[CaseSymptoms] | None = None) -> list[RankedClause]:
    """The clauses that a loss may break, the likeliest first; empty for a loss without deviations.

    Args:
        observations: all questions and their outcomes.
        cases: the symptoms to explain; by default all of them.
    """
    if cases is None:
        cases = symptoms_of([observation for observation in observations if observation.departs])
    departing, shares = [case.observation for case in cases], _shares(cases)
    values = _values_returned(departing)
    ranked = []
    for clause in load_clauses().values():
        by_cases = _by_cases(clause, observations, departing)
        if by_cases is not None:
            symptoms = symptoms_of_clause(clause.id, values)
            score = (_DOUBT + by_cases) * (_DOUBT + _by_symptoms(symptoms, shares))
            ranked.append(RankedClause(clause.id, score))
    return sorted(ranked, key=lambda clause: -clause.score)


def _values_returned(departing: list[Observation]) -> str:
    """What checks the value: `terms`, the `potential` alone, or `nothing`."""
    answers = [
        observation.exchange.comparison.answer
        for observation in departing
        if observation.exchange.comparison is not None
    ]
    if any(answer.terms is not None for answer in answers):
        return "terms"
    return "potential" if any(answer.potential is not None for answer in answers) else "nothing"


def _by_cases(clause: Clause, observations: list[Observation], departing: list[Observation]) -> float | None:
    """How well a clause explains which cases deviate; `None` if it is known to be met."""
    explained = sum(clause.id in reached(observation.case) for observation in departing if _binds(clause, observation))
    pinned = [
        observation
        for observation in observations
        if clause.id in observation.case.clauses and _binds(clause, observation)
    ]
    own = sum(_shows(clause, observation) for observation in pinned if observation.departs)
    return math.sqrt(explained / len(departing) * own / len(pinned)) if own else None


def _binds(clause: Clause, observation: Observation) -> bool:
    """Whether a case says anything about a clause, in the format of its question."""
    about_a_format = clause.id.split(".")[1] in ("float64", "float32", "float16", "bfloat16")
    comparison = observation.exchange.comparison
    of_format = not about_a_format or (comparison is not None and clause.id == f"numerics.{comparison.dtype}")
    return of_format and clause.applies_to(observation.case.profile)


def _shows(clause: Clause, observation: Observation) -> bool:
    """Whether a deviation shows in the views of a clause; if only sums are returned, in the sums."""
    comparison = observation.exchange.comparison
    if comparison is None:
        return True
    if any(comparison.answers(view) for view in clause.seen):
        return any(comparison.difference(view) is not None for view in clause.seen)
    sums = comparison.answer.gradient is None and comparison.difference(View("potential")) is not None
    return sums and any(view.answer in ("term", "indicator") for view in clause.seen)


@cache
def reached(case: Case) -> frozenset[str]:
    """The clauses that a case reaches, whether it pins them or not."""
    if case.expected.error is not None:
        return frozenset(case.clauses)
    return frozenset(case.clauses) | frozenset(clauses_reached(reference_of(case), case.batch.images_seen))


def _shares(cases: list[CaseSymptoms]) -> Counter[str]:
    """By symptom, its share of all deviations: each case has one vote, shared by its symptoms."""
    shares: Counter[str] = Counter()
    for case in cases:
        for symptom in case.symptoms:
            shares[symptom] += 1 / (len(case.symptoms) * len(cases))  # type: ignore[assignment]
    return shares


def _by_symptoms(expected: tuple[frozenset[str], ...], observed: Counter[str]) -> float:
    """How well the observed symptoms match those of a clause."""
    if not expected:
        return 0.0
    explained = sum(observed[symptom] for symptom in frozenset[str]().union(*expected))
    shown = sum(any(observed[symptom] for symptom in alternatives) for alternatives in expected)
    return math.sqrt(explained * shown / len(expected))
