"""The findings of the experiments, one for each axis, with their evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from regionloss_suite.measure.black_box import BlackBox

#: Numbers of two questions that should be equal and are closer than this are put down to few digits, not to a choice.
DIGITS = 5e-3


@dataclass(frozen=True)
class Finding:
    """The finding of one experiment about one axis.

    Attributes:
        axis: an axis of `Profile`, or a name for something that no axis expresses.
        value: the value of the axis; `None` if the experiment cannot determine it.
        evidence: the experiment in words, with the observed numbers.
        confidence: `measured`, `assumed` if nothing shows it and the default stays, or `unknown`; the evidence has the
            reason.
        odd: whether no value of a profile expresses this.
        failed: whether the experiment got no answer that it can read, so that it says nothing about the axis.
    """

    axis: str
    value: Any
    evidence: str
    confidence: str = "measured"
    odd: bool = False
    failed: bool = False


@dataclass
class Findings:
    """The loss under test and everything known about it so far.

    Attributes:
        box: the loss.
        late: a count of images seen at which no prior is paid.
        by_axis: the latest finding for each axis.
        products: 2q·λ of the squared terms and λ of the others, by the axis of the weight; negative for a term whose
            gradient has the opposite sign.
    """

    box: BlackBox
    late: int = 10**9
    by_axis: dict[str, Finding] = field(default_factory=dict)
    products: dict[str, float] = field(default_factory=dict)

    def note(self, axis: str, value: Any, evidence: str, confidence: str = "measured", *, odd: bool = False) -> None:
        """Record a finding."""
        self.by_axis[axis] = Finding(axis, value, evidence, "unknown" if value is None else confidence, odd)

    def unknown(self, axis: str, evidence: str, *, odd: bool = False, failed: bool = False) -> None:
        """Record that an experiment could not determine an axis, and what it observed, or that it failed."""
        self.by_axis[axis] = Finding(axis, None, evidence, "unknown", odd, failed)

    def value(self, axis: str, default: Any = None) -> Any:
        """The known value of an axis."""
        finding = self.by_axis.get(axis)
        return default if finding is None or finding.value is None else finding.value

    def number(self, measured: float) -> float:
        """The simplest decimal within the error of the measurement."""
        return nice(measured, self.box.tolerance)

    def same(self, a: float, b: float, scale: float = 0.0) -> bool:
        """Whether two measurements agree."""
        return math.isclose(a, b, rel_tol=50 * self.box.tolerance, abs_tol=50 * self.box.tolerance * scale)


def nice(value: float, tolerance: float) -> float:
    """The decimal with the fewest digits within a relative tolerance of a number."""
    if value == 0 or not math.isfinite(value):
        return value
    for digits in range(16):
        rounded = float(f"{value:.{digits}e}")
        if abs(rounded - value) <= tolerance * abs(value):
            return rounded
    return value


def listed(*numbers: float) -> str:
    """Numbers for a sentence."""
    return ", ".join(f"{number:.6g}" for number in numbers)
