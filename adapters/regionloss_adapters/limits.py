"""What a port accepts at all: batches beyond its limits are not put to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionloss_spec import Batch


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The batches that a port accepts.

    A case beyond them is *not answerable*, with the limit as the reason; measuring questions keep to them.

    Attributes:
        anchors: the exact number of anchors, or 0 for any number.
        truths: the largest number of truths in an image, or 0 for any number.
        classes: the smallest number of classes.
        square: whether the grid has as many rows as columns.
        empty: whether an image may have no truths.
        images: the smallest number of images; 0 for a batch without images.

    Raises:
        ValueError: a number is negative.

    Example:
        >>> from regionloss_adapters import Limits
        >>> Limits(anchors=5, square=True)
        Limits(anchors=5, truths=0, classes=1, square=True, empty=True, images=0)
    """

    anchors: int = 0
    truths: int = 0
    classes: int = 1
    square: bool = False
    empty: bool = True
    images: int = 0

    def __post_init__(self) -> None:
        for name in ("anchors", "truths", "classes", "images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")

    def beyond(self, batch: Batch) -> str:
        """Why a batch is beyond the limits, naming image and number; empty if it is within."""
        height, width = np.shape(batch.predictions)[2:]
        if self.anchors and len(batch.anchors) != self.anchors:
            return f"it accepts exactly {self.anchors} anchors; this batch has {len(batch.anchors)}"
        if batch.classes < self.classes:
            return f"it accepts at least {self.classes} classes; this batch has {batch.classes}"
        if self.square and height != width:
            return f"it accepts square grids only; this one has {height} × {width} cells"
        if len(batch.truths) < self.images:
            least = f"{self.images} image{'s' * (self.images > 1)}"
            return f"it accepts at least {least}; this batch has {len(batch.truths)}"
        for image, rows in enumerate(batch.truths):
            if self.truths and len(rows) > self.truths:
                return f"it accepts at most {self.truths} truths an image; image {image} has {len(rows)}"
            if not self.empty and not len(rows):
                return f"it accepts no image without truths, such as image {image}"
        return ""
