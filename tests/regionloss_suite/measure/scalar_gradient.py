"""The gradient of a loss that returns only a scalar: differences, measured where an experiment needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from regionloss_spec.batch import Array


class ScalarGradient:
    """A gradient whose elements are measured on first use and then cached.

    Args:
        scalar: the loss at predictions of the shape of the point.
        point: the predictions at which slopes are measured, `[N, A*(5+C), H, W]`.
        shape: of the gradient, `[N, A, 5+C, H, W]`.
        step: step of the wider of two central differences; the other takes half of it, for an error of step⁴.
        silence: the largest slope that counts as zero.
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
        """Whether any element of an index affects the scalar, measured at once.

        The components of the direction are random, so that slopes of different signs do not cancel.
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
