"""Bounds against float32 arithmetic: every error that it makes is within its bound, and the bound is not idle."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

from regionloss import evaluate
from regionloss.bounds import PRECISIONS, adding, bounds, statistics_bounds
from regionloss.bounds.elementary import decoded_overlap, logistic_error, probability_error
from regionloss.boxes import decode, iou, iou_grad
from regionloss_spec import Batch, load_profile
from regionloss_spec.batch import Array

SINGLE = PRECISIONS["float32"]
DARKNET = load_profile("darknet")


def held(values: Any) -> Array:
    """Numbers that float32 holds."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def drawn_boxes(side: float, count: int = 400) -> tuple[Array, Array, Array]:
    """Raw outputs `[1, 4, 1, count]` of boxes about as large as `side`, the anchor, and a truth near each."""
    rng = np.random.default_rng(3)
    t = held(rng.normal(size=(1, 4, 1, count)))
    anchors = held([[side * count, side]])
    boxes = decode(t, anchors)[:, 0, 0]
    truths = boxes * held(1 + 0.3 * rng.normal(size=boxes.shape))
    truths[:2] = boxes[:2] + side * rng.normal(size=(2, count)) / 2
    return t, anchors, held(truths)


@pytest.mark.parametrize("side", [0.5, 0.05, 1e-3, 1e-4, 1e-6])
def test_an_iou_in_float32_is_within_its_error(side: float) -> None:
    t, anchors, truths = drawn_boxes(side)
    boxes = decode(t, anchors)[:, 0, 0]
    single = decode(t.astype(np.float32), anchors.astype(np.float32))[:, 0, 0]
    off, error = np.zeros(len(truths.T)), np.zeros(len(truths.T))
    for at, truth in enumerate(truths.T):
        met = decoded_overlap(boxes[:, at], t[0, 2:, 0, at], truth, SINGLE)
        off[at] = abs(float(iou(single[:, at], truth.astype(np.float32))) - float(iou(boxes[:, at], truth)))
        error[at] = float(met.iou_error)
    assert (off <= error).all()
    assert (off > error / 100).any()


def test_boxes_that_are_surely_apart_have_no_error() -> None:
    met = decoded_overlap(np.array([0.2, 0.5, 0.2, 0.2]), np.zeros(2), np.array([0.8, 0.5, 0.2, 0.2]), SINGLE)
    assert met.iou_error == 0
    touching = decoded_overlap(np.array([0.2, 0.5, 0.2, 0.2]), np.zeros(2), np.array([0.4, 0.5, 0.2, 0.2]), SINGLE)
    assert 0 < touching.iou_error < 1e-5


@pytest.mark.parametrize("side", [0.5, 0.01, 1e-3])
def test_the_slope_of_an_iou_in_float32_is_within_its_error(side: float) -> None:
    t, anchors, truths = drawn_boxes(side)
    boxes = decode(t, anchors)[:, 0, 0]
    single = decode(t.astype(np.float32), anchors.astype(np.float32))[:, 0, 0]
    compared = 0
    for at, truth in enumerate(truths.T):
        box, rounded = boxes[:, at], single[:, at]
        edges = np.array([[side[:2] - side[2:] / 2, side[:2] + side[2:] / 2] for side in (box, truth)])
        if iou(box, truth) == 0 or np.abs(edges[0] - edges[1]).min() < 1e-6:
            continue
        off = np.abs(iou_grad(rounded, truth.astype(np.float32)) - iou_grad(box, truth))
        assert (off <= decoded_overlap(box, t[0, 2:, 0, at], truth, SINGLE).grad_error()).all()
        compared += 1
    assert compared > 150


def test_a_logistic_and_a_softmax_in_float32_are_within_their_errors() -> None:
    rng = np.random.default_rng(4)
    for scale in (1.0, 10.0, 60.0):
        z = held(rng.normal(scale=scale, size=(20, 300)))
        single = z.astype(np.float32)
        with np.errstate(over="ignore"):
            logistic = 1 / (1 + np.exp(-single))
        raised = np.exp(single - single.max(axis=0))
        softmax = raised / np.cumsum(raised, axis=0, dtype=np.float32)[-1]
        with mpmath.workdps(60):
            exact = np.array([[float(1 / (1 + mpmath.exp(-mpmath.mpf(value)))) for value in row] for row in z[:, :20]])
        assert (np.abs(logistic[:, :20] - exact) <= logistic_error(z[:, :20], SINGLE)).all()
        wanted = np.exp(z - z.max(axis=0)) / np.exp(z - z.max(axis=0)).sum(axis=0)
        assert (np.abs(softmax - wanted) <= probability_error(z, SINGLE)).all()


@pytest.mark.parametrize("value", [0.1, 0.3, 0.15])
def test_equal_numbers_added_one_by_one_stay_within_the_error_of_a_sum(value: float) -> None:
    count = 2304
    single = np.full(count, value, dtype=np.float32)
    exact = math.fsum(single.astype(np.float64))
    off = abs(float(np.cumsum(single, dtype=np.float32)[-1]) - exact)
    assert off <= adding(count, exact, SINGLE)
    # More than if they cancelled by half, as random ones do: they are all to one side.
    assert off > 4 * 2.0**-24 * (1 + math.sqrt(count)) * exact
    assert adding(count, 2.0, SINGLE) == 2.0 * 2.0**-24 * (count + 4)


