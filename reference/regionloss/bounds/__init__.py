"""How far a correct implementation may be from the reference, element by element (spec chapter 12).

Each bound is the sum of |dg/dv|·err(v) over the elementary quantities v that a gradient element is made of. Nothing
here can be set from outside: a bound follows from the inputs and the precision alone (`numerics.bound`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss.bounds.precision import PRECISIONS, ROUNDINGS, Precision, adding
from regionloss.bounds.statistics import statistics_bounds
from regionloss.bounds.terms import TermErrors
from regionloss.loss import Result
from regionloss_spec.batch import Array

__all__ = ["PRECISIONS", "ROUNDINGS", "Bounds", "Precision", "adding", "bounds", "statistics_bounds"]


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of the answers to one batch in one precision.

    Attributes:
        gradient: `[N, A*(5+C), H, W]`; 0 where the gradient is zero by structure (`table.structural-zeros`).
        terms: bound of each term's value, by name.
        potential: bound of the sum of the terms, however its summands are added up.
        max_iou: error that MaxIOU may have, `[N, A, H, W]`.
        printed_cost: bound of the cost that darknet prints.
    """

    gradient: Array
    terms: dict[str, float]
    potential: float
    max_iou: Array
    printed_cost: float


def bounds(result: Result, precision: Precision) -> Bounds:
    """The bounds of every answer to the batch of a result; those of its statistics are `statistics_bounds`."""
    errors = TermErrors(result, precision)
    paid = sum(np.abs(term.gradient) for term in result.terms.values())
    total = result.scale * (errors.gradient + (precision.rounding + precision.output) * paid)
    touched = (errors.gradient > 0) | (paid > 0)
    gradient = np.where(touched, total + precision.tiny, 0.0).reshape(result.gradient.shape)
    terms = {name: _of_sum(result, errors, [name], precision) for name in result.terms}
    potential = _of_sum(result, errors, list(result.terms), precision)
    return Bounds(gradient, terms, potential, errors.max_iou, _of_cost(result, errors, potential, precision))


def _of_sum(result: Result, errors: TermErrors, names: list[str], precision: Precision) -> float:
    """Bound of a sum of terms: of its summands, and of adding them up."""
    values = sum(float(np.abs(result.terms[name].value).sum()) for name in names)
    summands = sum(errors.summands[name] for name in names)
    inherited = sum(float(errors.values[name].sum()) for name in names) + precision.rounding * values
    return result.scale * (inherited + adding(summands, values, precision)) + summands * precision.scalar_tiny


def _of_cost(result: Result, errors: TermErrors, potential: float, precision: Precision) -> float:
    """Bound of Σδ², which darknet adds up in float32 whatever the precision (`scale.printed-cost`)."""
    if result.profile.printed_cost == "potential":
        return potential
    inherited = errors.gradient if result.profile.printed_cost == "gradient" else errors.delta
    delta = np.abs(result.delta)
    error = inherited + precision.rounding * delta
    with np.errstate(over="ignore", invalid="ignore"):
        exact = float((delta**2).sum())
        # The reference adds up as darknet does, and may itself be that far from the exact sum.
        off = abs(result.printed_cost - exact) if np.isfinite(result.printed_cost) else 0.0
        summed = adding(int(np.count_nonzero(delta)), exact, PRECISIONS["float32"])
        return float(((2 * delta + error) * error).sum()) + off + summed + delta.size * 2.0**-126
