"""The least that memory must move, whoever computes the loss.

Forward reads five channels of every predictor, and the class outputs of the responsible ones; of the gradient, nearly
all zeros, every byte is written once. Backward needs the same numbers once more, since what forward read is long gone
from the cache when the rest of a step is done. Memory moves whole lines, so lines are counted, not bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from regionloss_spec import Batch
from regionloss_suite.bench.setting import ANCHORS, BYTES, Setting

#: Bytes that memory moves at least, by the kind of device.
LINE = {"cpu": 64, "cuda": 32}


@dataclass(frozen=True)
class Roofline:
    """Bytes that each step moves at least."""

    forward: int
    backward: int
    both: int
    no_grad: int

    def to_json(self) -> dict[str, int]:
        """As the results hold it."""
        return asdict(self)


def roofline_of(setting: Setting, batch: Batch, line: int) -> Roofline:
    """The floor of a batch.

    Two truths in one cell may share a predictor or not; one is counted, so that the floor is no more than is needed.

    Args:
        setting: its layout and format.
        batch: of `setting.draw`; its truths are read.
        line: bytes that memory moves at a time, see `LINE`.
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
    """Where each number of an image lies in memory, bytes, `[A, 5+C, H, W]`."""
    shape = (len(ANCHORS), 5 + setting.classes, setting.height, setting.width)
    order = (2, 3, 0, 1) if setting.layout == "channels_last" else (0, 1, 2, 3)
    place = np.arange(np.prod(shape)).reshape([shape[axis] for axis in order])
    return place.transpose(np.argsort(order)) * BYTES[setting.dtype]


def _lines(offsets: NDArray[np.int64], line: int) -> int:
    return len(np.unique(offsets // line))
