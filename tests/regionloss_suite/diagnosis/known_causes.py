"""Known losses and mistakes, and whether one of them answers as a loss did that departs.

Every other value of a discrete axis, every mutant of the catalogue and every other shipped profile is put the questions
on which the loss departed, those first that break a likely clause.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regionloss.bounds import PRECISIONS
from regionloss_adapters import Answer, CannotAnswer, Question, Refused
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import AXES, Profile, ProfileError, load_clauses, load_profile, profile_names
from regionloss_spec.profile import axis_values
from regionloss_suite.diagnosis.ranking import Suspect
from regionloss_suite.judging.judge import Observation, Refusal
from regionloss_suite.mutants import catalogue
from regionloss_suite.oracle.comparison import Comparison

#: In how many of the smallest cases that the loss answers rightly a likeness must be right too.
_ENOUGH = 12


@dataclass(frozen=True)
class Likeness:
    """A known loss or mistake.

    Attributes:
        clause: id of the clause that it breaks.
        words: what it is.
        options: the axes that it has otherwise than the profile that is asked about, or `None` for a mutant.
        mutant: its id, or an empty text.
    """

    clause: str
    words: str
    options: dict[str, object] | None = None
    mutant: str = ""

    def answer(self, question: Question) -> Answer:
        """What it says, whatever the rest of the profile may be."""
        if self.options is not None:
            profile = question.profile.replace(**self.options)
            return NumpyAdapter().answer(dataclasses.replace(question, profile=profile))
        return catalogue()[self.mutant].answer(question)


def likeness(observations: list[Observation], ranked: list[Suspect], without: str) -> Likeness | None:
    """The first known loss or mistake that answers as the loss did wherever that departs, and rightly where it should.

    Args:
        observations: everything that was asked, and what came back.
        ranked: the clauses that the loss may break, the likeliest first.
        without: id of a mutant that is not to be thought of.
    """
    order = {suspect.clause: place for place, suspect in enumerate(ranked)}
    smallest = sorted(observations, key=lambda observation: np.size(observation.case.batch.predictions))
    departing = [observation for observation in smallest if observation.departs]
    agreeing = [observation for observation in smallest if not observation.departs]
    known = candidates(departing[0].case.profile, without) if departing else []
    for one in sorted(known, key=lambda one: order.get(one.clause, len(order))):
        if all(answers_so(one, observation) for observation in departing) and is_right_elsewhere(one, agreeing):
            return one
    return None


def is_right_elsewhere(one: Likeness, agreeing: list[Observation]) -> bool:
    """Whether it answers rightly where the loss does: what would depart there is another mistake.

    `agreeing` begins with the smallest batches, and of those that pin its clause some are looked at.
    """
    silent = [seen for seen in agreeing if one.clause in seen.case.clauses][:_ENOUGH]
    return all(answers_so(one, observation) for observation in silent)


def candidates(profile: Profile, without: str) -> Iterator[Likeness]:
    """Every other value of a discrete axis, every mutant, then every other shipped profile as a whole."""
    for axis in AXES:
        for value in axis_values(axis):
            if value == getattr(profile, axis):
                continue
            clause = clause_of(axis, profile)
            if clause and _possible(profile, {axis: value}):
                yield Likeness(clause, _known_by(axis, value, profile), {axis: value})
    for mutant in catalogue().values():
        if mutant.id != without:
            after = f" ({mutant.after})" if mutant.after else ""
            yield Likeness(mutant.clause, f"{mutant.title}{after}", mutant=mutant.id)
    for name in profile_names():
        if (load_profile(name).class_term == "tree") != (profile.class_term == "tree"):
            continue
        pairs = profile.differences(load_profile(name))
        clause = next((found for axis in pairs if (found := clause_of(axis, profile))), "")
        if clause:
            yield Likeness(clause, f"profile {name}", {axis: here for axis, (_, here) in pairs.items()})


def clause_of(axis: str, profile: Profile) -> str:
    """The clause that states the profile's value of an axis."""
    value = getattr(profile, axis)
    bound = [clause for clause in load_clauses().values() if clause.axis == axis]
    if profile.class_term == "tree":  # the chapter on the tree says more of it than the general one
        bound.sort(key=lambda clause: not clause.id.startswith("tree."))
    return next((clause.id for clause in bound if value in clause.values or not clause.values), "")


