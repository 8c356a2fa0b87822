"""Compare an answer with that of a conforming loss, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from regionloss import Result, evaluate
from regionloss.bounds import PRECISIONS, Bounds, bounds
from regionloss_adapters import Answer
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec import Case
from regionloss_spec.batch import Array
from regionloss_spec.clause import BLOCKS, STATES, TERMS, View
from regionloss_suite.oracle.channels import BLOCK_CHANNELS, channel_name
from regionloss_suite.oracle.tolerance import Tolerance, kept_statistics_bounds

_SUMS = (
    *(View("term", term=name) for name in TERMS),
    View("potential"),
    View("printed cost"),
    View("statistics"),
)

#: Every view of an answer, ordered from causes to consequences.
VIEWS = (View("indicator"), *(View("gradient", (block,), STATES) for block in BLOCKS), *_SUMS)

#: The same, ordered so that the first deviation is the one with the most exact place.
_EVERYTHING = (View("gradient", BLOCKS, STATES), View("indicator"), *_SUMS)

Indicators = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first deviation of an answer. Places are indices; `None` if the quantity has no place.

    Attributes:
        case: id of the case.
        dtype: format of the predictions.
        quantity: what differs, such as `ty gradient` or `term coord`.
        got, expected, bound: numbers, or text if the quantity is not a number.
    """

    case: str
    dtype: str
    quantity: str
    got: float | str
    expected: float | str
    bound: float | None = None
    image: int | None = None
    row: int | None = None
    column: int | None = None
    anchor: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The form in the JSON report; numbers that JSON lacks become strings."""
        return {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def __str__(self) -> str:
        place = [f"case {self.case}"]
        if self.image is not None:
            place.append(f"image {self.image}")
        if self.row is not None:
            place.append(f"cell ({self.row}, {self.column})")
        if self.anchor is not None:
            place.append(f"anchor {self.anchor}")
        within = "" if self.bound is None else f" ± {self.bound:.1e}"
        numbers = f"{self.quantity} {_text(self.got)}, expected {_text(self.expected)}{within}"
        return " · ".join(part for part in (", ".join(place), numbers, self.dtype) if part)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Difference:
        """Read what `to_json` wrote; keys of a newer version are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: _number(value) for key, value in entry.items() if key in known})


def _number(value: Any) -> Any:
    """Numbers that JSON cannot write, as strings."""
    return float(value) if value in ("nan", "inf", "-inf") else value


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"


@lru_cache(maxsize=256)
def reference_of(case: Case) -> Result:
    """The reference's answer, cached because many losses are compared on the same case in one run."""
    return evaluate(case.batch, case.profile)


@lru_cache(maxsize=512)
def _reference_bounds(case: Case, dtype: str) -> Bounds:
    return bounds(reference_of(case), PRECISIONS[dtype])


def forget() -> None:
    """Drop the cached answers of the reference, which take much memory for large batches."""
    reference_of.cache_clear()
    _reference_bounds.cache_clear()
    kept_statistics_bounds.cache_clear()


