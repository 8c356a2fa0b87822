"""How mutants are made: the reference with another question, or with one of its decisions, terms or answers changed.

Inputs outside the domain are still refused, unless the mistake is about that; a mistake that makes no sense for a
question raises `CannotAnswerError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss import DomainError
from regionloss.classes import Tree
from regionloss.decisions import Decisions, Match, decide
from regionloss.decisions import silenced as quiet
from regionloss.domain import CLASS_ONLY, read_inputs
from regionloss.loss import pay_terms
from regionloss.terms import Term
from regionloss_adapters import Answer, CannotAnswerError, Question, RefusedError
from regionloss_spec import Batch, Profile, ProfileError
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched, right

Answering = Callable[[Question], Answer]
Terms = dict[str, Term]
Predictor = tuple[int, int, int, int]

#: The catalogue reads a list from every module of this folder; this one is empty.
MUTANTS: list[Mutant] = []


@dataclass(frozen=True, eq=False)
class Given:
    """The checked input of a loss, with the fields of `decide`."""

    t: Array
    truths: list[Array]
    anchors: Array
    images_seen: int
    profile: Profile
    tree: Tree | None

    def row(self, match: Match) -> Array:
        """The truth of a match, `[5]`."""
        return np.asarray(self.truths[match.image][match.truth])


def read(question: Question) -> Given:
    """The inputs as the reference reads them. Raises `RefusedError` if they lie outside the domain."""
    batch = question.batch
    try:
        t, rows, anchors = read_inputs(
            batch.predictions,
            batch.truths,
            batch.anchors,
            batch.classes,
            batch.images_seen,
            question.profile,
            batch.tree,
        )
    except DomainError as error:
        raise RefusedError(str(error), error.image, error.truth) from error
    return Given(t, rows, anchors, batch.images_seen, question.profile, batch.tree)


def as_if(**axes: Any) -> Answering:
    """The answer under another profile: some axes have another value, or one that is a function of the profile."""

    def answer(question: Question) -> Answer:
        read(question)
        profile = question.profile
        try:
            other = profile.replace(**{axis: v(profile) if callable(v) else v for axis, v in axes.items()})
        except ProfileError as error:
            raise CannotAnswerError(str(error)) from error
        if "tree" in (profile.class_term, other.class_term) and profile.class_term != other.class_term:
            raise CannotAnswerError("classes that form a tree cannot be judged without one, nor others with one")
        if other.objectness == "background":
            needs(other.class_term == "cross-entropy" and other.no_object_target == "zero", "a background class")
        with np.errstate(all="ignore"):  # decoded sizes may overflow although logarithms do not
            return right(dataclasses.replace(question, profile=other))

    return answer


def needs(condition: bool, what: str) -> None:
    """Raise `CannotAnswerError` if a mistake makes no sense."""
    if not condition:
        raise CannotAnswerError(f"the mistake needs {what}")


def softmax_only(profile: Profile) -> None:
    """Raise `CannotAnswerError` unless the classes have a softmax of their own."""
    needs(profile.class_term == "cross-entropy" and profile.objectness == "logistic", "a softmax of the classes")


def asked(change: Callable[[Batch, Given], Batch]) -> Answering:
    """The right answer to another batch; its gradient has the shape of the question's."""

    def answer(question: Question) -> Answer:
        batch = change(question.batch, read(question))
        try:
            return right(dataclasses.replace(question, batch=batch))
        except RefusedError as error:
            raise CannotAnswerError(f"the batch that the mistake makes of this one is refused: {error}") from error

    return answer


def repaired(change: Callable[[Batch], Batch]) -> Answering:
    """A loss that repairs input that it should refuse; input still outside the domain is refused."""
    return lambda question: right(dataclasses.replace(question, batch=change(question.batch)))


def reading(change: Callable[[Array, int, Given], Array]) -> Answering:
    """The rows of each image `[T, 5]` are changed after the checks, except for a row without a box."""

    def misread(*inputs: Any) -> tuple[Array, list[Array], Array]:
        t, rows, anchors = read_inputs(*inputs)
        _, _, _, _, images_seen, profile, tree = inputs
        given = Given(t, rows, anchors, images_seen, profile, tree)
        changed = [
            table if (table[:, :2] > CLASS_ONLY).any() else change(table.copy(), image, given)
            for image, table in enumerate(rows)
        ]
        return t, changed, anchors

    return patched(loss__read_inputs=misread)


