"""The order of axes, written as a pattern of letters such as `n h w (a e)`."""

from __future__ import annotations

import math

import numpy as np

from regionloss_spec.batch import Array

#: The axes of predictions, split into images, anchors, the 5+C entries of a predictor, rows and columns.
AXES = "naehw"


def check_axes(axes: str) -> None:
    """Check that a pattern names every axis once.

    Raises:
        ValueError: an axis is missing, named twice or unknown, or a parenthesis has no partner.
    """
    if sorted("".join(_groups(axes))) != sorted(AXES):
        raise ValueError(f"axes are {axes!r}, expected each of {', '.join(AXES)} once, such as 'n h w (a e)'")


def arrange(array: Array, axes: str) -> Array:
    """`[N, A, E, H, W]` as a contiguous array in the order of a pattern; axes in parentheses are merged."""
    sizes = dict(zip(AXES, array.shape, strict=True))
    order = [AXES.index(axis) for axis in "".join(_groups(axes))]
    shape = [math.prod(sizes[axis] for axis in group) for group in _groups(axes)]
    return np.ascontiguousarray(array.transpose(order)).reshape(shape)


def restore(array: Array, axes: str, shape: tuple[int, ...]) -> Array:
    """The inverse of `arrange`: an array in the order of a pattern as `[N, A, E, H, W]` of the given shape."""
    sizes = dict(zip(AXES, shape, strict=True))
    letters = "".join(_groups(axes))
    return array.reshape([sizes[axis] for axis in letters]).transpose([letters.index(axis) for axis in AXES])


def _groups(axes: str) -> list[str]:
    """The letters of each axis of the result: `n h w (a e)` gives n, h, w, ae."""
    groups: list[str] = []
    inside = False
    for sign in axes.replace(" ", ""):
        if sign in "()" and inside == (sign == ")"):
            inside = not inside
            groups += [""] * inside
        elif inside:
            groups[-1] += sign
        else:
            groups.append(sign)
    return groups if not inside else [axes]