class Comparison:
    """An answer to a case, to be compared in the views of the clauses.

    Args:
        case: the question.
        answer: the answer.
        dtype: the format of the predictions, which must be exact in it.
        adjust: what becomes of a result of the reference before it is compared (`Tolerance`).
    """

    def __init__(
        self, case: Case, answer: Answer, dtype: str, adjust: Callable[[Result], Result] = lambda result: result
    ) -> None:
        self.case = case
        self.answer = answer
        self.dtype = dtype
        self.result = reference_of(case)
        #: How far the answer may be from the reference; for a case that is not a recording, the whole bound.
        self.bounds = _reference_bounds(case, dtype)
        recording = _reference_bounds(case, "float32") if case.recorded else None
        self._differences: dict[View, Difference | None] = {}
        self._tolerance = Tolerance(case, self.result, dtype, self.bounds, recording, adjust)

    def answers(self, view: View) -> bool:
        """Whether the answer contains anything that the view covers."""
        given = self.answer
        return {
            "gradient": given.gradient is not None,
            "structural zeros": given.gradient is not None,
            "term": given.terms is not None,
            "indicator": given.responsible is not None or given.ignored is not None,
            "potential": given.potential is not None,
            "printed cost": given.printed_cost is not None and self._tolerance.cost is not None,
            "statistics": given.statistics is not None,
            "error": False,
            "everything": any(
                part is not None
                for part in (given.gradient, given.potential, given.terms, given.responsible, given.ignored)
            ),
        }[view.answer]

    def difference(self, view: View) -> Difference | None:
        """The first deviation within the view; kept, since many clauses share a view."""
        if view not in self._differences:
            self._differences[view] = self._find(view)
        return self._differences[view]

    def _find(self, view: View) -> Difference | None:
        if not self.answers(view):
            return None
        match view.answer:
            case "gradient":
                return self._gradient(self._region(view))
            case "structural zeros":
                return self._gradient((self.gradient_bound == 0).reshape(self.result.t.shape))
            case "term":
                return self._term(view.term)
            case "indicator":
                return self._indicator()
            case "potential":
                return self._number(
                    "potential",
                    self.answer.potential,
                    self.case.expected.potential,
                    lambda result: result.potential,
                    lambda limits: limits.potential,
                )
            case "printed cost":
                return self._printed_cost()
            case "statistics":
                return self._statistics()
            case _:
                return self._everything()

    def _everything(self) -> Difference | None:
        differences = (self.difference(view) for view in _EVERYTHING)
        return next((difference for difference in differences if difference is not None), None)

    @property
    def gradient_bound(self) -> Array:
        """How far each gradient element may be from the expected one, `[N, A*(5+C), H, W]`."""
        return self._tolerance.gradient_bound

    @cached_property
    def wrong(self) -> Array:
        """Elements of the gradient that no conforming loss returns, bool `[N, A, 5+C, H, W]`."""
        got = np.asarray(self.answer.gradient, dtype=np.float64)
        return self._tolerance.outside(got).reshape(self.result.t.shape)

    def _region(self, view: View) -> Array:
        """The elements that a gradient view covers, bool `[N, A, 5+C, H, W]`."""
        region = np.zeros(self.result.t.shape, dtype=bool)
        where = self._states(view.states)
        for block in view.blocks:
            region[:, :, BLOCK_CHANNELS[block]] |= where[:, :, None]
        return region

    def _gradient(self, region: Array) -> Difference | None:
        """The first wrong element of a region, in the order image, row, column, anchor, channel."""
        got = np.asarray(self.answer.gradient)
        if got.shape != self._tolerance.gradient.shape:
            shapes = str(list(got.shape)), str(list(self._tolerance.gradient.shape))
            return self._difference("shape of the gradient", *shapes)
        places = np.argwhere(np.moveaxis(self.wrong & region, (3, 4), (1, 2)))  # image, row, column, anchor, channel
        if not len(places):
            return None
        image, row, column, anchor, channel = map(int, places[0])
        place = (image, anchor, channel, row, column)
        by_channel = self.result.t.shape
        return Difference(
            case=self.case.id,
            dtype=self.dtype,
            quantity=f"{channel_name(channel)} gradient",
            got=float(got.reshape(by_channel)[place]),
            expected=float(self._tolerance.gradient.reshape(by_channel)[place]),
            bound=float(self.gradient_bound.reshape(by_channel)[place]),
            image=image,
            row=row,
            column=column,
            anchor=anchor,
        )

    def _states(self, states: tuple[str, ...]) -> Array:
        """Predictors in one of the states, bool `[N, A, H, W]`; those of an image without boxes are in every state."""
        decisions = self.result.decisions
        where = np.broadcast_to(decisions.class_only[:, None, None, None], decisions.responsible.shape).copy()
        for state in states:
            where |= {
                "responsible": decisions.responsible,
                "ignored": decisions.ignored,
                "no-object": ~decisions.responsible & decisions.no_object,
            }[state]
        return where

    def _term(self, name: str) -> Difference | None:
        stated = self.case.expected.terms
        return self._number(
            f"term {name}",
            (self.answer.terms or {}).get(name, float("nan")),
            stated[name] if stated else None,
            lambda result: result.term_values[name],
            lambda limits: limits.terms[name],
        )

    def _number(
        self,
        quantity: str,
        got: float | None,
        stated: float | None,
        of: Callable[[Result], float],
        bound_of: Callable[[Bounds], float],
    ) -> Difference | None:
        assert got is not None
        expected = self._tolerance.number(got, stated, of, bound_of)
        return None if expected is None else self._difference(quantity, float(got), *expected)

    def _printed_cost(self) -> Difference | None:
        got = self.answer.printed_cost
        assert got is not None
        expected = self._tolerance.printed_cost(got)
        return None if expected is None else self._difference("printed cost", float(got), *expected)

    def _statistics(self) -> Difference | None:
        given = self.answer.statistics or {}
        first = self._tolerance.statistics(given)
        if first is None:
            return None
        name, expected, bound = first
        return self._difference(f"statistics {name}", float(given.get(name, float("-inf"))), expected, bound)

    def _indicator(self) -> Difference | None:
        accepted = [
            expected_indicators(self.case, self.result),
            *(indicators(other.decisions) for other in self._tolerance.others),
        ]
        for index, name in enumerate(("responsible", "ignored")):
            given = getattr(self.answer, name)
            if given is None or any(sorted(given) == sorted(answer[index]) for answer in accepted):
                continue
            surplus, missing = set(given) - set(accepted[0][index]), set(accepted[0][index]) - set(given)
            image, *_, anchor, row, column = min(surplus | missing)
            got, expected = (
                (name, f"not {name}") if surplus and min(surplus) == min(surplus | missing) else (f"not {name}", name)
            )
            return Difference(
                case=self.case.id, dtype=self.dtype, quantity="indicator", got=got, expected=expected,
                image=image, row=row, column=column, anchor=anchor,
            )  # fmt: skip
        return None

    def _difference(
        self, quantity: str, got: float | str, expected: float | str, bound: float | None = None
    ) -> Difference:
        """A difference without a place."""
        return Difference(
            case=self.case.id, dtype=self.dtype, quantity=quantity, got=got, expected=expected, bound=bound
        )


def expected_indicators(case: Case, result: Result) -> Indicators:
    """The responsible predictors by image and truth, and the ignored ones: from the case, or else the reference."""
    responsible, ignored = indicators(result.decisions)
    stated = case.expected
    return (
        responsible if stated.responsible is None else stated.responsible,
        ignored if stated.ignored is None else stated.ignored,
    )