def inside(places: Array) -> Array:
    """Centres moved into the image, for mistakes that would put them outside it."""
    return np.clip(places, 0.0, np.nextafter(1.0, 0.0))


def decided(change: Callable[[Decisions, Given], Decisions]) -> Answering:
    """Other decisions, with correct consequences."""

    def decide_wrongly(*inputs: Any) -> Decisions:
        return change(decide(*inputs), Given(*inputs))

    return patched(loss__decide=decide_wrongly)


def paid(change: Callable[[Terms, Given, Decisions], Terms | None]) -> Answering:
    """Other terms from correct decisions; the arrays of the terms can be changed in place."""

    def pay_wrongly(
        t: Array, truths: list[Array], anchors: Array, decisions: Decisions, profile: Profile, tree: Tree | None
    ) -> Terms:
        terms = pay_terms(t, truths, anchors, decisions, profile, tree)
        # The terms do not depend on the number of images seen.
        return change(terms, Given(t, truths, anchors, 0, profile, tree), decisions) or terms

    return patched(loss__pay_terms=pay_wrongly)


def spoilt(change: Callable[[Answer, Question], Answer]) -> Answering:
    """The right answer, wrongly reported."""
    return lambda question: change(right(question), question)


def rows_read(table: Array, profile: Profile) -> Array:
    """The rows of a list `[T, 5]` that are read."""
    if profile.truth_end == "x-zero":
        ends = np.flatnonzero(table[:, 0] == 0)
        table = table[: ends[0]] if len(ends) else table
    return table[: profile.max_truths] if profile.max_truths else table


def multiplied(answer: Answer, by: float) -> Answer:
    """An answer with its loss, terms and gradient multiplied."""
    assert answer.gradient is not None
    assert answer.potential is not None
    assert answer.terms is not None
    return dataclasses.replace(
        answer,
        gradient=by * answer.gradient,
        potential=by * answer.potential,
        terms={name: by * value for name, value in answer.terms.items()},
    )


def by_image(decisions: Decisions) -> Array:
    """Images with boxes, bool `[N, 1, 1, 1]`."""
    return np.asarray(~decisions.class_only[:, None, None, None])


def redecided(
    decisions: Decisions,
    given: Given,
    *,
    max_iou: Array | None = None,
    best_truth: Array | None = None,
    matches: Iterable[Match] | None = None,
    silenced: Array | None = None,
) -> Decisions:
    """The decisions that follow from another MaxIOU, from other matches, or from additionally silenced predictors."""
    profile = given.profile
    max_iou = decisions.max_iou if max_iou is None else max_iou
    matches = decisions.matches if matches is None else tuple(matches)
    responsible = np.zeros_like(decisions.responsible)
    for match in matches:
        responsible[match.predictor] |= match.pays_box
    mute = quiet(max_iou, profile)
    if silenced is not None:
        mute = mute | silenced
    every = profile.no_object_applies == "every-predictor"
    early = given.images_seen < profile.prior_until
    return Decisions(
        max_iou=max_iou,
        best_truth=decisions.best_truth if best_truth is None else best_truth,
        matches=matches,
        responsible=responsible,
        no_object=~mute & by_image(decisions) & (~responsible | every),
        prior=early & by_image(decisions) & (~responsible | (profile.prior_applies == "every-predictor")),
        class_only=decisions.class_only,
    )


def boxed(decisions: Decisions) -> Iterator[Match]:
    """The matches of truths that have a box."""
    return (match for match in decisions.matches if not decisions.class_only[match.image])


def paying(decisions: Decisions) -> Iterator[Match]:
    """The matches whose box is paid."""
    return (match for match in decisions.matches if match.pays_box)


def with_iou(iou: Callable[[Array, Array], Array]) -> dict[str, Any]:
    """The pieces to patch for an IoU that the whole loss shares: MaxIOU, anchor choice and target alike."""
    return {"boxes__iou": iou, "decisions__iou": iou, "terms__iou": iou}


def with_decode(decode: Callable[[Array, Array], Array]) -> dict[str, Any]:
    """The pieces to patch for a decoding that the whole loss shares."""
    return {"decisions__decode": decode, "terms__decode": decode, "loss__decode": decode}
