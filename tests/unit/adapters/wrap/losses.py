"""Questions and losses for the tests of the wrappers, and what an answer is held against."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from regionloss import evaluate, region_loss
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters import Answer, Question
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.batch import Array

DARKNET = load_profile("darknet")
ANCHORS = np.array([[1.0, 2.0], [2.0, 1.0]])
ROWS = (np.array([[0.5, 0.25, 0.25, 0.5, 1], [0.75, 0.75, 0.5, 0.125, 2]]), np.zeros((0, 5)))
ALL = ("gradient", "potential", "terms")


def ask(dtype: str = "float32", profile: Profile = DARKNET, upstream: float = 1.0, seed: int = 0) -> Question:
    predictions = np.random.default_rng(seed).normal(size=(2, 16, 2, 4)).astype(np.float32).astype(np.float64)
    batch = Batch(predictions, ROWS, ANCHORS, 3, 0)
    return Question(batch=batch, profile=profile, dtype=dtype, upstream=upstream)


def rounded_question(question: Question) -> Question:
    """The question with predictions that its format holds exactly."""
    exact = question.batch.predictions
    if question.dtype == "bfloat16":
        exact = (exact.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    return dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=exact))


def check(answer: Answer, question: Question, scale: float = 1.0) -> None:
    """That an answer, times `scale`, is within the bounds of the reference."""
    result = evaluate(question.batch, question.profile)
    limits = bounds(result, PRECISIONS[question.dtype])
    gradient = result.gradient * question.upstream
    assert answer.gradient is not None
    assert answer.gradient.shape == gradient.shape
    assert (np.abs(scale * answer.gradient - gradient) <= abs(question.upstream) * limits.gradient).all()
    if answer.potential is not None:
        assert abs(scale * answer.potential - result.potential) <= limits.potential
    if answer.terms is not None:
        for name, value in result.term_values.items():
            assert abs(scale * answer.terms[name] - value) <= limits.terms[name]


def numpy_loss(predictions: Array, rows: Any, question: Question) -> Any:
    batch = question.batch
    result = region_loss(
        predictions, rows, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=question.profile
    )
    return result.potential, result.gradient, result.term_values


def weights_and_targets(question: Question) -> tuple[Array, Array, Array]:
    """Weight and target of every entry `[N, A, 5+C, H, W]`, and of the class term 1 where a class is paid."""
    batch = question.batch
    result = evaluate(batch, DARKNET)
    weight, target = np.zeros(result.t.shape), np.zeros(result.t.shape)
    paid = np.zeros_like(weight[:, :, 5:])
    height, width = result.t.shape[3:]
    weight[:, :, :4] = 0.01 * result.decisions.prior[:, :, None]
    target[:, :, :2] = 0.5
    weight[:, :, 4] = result.decisions.no_object
    for match in result.decisions.matches:
        n, k, j, i = match.predictor
        x, y, w, h, label = result.truths[n][match.truth]
        weight[n, k, :5, j, i] = [*[2 - w * h] * 4, 5]
        sizes = np.log([w * width, h * height] / batch.anchors[k])
        target[n, k, :5, j, i] = [x * width - i, y * height - j, *sizes, match.iou]
        paid[n, k, int(label), j, i] = 1
    return weight, target, paid