def zeros(cells: int, t_o: float, images_seen: int = 0) -> Batch:
    """A network that answers the same everywhere, and no truth."""
    t = np.zeros((1, 7, cells, cells))
    t[:, 4] = held(t_o)
    t[:, 0] = t[:, 1] = held(0.7)
    return Batch(t, (np.zeros((0, 5)),), np.ones((1, 2)), 2, images_seen, None)


def test_the_terms_of_equal_predictors_may_be_added_one_by_one_and_into_one_sum() -> None:
    result = evaluate(zeros(48, 0.3), DARKNET)
    limits = bounds(result, SINGLE)
    summands = {
        "no_object": result.terms["no_object"].value.ravel(),
        # One of the four coordinates after the other.
        "prior": np.repeat(result.terms["prior"].value.ravel() / 2, 2),
    }
    for name, values in summands.items():
        total = float(np.cumsum(values.astype(np.float32), dtype=np.float32)[-1])
        assert abs(total - result.term_values[name]) <= limits.terms[name]
    # The small ones of the prior are added to the large sum of the others.
    values = np.concatenate(list(summands.values())).astype(np.float32)
    off = abs(float(np.cumsum(values, dtype=np.float32)[-1]) - result.potential)
    assert off <= limits.potential
    assert limits.potential > sum(limits.terms.values())


def test_the_printed_cost_may_be_added_in_any_order() -> None:
    result = evaluate(zeros(64, 0.3), DARKNET)
    limit = bounds(result, PRECISIONS["float64"]).printed_cost
    squares = (result.delta**2).astype(np.float32).ravel()
    exact = math.fsum((result.delta**2).ravel())
    shuffled = np.random.default_rng(0).permutation(squares)
    for order in (squares[::-1], np.sort(squares), shuffled):
        assert abs(float(np.cumsum(order, dtype=np.float32)[-1]) - result.printed_cost) <= limit
    # The reference adds up in float32 as well, and another one may be off to the other side.
    both = abs(exact - result.printed_cost) + 2.0**-24 * (4 + 3 * 64 * 64) * exact  # two coordinates and the objectness
    assert both <= limit < 1.1 * both


def test_the_class_of_an_ignored_predictor_without_objectness_keeps_its_digits() -> None:
    """Its weight is λ·b_o: the error of a gradient that is small because of it is as small."""
    profile = DARKNET.replace(ignored_class="by-objectness")
    t = np.zeros((1, 14, 1, 1))
    t[:, 4] = t[:, 11] = -15.0
    truths = (np.array([[0.5, 0.5, 1.0, 1.0, 0.0]]),)
    result = evaluate(Batch(t, truths, np.array([[1.0, 1.0], [0.9, 0.9]]), 2, 10**6, None), profile)
    assert result.decisions.ignored[0, 1, 0, 0]
    limit = bounds(result, SINGLE).gradient[0, 12:, 0, 0]
    assert (limit < 1e-4 * np.abs(result.gradient[0, 12:, 0, 0])).all()
    assert (np.abs(result.gradient[0, 12:, 0, 0]) < 1e-6).all()


def test_the_mean_iou_of_tiny_boxes_has_the_error_of_their_iou() -> None:
    """Sides of 1e-4 far from the origin: float32 knows their edges to some thousandths of a side."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for _ in range(50):
        t = held(rng.normal(size=(1, 6, 1, 1)) * 0.2)
        anchors = np.array([[1e-4, 1e-4]])
        box = decode(t.reshape(1, 6, 1, 1), anchors)[:, 0, 0, 0]
        row = held([[box[0] + 2e-5, box[1], 1e-4, 1e-4, 0.0]])
        result = evaluate(Batch(t, (row,), anchors, 1, 0, None), DARKNET)
        single = decode(t.astype(np.float32), anchors.astype(np.float32))[:, 0, 0, 0]
        off = abs(float(iou(single, row[0, :4].astype(np.float32))) - result.statistics.avg_iou)
        assert off <= statistics_bounds(result, SINGLE)["avg_iou"]
        worst = max(worst, off)
    assert worst > 1e-4


def test_the_bounds_of_statistics_hold_for_every_number_of_the_line() -> None:
    truths = (np.array([[0.3, 0.3, 0.5, 0.5, 1.0]]),)
    result = evaluate(Batch(np.zeros((1, 7, 2, 2)), truths, np.ones((1, 2)), 2, 0, None), DARKNET)
    limits = statistics_bounds(result, SINGLE)
    assert set(limits) == {"avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall", "count"}
    assert limits["count"] == 0
    # K·u of what is averaged, and u·(K + n) for adding it up.
    assert limits["avg_obj"] == pytest.approx(0.5 * (4 + 4 + 1) * 2.0**-24)
    assert limits["avg_no_obj"] == pytest.approx(0.5 * (4 + 4 + 4) * 2.0**-24)
