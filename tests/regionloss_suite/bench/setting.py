"""A benchmark setting: the size and form of a batch, and the batch itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from regionloss_spec import Batch, Profile

#: Rows that the truths of an image are padded to, as in a data loader for VOC or COCO.
SLOTS = 50

#: The anchors of darknet's `yolov2-voc.cfg`, cells.
ANCHORS = ((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053), (11.2364, 10.0071))

BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

Layout = Literal["NCHW", "channels_last"]


@dataclass(frozen=True)
class Setting:
    """The size and form of a batch.

    Attributes:
        height, width: cells of the grid, H and W.
        images: N.
        classes: C.
        truths: fewest and most truths per image.
        dtype: of the predictions.
        layout: memory layout of the predictions.
        images_seen: t; below 12800 the prior is on.
    """

    height: int = 13
    width: int = 13
    images: int = 16
    classes: int = 20
    truths: tuple[int, int] = (1, 8)
    dtype: str = "float32"
    layout: Layout = "NCHW"
    images_seen: int = 0

    @property
    def name(self) -> str:
        """A name for files and for the names of tests: `13x13-N16-C20-T1to8-float32-NCHW-t0`."""
        return (
            f"{self.height}x{self.width}-N{self.images}-C{self.classes}-T{said(self.truths, 'to')}"
            f"-{self.dtype}-{self.layout}-t{self.images_seen}"
        )

    @property
    def title(self) -> str:
        """The setting in words."""
        prior = "before 12800, the prior is on" if self.images_seen < 12800 else "from 12800 on, the prior is off"
        return (
            f"{self.height}×{self.width} · N={self.images} · C={self.classes} · "
            f"{said(self.truths, '–')} truth{'s' * (self.truths != (1, 1))} in {self.slots} rows · {self.dtype} · "
            f"{self.layout} · {prior}"
        )

    @property
    def slots(self) -> int:
        """Rows that the truths of an image are padded to."""
        return max(SLOTS, self.truths[1])

    @property
    def elements(self) -> int:
        """Numbers in the predictions, and in their gradient."""
        return self.images * len(ANCHORS) * (5 + self.classes) * self.height * self.width

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradient."""
        return self.elements * BYTES[self.dtype]

    def profile(self, base: Profile) -> Profile:
        """The timed profile: darknet's, with more truths per image if the setting has more than it reads."""
        if 0 < base.max_truths < self.truths[1]:
            return base.replace(max_truths=self.truths[1])
        return base

    def draw(self) -> Batch:
        """The batch, always the same: raw outputs of an untrained network, and boxes anywhere in the image.

        Every number is exact in float32, and the predictions have the setting's dtype.
        """
        from regionloss_suite.judging.exchange import quantised

        random = np.random.default_rng(20161225)
        channels = len(ANCHORS) * (5 + self.classes)
        predictions = random.standard_normal((self.images, channels, self.height, self.width), dtype=np.float32)
        low, high = self.truths
        truths = []
        for count in random.integers(low, high + 1, self.images):
            centre = random.uniform(0.01, 0.99, (count, 2))
            size = random.uniform(0.03, 0.6, (count, 2))
            label = random.integers(0, self.classes, (count, 1))
            table = np.concatenate([centre, size, label], axis=1).astype(np.float32).astype(np.float64)
            truths.append(table)
        return Batch(
            predictions=quantised(predictions, self.dtype),
            truths=tuple(truths),
            anchors=np.array(ANCHORS),
            classes=self.classes,
            images_seen=self.images_seen,
        )

    def to_json(self) -> dict[str, Any]:
        """The form in the results."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Setting:
        """The setting from `to_json`."""
        return cls(**{**data, "truths": tuple(data["truths"])})


def said(truths: tuple[int, int], to: str) -> str:
    """A range of truths in words, such as `1to8`."""
    low, high = truths
    return str(low) if low == high else f"{low}{to}{high}"
