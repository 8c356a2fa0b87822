"""Losses that differ from their profile in several choices at once, drawn at random, and what a right diagnosis is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from regionloss import DomainError, evaluate
from regionloss_adapters import Answer, CannotAnswerError, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS
from regionloss_spec import AXES, Case, Profile, ProfileError, load_cases, load_clauses, load_profile, profile_names
from regionloss_spec.profile import axis_values
from regionloss_suite.diagnosis.diagnosis import Diagnosis, diagnose
from regionloss_suite.judging.judge import Judge
from regionloss_suite.measure.profile import canonical

#: Other values of the axes that are numbers.
_NUMBERS: dict[str, tuple[float, ...]] = {
    "thresh": (0.5, 0.7),
    "prior_until": (0, 12900),
    "prior_weight": (0.02, 0.1),
    "coord_weight": (0.5, 5.0),
    "object_weight": (1.0, 2.0),
    "no_object_weight": (0.5, 0.1),
    "class_weight": (2.0, 0.25),
    "squared_factor": (1.0,),
    "max_truths": (0, 50),
}
#: What a loss returns, by how much it shows.
RETURNS = {
    "everything": ANSWERS,
    "gradient": ("gradient", "potential", "terms"),
    "gradient and potential": ("gradient", "potential"),
    "scalar": ("potential",),
}


@dataclass(frozen=True)
class SeveralDifferences:
    """A loss that has other values on some axes than its profile.

    Attributes:
        claimed: the name of the profile.
        options: the axes and their values.
        returns: a key of `RETURNS`.
        reads_options: whether it follows the options of a case, as a loss with parameters does.
    """

    claimed: str
    options: dict[str, Any] = field(default_factory=dict)
    returns: str = "everything"
    reads_options: bool = True

    def describe(self) -> Description:
        """It claims one profile."""
        return Description("several differences", (self.claimed,), RETURNS[self.returns], ("float64",))

    def answer(self, question: Question) -> Answer:
        """The reference's answer under the other profile."""
        claimed = load_profile(self.claimed)
        if not self.reads_options and claimed.differences(question.profile):
            raise CannotAnswerError("it has no options")
        try:
            profile = question.profile.replace(**self.options)
        except ProfileError as error:
            raise CannotAnswerError(str(error)) from error
        answer = NumpyAdapter().answer(dataclasses.replace(question, profile=profile))
        if self.returns == "everything":
            return answer
        kept = {name: getattr(answer, name) for name in RETURNS[self.returns]}
        return Answer(**kept)


def draw(random: np.random.Generator, number: int, returns: str) -> SeveralDifferences:
    """A loss with `number` differences that all show by themselves."""
    names = [name for name in profile_names() if load_profile(name).class_term != "tree"]
    while True:
        claimed = load_profile(str(random.choice(names)) if random.random() < 0.5 else "darknet")
        options: dict[str, Any] = {}
        for axis in random.permutation([axis for axis in AXES if axis != "printed_cost"]):
            values = [value for value in _values(str(axis)) if value != getattr(claimed, axis) and value != "tree"]
            if not values:
                continue
            value = values[int(random.integers(len(values)))]
            options[str(axis)] = value
            if len(options) == number:
                break
        profile = _replaced(claimed, options)
        if profile is not None and _shows(claimed, profile, options):
            return SeveralDifferences(claimed.name, options, returns, bool(random.random() < 0.5))


def _values(axis: str) -> tuple[Any, ...]:
    return axis_values(axis) or _NUMBERS[axis]


def _replaced(claimed: Profile, options: dict[str, Any]) -> Profile | None:
    try:
        return claimed.replace(**options)
    except ProfileError:
        return None


def _shows(claimed: Profile, profile: Profile, options: dict[str, Any]) -> bool:
    """Whether each axis makes a difference, both alone and beside the others."""
    weights = {axis for axis in AXES if axis.endswith("_weight")}
    whole = canonical(profile).differences(canonical(claimed))
    for axis in options:
        rest = _replaced(profile, {axis: getattr(claimed, axis)})
        if rest is None or not canonical(profile).differences(canonical(rest)):
            return False
        if axis not in whole and axis != "squared_factor" and axis not in weights:
            return False
    squared = "squared_factor" in options
    return not (squared and weights & set(options))  # then a factor and a weight are not told apart


@cache
def small_cases() -> list[Case]:
    """The golden cases that are small."""
    return [case for case in load_cases() if case.batch.predictions.size < 2000]


def diagnosed(loss: SeveralDifferences) -> Diagnosis:
    """The diagnosis of such a loss by the small golden cases."""
    judge = Judge(loss, small_cases(), loss.claimed)
    with np.errstate(all="ignore"):
        verdicts = [judge.verdict(clause) for clause in judge.clauses]
        return diagnose(judge, verdicts)


def shown_axes(loss: SeveralDifferences) -> list[str]:
    """The axes whose value changes what the loss returns in some case that it is asked."""
    claimed = load_profile(loss.claimed)
    shown = set()
    for case in small_cases():
        if case.base != loss.claimed or case.expected.error is not None:
            continue
        if not loss.reads_options and claimed.differences(case.profile):
            continue
        profile = _replaced(case.profile, loss.options)
        for axis in loss.options:
            rest = None if profile is None else _replaced(profile, {axis: getattr(case.profile, axis)})
            if axis not in shown and profile is not None and rest is not None and _apart(loss, case, profile, rest):
                shown.add(axis)
    return sorted(shown)


def _apart(loss: SeveralDifferences, case: Case, one: Profile, other: Profile) -> bool:
    """Whether two profiles answer a case differently in what the loss returns, beyond what rounding may change."""
    try:
        results = [evaluate(case.batch, profile) for profile in (one, other)]
    except DomainError:
        return False
    scalars = [result.potential for result in results]
    if not np.isclose(scalars[0], scalars[1], rtol=1e-4, equal_nan=True):
        return True
    if loss.returns == "scalar":
        return False
    gradients = [result.gradient for result in results]
    scale = np.nanmax(np.abs(gradients[0]), initial=0.0)
    return not np.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-6 * scale, equal_nan=True)


def clauses_of(options: dict[str, Any]) -> dict[str, set[str]]:
    """By axis, the clauses on which blame is right."""
    by_axis = {axis: {clause.id for clause in load_clauses().values() if clause.axis == axis} for axis in options}
    if "ignore" in by_axis:
        by_axis["ignore"].add("noobj.threshold")
    return by_axis
