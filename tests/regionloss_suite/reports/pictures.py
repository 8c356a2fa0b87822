"""Pictures of a case as inline SVG: the state of each predictor, and the size of a number at each predictor.

Every state and every size has its own symbol, so that nothing depends on colour; the page defines the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from regionloss import Result
from regionloss_spec.batch import Array
from regionloss_suite.oracle.comparison import Difference

#: Margin for the numbers of rows and columns, in units of the picture.
_MARGIN = 20
#: Larger grids would be unreadable.
MOST_CELLS = 40 * 40

#: For each state its symbol and, as HTML, its meaning, in the order of the legend.
STATES = {
    "responsible": ("●", "1<sup>truth</sup> is on: it pays coordinates, objectness and class"),
    "ignored": ("–", "MaxIOU is above the threshold: it does not pay the no-object term"),
    "no-object": ("·", "1{MaxIOU &lt; Thresh} is on: it pays the no-object term"),
    "silent": ("×", "its image gives a class and no box"),
}
#: Upper limits of the shades of a map; the last shade has none. One scale is for differences, the other for amounts.
DIFFERENCES = (1e-9, 1e-6, 1e-4, 1e-2, 1.0)
AMOUNTS = (1e-6, 1e-4, 1e-2, 1.0, 100.0)


@dataclass(frozen=True)
class Place:
    """The predictor with the first deviation; `None` where the deviation has no place."""

    image: int
    anchor: int | None = None
    row: int | None = None
    column: int | None = None

    @classmethod
    def of(cls, difference: Difference) -> Place:
        """The place of a difference; the first image if it has none."""
        return cls(difference.image or 0, difference.anchor, difference.row, difference.column)


@dataclass(frozen=True)
class _Grid:
    """The geometry of a picture's cells; those of a small grid are drawn larger."""

    height: int
    width: int

    @classmethod
    def of(cls, result: Result) -> _Grid:
        return cls(*result.t.shape[3:])

    @property
    def side(self) -> float:
        return min(44, max(22, 180 // max(self.height, self.width)))

    def cell(self, row: int, column: int, kind: str, symbol: str, title: str) -> str:
        side = self.side
        x, y = _MARGIN + column * side, _MARGIN + row * side
        return (
            f'<g class="{kind}"><title>{title}</title><rect x="{x}" y="{y}" width="{side}" height="{side}"/>'
            f'<text x="{x + side / 2:g}" y="{y + side / 2 + 4:g}">{symbol}</text></g>'
        )

    def frame(self, kind: str, left: float, top: float, right: float, bottom: float) -> str:
        """A rectangle over the cells; its edges in cells."""
        side = self.side
        return (
            f'<rect class="{kind}" x="{_MARGIN + left * side:.1f}" y="{_MARGIN + top * side:.1f}" '
            f'width="{(right - left) * side:.1f}" height="{(bottom - top) * side:.1f}"/>'
        )


def state_grid(result: Result, image: int) -> list[list[list[str]]]:
    """The state of each predictor of an image, by anchor, row and column."""
    decisions = result.decisions
    _, anchors, _, height, width = result.t.shape

    def state(*who: int) -> str:
        if decisions.class_only[who[0]]:
            return "silent"
        if decisions.responsible[who]:
            return "responsible"
        return "no-object" if decisions.no_object[who] else "ignored"

    return [[[state(image, k, j, i) for i in range(width)] for j in range(height)] for k in range(anchors)]


def indicator_pictures(result: Result, place: Place) -> list[str]:
    """For each anchor, the state of its predictor in every cell, with the boxes of the truths over it."""
    pictures, drawn = [], _Grid.of(result)
    for k, grid in enumerate(state_grid(result, place.image)):
        cells = [
            drawn.cell(j, i, f"s-{state}", STATES[state][0], f"cell ({j}, {i}): {state}")
            for j, row in enumerate(grid)
            for i, state in enumerate(row)
        ]
        cells += _truths(result, place.image)
        named: dict[str, list[str]] = {}
        for j, row in enumerate(grid):
            for i, state in enumerate(row):
                named.setdefault(state, []).append(f"({j}, {i})")
        label = "; ".join(f"{len(at)} {state}" + _at(at) for state, at in named.items())
        pictures.append(_figure(result, k, cells, f"States of anchor {k}: {label}", place))
    return pictures


def value_pictures(
    result: Result, values: Array, title: str, place: Place, *, limits: Sequence[float], counts: Array | None = None
) -> list[str]:
    """For each anchor, a number for each predictor, on a logarithmic scale.

    Args:
        result: the answer of a conforming loss.
        values: not negative, infinite for NaN, `[A, H, W]`.
        title: their name; with the largest number, it is the text alternative of the map.
        place: the predictor to frame.
        limits: the limits of the shades.
        counts: where to show the power of ten instead of a dot, bool `[A, H, W]`; by default everywhere.
    """
    pictures, drawn = [], _Grid.of(result)
    for k, anchor in enumerate(values):
        cells = []
        for (j, i), value in np.ndenumerate(anchor):
            symbol = exponent(value) if counts is None or counts[k, j, i] else "·" if value else ""
            cells.append(drawn.cell(j, i, f"d-{shade(value, limits)}", symbol, f"cell ({j}, {i}): {value:.2g}"))
        worst = np.unravel_index(int(np.argmax(anchor)), anchor.shape)
        label = f"{title} of anchor {k}: largest {anchor.max():.2g}"
        label += f" in cell ({worst[0]}, {worst[1]})" if anchor.max() > 0 else ""
        pictures.append(_figure(result, k, cells, label, place))
    return pictures


def shade(value: float, limits: Sequence[float]) -> int:
    """The shade of a map for a number: 0 for zero."""
    return 0 if value == 0 else 1 + sum(value >= limit for limit in limits)


def exponent(value: float) -> str:
    """The power of ten of a number, `∞` for an infinite one, and empty for zero."""
    if value == 0:
        return ""
    return str(math.floor(math.log10(value))).replace("-", "−") if math.isfinite(value) else "∞"


def _figure(result: Result, anchor: int, cells: list[str], label: str, place: Place) -> str:
    """The picture of one anchor with the numbers of its rows and columns, and the place of the deviation framed."""
    grid = _Grid.of(result)
    side, step = grid.side, 1 if max(grid.height, grid.width) <= 20 else 5
    ticks = [_text(_MARGIN + (i + 0.5) * side, 14, i) for i in range(0, grid.width, step)]
    ticks += [_text(10, _MARGIN + (j + 0.5) * side + 4, j) for j in range(0, grid.height, step)]
    if place.anchor == anchor and place.row is not None and place.column is not None:
        cells = [*cells, grid.frame("first", place.column, place.row, place.column + 1, place.row + 1)]
    w, h = _MARGIN + grid.width * side + 4, _MARGIN + grid.height * side + 4
    a_w, a_h = result.anchors[anchor]
    return (
        f'<figure><svg role="img" aria-label="{escape(label)}" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
        f"{''.join(ticks)}{''.join(cells)}</svg>"
        f"<figcaption>anchor {anchor} <small>{a_w:.4g} × {a_h:.4g} cells</small></figcaption></figure>"
    )


def _text(x: float, y: float, number: int) -> str:
    return f'<text class="tick" x="{x:g}" y="{y:g}">{number}</text>'


def _truths(result: Result, image: int) -> list[str]:
    grid = _Grid.of(result)
    frames = []
    for x, y, w, h, _ in result.truths[image] if not result.decisions.class_only[image] else ():
        left, right = max(0.0, (x - w / 2) * grid.width), min(float(grid.width), (x + w / 2) * grid.width)
        top, bottom = max(0.0, (y - h / 2) * grid.height), min(float(grid.height), (y + h / 2) * grid.height)
        frames.append(grid.frame("truth", left, top, right, bottom))
    return frames


def _at(places: list[str]) -> str:
    return f" at {', '.join(places)}" if len(places) <= 8 else ""
