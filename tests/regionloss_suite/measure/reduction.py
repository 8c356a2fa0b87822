"""Reductions that no profile has: the loss divided by a count of the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss import Result
from regionloss.decisions import Decisions
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


#: The count of each such reduction, of a batch and the decisions of the reference.
COUNTS: dict[str, Callable[[Batch, Decisions], int]] = {
    "per-object": lambda batch, decisions: len(decisions.matches),
    "per-responsible": lambda batch, decisions: sum(match.pays_box for match in decisions.matches),
    "per-predictor": lambda batch, decisions: len(batch.truths) * len(batch.anchors) * _cells(batch),
    "per-cell": lambda batch, decisions: len(batch.truths) * _cells(batch),
    "per-predictor-of-an-image": lambda batch, decisions: len(batch.anchors) * _cells(batch),
    "per-cell-of-an-image": lambda batch, decisions: _cells(batch),
}

#: Each divisor in the formula.
SYMBOLS = {
    "per-object": "1/max(T, 1), T truths",
    "per-responsible": "1/max(R, 1), R responsible predictors",
    "per-predictor": "1/(N·A·H·W)",
    "per-cell": "1/(N·H·W)",
    "per-predictor-of-an-image": "1/(A·H·W)",
    "per-cell-of-an-image": "1/(H·W)",
}


def count(divisor: str, batch: Batch, result: Result) -> int:
    """By what a loss divides a batch; at least 1.

    Args:
        divisor: a key of `COUNTS`, or an empty string for no divisor.
        batch: the question.
        result: the reference's, which knows the truths that are read and the responsible predictors.
    """
    return max(COUNTS[divisor](batch, result.decisions), 1) if divisor else 1


def multiplied_by(answer: Answer, count: int) -> Answer:
    """An answer multiplied by a count; what is no part of the loss stays."""
    return dataclasses.replace(
        answer,
        gradient=None if answer.gradient is None else np.asarray(answer.gradient, dtype=np.float64) * count,
        potential=None if answer.potential is None else answer.potential * count,
        terms=None if answer.terms is None else {name: value * count for name, value in answer.terms.items()},
    )
