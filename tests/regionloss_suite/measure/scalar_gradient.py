"""The gradient of a loss that answers a scalar alone: differences of it, where an experiment looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss_spec.batch import Array


class ScalarGradient:
    """A gradient of which an element is measured when it is looked at, and then kept.

    Args:
        scalar: the loss at predictions of the shape of the point.
        point: where the slopes are taken, `[N, A*(5+C), H, W]`.
        shape: of the gradient, `[N, A, 5+C, H, W]`.
        step: of the wider of two central differences; the other takes half of it, and both give an error of step⁴.
        silence: the largest slope that counts as none.
    """

    def __init__(
        self, scalar: Callable[[Array], float], point: Array, shape: tuple[int, ...], step: float, silence: float
    ) -> None:
        self._scalar = scalar
        self._point = np.array(point, dtype=np.float64)
        self._places = np.arange(self._point.size).reshape(shape)
        self._step = step
        self._silence = silence
        self._known: dict[int, float] = {}

    def __getitem__(self, key: Any) -> Array:
        """The elements at an index of the array `[N, A, 5+C, H, W]`."""
        places = np.asarray(self._places[key])
        for place in map(int, places.flat):
            if place not in self._known:
                along = np.zeros(self._point.size)
                along[place] = 1.0
                self._known[place] = self._slope(along.reshape(self._point.shape))
        return np.array([self._known[int(place)] for place in places.flat]).reshape(places.shape)[()]

    def any(self, key: Any) -> bool:
        """Whether anything moves the scalar among the elements of an index, asked at once.

        The parts of the direction are random, so that slopes of different signs do not cancel.
        """
        places = self._places[key].ravel()
        along = np.zeros(self._point.size)
        along[places] = 0.5 + np.random.default_rng(places.size).random(places.size)
        return abs(self._slope(along.reshape(self._point.shape))) > self._silence

    def _slope(self, along: Array) -> float:
        wide, narrow = (self._difference(along, step) for step in (self._step, self._step / 2))
        return (4 * narrow - wide) / 3

    def _difference(self, along: Array, step: float) -> float:
        ends = [self._scalar(self._point + sign * step * along) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)
