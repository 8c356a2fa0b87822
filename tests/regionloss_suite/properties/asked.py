"""One batch that was put to an adapter: its answer beside that of the reference, and how it is said to depart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import assume
from numpy.typing import NDArray

from regionloss import Result
from regionloss.bounds import PRECISIONS, Bounds
from regionloss_adapters import Answer
from regionloss_spec import Batch, Case, Profile, load_clauses
from regionloss_spec.clause import BLOCKS, STATES, TERMS, View
from regionloss_suite.oracle.alternatives import too_many, unsettled
from regionloss_suite.oracle.comparison import Comparison, Difference

Array = NDArray[Any]

_CHANNELS = ("tx", "ty", "tw", "th", "to")

#: Everything that an answer can be held against the reference in, from what decides to what follows from it.
VIEWS = (
    View("indicator"),
    *(View("gradient", (block,), STATES) for block in BLOCKS),
    *(View("term", term=name) for name in TERMS),
    View("potential"),
    View("printed cost"),
    View("statistics"),
)


class Departs(Exception):  # noqa: N818  # a finding about the loss under test, not an error of the suite
    """The loss under test departs: where it first does, and on which batch."""

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
        #: The clauses that the departure speaks of; those of the property where none are named.
        self.clauses = tuple(clauses)
        #: Those of them that were looked for where every departure shows, whatever it is.
        self.broad = tuple(broad)


class Unanswered(Exception):  # noqa: N818  # a limit of the adapter, not an error
    """The adapter cannot be asked this; the message says why."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One batch that was put to the adapter, what it said, and what the reference says.

    Attributes:
        case: the batch as a case that expects what the reference answers.
        dtype: the format it was asked in.
        answer: what the adapter said, its reduction and factor multiplied out.
        raw: what it said, as it said it.
        clauses: what it is asked for.
    """

    case: Case
    dtype: str
    answer: Answer
    raw: Answer
    clauses: tuple[str, ...] = ()

    @cached_property
    def comparison(self) -> Comparison:
        """The answer beside that of the reference."""
        with np.errstate(all="ignore"):
            return Comparison(self.case, self.answer, self.dtype)

    @property
    def result(self) -> Result:
        """What the reference answers."""
        return self.comparison.result

    @property
    def bounds(self) -> Bounds:
        """How far the answer may be from that."""
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
        """The answered gradient by predictor, `[N, A, 5+C, H, W]`."""
        return self._by_predictor("gradient", self.answer.gradient)

    @property
    def curvature(self) -> Array:
        """The answered derivative of the gradient by predictor, `[N, A, 5+C, H, W]`."""
        return self._by_predictor("curvature", self.answer.curvature)

    def _by_predictor(self, name: str, answered: Array | None) -> Array:
        got = np.asarray(answered, dtype=np.float64)
        if got.shape != self.result.gradient.shape:
            raise self.departs(f"shape of the {name}", str(list(got.shape)), str(list(self.result.gradient.shape)))
        return got.reshape(self.result.t.shape)

    @property
    def gradient_bound(self) -> Array:
        """Its bound, `[N, A, 5+C, H, W]`."""
        return self.bounds.gradient.reshape(self.result.t.shape)

    @property
    def states(self) -> Array:
        """Truths that each predictor answers for, and whether it is ignored, `[N, A, 2, H, W]`; -1 where not said."""
        images, anchors, _, height, width = self.result.t.shape
        found = np.zeros((images, anchors, 2, height, width), dtype=int)
        for at, places in ((0, self.answer.responsible), (1, self.answer.ignored)):
            if places is None:
                found[:, :, at] = -1
            for image, *_, anchor, row, column in places or ():
                found[image, anchor, at, row, column] += 1
        return found

    def departs(self, quantity: str, got: float | str, expected: float | str, bound: float | None = None) -> Departs:
        """A departure without a place."""
        difference = Difference(
            case=self.case.id, dtype=self.dtype, quantity=quantity, got=got, expected=expected, bound=bound
        )
        return Departs(difference, self.case.batch, self.case.profile)

    def hold(self, name: str, got: Array, expected: Array, bound: Array, where: Array | None = None) -> None:
        """Raise `Departs` at the first element of `[N, A, E, H, W]` that is further from another than its bound."""
        wrong = ~(np.abs(got - expected) <= bound)  # true where one is not a number
        if where is not None:
            wrong &= where
        places = np.argwhere(np.moveaxis(wrong, (3, 4), (1, 2)))
        if not len(places):
            return
        image, row, column, anchor, channel = map(int, places[0])
        at = (image, anchor, channel, row, column)
        if name in ("gradient", "curvature"):
            name = f"{_CHANNELS[channel] if channel < 5 else f'class {channel - 5}'} {name}"
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
        raise Departs(difference, self.case.batch, self.case.profile)

    def hold_number(self, name: str, got: float, expected: float, bound: float) -> None:
        """Raise `Departs` if a number is further from another than its bound."""
        if not abs(got - expected) <= bound:
            raise self.departs(name, float(got), float(expected), float(bound))

    def conforms(self, views: Sequence[View] = ()) -> None:
        """Raise `Departs` where the answer departs from the reference.

        Args:
            views: where to look; if left out, where the clauses that are asked about are seen.
        """
        assume(not self.needs_skipping)
        seen = {clause: self._seen(clause) for clause in self.clauses}
        first = self._first(views or [view for own in seen.values() for view in own] or VIEWS)
        if first is not None:
            departing = [clause for clause, own in seen.items() if self._first(own) is not None]
            broad = [] if views else [clause for clause in departing if self._rank(clause) == 2]
            raise Departs(first, self.case.batch, self.case.profile, departing, broad)

    def _first(self, views: Sequence[View]) -> Difference | None:
        with np.errstate(all="ignore"):
            found = (self.comparison.difference(view) for view in views)
            return next((difference for difference in found if difference is not None), None)

    def _seen(self, clause: str) -> Sequence[View]:
        """The views of a clause that are answered and tell most."""
        rank = self._rank(clause)
        views = [view for view in load_clauses()[clause].seen if self.comparison.answers(view) and _rank(view) == rank]
        return [part for view in views for part in (VIEWS if view.answer == "everything" else (view,))]

    def _rank(self, clause: str) -> int:
        """How well the best of its answered views tells a clause from others: 0 well, 1 hardly, 2 not at all."""
        seen = load_clauses()[clause].seen
        return min((_rank(view) for view in seen if self.comparison.answers(view)), default=2)

    @property
    def needs_skipping(self) -> bool:
        """Whether decisions are open that can come out in more ways than a comparison tries."""
        return bool(self.edges) and too_many(self.result, self.bounds, PRECISIONS[self.dtype])


def _rank(view: View) -> int:
    return 2 if view.broad else 1 if view.answer == "potential" else 0


def both(one: Asked, other: Asked) -> dict[str, tuple[float, float, float]]:
    """The numbers that two answers give: that of each, and the sum of their bounds."""
    found = {}
    if one.answer.potential is not None and other.answer.potential is not None:
        bound = one.bounds.potential + other.bounds.potential
        found["potential"] = (one.answer.potential, other.answer.potential, bound)
    if one.answer.terms is not None and other.answer.terms is not None:
        for name in TERMS:
            first, second = (terms.get(name, float("nan")) for terms in (one.answer.terms, other.answer.terms))
            found[f"term {name}"] = (first, second, one.bounds.terms[name] + other.bounds.terms[name])
    return found
