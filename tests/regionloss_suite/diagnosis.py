"""What a wrong loss looks like: the known loss or mistake that answers the same, and the clause that it breaks first.

A deviation rarely comes alone: one wrong IoU departs in indicators, targets and terms at once. So every single change
of an axis and every mutant of the catalogue is put the questions on which the loss departed. The first that answers all
of them as the loss did is what the loss looks like, and its clause is the one to blame; without one, the clause of the
earliest stage is blamed, and what departs later at the same place follows from it.
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
from regionloss_suite.verdict import Verdict

#: How many of the smallest departing cases a candidate must explain; a mistake shows in a few or in none.
_ENOUGH = 12

#: The stages of the computation, by family of clauses: a later one inherits what an earlier one got wrong.
_STAGES = (
    ("domain", "truths", "notation"),
    ("decode",),
    ("iou",),
    ("assign", "tree"),
    ("noobj", "table", "constant"),
    ("prior", "coord", "object", "class"),
    ("scale", "numerics", "statistics"),
)


@dataclass(frozen=True)
class Diagnosis:
    """The clause to blame and, where one is known, what answers the same.

    Attributes:
        clause: id of the clause that is broken first.
        looks_like: in words, or an empty text when nothing known answers the same.
    """

    clause: str
    looks_like: str = ""


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
    smallest = sorted(judge.observations, key=lambda observation: np.size(observation.case.batch.predictions))
    departing = [observation for observation in smallest if observation.departs][:_ENOUGH]
    agreeing = [observation for observation in smallest if not observation.departs]
    for candidate in _candidates(departing, without) if departing else ():
        if not all(_explains(candidate, observation) for observation in departing):
            continue
        # What would depart elsewhere, where this loss does not, is another mistake.
        silent = [seen for seen in agreeing if candidate.clause in seen.case.clauses][:_ENOUGH]
        if all(_explains(candidate, observation) for observation in silent):
            return Diagnosis(candidate.clause, candidate.looks_like)
    first = min(deviating, key=lambda verdict: _stage(verdict.clause))
    return Diagnosis(first.clause)


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
            changes = {"verdict": "deviating", "first": origin, "looks_like": diagnosis.looks_like, "reason": ""}
            folded.append(dataclasses.replace(verdict, **changes))  # type: ignore[arg-type]
        elif verdict.verdict == "deviating" and (diagnosis.looks_like or _same_place(verdict, origin)):
            folded.append(dataclasses.replace(verdict, follows=diagnosis.clause))
        else:
            folded.append(verdict)
    return folded


def _same_place(verdict: Verdict, origin: object) -> bool:
    places = [
        (first.case, first.image, first.row, first.column, first.anchor) if first is not None else None  # type: ignore[attr-defined]
        for first in (verdict.first, origin)
    ]
    return places[0] is not None and places[0] == places[1]


def _stage(clause: str) -> int:
    family = clause.split(".")[0]
    return next((at for at, families in enumerate(_STAGES) if family in families), len(_STAGES))


def _candidates(departing: list[Observation], without: str) -> Iterator[_Candidate]:
    """Every other value of a discrete axis, every mutant, then every other shipped profile as a whole."""
    profile = departing[0].case.profile
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
