"""The chapters of the spec as pages: each clause with its anchor, what pins it and what implements it."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from html import escape
from typing import Any

from regionloss_docs.citations import Excerpt, implementations
from regionloss_docs.places import (
    case_url,
    chapter_url,
    clause_url,
    folded,
    link,
    mutant_url,
    profile_url,
    property_url,
    source_url,
)
from regionloss_spec import Clause, load_clauses, load_profile, profile_names
from regionloss_spec.clause import chapters
from regionloss_suite.cli.clauses import listing

#: So many names are shown at once; the others open on demand.
_SHOWN = 8
_HEADING = re.compile(r"^### `([a-z0-9.-]+)`$")
_KEY = re.compile(r"^- (level|axis|source|seen in|untestable|follows from): ")


def titles() -> dict[str, str]:
    """The title of each chapter, by file name, in reading order."""
    return {path.name: path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in chapters()}


def numbered(chapter: str) -> str:
    """The title of a chapter behind its number, given its file name; that of an annex has its letter."""
    number = chapter.partition("-")[0]
    return f"{int(number)}. {titles()[chapter]}" if number.isdigit() else titles()[chapter]


def page(chapter: str) -> str:
    """The Markdown of one chapter, given its file name."""
    (path,) = [path for path in chapters() if path.name == chapter]
    lines: list[str] = []
    clause: Clause | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        heading = _HEADING.match(line)
        if heading:
            clause = load_clauses()[heading[1]]
            lines.append(f"{line} {{ #{clause.id} }}")
        elif not _KEY.match(line):
            lines.append(line)
        elif clause is not None:
            lines += _foot(clause, chapter_url(chapter))
            clause = None
    return "\n".join(lines) + "\n"


def contents() -> str:
    """The list of all chapters with their clauses, Markdown."""
    lines = []
    for chapter in titles():
        clauses = [clause for clause in load_clauses().values() if clause.chapter == chapter]
        lines += ["", f"## [{numbered(chapter)}]({chapter})", ""]
        lines += [f"`{clause.id}` " for clause in clauses] or ["No clauses."]
    return "\n".join(lines) + "\n"


def _level(clause: Clause) -> str:
    return f'<span class="level level-{clause.level.lower()}">{clause.level}</span>'


def _binds(clause: Clause, here: str) -> str:
    if clause.axis is None:
        return "every profile"
    axis = link(clause.axis, f"profiles.html#{clause.axis}", here)
    if not clause.values:
        return f"every profile, each with its own {axis}"
    values = " or ".join(f"<code>{escape(str(value))}</code>" for value in clause.values)
    bound = [name for name in profile_names() if clause.applies_to(load_profile(name))]
    named = ", ".join(link(name, profile_url(name), here, code=False) for name in bound) or "no shipped profile"
    return f"{named} ({axis} = {values})"


def _foot(clause: Clause, here: str) -> list[str]:
    entry = _pinned_by()[clause.id]
    excerpts = implementations()[clause.id]
    lines = [link(_place(one), source_url(one.module, one.first), here, code=False) for one in excerpts]
    rows = [
        ("Level", _level(clause)),
        ("Binds", _binds(clause, here)),
        ("Follows from", _names(list(clause.follows_from), clause_url, here)),
        ("Source", _set(clause.source)),
        ("Seen in", "; ".join(map(str, clause.seen))),
        ("Cases", _names(entry["cases"], case_url, here)),
        ("Properties", _names(entry["properties"], property_url, here, code=False)),
        ("Mutants", _names(entry["mutants"], mutant_url, here)),
        ("Reference", ", ".join(lines)),
        ("Not tested", _set(clause.untestable)),
    ]
    shown = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in rows if html)
    return [
        "",
        f'<dl class="clause-foot" data-search-exclude>{shown}</dl>',
        "",
        *(_code(excerpts) if excerpts else []),
    ]


def _code(excerpts: list[Excerpt]) -> list[str]:
    lines = ['<details class="abstract" data-search-exclude markdown="1">', "<summary>Show these lines</summary>", ""]
    for excerpt in excerpts:
        lines += [
            f'```python title="{_place(excerpt)}" linenums="{excerpt.first}"',
            textwrap.dedent("\n".join(excerpt.lines)),
            "```",
            "",
        ]
    return [*lines, "</details>", ""]


def _place(excerpt: Excerpt) -> str:
    which = f"line {excerpt.first}" if excerpt.first == excerpt.last else f"lines {excerpt.first}–{excerpt.last}"
    return f"{excerpt.module}, {which}"


def _names(names: list[str], url: Any, here: str, *, code: bool = True) -> str:
    """Links, the first of them open; hand-made cases stand before recordings, which pin a great deal at once."""
    ordered = sorted(names, key=lambda name: name.startswith(("ab-", "pj-")))
    links = [link(name, url(name), here, code=code) for name in ordered]
    return folded(links, _SHOWN)


def _set(text: str) -> str:
    """One line of Markdown with code spans, as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


@cache
def _pinned_by() -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in listing()}
