"""The picture of the start page: one cell, one object and five anchors, drawn from the worked example itself."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from regionloss import Result, evaluate
from regionloss_spec import load_case
from regionloss_spec.case import CASES

_SIDE = 180
_MARGIN = 14
_NAMES = {"no_object": "no-object", "coord": "coordinates", "object": "objectness", "class": "class"}


def five_anchors() -> str:
    """The five predictors of the middle cell, each with its own box over the object, as HTML with inline SVG."""
    case = load_case(CASES / "worked-example.json")
    result = evaluate(case.batch, case.profile)
    (match,) = result.decisions.matches
    figures = [_figure(result, anchor, match.row, match.column) for anchor in range(len(result.anchors))]
    return f'<div class="anchors">{"".join(figures)}</div>\n'


def _figure(result: Result, anchor: int, row: int, column: int) -> str:
    who = (0, anchor, row, column)
    state = _state(result, who)
    max_iou = result.decisions.max_iou[who]
    paid = [words for name, words in _NAMES.items() if result.terms[name].value[who]]
    pays = f"pays {', '.join(paid)}" if paid else "pays nothing"
    label = f"Anchor {anchor}: its box and the object overlap with an IoU of {max_iou:.2f}; it is {state} and {pays}."
    return (
        f'<figure class="{state}"><svg viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{escape(label)}">'
        f"{_grid(result, row, column)}{_box('truth', result.truths[0][0, :4])}"
        f"{_box('predicted', result.boxes[0][:, anchor, row, column])}</svg>"
        f"<figcaption><b>anchor {anchor}: {state}</b><br>MaxIOU {max_iou:.2f}<br>{pays}</figcaption></figure>"
    )


def _state(result: Result, who: tuple[int, int, int, int]) -> str:
    if result.decisions.responsible[who]:
        return "responsible"
    return "ignored" if result.decisions.ignored[who] else "no-object"


def _grid(result: Result, row: int, column: int) -> str:
    _, _, _, height, width = result.t.shape
    cell = (_SIDE - 2 * _MARGIN) / max(height, width)
    return "".join(
        f'<rect class="cell{" own" if (j, i) == (row, column) else ""}" x="{_MARGIN + i * cell:.1f}" '
        f'y="{_MARGIN + j * cell:.1f}" width="{cell:.1f}" height="{cell:.1f}"/>'
        for j in range(height)
        for i in range(width)
    )


def _box(kind: str, box: NDArray[np.float64]) -> str:
    """A box given by centre and size, as fractions of the image."""
    x, y, w, h = (float(number) * (_SIDE - 2 * _MARGIN) for number in box)
    return (
        f'<rect class="{kind}" x="{_MARGIN + x - w / 2:.1f}" y="{_MARGIN + y - h / 2:.1f}" '
        f'width="{w:.1f}" height="{h:.1f}"/>'
    )
