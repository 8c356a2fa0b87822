"""Known causes: choices, mistakes and losses that may explain why a loss deviates, alone or combined.

Every other value of a discrete axis, every mutant of the catalogue and every other shipped profile gets the questions
on which the loss deviated, those that break a likely clause first. If no single cause explains them all, several
together may: each must explain most of what those before it leave, because agreement to the last digit in most of the
cases is no accident, while in a few small ones it may be.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from regionloss.bounds import PRECISIONS
from regionloss_adapters import Answer, CannotAnswerError, Question, RefusedError
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import AXES, Profile, ProfileError, load_clauses, load_profile, profile_names
from regionloss_spec.clause import View
from regionloss_spec.profile import axis_values
from regionloss_suite.diagnosis.differences import clause_of
from regionloss_suite.diagnosis.ranking import rank_clauses
from regionloss_suite.judging.judge import Observation
from regionloss_suite.measure.findings import Finding
from regionloss_suite.mutants import Mutant, catalogue
from regionloss_suite.oracle.comparison import Comparison

#: Number of the smallest correctly answered cases on which a cause must be right too.
_ENOUGH = 12
#: Number of the smallest deviating cases that select the next of several causes.
_SAMPLE = 12
#: The share of the rest that the next of several causes has to explain, and the largest number of causes.
_SHARE, _MOST = 0.6, 3


@dataclass(frozen=True)
class KnownCause:
    """Another choice, a known mistake or a known loss.

    Attributes:
        clause: id of the clause that it breaks.
        words: what it is.
        options: the axes that differ from the profile under test, or `None` for a mutant.
        mutant: its id, or an empty string.
    """

    clause: str
    words: str
    options: dict[str, object] | None = None
    mutant: str = ""

    def answer(self, question: Question) -> Answer:
        """The answer of a loss with this cause, under any profile."""
        if self.options is not None:
            profile = question.profile.replace(**self.options)
            return NumpyAdapter().answer(dataclasses.replace(question, profile=profile))
        return catalogue()[self.mutant].answer(question)

    def explains(self, observation: Observation) -> bool:
        """Whether it gives the answer of the loss to a question, in everything that the loss returned."""
        return same_answer(self, observation)


def matching_causes(
    departing: list[Observation],
    agreeing: list[Observation],
    *,
    without: str = "",
    measured: Mapping[str, Finding] | None = None,
) -> tuple[KnownCause, ...]:
    """The known causes that give the loss's answers on all departing cases, and are right where the loss is.

    One cause if there is one; else several in different cases, of which none changes what another explains. Empty if
    anything remains.

    Args:
        departing: the departing observations, the smallest first.
        agreeing: those on which the loss is right.
        without: id of a mutant to leave out.
        measured: what the measuring questions say, by axis: another choice counts only if it was measured.
    """
    if not departing:
        return ()
    ranked = rank_clauses([*agreeing, *departing])
    order = {clause.clause: place for place, clause in enumerate(ranked)}
    possible = (cause for cause in candidates(_profiles(departing), without) if _fits(cause, measured))
    causes = sorted(possible, key=lambda cause: order.get(cause.clause, len(order)))
    smallest = sorted(agreeing, key=lambda observation: np.size(observation.case.batch.predictions))
    for cause in causes:
        if all(cause.explains(observation) for observation in departing) and is_right_elsewhere(cause, smallest):
            return (cause,)
    return _joint([cause for cause in causes if cause.clause in order], departing, smallest)


def _fits(cause: KnownCause, measured: Mapping[str, Finding] | None) -> bool:
    """Whether a cause that is another choice is what was measured; a mistake is never measured."""
    if measured is None or not cause.options:
        return True
    known = {axis: measured[axis] for axis in cause.options if axis in measured}
    return all(
        finding.value == cause.options[axis] for axis, finding in known.items() if finding.confidence != "assumed"
    )


def is_right_elsewhere(cause: KnownCause, agreeing: list[Observation]) -> bool:
    """Whether it is right where the loss is: a cause that deviates there is another mistake.

    `agreeing` starts with the smallest batches; some of those that pin its clause are tried.
    """
    pinned = [observation for observation in agreeing if cause.clause in observation.case.clauses][:_ENOUGH]
    return all(cause.explains(observation) for observation in pinned)


def _joint(
    known: list[KnownCause], departing: list[Observation], agreeing: list[Observation]
) -> tuple[KnownCause, ...]:
    """Several causes in different cases that together explain everything; empty if anything remains."""
    causes: list[KnownCause] = []
    left = departing
    while left and len(causes) < _MOST:
        best = _best([cause for cause in known if cause.clause not in {one.clause for one in causes}], left, agreeing)
        if best is None:
            return ()
        causes.append(best)
        left = [observation for observation in left if not best.explains(observation)]
    if left:
        return ()
    for observation in departing:  # the loss has all of them, so where one shows, the others must change nothing
        if any(not cause.explains(observation) and _touches(cause, observation) for cause in causes):
            return ()
    return tuple(causes)


def resembling(departing: list[Observation], *, without: str = "") -> str:
    """The known cause that explains most of the departing cases, and how far it reaches; empty if none does."""
    sample = departing[:_SAMPLE]
    if not sample:
        return ""
    counts = [
        (sum(cause.explains(observation) for observation in sample), cause)
        for cause in candidates(_profiles(departing), without)
        if any(cause.explains(observation) for observation in sample[:2])
    ]
    count, cause = max(counts, key=lambda pair: pair[0], default=(0, None))
    if cause is None or count < 2 or count <= len(sample) // 3:
        return ""
    missed = [observation for observation in departing if not cause.explains(observation)]
    explained = len({observation.case.id for observation in departing}) - len({one.case.id for one in missed})
    if not missed:
        return ""
    return f"resembles this in {explained} cases, but not in {missed[0].case.id}: {cause.words}"


def _best(known: list[KnownCause], left: list[Observation], agreeing: list[Observation]) -> KnownCause | None:
    """The cause that explains most of the sample, if it explains at least `_SHARE` of the rest."""
    sample = left[:_SAMPLE]
    counts = [(count, cause) for cause in known if (count := _explained(cause, sample)) is not None]
    for _, cause in sorted(counts, key=lambda pair: -pair[0]):
        of_all = sum(cause.explains(observation) for observation in left)
        if of_all >= _SHARE * len(left) and is_right_elsewhere(cause, agreeing):
            return cause
    return None


def _explained(cause: KnownCause, sample: list[Observation]) -> int | None:
    """How many of the cases it explains, or `None` once they cannot be enough."""
    missed = 0
    for observation in sample:
        missed += not cause.explains(observation)
        if len(sample) - missed < _SHARE * len(sample):
            return None
    return len(sample) - missed


def _touches(cause: KnownCause, observation: Observation) -> bool:
    """Whether it deviates from a conforming loss: if so, it may hide another mistake, or be hidden by it."""
    compared = observation.exchange.comparison
    if compared is None:
        return True
    case = observation.case
    try:
        answer = cause.answer(Question(batch=case.batch, profile=case.profile, dtype=compared.dtype))
    except (CannotAnswerError, RefusedError, ProfileError, ArithmeticError, ValueError, IndexError):
        return True
    return Comparison(case, answer, compared.dtype).difference(View("everything")) is not None


def _profiles(departing: list[Observation]) -> list[Profile]:
    """The profiles of the departing cases, the most frequent first."""
    counts = Counter(observation.case.profile for observation in departing)
    return sorted(counts, key=lambda profile: -counts[profile])


def candidates(profiles: list[Profile], without: str) -> Iterator[KnownCause]:
    """Every other value of a discrete axis, every mutant, then every other shipped profile as a whole.

    Args:
        profiles: of the departing cases; a mutant of any of them is tried, and other choices of the first.
        without: id of a mutant to leave out.
    """
    profile = profiles[0]
    for axis in AXES:
        for value in axis_values(axis):
            if value == getattr(profile, axis):
                continue
            clause = clause_of(axis, profile)
            if clause and _possible(profile, {axis: value}):
                yield KnownCause(clause, _known_by(axis, value, profile), {axis: value})
    for mutant in catalogue().values():
        if mutant.id != without and any(_is_of(mutant, one) for one in profiles):
            after = f" ({mutant.after})" if mutant.after else ""
            yield KnownCause(mutant.clause, f"{mutant.title}{after}", mutant=mutant.id)
    for name in profile_names():
        if (load_profile(name).class_term == "tree") != (profile.class_term == "tree"):
            continue
        pairs = profile.differences(load_profile(name))
        clause = next((stated for axis in pairs if (stated := clause_of(axis, profile))), "")
        if clause:
            yield KnownCause(clause, f"profile {name}", {axis: value for axis, (_, value) in pairs.items()})


def _known_by(axis: str, value: object, profile: Profile) -> str:
    """Another value of an axis in words: the shipped profiles that have it unlike darknet, and its clause."""
    having = [name for name in profile_names() if getattr(load_profile(name), axis) == value]
    clause = clause_of(axis, profile.replace(**{axis: value}))
    choice = f"{axis} = {value}{f', {clause}' if clause else ''}"
    if not having or "darknet" in having:
        return f"{choice}, instead of {getattr(profile, axis)}"
    return f"profile{'s' * (len(having) > 1)} {', '.join(having[:3])} ({choice})"


def _is_of(mutant: Mutant, profile: Profile) -> bool:
    """Whether a mutant is a mistake of this profile: its clause binds it, and it has the options of the mutant."""
    has = all(getattr(profile, axis) == value for axis, value in mutant.options.items())
    return has and load_clauses()[mutant.clause].applies_to(profile)


def _possible(profile: Profile, options: dict[str, object]) -> bool:
    try:
        profile.replace(**options)
    except ProfileError:
        return False
    return True


def same_answer(cause: KnownCause, observation: Observation) -> bool:
    """Whether a known cause gives the same answer to a question as the loss under test, in everything it returned."""
    case, exchange = observation.case, observation.exchange
    compared = exchange.comparison
    dtype = compared.dtype if compared is not None else "float64"
    try:
        with np.errstate(all="ignore"):
            answer = cause.answer(Question(batch=case.batch, profile=case.profile, dtype=dtype))
    except RefusedError as refusal:
        same = exchange.outcome == "refused"
        return same and (refusal.image, refusal.truth) == (exchange.image, exchange.truth)
    except (CannotAnswerError, ProfileError, ArithmeticError, ValueError, IndexError):
        return False
    if compared is None:
        return exchange.outcome == "answered"
    return (
        _same_gradient(answer, compared)
        and _same_indicators(answer, compared.answer)
        and _same_numbers(answer, compared)
    )


def _same_gradient(answer: Answer, compared: Comparison) -> bool:
    if compared.answer.gradient is None:
        return True
    if answer.gradient is None or np.shape(answer.gradient) != np.shape(compared.answer.gradient):
        return False
    wanted, got = (np.asarray(one, dtype=np.float64) for one in (answer.gradient, compared.answer.gradient))
    size = np.where(np.isfinite(wanted), np.abs(wanted), 0.0)
    slack = compared.gradient_bound + 64 * PRECISIONS[compared.dtype].unit * (size + 1e-3 * size.max(initial=0))
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(wanted - got) <= slack) | (wanted == got) | (np.isnan(wanted) & np.isnan(got))).all())


def _same_indicators(answer: Answer, given: Answer) -> bool:
    pairs = ((given.responsible, answer.responsible), (given.ignored, answer.ignored))
    return all(ours is None or theirs is None or sorted(ours) == sorted(theirs) for ours, theirs in pairs)


def _same_numbers(answer: Answer, compared: Comparison) -> bool:
    """Whether all scalars that both return are equal up to rounding."""
    ours, theirs = _numbers(compared.answer), _numbers(answer)
    slack = 4096 * PRECISIONS[compared.dtype].unit
    whole = 1e-3 * max((abs(value) for value in theirs.values() if math.isfinite(value)), default=0.0)
    pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
    return all(
        one == two or (math.isnan(one) and math.isnan(two)) or abs(one - two) <= slack * (abs(two) + whole)
        for one, two in pairs
    )


def _numbers(answer: Answer) -> dict[str, float]:
    scalars = {"potential": answer.potential, "printed cost": answer.printed_cost}
    known = {name: float(value) for name, value in scalars.items() if value is not None}
    return known | {**(answer.terms or {}), **(answer.statistics or {})}
