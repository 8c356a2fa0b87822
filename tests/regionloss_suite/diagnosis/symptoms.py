"""How each deviating case deviates, stage by stage, in the words of the known symptoms of clauses (`ranking`).

A wrong stage spoils the later ones, so a case is described by the first stage that deviates: refusal, assignment,
indicator, terms, sums.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from regionloss_spec.clause import View
from regionloss_suite.diagnosis.decision_symptoms import assignment_symptoms, indicator_symptoms
from regionloss_suite.diagnosis.term_symptoms import (
    TermDeviations,
    sum_symptoms,
    symptoms_of_terms,
    term_deviations,
)
from regionloss_suite.judging.judge import Observation
from regionloss_suite.oracle.comparison import Comparison


@dataclass(frozen=True, eq=False)
class CaseSymptoms:
    """How one case deviates.

    Attributes:
        observation: the case and its outcome.
        symptoms: the symptoms at the first stage that deviates, at least one.
    """

    observation: Observation
    symptoms: frozenset[str]


def symptoms_of(departing: list[Observation]) -> list[CaseSymptoms]:
    """The symptoms of deviating observations, in their order."""
    # Only all cases together show what a factor depends on, and which terms of a sum are wrong.
    stages = [_before_terms(observation) or _terms(observation) for observation in departing]
    of_terms = iter(symptoms_of_terms(stage for stage in stages if isinstance(stage, TermDeviations)))
    of_sums = iter(sum_symptoms([stage for stage in stages if isinstance(stage, Comparison)]))
    symptoms = [
        next(of_terms)
        if isinstance(stage, TermDeviations)
        else next(of_sums)
        if isinstance(stage, Comparison)
        else stage
        for stage in stages
    ]
    return [CaseSymptoms(observation, frozenset(known)) for observation, known in zip(departing, symptoms, strict=True)]


def stage_of(observation: Observation) -> str:
    """The first stage at which an observation deviates, in words."""
    exchange, comparison = observation.exchange, observation.exchange.comparison
    if exchange.outcome == "crashed":
        return "the loss crashes"
    if comparison is None:
        return "what is refused"
    gradient = comparison.answer.gradient
    if gradient is not None and np.shape(gradient) != comparison.result.gradient.shape:
        return "the shape of the gradient"
    if assignment_symptoms(comparison):
        return "which predictor is responsible for which truth"
    if indicator_symptoms(comparison):
        return "which predictors are ignored"
    payers = sorted(term_deviations(comparison).gradients) if gradient is not None else []
    return f"what is paid: {', '.join(payers)}" if payers else "the sums"


def _before_terms(observation: Observation) -> set[str]:
    exchange = observation.exchange
    if exchange.outcome == "crashed":
        return {"crashes"}
    if observation.case.expected.error is not None:
        return {"refuses at another place" if exchange.outcome == "refused" else "accepts what is invalid"}
    comparison = exchange.comparison
    if comparison is None:
        return {"refuses what is valid"}
    gradient = comparison.answer.gradient
    if gradient is not None and np.shape(gradient) != comparison.result.gradient.shape:
        return {"another shape"}
    return assignment_symptoms(comparison) or indicator_symptoms(comparison)


def _terms(observation: Observation) -> TermDeviations | Comparison | set[str]:
    """Which terms deviate, or which sum deviates alone; the answer itself if it contains only sums."""
    comparison = observation.exchange.comparison
    assert comparison is not None
    sums_only = comparison.answer.gradient is None and comparison.answer.terms is None
    if sums_only and comparison.difference(View("potential")) is not None:
        return comparison
    return term_deviations(comparison) or _sums(comparison)


def _sums(comparison: Comparison) -> set[str]:
    """The first sum that deviates although all its returned parts are right."""
    for quantity in ("potential", "printed cost"):
        if comparison.difference(View(quantity)) is not None:
            return {f"{quantity} alone"}
    if not comparison.result.decisions.matches:
        return {"statistics of nothing"}
    expected = comparison.case.expected.statistics or asdict(comparison.result.statistics)
    got = comparison.answer.statistics or {}
    wrong = [name for name, value in expected.items() if not np.isclose(got.get(name, np.inf), value, equal_nan=True)]
    return {f"statistics {name}" for name in wrong} or {"statistics otherwise"}
