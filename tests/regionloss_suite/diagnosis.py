"""What a wrong loss looks like: the known loss or mistake that answers the same, and the clause that it breaks first.

A deviation rarely comes alone: one wrong IoU departs in indicators, targets and terms at once. So the clauses are
ranked by how well each explains what departs and what does not (`suspects`). Every single change of an axis, every
mutant of the catalogue and every shipped profile is then put the questions on which the loss departed, those of the
first suspect first. The first that answers all of them as the loss did is what the loss looks like, and its clause is
the one to blame; without one, the first suspect is.
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
from regionloss_suite.compare import Comparison
from regionloss_suite.judge import Judge, Observation, Refusal
from regionloss_suite.mutants import catalogue
from regionloss_suite.suspects import besides, suspects
from regionloss_suite.verdict import Verdict

#: In how many of the smallest cases that the loss answers rightly a candidate must be right too.
_ENOUGH = 12


@dataclass(frozen=True)
class Diagnosis:
    """The clause to blame and, where one is known, what answers the same.

    Attributes:
        clause: id of the clause that is broken first.
        looks_like: in words, or an empty text when nothing known answers the same.
        besides: ids of the clauses that seem to be broken as well, and do not follow from the first.
        others: ids of the clauses that might be broken instead, the likeliest first; none when something known answers
            the same.
    """

    clause: str
    looks_like: str = ""
    besides: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    clause: str
    looks_like: str
    options: dict[str, object] | None = None
    mutant: str = ""

    def answer(self, question: Question) -> Answer:
        if self.options is not None:
            profile = question.profile.replace(**self.options)
            return NumpyAdapter().answer(dataclasses.replace(question, profile=profile))
        return catalogue()[self.mutant].answer(question)


def diagnose(judge: Judge, deviating: list[Verdict], *, without: str = "") -> Diagnosis | None:
    """What a loss looks like that departed from the reference.

    Args:
        judge: who asked it, and still knows every answer.
        deviating: the verdicts that say that it departed.
        without: id of a mutant that is not to be thought of.
    """
    if not deviating:
        return None
    ranked = suspects(judge.observations)
    order = {suspect.clause: place for place, suspect in enumerate(ranked)}
    smallest = sorted(judge.observations, key=lambda observation: np.size(observation.case.batch.predictions))
    departing = [observation for observation in smallest if observation.departs]
    agreeing = [observation for observation in smallest if not observation.departs]
    candidates = _candidates(departing[0].case.profile, without) if departing else []
    for candidate in sorted(candidates, key=lambda candidate: order.get(candidate.clause, len(order))):
        if not all(_explains(candidate, observation) for observation in departing):
            continue
        # What would depart elsewhere, where this loss does not, is another mistake.
        silent = [seen for seen in agreeing if candidate.clause in seen.case.clauses][:_ENOUGH]
        if all(_explains(candidate, observation) for observation in silent):
            return Diagnosis(candidate.clause, candidate.looks_like)
    if _sums_only(departing):
        ranked = [suspect for suspect in ranked if suspect.clause in {verdict.clause for verdict in deviating}]
    if not ranked:
        return Diagnosis(deviating[0].clause)
    more = tuple(suspect.clause for suspect in besides(judge.observations, ranked[0]))
    others = tuple(suspect.clause for suspect in ranked[1:] if suspect.clause not in more)
    return Diagnosis(ranked[0].clause, besides=more, others=others[:2])


def _sums_only(departing: list[Observation]) -> bool:
    """Whether nothing but sums was answered: such a loss is not accused of what nobody can see in it."""
    answers = [seen.asked.answer for seen in departing if isinstance(seen.asked, Comparison)]
    return all(answer.gradient is None and answer.terms is None for answer in answers)


def fold(verdicts: list[Verdict], diagnosis: Diagnosis | None) -> list[Verdict]:
    """The verdicts with the blamed clause marked, and with what follows from it folded under it."""
    if diagnosis is None:
        return verdicts
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    blamed = next((verdict for verdict in deviating if verdict.clause == diagnosis.clause), None)
    # A clause that is seen in everything does not come forward by itself: it takes the first departure that there is.
    origin = blamed.first if blamed is not None else deviating[0].first
    folded = []
    for verdict in verdicts:
        if verdict.clause == diagnosis.clause:
            reason = f"or else {' or '.join(diagnosis.others)}" if diagnosis.others else ""
            changes = {"verdict": "deviating", "first": origin, "looks_like": diagnosis.looks_like, "reason": reason}
            folded.append(dataclasses.replace(verdict, **changes))  # type: ignore[arg-type]
        elif verdict.verdict == "deviating" and verdict.clause not in diagnosis.besides:
            folded.append(dataclasses.replace(verdict, follows=diagnosis.clause))
        else:
            folded.append(verdict)
    return folded


def _candidates(profile: Profile, without: str) -> Iterator[_Candidate]:
    """Every other value of a discrete axis, every mutant, then every other shipped profile as a whole."""
    for axis in AXES:
        for value in axis_values(axis):
            if value == getattr(profile, axis):
                continue
            clause = _clause_of(axis, profile)
            likeness = _known_by(axis, value)
            if clause and _possible(profile, {axis: value}):
                yield _Candidate(
                    clause, f"{axis} = {value} instead of {getattr(profile, axis)}{likeness}", {axis: value}
                )
    for mutant in catalogue().values():
        if mutant.id != without:
            after = f" ({mutant.after})" if mutant.after else ""
            yield _Candidate(mutant.clause, f"{mutant.title}{after}", mutant=mutant.id)
    for name in profile_names():
        if (load_profile(name).class_term == "tree") != (profile.class_term == "tree"):
            continue
        pairs = profile.differences(load_profile(name))
        clause = next((found for axis in pairs if (found := _clause_of(axis, profile))), "")
        if clause:
            yield _Candidate(clause, f"profile {name}", {axis: here for axis, (_, here) in pairs.items()})


def _clause_of(axis: str, profile: Profile) -> str:
    """The clause that states the profile's value of an axis."""
    value = getattr(profile, axis)
    bound = [clause for clause in load_clauses().values() if clause.axis == axis]
    if profile.class_term == "tree":  # the chapter on the tree says more of it than the general one
        bound.sort(key=lambda clause: not clause.id.startswith("tree."))
    return next((clause.id for clause in bound if value in clause.values or not clause.values), "")


def _known_by(axis: str, value: object) -> str:
    """The shipped profiles that have a value which darknet has not."""
    having = [name for name in profile_names() if getattr(load_profile(name), axis) == value]
    return f", as in profile {', '.join(having[:3])}" if having and "darknet" not in having else ""


def _possible(profile: Profile, options: dict[str, object]) -> bool:
    try:
        profile.replace(**options)
    except ProfileError:
        return False
    return True


def _explains(candidate: _Candidate, observation: Observation) -> bool:
    """Whether a candidate answers a question as the loss under test did, in all that the loss answered."""
    case, asked = observation.case, observation.asked
    dtype = asked.dtype if isinstance(asked, Comparison) else "float64"
    try:
        with np.errstate(all="ignore"):
            answer = candidate.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype))
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
