"""The large tables: profiles side by side, what pins each clause, the properties, the mutants."""

from __future__ import annotations

import inspect
import re
from html import escape

from regionloss_docs.chapters import titles
from regionloss_docs.places import case_url, clause_url, folded, link, mutant_url, property_url
from regionloss_spec import AXES, load_clauses, load_profile, profile_names
from regionloss_suite.cli.clauses import listing
from regionloss_suite.mutants import catalogue
from regionloss_suite.properties import PROPERTIES


def profiles() -> str:
    """Every axis of every shipped profile, HTML; what differs from `darknet` is marked."""
    known = {name: load_profile(name) for name in profile_names()}
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in known)
    rows = []
    for axis in AXES:
        cells = []
        for profile in known.values():
            value, usual = getattr(profile, axis), getattr(known["darknet"], axis)
            shown = escape(f"{value:g}" if isinstance(value, float) else str(value))
            cells.append(f"<td>{shown}</td>" if value == usual else f'<td class="differs"><b>{shown}</b></td>')
        rows.append(f'<tr id="{axis}"><th scope="row"><code>{axis}</code></th>{"".join(cells)}</tr>')
    return (
        '<div class="wide" tabindex="0"><table class="matrix"><thead><tr><th scope="col">axis</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def sources() -> str:
    """What each shipped profile is and where it comes from, Markdown."""
    lines = ["| profile | what it is | source |", "| --- | --- | --- |"]
    for name in profile_names():
        profile = load_profile(name)
        lines.append(f'| <span id="{name}">`{name}`</span> | {profile.title} | {profile.source} |')
    return "\n".join(lines) + "\n"


def matrix(here: str = "matrix.html") -> str:
    """For each clause the cases, properties and mutants that pin it, HTML."""
    rows, chapter = [], ""
    for entry in listing():
        if entry["chapter"] != chapter:
            chapter = entry["chapter"]
            rows.append(f'<tr class="chapter"><th colspan="5" scope="rowgroup">{escape(titles()[chapter])}</th></tr>')
        cells = [
            _opened([link(name, case_url(name), here) for name in entry["cases"]]),
            _opened([link(name, property_url(name), here, code=False) for name in entry["properties"]]),
            _opened([link(name, mutant_url(name), here) for name in entry["mutants"]]),
        ]
        clause = link(entry["id"], clause_url(entry["id"]), here)
        level = entry["level"] + (", follows" if load_clauses()[entry["id"]].follows_from else "")
        rows.append(
            f'<tr><th scope="row">{clause}</th><td>{level}</td>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("clause", "level", "cases", "properties", "mutants"))
    return (
        '<div class="wide" tabindex="0" data-search-exclude><table class="matrix">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def counts() -> str:
    """How much there is of everything, one sentence."""
    clauses = load_clauses().values()
    consequences = sum(bool(clause.follows_from) for clause in clauses)
    musts = sum(clause.level == "MUST" for clause in clauses)
    cases = {case for entry in listing() for case in entry["cases"]}
    return (
        f"The spec has {len(clauses) - consequences} requirements and {consequences} consequences of these: "
        f"{len(clauses)} clauses, {musts} of them MUST. "
        f"They are pinned by {len(cases)} cases, {len(PROPERTIES)} properties and {len(catalogue())} mutants.\n"
    )


def properties(here: str = "properties.html") -> str:
    """What each property claims, what its batches are and what it pins, HTML in Markdown."""
    lines: list[str] = []
    subject = ""
    for known in PROPERTIES.values():
        module = inspect.getmodule(known.function)
        assert module is not None
        if module.__name__ != subject:
            subject = module.__name__
            lines += ["", f"## {subject.rpartition('.')[2].capitalize()}", "", _first(module.__doc__), ""]
            lines += ["| property | clauses |", "| --- | --- |"]
        summary = _first(known.function.__doc__)
        clauses = folded([link(clause, clause_url(clause), here) for clause in known.clauses], 6, " ")
        what = f'<b id="{known.id}">{_cell(known.name)}</b>' + (f"<br>{_cell(summary)}" if summary else "")
        lines.append(f"| {what} | {clauses} |")
    return "\n".join(lines) + "\n"


def mutants(here: str = "mutants.html") -> str:
    """The catalogue of mistakes by chapter: what each does wrong, the clause it breaks, the bug it is named after."""
    rows: dict[str, list[str]] = {chapter: [] for chapter in titles()}
    for mutant in catalogue().values():
        clause = load_clauses()[mutant.clause]
        after = f"<br><i>{_cell(mutant.after)}</i>" if mutant.after else ""
        under = "" if mutant.profile == "darknet" else f"<br>under `{mutant.profile}`"
        rows[clause.chapter].append(
            f'| <code id="{mutant.id}">{mutant.id}</code> | {_cell(mutant.title)}{after}{under} '
            f"| {link(clause.id, clause_url(clause.id), here)} |"
        )
    lines: list[str] = []
    for chapter, entries in rows.items():
        if entries:
            lines += ["", f"## {titles()[chapter]}", "", "| mutant | its mistake | breaks |", "| --- | --- | --- |"]
            lines += entries
    return "\n".join(lines) + "\n"


def _opened(links: list[str]) -> str:
    """How many, and which ones on demand."""
    if not links:
        return "–"
    return f'<details class="more"><summary>{len(links)}</summary>{", ".join(links)}</details>'


def _first(docstring: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return re.sub(r"\s+", " ", (docstring or "").strip().partition("\n\n")[0])


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "&#124;")
