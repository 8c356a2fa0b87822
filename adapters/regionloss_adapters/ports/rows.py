"""Inputs that some ports need: at least as many truths as they read unconditionally, and a square grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss_adapters.protocol import CannotAnswerError, Question
from regionloss_adapters.truths import Padded, TruthFormat


@dataclass(frozen=True, kw_only=True)
class AtLeast(Padded):
    """Rows padded with zeros to at least `rows_read`, all in one axis `[N, T*columns]`."""

    rows_read: int

    def __call__(self, question: Question) -> np.ndarray:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        padded = super().__call__(question)
        images, rows, columns = padded.shape
        missing = max(0, self.rows_read - rows)
        return np.pad(padded, ((0, 0), (0, missing), (0, 0))).reshape(images, (rows + missing) * columns)


@dataclass(frozen=True)
class Square:
    """Truths for a port that supports only square grids and is never given others."""

    truths: TruthFormat

    notes = ("It supports only square grids and is not given others.",)

    def __call__(self, question: Question) -> Any:
        """The truths. Raises `CannotAnswerError` if the grid is not square."""
        height, width = np.shape(question.batch.predictions)[2:]
        if height != width:
            raise CannotAnswerError(f"it supports square grids only; this one has {height} × {width} cells")
        return self.truths(question)
