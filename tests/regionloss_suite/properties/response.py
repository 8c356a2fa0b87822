"""An adapter's answer to one batch, by predictor, and the assertions that properties make on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import assume

from regionloss import Result
from regionloss.bounds import PRECISIONS, Bounds
from regionloss_adapters import Answer
from regionloss_spec import Batch, Case, Profile, load_clauses
from regionloss_spec.batch import Array
from regionloss_spec.clause import TERMS, View
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.oracle.alternatives import too_many, unsettled
from regionloss_suite.oracle.channels import channel_name
from regionloss_suite.oracle.comparison import VIEWS, Comparison, Difference


class DeviationError(Exception):
    """The loss under test deviates: the first deviation, and its batch."""

    def __init__(
        self,
        difference: Difference,
        batch: Batch,
        profile: Profile,
        clauses: Sequence[str] = (),
        broad: Sequence[str] = (),
    ) -> None:
        super().__init__(str(difference))
        self.difference = difference
        self.batch = batch
        self.profile = profile
        #: The clauses that deviate; those of the property if none are named.
        self.clauses = tuple(clauses)
        #: Those of them whose only view is one that shows every deviation.
        self.broad = tuple(broad)


class NotAnswerableError(Exception):
    """The adapter cannot answer this; the message states why."""


@dataclass(frozen=True, eq=False)
class Response:
    """The answer to one batch inside the domain.

    Attributes:
        exchange: the batch and the answer.
        clauses: ids of the clauses under test.
    """

    exchange: Exchange
    clauses: tuple[str, ...] = ()

    @property
    def case(self) -> Case:
        """The batch as a case with the reference's answer."""
        return self.exchange.case

    @property
    def dtype(self) -> str:
        """The format of the predictions."""
        return self.exchange.dtype

    @property
    def answer(self) -> Answer:
        """The answer, with the declared reduction and factor undone."""
        assert self.exchange.answer is not None
        return self.exchange.answer

    @property
    def returned(self) -> Answer:
        """The answer exactly as the adapter returned it."""
        assert self.exchange.returned is not None
        return self.exchange.returned

    @property
    def comparison(self) -> Comparison:
        """The answer beside the reference's."""
        assert self.exchange.comparison is not None
        return self.exchange.comparison

    @property
    def result(self) -> Result:
        """The reference's answer."""
        return self.comparison.result

    @property
    def bounds(self) -> Bounds:
        """How far the answer may be from the reference's."""
        return self.comparison.bounds

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """The decisions that the precision cannot settle."""
        return unsettled(self.result, self.bounds, PRECISIONS[self.dtype])

    @property
    def unit(self) -> float:
        """Unit roundoff of the arithmetic."""
        return PRECISIONS[self.dtype].unit

    @property
    def gradient(self) -> Array:
        """The returned gradient by predictor, `[N, A, 5+C, H, W]`."""
        return self._by_predictor("gradient", self.answer.gradient)

    @property
    def curvature(self) -> Array:
        """The returned derivative of the gradient by predictor, `[N, A, 5+C, H, W]`."""
        return self._by_predictor("curvature", self.answer.curvature)

    def _by_predictor(self, name: str, derivative: Array | None) -> Array:
        got = np.asarray(derivative, dtype=np.float64)
        if got.shape != self.result.gradient.shape:
            raise self.deviation(f"shape of the {name}", str(list(got.shape)), str(list(self.result.gradient.shape)))
        return got.reshape(self.result.t.shape)

    @property
    def gradient_bound(self) -> Array:
        """Its bound, `[N, A, 5+C, H, W]`."""
        return self.bounds.gradient.reshape(self.result.t.shape)

    @property
    def states(self) -> Array:
        """Each predictor's truth, and whether the predictor is ignored, `[N, A, 2, H, W]`; -1 if not returned."""
        images, anchors, _, height, width = self.result.t.shape
        states = np.zeros((images, anchors, 2, height, width), dtype=int)
        for at, places in ((0, self.answer.responsible), (1, self.answer.ignored)):
            if places is None:
                states[:, :, at] = -1
            for image, *_, anchor, row, column in places or ():
                states[image, anchor, at, row, column] += 1
        return states

    def deviation(
        self, quantity: str, got: float | str, expected: float | str, bound: float | None = None
    ) -> DeviationError:
        """A deviation without a place."""
        difference = Difference(
            case=self.case.id, dtype=self.dtype, quantity=quantity, got=got, expected=expected, bound=bound
        )
        return DeviationError(difference, self.case.batch, self.case.profile)

    def hold(self, name: str, got: Array, expected: Array, bound: Array, where: Array | None = None) -> None:
        """Raise `DeviationError` at the first element of `[N, A, E, H, W]` that is further off than its bound."""
        wrong = ~(np.abs(got - expected) <= bound)  # also true for NaN
        if where is not None:
            wrong &= where
        places = np.argwhere(np.moveaxis(wrong, (3, 4), (1, 2)))
        if not len(places):
            return
        image, row, column, anchor, channel = map(int, places[0])
        at = (image, anchor, channel, row, column)
        if name in ("gradient", "curvature"):
            name = f"{channel_name(channel)} {name}"
        difference = Difference(
            case=self.case.id,
            dtype=self.dtype,
            quantity=name,
            got=float(got[at]),
            expected=float(expected[at]),
            bound=float(np.broadcast_to(bound, got.shape)[at]),
            image=image,
            row=row,
            column=column,
            anchor=anchor,
        )
        raise DeviationError(difference, self.case.batch, self.case.profile)

    def hold_number(self, name: str, got: float, expected: float, bound: float) -> None:
        """Raise `DeviationError` if a number is further off than its bound."""
        if not abs(got - expected) <= bound:
            raise self.deviation(name, float(got), float(expected), float(bound))

    def conforms(self, views: Sequence[View] = ()) -> None:
        """Raise `DeviationError` if the answer deviates from the reference.

        Args:
            views: where to compare; by default the views of the property's clauses.
        """
        assume(not self.needs_skipping)
        by_clause = {clause: self._views_of(clause) for clause in self.clauses}
        first = self._first(views or [view for own in by_clause.values() for view in own] or VIEWS)
        if first is not None:
            departing = [clause for clause, own in by_clause.items() if self._first(own) is not None]
            broad = [] if views else [clause for clause in departing if self._rank(clause) == 2]
            raise DeviationError(first, self.case.batch, self.case.profile, departing, broad)

    def _first(self, views: Sequence[View]) -> Difference | None:
        with np.errstate(all="ignore"):
            differences = (self.comparison.difference(view) for view in views)
            return next((difference for difference in differences if difference is not None), None)

    def _views_of(self, clause: str) -> Sequence[View]:
        """The most specific views of a clause that are answered."""
        rank = self._rank(clause)
        views = [view for view in load_clauses()[clause].seen if self.comparison.answers(view) and _rank(view) == rank]
        return [part for view in views for part in (VIEWS if view.answer == "everything" else (view,))]

    def _rank(self, clause: str) -> int:
        """How specific the best of its answered views is for a clause: 0 very, 1 hardly, 2 not at all."""
        seen = load_clauses()[clause].seen
        return min((_rank(view) for view in seen if self.comparison.answers(view)), default=2)

    @property
    def needs_skipping(self) -> bool:
        """Whether the open decisions have more combinations than a comparison tries."""
        return bool(self.edges) and too_many(self.result, self.bounds, PRECISIONS[self.dtype])


def _rank(view: View) -> int:
    return 2 if view.broad else 1 if view.answer == "potential" else 0


def both(one: Response, other: Response) -> dict[str, tuple[float, float, float]]:
    """The numbers that both answers contain: each one's, and the sum of their bounds."""
    numbers = {}
    if one.answer.potential is not None and other.answer.potential is not None:
        bound = one.bounds.potential + other.bounds.potential
        numbers["potential"] = (one.answer.potential, other.answer.potential, bound)
    if one.answer.terms is not None and other.answer.terms is not None:
        for name in TERMS:
            first, second = (terms.get(name, float("nan")) for terms in (one.answer.terms, other.answer.terms))
            numbers[f"term {name}"] = (first, second, one.bounds.terms[name] + other.bounds.terms[name])
    return numbers
