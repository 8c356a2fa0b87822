"""The floating-point formats that a loss is asked in, and what each of them costs (spec chapter 12)."""

from __future__ import annotations

from dataclasses import dataclass

#: Roundings that an elementary quantity may cost: a few operations, each good to a unit or two in the last place.
ROUNDINGS = 4.0


@dataclass(frozen=True)
class Precision:
    """A floating-point format that a loss is asked in.

    Attributes:
        name: `float64`, `float32`, `float16` or `bfloat16`.
        unit: unit roundoff of the arithmetic; the half formats compute in float32 (`numerics.accumulation`).
        output: unit roundoff of the answer, where it is rounded once more, else 0.
        tiny: smallest normal number of the answer, below which it may be flushed to zero (`numerics.underflow`).
        largest: largest number of the answer, beyond which it may be infinite.
        scalar_tiny: `tiny` of a scalar, which is of the computing precision (`numerics.accumulation`).
        scalar_largest: `largest` of a scalar.
    """

    name: str
    unit: float
    output: float
    tiny: float
    largest: float
    scalar_tiny: float
    scalar_largest: float

    @property
    def rounding(self) -> float:
        """K·u: the relative error that an elementary quantity may have."""
        return ROUNDINGS * self.unit


_LARGEST = (2 - 2.0**-23) * 2.0**127

#: `numerics.float64`, `numerics.float32`, `numerics.float16`, `numerics.bfloat16`.
PRECISIONS = {
    "float64": Precision(
        "float64", 2.0**-53, 0.0, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023, 2.0**-1022, (2 - 2.0**-52) * 2.0**1023
    ),
    "float32": Precision("float32", 2.0**-24, 0.0, 2.0**-126, _LARGEST, 2.0**-126, _LARGEST),
    "float16": Precision("float16", 2.0**-24, 2.0**-11, 2.0**-14, 65504.0, 2.0**-126, _LARGEST),
    "bfloat16": Precision("bfloat16", 2.0**-24, 2.0**-8, 2.0**-126, (2 - 2.0**-7) * 2.0**127, 2.0**-126, _LARGEST),
}


def adding(summands: int, total: float, precision: Precision) -> float:
    """What adding up numbers one by one, in any order, may cost: at most a rounding of the whole for each of them.

    Args:
        summands: how many numbers.
        total: the sum of their magnitudes.
        precision: the format of the sum; `K` roundings are for what is done to the sum afterwards.
    """
    return precision.unit * (ROUNDINGS + summands) * total
