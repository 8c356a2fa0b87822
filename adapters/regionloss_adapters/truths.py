"""The truth formats of ports: the columns of a row (`Rows`), and the container of the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss.decisions import anchor_fit
from regionloss_adapters.axes import arrange, check_axes
from regionloss_adapters.protocol import CannotAnswerError, Question
from regionloss_adapters.truth_rows import Rows, cannot
from regionloss_spec.batch import Array

#: A format returns the truths of a question: arrays, or lists, tuples and dicts of arrays.
TruthFormat = Callable[[Question], Any]

__all__ = ["Counted", "Dense", "Flat", "Padded", "Ragged", "Rows", "TruthFormat"]


@dataclass(frozen=True, kw_only=True)
class Ragged(Rows):
    """A list with one array `[T, columns]` for each image."""

    def __call__(self, question: Question) -> list[Array]:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        return self.rows(question)


@dataclass(frozen=True, kw_only=True)
class Padded(Rows):
    """One array `[N, T, columns]`, in which padding rows of one value follow the truths of an image.

    With zeros as padding, a port that recognises padding by x = 0 cannot be given a truth there. For a port that uses
    something else, such as a size of 0, set `ends_at_zero=False`.

    Attributes:
        capacity: T; by default as many as the fullest image needs, but at least one.
        fill: the value of every column of padding rows.
    """

    capacity: int | None = None
    fill: float = 0.0

    @property
    def ends(self) -> bool:
        """Whether the port ends a list at x = 0."""
        return self.fill == 0 and "x" in self.names if self.ends_at_zero is None else self.ends_at_zero

    def __call__(self, question: Question) -> Array:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        return _pad(self, question, self.capacity, self.fill)


@dataclass(frozen=True, kw_only=True)
class Counted(Rows):
    """Rows `[N, T, columns]`, zeros after the truths, and the number of truths, int64 `[N]`.

    Attributes:
        capacity: T; by default as many as the fullest image needs, but at least one.
    """

    capacity: int | None = None

    def __call__(self, question: Question) -> tuple[Array, Array]:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        counts = np.array([len(table) for table in self.rows(question)], dtype=np.int64)
        return _pad(self, question, self.capacity, 0.0), counts


@dataclass(frozen=True, kw_only=True)
class Flat(Rows):
    """The truths of all images in one array `[M, columns]`, in the order of the images."""

    columns: str = "image x y w h class"

    def __call__(self, question: Question) -> Array:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        empty = np.zeros((0, self.width(question)), dtype=self.dtype_of(question))
        return np.concatenate([empty, *self.rows(question)])


@dataclass(frozen=True, kw_only=True)
class Dense(Rows):
    """A grid with each truth at its predictor and zeros elsewhere, `[N, H, W, A, columns]`.

    This format, not the port, selects the predictor by cell and by the shape of the anchor, so the verdicts on
    assignment are about this format. If a port fills such a grid itself, pass it rows and fill the grid in the wrapped
    function.
    A grid can hold neither two truths of one predictor nor an assignment that depends on predictions.

    Attributes:
        axes: order of the axes, as in `Layout`; e are the columns.
    """

    columns: str = "x y w h 1 classes"
    axes: str = "n h w a e"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axes(self.axes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for a reader of the report."""
        return ("The adapter assigned truths to predictors, so verdicts on assignment are about the adapter.",)

    def __call__(self, question: Question) -> Array:
        """The truths in this format. Raises `CannotAnswerError` for a truth that it cannot express."""
        profile, batch = question.profile, question.batch
        if profile.anchor_choice not in ("anchor-shape", "anchor-corner"):
            choice = f"anchor_choice = {profile.anchor_choice}"
            raise CannotAnswerError(f"its truths are assigned to anchors in advance, but the profile has {choice}")
        rows = self.rows(question)
        anchors = np.asarray(batch.anchors, dtype=np.float64)
        images, _, height, width = np.shape(batch.predictions)
        grid = np.zeros((images, len(anchors), self.width(question), height, width), dtype=self.dtype_of(question))
        boxes = np.zeros((4, len(anchors), height, width))  # predictions, which this choice of anchors ignores
        for image, table in enumerate(rows):
            taken: set[tuple[int, int, int]] = set()
            for truth, row in enumerate(np.asarray(batch.truths[image], dtype=np.float64).reshape(-1, 5)):
                if not (0 <= row[0] < 1 and 0 <= row[1] < 1):
                    raise cannot(image, truth, f"its centre ({row[0]:.9g}, {row[1]:.9g}) is in no cell")
                i, j = int(np.floor(row[0] * width)), int(np.floor(row[1] * height))
                k = int(np.argmax(anchor_fit(j, i, row, boxes, anchors, profile)))
                if (k, j, i) in taken:
                    raise cannot(image, truth, f"anchor {k} of cell ({j}, {i}) already holds another truth")
                taken.add((k, j, i))
                grid[image, k, :, j, i] = table[truth]
        return arrange(grid, self.axes)


def _pad(form: Rows, question: Question, capacity: int | None, fill: float) -> Array:
    rows = form.rows(question)
    capacity = max([1, *map(len, rows)]) if capacity is None else capacity
    padded = np.full((len(rows), capacity, form.width(question)), fill, dtype=form.dtype_of(question))
    for image, table in enumerate(rows):
        if len(table) > capacity:
            raise cannot(image, capacity, f"one of {len(table)}, and this format has room for {capacity}")
        padded[image, : len(table)] = table
    return padded
