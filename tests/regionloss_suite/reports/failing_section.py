"""One failing case in the HTML report: its pictures, its largest differences, its derivation."""

from __future__ import annotations

from html import escape

import numpy as np

from regionloss import DomainError, Result, evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_spec import Case
from regionloss_spec.batch import Array
from regionloss_suite.judging.report import printable
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.channels import channel_name
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.reports.explain import explain
from regionloss_suite.reports.maps import drawable, maps, row, shades_legend
from regionloss_suite.reports.pictures import DIFFERENCES, Place, value_pictures

_ROWS = 10


def failing_section(verdicts: list[Verdict], known: tuple[Case, Array | None] | None, anchor: str) -> str:
    """The HTML of one case.

    Args:
        verdicts: the deviations that it showed first, at least one.
        known: the case and the returned gradient; `None` if the case is not available.
        anchor: the fragment for links.
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
    if not drawable(result, place.image):
        return ["<p>Its grid is empty or too large for a picture.</p>"]
    lines = maps(case, result, place)
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
    formats = [first.dtype, *(["float32"] if case.recorded else [])]  # a recording has its own rounding
    whole = np.sum([bounds(result, PRECISIONS[dtype]).gradient for dtype in formats], axis=0)
    outside: Array = np.any(apart > whole.reshape(shape)[place.image], axis=1)
    pictures = value_pictures(
        result, apart.max(axis=1), "Difference of the gradients", place, limits=DIFFERENCES, counts=outside
    )
    return [
        "<p>|returned − expected|, the largest of each predictor's channels: "
        "its power of ten if it is more than rounding explains, · if it is not.</p>",
        shades_legend(DIFFERENCES),
        row(pictures),
        _largest(got, wanted, apart),
    ]


def _largest(got: Array, wanted: Array, apart: Array) -> str:
    """The largest differences as text, for readers who cannot see the map; arrays `[A, 5+C, H, W]`."""
    order = np.argsort(-apart, axis=None, kind="stable")[:_ROWS]
    rows = []
    for where in zip(*np.unravel_index(order, apart.shape), strict=True):
        anchor, channel, row, column = map(int, where)
        if apart[where] > 0:
            numbers = f"<td>{got[where]:.6g}<td>{wanted[where]:.6g}<td>{apart[where]:.2g}"
            rows.append(f"<tr><td>{channel_name(channel)}, anchor {anchor}, cell ({row}, {column}){numbers}")
    head = "<thead><tr><th>element<th>answered<th>expected<th>apart</thead>"
    table = f"<table>{head}{''.join(rows)}</table>"
    return f"<details><summary>The largest differences in numbers</summary>{table}</details>"
