"""Reductions that no profile has: the loss divided by a count of the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss_adapters import Answer
from regionloss_spec import Batch

#: By what 2 images for 1, 3 objects for 1, 16 cells for 4 and, if cells matter, 2 anchors for 1 divide a predictor.
DIVIDING = {
    (1.0, 1.0, 1.0): "sum",
    (2.0, 1.0, 1.0): "per-image",
    (2.0, 3.0, 1.0): "per-object",
    (2.0, 1.0, 4.0, 2.0): "per-predictor",
    (2.0, 1.0, 4.0, 1.0): "per-cell",
    (1.0, 1.0, 4.0, 2.0): "per-predictor-of-an-image",
    (1.0, 1.0, 4.0, 1.0): "per-cell-of-an-image",
}


def _cells(batch: Batch) -> int:
    return int(np.prod(np.shape(batch.predictions)[2:]))


#: The count of each such reduction; `objects` is the number of truths that are read.
COUNTS: dict[str, Callable[[Batch, int], int]] = {
    "per-object": lambda batch, objects: objects,
    "per-predictor": lambda batch, objects: len(batch.truths) * len(batch.anchors) * _cells(batch),
    "per-cell": lambda batch, objects: len(batch.truths) * _cells(batch),
    "per-predictor-of-an-image": lambda batch, objects: len(batch.anchors) * _cells(batch),
    "per-cell-of-an-image": lambda batch, objects: _cells(batch),
}

#: Each divisor in the formula.
SYMBOLS = {
    "per-object": "1/max(T, 1), T truths",
    "per-predictor": "1/(N·A·H·W)",
    "per-cell": "1/(N·H·W)",
    "per-predictor-of-an-image": "1/(A·H·W)",
    "per-cell-of-an-image": "1/(H·W)",
}


def multiplied(answer: Answer, batch: Batch, divisor: str) -> Answer:
    """An answer multiplied by the count that the loss divides by; unchanged without a divisor.

    Args:
        answer: the loss's answer.
        batch: the question, of which all rows are read.
        divisor: a key of `COUNTS`, or an empty string.
    """
    if not divisor:
        return answer
    return multiplied_by(answer, max(COUNTS[divisor](batch, sum(map(len, batch.truths))), 1))


def multiplied_by(answer: Answer, count: int) -> Answer:
    """An answer multiplied by a count; what is no part of the loss stays."""
    return dataclasses.replace(
        answer,
        gradient=None if answer.gradient is None else np.asarray(answer.gradient, dtype=np.float64) * count,
        potential=None if answer.potential is None else answer.potential * count,
        terms=None if answer.terms is None else {name: value * count for name, value in answer.terms.items()},
    )