def _known_by(axis: str, value: object, profile: Profile) -> str:
    """Another value of an axis in words: the shipped profiles that have it where darknet has not, and its clause."""
    having = [name for name in profile_names() if getattr(load_profile(name), axis) == value]
    clause = clause_of(axis, profile.replace(**{axis: value}))
    said = f"{axis} = {value}{f', {clause}' if clause else ''}"
    if not having or "darknet" in having:
        return f"{said}, instead of {getattr(profile, axis)}"
    return f"profile{'s' * (len(having) > 1)} {', '.join(having[:3])} ({said})"


def _possible(profile: Profile, options: dict[str, object]) -> bool:
    try:
        profile.replace(**options)
    except ProfileError:
        return False
    return True


def answers_so(one: Likeness, observation: Observation) -> bool:
    """Whether a likeness answers a question as the loss under test did, in all that the loss answered."""
    case, asked = observation.case, observation.asked
    dtype = asked.dtype if isinstance(asked, Comparison) else "float64"
    try:
        with np.errstate(all="ignore"):
            answer = one.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype))
    except Refused as refused:
        same = isinstance(asked, Refusal) and asked.kind == "refused"
        return same and (refused.image, refused.truth) == (asked.image, asked.truth)  # type: ignore[union-attr]
    except (CannotAnswer, ProfileError, ArithmeticError, ValueError, IndexError):
        return False
    if isinstance(asked, Refusal):
        return asked.kind == "answered"
    return _same_gradient(answer, asked) and _same_indicators(answer, asked.answer) and _same_numbers(answer, asked)


def _same_gradient(answer: Answer, asked: Comparison) -> bool:
    if asked.answer.gradient is None:
        return True
    if answer.gradient is None or np.shape(answer.gradient) != np.shape(asked.answer.gradient):
        return False
    wanted, got = (np.asarray(one, dtype=np.float64) for one in (answer.gradient, asked.answer.gradient))
    size = np.where(np.isfinite(wanted), np.abs(wanted), 0.0)
    slack = asked.gradient_bound + 64 * PRECISIONS[asked.dtype].unit * (size + 1e-3 * size.max(initial=0))
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(wanted - got) <= slack) | (wanted == got) | (np.isnan(wanted) & np.isnan(got))).all())


def _same_indicators(answer: Answer, given: Answer) -> bool:
    pairs = ((given.responsible, answer.responsible), (given.ignored, answer.ignored))
    return all(mine is None or other is None or sorted(mine) == sorted(other) for mine, other in pairs)


def _same_numbers(answer: Answer, asked: Comparison) -> bool:
    """Whether all scalars that both answer are the same but for rounding."""
    mine, other = (_numbers(one) for one in (asked.answer, answer))
    slack = 4096 * PRECISIONS[asked.dtype].unit
    whole = 1e-3 * max((abs(value) for value in other.values() if math.isfinite(value)), default=0.0)
    pairs = [(mine[name], other[name]) for name in mine if name in other]
    return all(
        one == two or (math.isnan(one) and math.isnan(two)) or abs(one - two) <= slack * (abs(two) + whole)
        for one, two in pairs
    )


def _numbers(answer: Answer) -> dict[str, float]:
    scalars = {"potential": answer.potential, "printed cost": answer.printed_cost}
    found = {name: float(value) for name, value in scalars.items() if value is not None}
    return found | {**(answer.terms or {}), **(answer.statistics or {})}
