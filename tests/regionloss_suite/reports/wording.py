"""Texts about a clause from the spec; a stored report may contain a clause that this version does not know."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path

from regionloss_spec import load_clauses
from regionloss_spec.clause import chapters

#: The TeX that those sentences use, with its HTML; in this order.
_TEX = (
    (r"\\mathrm\{(\w+)\}", r"\1"),
    (r"\\tfrac12", "½"),
    (r"\\lambda", "λ"),
    (r"\\sigma", "σ"),
    (r"\\alpha", "α"),
    (r"\\gamma", "γ"),
    (r"\\ge\b", "≥"),
    (r"\\ne\b", "≠"),
    (r"\\cdot\b", "·"),
    (r"\\dots\b", "…"),
    (r"\\ln\b", "ln"),
    (r"\\,", " "),
    ("-", "−"),
    (r"_(?:\{([^{}]+)\}|(\w))", r"<sub>\1\2</sub>"),
    (r"\^(?:\{([^{}]+)\}|(\w))", r"<sup>\1\2</sup>"),
)


def sentence(clause: str) -> str:
    """The normative sentence, Markdown; empty for an unknown clause."""
    known = load_clauses().get(clause)
    if known is None:
        return ""
    lines = (line for line in known.text.splitlines() if re.search(rf"\b{known.level}\b", line))
    return next(lines, "")


def set_in_html(markdown: str) -> str:
    """A sentence of the spec as HTML: escaped, with code as code and formulas readable without a script."""
    pieces = re.split(r"(`[^`]+`|\$[^$]+\$)", markdown)
    return "".join(_set_piece(piece) for piece in pieces)


def _set_piece(piece: str) -> str:
    if piece.startswith("`"):
        return f"<code>{escape(piece.strip('`'))}</code>"
    if not piece.startswith("$"):
        return escape(piece)
    piece = escape(piece.strip("$"))
    for tex, html in _TEX:
        piece = re.sub(tex, html, piece)
    return f"<i>{piece}</i>"


def chapter(clause: str) -> str:
    """The title of the clause's chapter, plain text."""
    known = load_clauses().get(clause)
    return "Clauses unknown to this version" if known is None else _titles().get(known.chapter, known.chapter)


@cache
def _titles() -> dict[str, str]:
    return {path.name: _title(path) for path in chapters()}


def _title(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("# ").replace("`", "")
