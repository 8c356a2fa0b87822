"""Boxes against hand calculation and mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from regionloss.boxes import decode, iou, iou_grad, shape_iou, sigmoid, sigmoid_grad


@pytest.mark.parametrize("t", [-800.0, -100.0, -37.5, -1.0, 0.0, 1e-9, 2.5, 40.0, 100.0])
def test_sigmoid_and_its_slope_keep_their_digits_far_out(t: float) -> None:
    with mpmath.workdps(400):
        exact = 1 / (1 + mpmath.exp(-mpmath.mpf(t)))
        slope = float(exact * (1 - exact))
        exact = float(exact)
    assert float(sigmoid(np.array(t))) == pytest.approx(exact, rel=1e-15, abs=1e-310)
    assert float(sigmoid_grad(np.array(t))) == pytest.approx(slope, rel=4e-15, abs=1e-310)


def test_decode_on_a_grid_that_is_not_square() -> None:
    t = np.zeros((1, 6, 2, 5))
    t[0, :4, 1, 3] = [0.0, np.log(3), np.log(2), 0.0]  # sigma = 1/2 and 3/4; twice the anchor's width
    boxes = decode(t, np.array([[1.5, 0.5]]))
    assert boxes[:, 0, 1, 3] == pytest.approx([3.5 / 5, 1.75 / 2, 3.0 / 5, 0.5 / 2])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], 1.0),
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.25, 0.5], 0.5),
        ([0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], 1 / 7),
        ([0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 0.5], 0.0),  # they touch
        ([0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1], 0.0),  # apart on both axes: two negative overlaps
        ([0.1, 0.5, 0.1, 0.5], [0.9, 0.5, 0.1, 0.5], 0.0),
        ([0.5, 0.5, 0.0, 0.5], [0.5, 0.5, 0.5, 0.5], 0.0),
        ([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 0.0),  # 0/0
        ([0.5, 0.5, np.inf, 0.5], [0.5, 0.5, 0.5, 0.5], 0.0),
        ([0.5, 0.5, np.inf, np.inf], [0.5, 0.5, np.inf, np.inf], 0.0),
        ([0.5, 0.5, np.inf, 0.0], [0.5, 0.5, 0.5, 0.5], 0.0),  # inf * 0
        ([0.5, 0.5, 1e200, 1e200], [0.5, 0.5, 0.5, 0.5], 0.0),  # the area overflows, the sides do not
    ],
)
def test_iou_by_hand(one: list[float], other: list[float], expected: float) -> None:
    assert float(iou(np.array(one), np.array(other))) == expected
    assert float(iou(np.array(other), np.array(one))) == expected


def test_shape_iou_of_crossed_boxes() -> None:
    assert shape_iou(np.array([2.0, 1.0]), np.array([1.0, 2.0]), 2.0, 1.0).tolist() == [1.0, 1 / 3]


def test_iou_slope_is_the_derivative_of_iou() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        box, truth = rng.uniform(0.2, 0.8, 4), rng.uniform(0.2, 0.8, 4)
        for moved in range(4):
            step = np.zeros(4)
            step[moved] = 1e-6
            slope = (iou(box + step, truth) - iou(box - step, truth)) / 2e-6
            assert iou_grad(box, truth)[moved] == pytest.approx(float(slope), abs=1e-8)
