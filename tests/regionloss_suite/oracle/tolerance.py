"""The accepted answers to a case: the expected numbers, their bounds, and the alternatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, lru_cache

import numpy as np

from regionloss import Result
from regionloss.bounds import PRECISIONS, Bounds, bounds, statistics_bounds
from regionloss_spec import Case
from regionloss_spec.batch import Array
from regionloss_suite.oracle.alternatives import other_answers, other_recalls, other_slopes

#: The bounds of the statistics of a result, kept, since many losses are compared with the same one in one run.
kept_statistics_bounds = lru_cache(maxsize=512)(statistics_bounds)


class Tolerance:
    """The accepted answers to a case in one format.

    Args:
        case: the question; the reference gives what it does not state.
        result: the reference's answer.
        dtype: the format of the predictions.
        limits: the bounds of that answer in that format.
        recording: the bounds of the expected numbers themselves, if a float32 program recorded them.
        adjust: what becomes of a result of the reference before it is compared; it may change signs alone, since the
            bounds stay.
    """

    def __init__(
        self,
        case: Case,
        result: Result,
        dtype: str,
        limits: Bounds,
        recording: Bounds | None,
        adjust: Callable[[Result], Result] = lambda result: result,
    ) -> None:
        self.adjust = adjust
        self.case = case
        self.result = result
        self.precision = PRECISIONS[dtype]
        self.limits = limits
        self.recording = recording

    @cached_property
    def others(self) -> list[Result]:
        """The reference on both sides of every ambiguous decision; empty if there is none."""
        precision = self.precision if self.recording is None else PRECISIONS["float32"]
        others = other_answers(self.case.batch, self.result, self.recording or self.limits, precision)
        return [self.result, *others] if others else []  # a recording may be on the other side

    @cached_property
    def gradient(self) -> Array:
        """The expected gradient, `[N, A*(5+C), H, W]`."""
        stated = self.case.expected.gradient
        return self.adjust(self.result).gradient if stated is None else stated

    @cached_property
    def gradient_bound(self) -> Array:
        """How far each of its elements may be off."""
        return self.limits.gradient + (0.0 if self.recording is None else self.recording.gradient)

    def outside(self, got: Array) -> Array:
        """The elements of a gradient that no conforming loss returns, bool `[N, A*(5+C), H, W]`."""
        close = self._within(got, self.gradient, self.gradient, self.gradient_bound)
        if not close.all():
            for one in self.others or [self.result]:
                every = [one, *other_slopes(one, self.precision)]
                gradients = [self.adjust(each).gradient for each in every]
                limit = np.max([self._bound_of(each) for each in every], axis=0)
                low, high = np.min(gradients, axis=0), np.max(gradients, axis=0)
                usual = self.adjust(self.result).gradient
                on_edge = (low != usual) | (high != usual)
                close |= on_edge & self._within(got, low, high, limit)
        return ~close

    def _bound_of(self, other: Result) -> Array:
        """The bound on the other side of an ambiguous decision, where other elements are structural zeros."""
        limit = bounds(other, self.precision).gradient
        return limit if self.recording is None else limit + bounds(other, PRECISIONS["float32"]).gradient

    def _within(self, got: Array, low: Array, high: Array, bound: Array) -> Array:
        """Where an answer lies between two gradients or within their bound of them; false for NaN."""
        close = (got >= low - bound) & (got <= high + bound)
        for end in (low, high):
            close |= (np.abs(end) > self.precision.largest) & (got == np.copysign(np.inf, end))
        return np.asarray(close)

    def number(
        self,
        got: float,
        stated: float | None,
        of: Callable[[Result], float],
        bound_of: Callable[[Bounds], float],
        slack: float = 0.0,
    ) -> tuple[float, float] | None:
        """The expected number and its bound if `got` is wrong; `None` if it is accepted.

        Args:
            got: the number.
            stated: the number that the case states, if any.
            of: the number of a result.
            bound_of: its bound.
            slack: the error of the stated number.
        """
        expected, bound = of(self.adjust(self.result)) if stated is None else stated, bound_of(self.limits) + slack
        if self._near(got, expected, bound):
            return None
        for other in self.others:
            if self._near(got, of(self.adjust(other)), bound_of(bounds(other, self.precision)) + slack):
                return None
        return float(expected), bound

    @property
    def cost(self) -> float | None:
        """The expected printed cost."""
        stated = self.case.expected.printed_cost
        return self.result.printed_cost if stated is None else stated

    def printed_cost(self, got: float) -> tuple[float, float] | None:
        """As `number`, for darknet's printed numbers."""
        expected = self.number(
            got,
            self.case.expected.printed_cost,
            lambda result: result.printed_cost,
            lambda limits: limits.printed_cost,
            0.0 if self.recording is None else self.recording.printed_cost,
        )
        if expected is None or math.isfinite(self.result.printed_cost):
            return expected
        # The reference sums in float32, which may overflow for a large cost.
        exact = float((self.result.delta**2).sum())
        return None if self._near(got, exact, self.limits.printed_cost) else expected

    def statistics(self, given: dict[str, float]) -> tuple[str, float, float] | None:
        """The first statistic that is not accepted: its name, the expected number and its bound."""
        first = self._line(given, self.result, self.case.expected.statistics)
        if first is None or any(self._line(given, other, None) is None for other in self.others):
            return None
        return first

    def _line(
        self, given: dict[str, float], result: Result, stated: dict[str, float] | None
    ) -> tuple[str, float, float] | None:
        """Compare a statistics line with the stated one, or with that of a result."""
        limits = kept_statistics_bounds(result, self.precision)
        if stated is not None and self.recording is not None:
            slack = kept_statistics_bounds(result, PRECISIONS["float32"])
            limits = {name: limit + slack[name] for name, limit in limits.items()}
        for name, expected in (stated or asdict(result.statistics)).items():
            accepted = [expected, *(other_recalls(result, self.precision) if name == "avg_recall" else ())]
            if not any(self._near(given.get(name, float("-inf")), value, limits[name]) for value in accepted):
                return name, float(expected), limits[name]
        return None

    def _near(self, got: float, expected: float, bound: float) -> bool:
        """Whether a number is within its bound, or infinite like a number that overflows the format."""
        if math.isnan(expected) or math.isinf(expected):
            return got == expected or (math.isnan(got) and math.isnan(expected))
        beyond = abs(expected) > self.precision.scalar_largest and got == math.copysign(math.inf, expected)
        return beyond or abs(got - expected) <= bound
