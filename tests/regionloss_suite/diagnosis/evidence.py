"""What a loss did, beside its profile and beside what it was measured to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from regionloss.terms import T_O
from regionloss_spec import AXES, Profile
from regionloss_suite.diagnosis.differences import choices, measured_loss
from regionloss_suite.diagnosis.measured_judge import Explained, MeasuredLoss, explained, wrong_parts
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.measure.black_box import NoAnswerError
from regionloss_suite.measure.experiments import Identified, identify

#: The random batches on which properties fail, by name: the observations on each, put to the adapter alone.
Drawn = Mapping[str, list[Observation]]


@dataclass(frozen=True)
class Measuring:
    """How a deviating loss is measured.

    Attributes:
        budget: seconds after which no other question is put.
        progress: called with the name of each experiment, its number, and the number of experiments.
        without: id of a mutant to leave out of the known causes.
    """

    budget: float = 120.0
    progress: Callable[[str, int, int], None] | None = None
    without: str = ""


#: How many of the smallest departing cases vote on a measured value.
_VOTERS = 16


@dataclass
class Evidence:
    """The observations of a loss, and what they are under the measured loss.

    Attributes:
        judge: has put every question.
        departing: the departing observations, golden cases before random batches, the smallest first.
        drawn: the observations on random batches, by name.
        loss: the measured loss, or `None` if it was not measured.
        under: each departing observation under the measured loss.
    """

    judge: Judge
    departing: list[Observation]
    drawn: Drawn
    loss: MeasuredLoss | None = None
    under: list[Observation] = field(default_factory=list)

    @property
    def explained(self) -> list[Explained]:
        """The observations of which the measured loss explains all or some."""
        pairs = zip(self.departing, self.under, strict=True)
        return [one for before, after in pairs if (one := explained(before, after)) is not None]

    @property
    def agreeing(self) -> list[Observation]:
        """What agrees with the profile, and what agrees with the measured loss, as that sees it."""
        known = [observation for observation in self.judge.observations if not observation.departs]
        return [*known, *(after for after in self.under if not after.departs)]

    @property
    def rest(self) -> list[Observation]:
        """What departs even from the measured loss, as the measured loss sees it."""
        return [after for after in self.under if after.departs]

    @property
    def cases(self) -> int:
        """Number of departing cases."""
        return len({observation.case.id for observation in self.departing})

    def measure(self, measuring: Measuring) -> Identified | None:
        """Measure the loss, and see every departing observation beside what was measured; `None` if it cannot be."""
        identified = _measured(self.judge, self.departing, measuring)
        if identified is None:
            return None
        self._beside(measured_loss(identified, self.judge.description))
        refuted = _refuted(self, identified)
        if refuted:
            self._beside(measured_loss(identified, self.judge.description, refuted))
        return identified

    def _beside(self, loss: MeasuredLoss) -> None:
        self.loss = loss
        self.under = [loss.rebased(observation) for observation in self.departing]


#: The measured formulas of each judge's loss, by profile: a failing property is diagnosed beside the golden cases.
_MEASURED: WeakKeyDictionary[Judge, dict[Profile, Identified | None]] = WeakKeyDictionary()


def _measured(judge: Judge, departing: list[Observation], measuring: Measuring) -> Identified | None:
    """The measured formula; `None` if nothing departs, or for a loss that cannot be measured."""
    answered = [observation for observation in departing if observation.exchange.outcome == "answered"]
    if not {"gradient", "potential", "terms"} & set(judge.description.answers) or not answered:
        return None
    known, asked = _MEASURED.setdefault(judge, {}), _asked(answered)
    if asked not in known:
        try:
            known[asked] = identify(judge.adapter, asked, measuring.progress, measuring.budget)
        except NoAnswerError:
            known[asked] = None
    return known[asked]


def _asked(departing: list[Observation]) -> Profile:
    """The profile to ask under: that of most departing cases, preferably without options."""
    counts = Counter(observation.case.profile for observation in departing)
    return max(counts, key=lambda profile: counts[profile])


def _refuted(evidence: Evidence, identified: Identified) -> list[str]:
    """The axes whose measured value the departing cases refute: without it, more of the loss's answers are explained.

    One case that is explained altogether is enough; of cases that are explained in part, most have to say so.
    """
    if evidence.loss is None or not evidence.rest:
        return []
    pairs = [(before, after) for before, after in zip(evidence.departing, evidence.under, strict=True) if after.departs]
    return [
        choice.name
        for choice in choices(evidence.loss, identified, evidence.judge.description.reduction)
        if choice.name in AXES
        and choice.without is not None
        and (
            _speaks_against(choice.without, pairs)
            or ((choice.name, choice.measured) == ("ignore", "none") and _silent_after_all(pairs))
        )
    ]


def _silent_after_all(pairs: list[tuple[Observation, Observation]]) -> bool:
    """Whether an objectness that is paid for every overlap, by what was measured, is not paid in some answer."""
    for _, after in pairs:
        comparison = after.exchange.comparison
        if comparison is None or comparison.answer.gradient is None:
            continue
        got, result = np.asarray(comparison.answer.gradient), comparison.result
        if got.shape == result.gradient.shape:
            free = ~result.decisions.responsible
            pays = result.gradient.reshape(result.t.shape)[:, :, T_O] != 0
            if (free & pays & (got.reshape(result.t.shape)[:, :, T_O] == 0)).any():
                return True
    return False


def _speaks_against(without: MeasuredLoss, pairs: list[tuple[Observation, Observation]]) -> bool:
    """Whether departing cases are explained better by a loss without a choice than by the measured loss."""
    votes = 0.0
    for place, (before, after) in enumerate(pairs):
        one = without.rebased(before)
        if not one.departs:
            return True
        wrong = wrong_parts(one), wrong_parts(after)
        if place < _VOTERS and wrong[0] is not None and wrong[1] is not None:
            votes += np.sign(int(wrong[1].sum()) - int(wrong[0].sum()))
    return votes > 0
