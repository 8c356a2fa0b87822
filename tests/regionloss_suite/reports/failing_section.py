"""One failing case in the HTML report: its pictures, its largest differences, its derivation."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss import DomainError, Result, evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_spec import Case
from regionloss_suite.compare import Difference
from regionloss_suite.explain import explain
from regionloss_suite.report import printable
from regionloss_suite.reports.pictures import (
    MOST_CELLS,
    SHADES,
    STATES,
    Place,
    difference_pictures,
    exponent,
    indicator_pictures,
)
from regionloss_suite.verdict import Verdict

Array = NDArray[Any]
_CHANNELS = ("tx", "ty", "tw", "th", "to")
_ROWS = 10


def failing_section(verdicts: list[Verdict], known: tuple[Case, Array | None] | None, anchor: str) -> str:
    """The HTML of one case.

    Args:
        verdicts: what was first seen to deviate on it, at least one.
        known: the case and the answered gradient; `None` for a case that is not at hand.
        anchor: the fragment that links lead to.
    """
    first = verdicts[0].first
    assert first is not None
    clauses = ", ".join(f"<code>{escape(printable(verdict.clause))}</code>" for verdict in verdicts)
    lines = [f'<section id="{anchor}"><h3>{escape(printable(first.case))}</h3>', f"<p>First seen here: {clauses}</p>"]
    if known is None:
        lines.append("<p>This case is not stored with the report, so there is no picture of it.</p></section>")
        return "\n".join(lines)
    case, gradient = known
    lines.append(f"<p>{escape(printable(case.title))}</p>")
    try:
        result = evaluate(case.batch, case.profile)
    except DomainError as error:
        lines.append(f"<p>Every conforming loss refuses this input: {escape(printable(str(error)))}</p></section>")
        return "\n".join(lines)
    lines += _pictures(case, result, gradient, first)
    derivation = "\n".join(printable(line) for line in explain(case))
    lines.append(f'<details open><summary>Derivation</summary><pre tabindex="0">{escape(derivation)}</pre></details>')
    lines.append("</section>")
    return "\n".join(lines)


def _pictures(case: Case, result: Result, gradient: Array | None, first: Difference) -> list[str]:
    place = Place.of(first)
    images, _, _, height, width = result.t.shape
    if place.image >= images or not 0 < height * width <= MOST_CELLS:
        return ["<p>Its grid is empty or too large for a picture.</p>"]
    t, until = case.batch.images_seen, case.profile.prior_until
    prior = f"1{{t &lt; {until}}} is {'on' if t < until else 'off'}: t&nbsp;=&nbsp;{t}"
    lines = [
        f"<h4>Indicators, image {place.image}</h4>",
        f"<p>What a conforming loss decides, for each anchor in each cell. {prior}.</p>",
        _states_legend(result, place),
        f'<div class="pictures">{"".join(indicator_pictures(result, place))}</div>',
    ]
    if gradient is not None and gradient.shape == result.gradient.shape:
        lines += [f"<h4>Difference of the gradients, image {place.image}</h4>"]
        lines += _differences(case, result, gradient, first)
    return lines


def _differences(case: Case, result: Result, gradient: Array, first: Difference) -> list[str]:
    place, shape = Place.of(first), result.t.shape
    wanted = result.gradient if case.expected.gradient is None else case.expected.gradient
    got, wanted = gradient.reshape(shape)[place.image], wanted.reshape(shape)[place.image]  # [A, 5+C, H, W]
    with np.errstate(invalid="ignore"):
        apart = np.abs(got - wanted)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    formats = [first.dtype, *(["float32"] if case.recorded else [])]  # a recording carries its own rounding
    whole = np.sum([bounds(result, PRECISIONS[dtype]).gradient for dtype in formats], axis=0)
    pictures = difference_pictures(result, apart, whole.reshape(shape)[place.image], place)
    return [
        "<p>|answered − expected|, the largest of each predictor's channels: "
        "its power of ten where it is more than rounding explains, · where it is not.</p>",
        _shades_legend(),
        f'<div class="pictures">{"".join(pictures)}</div>',
        _largest(got, wanted, apart),
    ]


def _states_legend(result: Result, place: Place) -> str:
    silent = bool(result.decisions.boxless[place.image])
    items = [
        f'<li><span class="swatch s-{state}">{symbol}</span>{state}: {meaning}'
        for state, (symbol, meaning) in STATES.items()
        if (state == "silent") == silent
    ]
    items.append('<li><span class="swatch truth"></span>a truth')
    if place.row is not None:
        items.append('<li><span class="swatch first"></span>first departure')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _shades_legend() -> str:
    limits = [f"10<sup>{exponent(limit)}</sup>" if limit < 1 else "1" for limit in SHADES]
    names = ["none", f"below {limits[0]}"]
    names += [f"{low} to {high}" for low, high in pairwise(limits)]
    names.append(f"{limits[-1]} or more")
    items = [f'<li><span class="swatch d-{shade}"></span>{name}' for shade, name in enumerate(names)]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _largest(got: Array, wanted: Array, apart: Array) -> str:
    """The largest differences in words, for who cannot see the map; arrays `[A, 5+C, H, W]`."""
    order = np.argsort(-apart, axis=None, kind="stable")[:_ROWS]
    rows = []
    for where in zip(*np.unravel_index(order, apart.shape), strict=True):
        anchor, channel, row, column = map(int, where)
        if apart[where] > 0:
            name = _CHANNELS[channel] if channel < 5 else f"class {channel - 5}"
            numbers = f"<td>{got[where]:.6g}<td>{wanted[where]:.6g}<td>{apart[where]:.2g}"
            rows.append(f"<tr><td>{name}, anchor {anchor}, cell ({row}, {column}){numbers}")
    head = "<thead><tr><th>element<th>answered<th>expected<th>apart</thead>"
    table = f"<table>{head}{''.join(rows)}</table>"
    return f"<details><summary>The largest differences in numbers</summary>{table}</details>"
