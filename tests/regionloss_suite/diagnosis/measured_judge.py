"""A judge's observations put to the reference again, under the measured loss instead of the claimed profile."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from regionloss import DomainError, evaluate
from regionloss_spec import Case, Profile
from regionloss_spec.batch import Array
from regionloss_spec.case import Expected
from regionloss_spec.clause import TERMS, View
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.measure.measured import Factors, overlaid
from regionloss_suite.measure.reduction import count, multiplied_by


@dataclass(frozen=True)
class MeasuredLoss:
    """What a loss was measured to be, beside what it claims.

    Attributes:
        asked: the profile of the measuring questions.
        profile: what was measured.
        factors: what it multiplies the terms of that profile by.
        declared: the factor that the adapter declares; answers are divided by it.
    """

    asked: Profile
    profile: Profile
    factors: Factors = field(default_factory=Factors)
    declared: float = 1.0

    def profiles(self, case: Case) -> list[Profile]:
        """The profiles that the loss may have in a case."""
        return overlaid(case.profile, self.asked, self.profile)

    def exchange(self, exchange: Exchange, profile: Profile) -> Exchange:
        """An outcome beside the expectation of the measured loss with a profile."""
        case = _under(exchange.case, profile)
        returned = exchange.returned
        if returned is not None and self.factors.divisor:
            returned = multiplied_by(returned, count(self.factors.divisor, case.batch, evaluate(case.batch, profile)))
        # The reduction was measured, whether it is declared or not; only the declared factor is undone.
        description = dataclasses.replace(exchange.description, reduction="sum", factor=self.declared)
        return dataclasses.replace(
            exchange, case=case, returned=returned, description=description, adjust=self.factors.applied
        )

    def rebased(self, observation: Observation) -> Observation:
        """An observation as the measured loss sees it; unchanged if a refusal is expected."""
        exchange = observation.exchange
        if exchange.case.expected.error is not None or exchange.outcome == "crashed":
            return observation
        first: Observation | None = None
        for profile in self.profiles(exchange.case):
            if profile == exchange.case.profile and not self.factors:
                return observation  # what a case states beats the reference
            if not _defined(exchange.case, profile):
                if exchange.outcome == "refused":  # the measured loss refuses it too, which says nothing more
                    return Observation(dataclasses.replace(exchange, outcome="cannot"), departs=False)
                continue
            one = self.exchange(exchange, profile)
            seen = Observation(one, one.comparison is None or departs_anywhere(one))
            if not seen.departs:
                return seen
            first = first or seen
        return first or observation


@dataclass(frozen=True, eq=False)
class Explained:
    """A departing observation of which the measured loss explains all or some.

    Attributes:
        before: beside the profile.
        after: beside the measured loss.
        parts: the parts that depart before and agree after (`wrong_parts`), or `None` if everything agrees after.
    """

    before: Observation
    after: Observation
    parts: Array | None


def explained(before: Observation, after: Observation) -> Explained | None:
    """What a measured loss explains of a departing observation, or `None` if it explains nothing."""
    if not after.departs:
        return Explained(before, after, None)
    wrong = wrong_parts(before), wrong_parts(after)
    if wrong[0] is None or wrong[1] is None:
        return None
    parts = wrong[0] & ~wrong[1]
    return Explained(before, after, parts) if parts.any() else None


@lru_cache(maxsize=1024)
def _under(case: Case, profile: Profile) -> Case:
    """A case that expects the reference's answer under another profile; the same object for every format."""
    return dataclasses.replace(case, profile=profile, expected=Expected())


def departs_anywhere(exchange: Exchange) -> bool:
    """Whether an answer departs in anything that it contains."""
    comparison = exchange.comparison
    assert comparison is not None
    return comparison.difference(View("everything")) is not None


def _defined(case: Case, profile: Profile) -> bool:
    try:
        evaluate(case.batch, profile)
    except DomainError:
        return False
    return True


def rebased(judge: Judge, loss: MeasuredLoss) -> Judge:
    """A judge of the same outcomes under the measured loss."""
    places: dict[Case, Case] = {}
    exchanges: dict[Case, list[Exchange]] = {}
    for case in judge.cases:
        outcomes = [
            exchange if observation is None else loss.rebased(observation).exchange
            for exchange, observation in judge.outcomes(case)
        ]
        places[case] = next((outcome.case for outcome in outcomes if outcome.case is not case), case)
        exchanges[places[case]] = outcomes
    return judge.beside(exchanges, places)


#: The numbers of an answer, beside the elements of its gradient.
_NUMBERS = (*(View("term", term=name) for name in TERMS), View("potential"), View("printed cost"))


def wrong_parts(observation: Observation) -> Array | None:
    """Which parts of an answer depart: the elements of its gradient, then its numbers; `None` without a comparison."""
    comparison = observation.exchange.comparison
    if comparison is None:
        return None
    gradient, expected = comparison.answer.gradient, comparison.result.gradient
    wrong = np.zeros(expected.size, dtype=bool)
    if gradient is not None:
        if np.shape(gradient) != expected.shape:
            return None
        wrong = comparison.wrong.ravel()
    return np.concatenate([wrong, [comparison.difference(view) is not None for view in _NUMBERS]])


def changed_parts(batch_case: Case, one: Profile, other: Profile, factors: tuple[Factors, Factors]) -> Array | None:
    """The parts that two losses answer differently, beyond rounding; `None` if one of them refuses the case."""
    try:
        results = [
            factor.applied(evaluate(batch_case.batch, profile))
            for profile, factor in zip((one, other), factors, strict=True)
        ]
    except DomainError:
        return None
    with np.errstate(all="ignore"):
        counts = [
            count(factor.divisor, batch_case.batch, result) for factor, result in zip(factors, results, strict=True)
        ]
        gradients = [result.gradient.ravel() / number for result, number in zip(results, counts, strict=True)]
        scale = np.nanmax(np.abs(np.where(np.isfinite(gradients[0]), gradients[0], 0.0)), initial=0.0)
        same = np.isclose(gradients[0], gradients[1], rtol=1e-6, atol=1e-9 * scale, equal_nan=True)
        numbers = [
            np.array([*(result.term_values[name] for name in TERMS), result.potential, result.printed_cost]) / number
            for result, number in zip(results, counts, strict=True)
        ]
        return ~np.concatenate([same, np.isclose(numbers[0], numbers[1], rtol=1e-6, equal_nan=True)])
