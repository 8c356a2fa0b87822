"""Activations that a port expects in its input, and the chain rule back through them, in float64."""

from __future__ import annotations

import numpy as np

from regionloss.boxes import sigmoid, sigmoid_grad
from regionloss.classes import softmax
from regionloss_spec.batch import Array

CENTRES = ("raw", "sigmoid", "cells", "fraction")
SIZES = ("raw", "exp", "cells", "fraction")
OBJECTNESS = ("raw", "sigmoid")
CLASSES = ("raw", "softmax")


def centres(t: Array, kind: str) -> Array:
    """Raw tx and ty as σ(t), or as the centre of the box in cells or in fractions of the image; `[N, A, 2, H, W]`."""
    if kind == "raw":
        return t
    if kind == "sigmoid":
        return sigmoid(t)
    _, _, _, height, width = t.shape
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    return np.asarray((sigmoid(t) + np.stack([column, row])) / _of_grid(t, kind))


def centres_slope(t: Array, kind: str) -> Array | float:
    """Derivative of `centres`, element by element."""
    return 1.0 if kind == "raw" else np.asarray(sigmoid_grad(t) / _of_grid(t, kind))


def sizes(t: Array, kind: str, anchors: Array) -> Array:
    """Raw tw and th as e^t, or as the size of the box in cells or in fractions of the image; `[N, A, 2, H, W]`."""
    if kind == "raw":
        return t
    unit = 1.0 if kind == "exp" else anchors[:, :, None, None]
    with np.errstate(over="ignore"):  # a format without infinity is refused later
        return np.asarray(np.exp(t) * unit / _of_grid(t, kind))


def sizes_slope(t: Array, kind: str, anchors: Array) -> Array | float:
    """Derivative of `sizes`, element by element: an exponential is its own."""
    return 1.0 if kind == "raw" else sizes(t, kind, anchors)


def objectness(t: Array, kind: str) -> Array:
    """Raw to, unchanged or as σ(t); `[N, A, 1, H, W]`."""
    return t if kind == "raw" else sigmoid(t)


def objectness_slope(t: Array, kind: str) -> Array | float:
    """Derivative of `objectness`, element by element."""
    return 1.0 if kind == "raw" else sigmoid_grad(t)


def classes(t: Array, kind: str) -> Array:
    """Raw class outputs, unchanged or as their softmax over the classes; `[N, A, C, H, W]`."""
    return t if kind == "raw" else np.moveaxis(softmax(np.moveaxis(t, 2, 0)), 0, 2)


def classes_back(t: Array, kind: str, gradient: Array) -> Array:
    """The gradient with respect to raw class outputs: through the softmax, dp_c/dz_k = p_c (δ_ck - p_k)."""
    if kind == "raw":
        return gradient
    p = classes(t, kind)
    return np.asarray(p * (gradient - (p * gradient).sum(axis=2, keepdims=True)))


def _of_grid(t: Array, kind: str) -> Array | float:
    """The divisor of a length in cells, `[2, 1, 1]` for fractions of the image."""
    return np.array([t.shape[4], t.shape[3]], dtype=np.float64)[:, None, None] if kind == "fraction" else 1.0
