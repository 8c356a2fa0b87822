"""The least memory traffic of any implementation of the loss.

Forward reads five channels of every predictor, and the class outputs of the responsible ones; of the gradient, nearly
all zeros, every byte is written once. Backward reads the same numbers again, because the rest of a training step has
evicted them from the cache by then. Memory moves whole cache lines, so lines are counted, not bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from regionloss_spec import Batch
from regionloss_suite.bench.setting import ANCHORS, BYTES, Setting

#: Bytes per cache line, by the kind of device.
LINE = {"cpu": 64, "cuda": 32}


@dataclass(frozen=True)
class Roofline:
    """The least number of bytes that each step moves."""

    forward: int
    backward: int
    both: int
    no_grad: int

    def to_json(self) -> dict[str, int]:
        """The form in the results."""
        return asdict(self)


def roofline_of(setting: Setting, batch: Batch, line: int) -> Roofline:
    """The roofline of a batch.

    Two truths in one cell may or may not share a predictor; they count as one, so that it is a true lower bound.

    Args:
        setting: its layout and format.
        batch: of `setting.draw`; its truths are read.
        line: bytes per cache line, see `LINE`.
    """
    offsets = _offsets(setting)  # [A, 5+C, H, W]
    dense = _lines(offsets[:, :5], line)
    rows = 0
    for table in batch.truths:
        cells = {(int(y * setting.height), int(x * setting.width)) for x, y in table[:, :2]}
        rows += sum(_lines(offsets[0, 5:, j, i], line) for j, i in cells)
    read = (setting.images * dense + rows) * line
    return Roofline(read, read + setting.gradient_bytes, 2 * read + setting.gradient_bytes, read)


def _offsets(setting: Setting) -> NDArray[np.int64]:
    """The byte offset of each number of an image in memory, `[A, 5+C, H, W]`."""
    shape = (len(ANCHORS), 5 + setting.classes, setting.height, setting.width)
    order = (2, 3, 0, 1) if setting.layout == "channels_last" else (0, 1, 2, 3)
    place = np.arange(np.prod(shape)).reshape([shape[axis] for axis in order])
    return place.transpose(np.argsort(order)) * BYTES[setting.dtype]


def _lines(offsets: NDArray[np.int64], line: int) -> int:
    return len(np.unique(offsets // line))
