"""Mistakes of precision, overflow and underflow (spec chapter 12)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss.boxes import decode, sigmoid
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, multiplied, spoilt, with_decode


def _rounded(dtype: type[np.floating]) -> Answering:
    """Every answer rounded to a coarser format."""

    def change(answer: Answer, question: Question) -> Answer:
        assert answer.gradient is not None
        assert answer.potential is not None
        assert answer.terms is not None
        with np.errstate(over="ignore"):
            return dataclasses.replace(
                answer,
                gradient=answer.gradient.astype(dtype).astype(np.float64),
                potential=float(dtype(answer.potential)),
                terms={name: float(dtype(value)) for name, value in answer.terms.items()},
            )

    return spoilt(change)


def _half_sum(answer: Answer, question: Question) -> Answer:
    """A sum in steps of float16, which stops growing."""
    assert answer.terms is not None
    assert answer.potential is not None
    cells = question.batch.predictions.shape[2] * question.batch.predictions.shape[3]
    count = max(cells * len(question.batch.anchors), 1)
    step, total = np.float16(answer.terms["no_object"] / count), np.float16(0)
    for _ in range(count):
        total = np.float16(total + step)
    terms = {**answer.terms, "no_object": float(total)}
    return dataclasses.replace(answer, terms=terms, potential=_in_half(sum(terms.values())))


def _in_half(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float16(value))


def _decode_clamped(t: Array, anchors: Array) -> Array:
    t = t.copy()
    t[:, 2:4] = np.minimum(t[:, 2:4], 5.0)
    return decode(t, anchors)


def _nan_of_overflow(answer: Answer, question: Question) -> Answer:
    """A size that overflows in single precision makes its predictor and the loss NaN."""
    assert answer.gradient is not None
    assert answer.potential is not None
    anchors = len(question.batch.anchors)
    images, channels, height, width = answer.gradient.shape
    t = np.asarray(question.batch.predictions).reshape(images, anchors, channels // max(anchors, 1), height, width)
    overflows = (t[:, :, 2:4] > 88.7).any(axis=2)
    gradient = answer.gradient.reshape(t.shape).copy()
    for channel in range(5):
        gradient[:, :, channel][overflows] = np.nan
    potential = float("nan") if overflows.any() else answer.potential
    return dataclasses.replace(answer, gradient=gradient.reshape(answer.gradient.shape), potential=potential)


def _sigmoid_of_quotient(t: Array) -> Array:
    """e^t/(1 + e^t) in single precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.asarray(t) > 88.7, np.nan, sigmoid(t))


MUTANTS: list[Mutant] = [
    Mutant(
        id="single-precision",
        clause="numerics.float64",
        title="float64 is computed in float32",
        answer=_rounded(np.float32),
    ),
    Mutant(
        id="half-precision",
        clause="numerics.float32",
        title="the answer is rounded to float16",
        dtype="float32",
        answer=_rounded(np.float16),
    ),
    Mutant(
        id="off-by-a-tolerance",
        clause="numerics.bound",
        title="every number is off by as much as a tolerance of 1e-4 allows",
        answer=spoilt(lambda answer, question: multiplied(answer, 1 + 5e-5)),
    ),
    Mutant(
        id="exponent-clamped",
        clause="numerics.exp-overflow",
        title="the exponents of sizes are clamped at 5",
        after="sony/nnabla-examples",
        answer=patched(**with_decode(_decode_clamped)),
    ),
    Mutant(
        id="size-overflow-nan",
        clause="numerics.exp-overflow",
        title="a size whose exponential overflows makes the loss NaN",
        after="pjreddie/darknet#79",
        answer=spoilt(_nan_of_overflow),
    ),
    Mutant(
        id="logistic-overflows",
        clause="numerics.underflow",
        title="the logistic function divides one overflowed exponential by another",
        answer=patched(boxes__sigmoid=_sigmoid_of_quotient, terms__sigmoid=_sigmoid_of_quotient),
    ),
    Mutant(
        id="half-precision-sum",
        clause="numerics.accumulation",
        title="the no-object term is summed in float16 and stops growing",
        answer=spoilt(_half_sum),
    ),
]
