"""One question to a loss: the predictions and truths of a batch, and what they are measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An array of any number type, where the shape says more than the type.
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """The input of a loss. Nothing is checked here: a batch may lie outside the domain on purpose.

    Attributes:
        predictions: raw network outputs, float, `[N, A*(5+C), H, W]`; per anchor the channels
            tx, ty, tw, th, to, class 0 … C-1 (`notation.channel-order`).
        truths: one float array `[T, 5]` for each image; a row is x, y, w, h (fractions of the
            image, centre and size) and the class (`notation.truth-units`).
        anchors: widths and heights in cells, float, `[A, 2]` (`notation.anchor-units`).
        classes: C, the number of classes.
        images_seen: t, images that training has seen, this batch included (`prior.images-seen`).
        tree: the parent of each class, -1 at a root, where classes form a tree (`tree.groups`).
    """

    predictions: NDArray[np.floating]
    truths: tuple[NDArray[np.float64], ...]
    anchors: NDArray[np.float64]
    classes: int
    images_seen: int
    tree: tuple[int, ...] | None = None
