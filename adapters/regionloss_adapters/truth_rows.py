"""A truth as a port expects it: its columns, their order and their unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from regionloss.bounds import PRECISIONS
from regionloss.domain import CLASS_ONLY
from regionloss_adapters.protocol import CannotAnswerError, Question
from regionloss_spec.batch import Array

_NAMES = ("x", "y", "w", "h", "x1", "y1", "x2", "y2", "class", "classes", "image")
_UNITS = ("fraction", "cells", "pixels")
_AXES = (("x", "w", "x1", "x2"), ("y", "h", "y1", "y2"))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Common parts of every truth format; a format is a function of a question.

    Not every format can express every batch; a batch that it cannot express is left out (`CannotAnswerError`):

    - Corners, pixels and cells are rounded, in float32 to about 7 digits. The rounded row must still describe the
      truth: the same cell, and no number off by more than one rounding. `dtype="float64"` avoids that, if the port
      accepts it.
    - A row with x = 0 ends the list under some profiles and is a truth under others (`truths.terminator`,
      `truths.no-terminator`); the port must do the same, as declared by `ends_at_zero`.
    - Only its centre, as a fraction of the image, shows that a row is a class alone (`tree.class-only-image`).

    Attributes:
        columns: their names, in order, separated by blanks: x y (centre), w h, x1 y1 x2 y2 (corners), class (its
            number), classes (one-hot, C columns), image (its index), or a number for a constant column. Two of x, w,
            x1, x2 are required, and two of y, h, y1, y2.
        unit: of the box: `fraction` of the image, grid `cells`, or `pixels`.
        image_size: width and height in pixels; by default 32 pixels per cell.
        dtype: of the rows, `float32` or `float64`; by default that of the predictions, but float32 with half formats,
            which would move the truths.
        ends_at_zero: whether the port ends a list at a row with x = 0, as darknet does. Such a row and those after it
            are then passed unchanged. By default, whether the format is padded with zeros and has a column x.
    """

    columns: str = "x y w h class"
    unit: Literal["fraction", "cells", "pixels"] = "fraction"
    image_size: tuple[float, float] | None = None
    dtype: Literal["float32", "float64"] | None = None
    ends_at_zero: bool | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in _NAMES and not _is_number(name):
                raise ValueError(f"column {name!r} of {self.columns!r}: known are {', '.join(_NAMES)}, or a number")
        for axis in _AXES:
            if len(set(self.names) & set(axis)) < 2:
                raise ValueError(f"columns {self.columns!r} give no box: they need two of {', '.join(axis)}")
        if self.unit not in _UNITS:
            raise ValueError(f"unit is {self.unit!r}, expected one of {', '.join(_UNITS)}")

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return self.columns.split()

    @property
    def ends(self) -> bool:
        """Whether the port ends a list at x = 0."""
        return bool(self.ends_at_zero)

    def width(self, question: Question) -> int:
        """The number of columns of a row."""
        return len(self.names) + self.names.count("classes") * (question.batch.classes - 1)

    def dtype_of(self, question: Question) -> str:
        """The format of the rows."""
        return self.dtype or ("float64" if question.dtype == "float64" else "float32")

    def rows(self, question: Question) -> list[Array]:
        """The truths of each image in this format, `[T, columns]`; new arrays.

        Raises:
            CannotAnswerError: a list is not a table of 5 columns, or a truth cannot be expressed; names the truth.
        """
        return [self._rows(question, image, given) for image, given in enumerate(question.batch.truths)]

    def _rows(self, question: Question, image: int, given: Array) -> Array:
        table = _table(image, given)
        read = table[: self._count_read(question, image, table[:, 0])]
        if question.profile.class_term == "tree" and not ({"x", "y"} <= set(self.names) and self.unit == "fraction"):
            for truth in np.flatnonzero((read[:, :2] > CLASS_ONLY).all(axis=1)):
                raise cannot(image, truth, f"a class without a box, inexpressible with {self.columns!r} in {self.unit}")
        dtype = self.dtype_of(question)
        with np.errstate(over="ignore", invalid="ignore"):  # rows after the end of a list may hold anything
            columns = self._columns(question, image, table)
            rounded = {name: column.astype(dtype) for name, column in columns.items()}
            self._check(question, image, read, rounded)
        return np.column_stack([rounded[name] for name in self.names])

    def _count_read(self, question: Question, image: int, x: Array) -> int:
        """How many rows come before the end of the list."""
        zeros = np.flatnonzero(x == 0)
        if not len(zeros):
            return len(x)
        ends = question.profile.truth_end == "x-zero"
        if ends and not self.ends:
            raise cannot(image, zeros[0], "x = 0 ends the list under this profile, but this format ends it differently")
        if self.ends and not ends:
            raise cannot(image, zeros[0], "x is 0, which ends the list for this loss")
        return int(zeros[0]) if ends else len(x)

    def _columns(self, question: Question, image: int, table: Array) -> dict[str, Array]:
        """Every requested column, float64, `[T]` or for the classes `[T, C]`."""
        columns = {
            "class": table[:, 4],
            "classes": (table[:, 4:5] == np.arange(question.batch.classes)).astype(np.float64),
            "image": np.full(len(table), float(image)),
        }
        for index, (axis, scale) in enumerate(zip(_AXES, self._scale(question), strict=True)):
            centre, size = table[:, index] * scale, table[:, index + 2] * scale
            columns |= zip(axis, (centre, size, centre - size / 2, centre + size / 2), strict=True)
        columns |= {name: np.full(len(table), float(name)) for name in self.names if name not in _NAMES}
        return {name: columns[name] for name in self.names}

    def _scale(self, question: Question) -> tuple[float, float]:
        """Width and height of the image in the unit."""
        height, width = np.shape(question.batch.predictions)[2:4]
        if self.unit == "pixels":
            return self.image_size or (32.0 * width, 32.0 * height)
        return (float(width), float(height)) if self.unit == "cells" else (1.0, 1.0)

    def _check(self, question: Question, image: int, table: Array, columns: dict[str, Array]) -> None:
        """Check that the rounded rows still describe the truths."""
        unit = 2 * PRECISIONS[question.dtype].unit
        grid = np.shape(question.batch.predictions)[3:1:-1]
        for index, (axis, scale, cells) in enumerate(zip(_AXES, self._scale(question), grid, strict=True)):
            known = {name: columns[name][: len(table)].astype(np.float64) / scale for name in axis if name in columns}
            centre, size = _interval(*(known.get(name) for name in axis))
            true_centre, true_size = table[:, index], table[:, index + 2]
            moved = np.floor(centre * cells) != np.floor(true_centre * cells)
            moved |= np.abs(centre - true_centre) * cells > unit * (np.abs(true_centre) * cells + 1)
            resized = np.abs(size - true_size) > unit * np.abs(true_size)
            for name, wrong, got, truth in ((axis[0], moved, centre, true_centre), (axis[1], resized, size, true_size)):
                for row in np.flatnonzero(wrong & np.isfinite(truth)):
                    form = f"{self.columns!r} in {self.unit}, {self.dtype_of(question)}"
                    raise cannot(image, row, f"{name} is {truth[row]:.9g} but would become {got[row]:.9g} as {form}")


def cannot(image: int, truth: int | np.integer[Any], reason: str) -> CannotAnswerError:
    """The error for a truth that a format cannot express."""
    return CannotAnswerError(f"image {image}, truth {truth}: {reason}")


def _table(image: int, given: Array) -> Array:
    try:
        table = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CannotAnswerError(f"image {image}: its truths are not a table of numbers: {error}") from error
    if table.size == 0:
        return table.reshape(0, 5)
    if table.ndim != 2 or table.shape[1] != 5:
        raise CannotAnswerError(f"image {image}: truths have shape {list(table.shape)}, expected [T, 5]")
    return table


def _interval(centre: Array | None, size: Array | None, low: Array | None, high: Array | None) -> tuple[Array, Array]:
    """Centre and size of intervals, from any two of centre, size and ends."""
    if size is None:
        if low is not None and high is not None:
            size = high - low
        elif centre is not None and low is not None:
            size = 2 * (centre - low)
        else:
            assert centre is not None
            assert high is not None
            size = 2 * (high - centre)
    if centre is None:
        if low is not None:
            centre = low + size / 2
        else:
            assert high is not None
            centre = high - size / 2
    return centre, size


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
