"""The clauses with what pins them, for a terminal and as JSON."""

from __future__ import annotations

import textwrap
from typing import Any

from regionloss_spec import Case, Clause, load_cases, load_clauses
from regionloss_suite.judging.report import painted


def listing() -> list[dict[str, Any]]:
    """Every clause with its level and the ids of the cases, properties and mutants that pin it."""
    cases = load_cases()
    return [_entry(clause, cases) for clause in load_clauses().values()]


def _entry(clause: Clause, cases: list[Case]) -> dict[str, Any]:
    from regionloss_suite.mutants import catalogue  # the catalogue and the properties are large; a report needs neither
    from regionloss_suite.properties import PROPERTIES

    entry: dict[str, Any] = {
        "id": clause.id,
        "level": clause.level,
        "axis": clause.axis,
        "chapter": clause.chapter,
        "cases": [case.id for case in cases if clause.id in case.clauses],
        "properties": [known.name for known in PROPERTIES.values() if clause.id in known.clauses],
        "mutants": [mutant.id for mutant in catalogue().values() if mutant.clause == clause.id],
    }
    if clause.untestable:
        entry["untestable"] = clause.untestable
    return entry


def table(entries: list[dict[str, Any]], *, colour: bool) -> list[str]:
    """One line for each clause, under the names of the chapters."""
    width = max(len(entry["id"]) for entry in entries)
    lines, chapter = [], ""
    for entry in entries:
        if entry["chapter"] != chapter:
            chapter = entry["chapter"]
            lines += ["", painted(chapter.removesuffix(".md"), "1", colour=colour)]
        pinned = (
            f"{len(entry['cases']):3d} cases, {len(entry['properties'])} properties, {len(entry['mutants'])} mutants"
        )
        lines.append(
            f"  {entry['id']:<{width}}  {entry['level']:<6}  {pinned}"
            + ("  untestable" if "untestable" in entry else "")
        )
    levels = ", ".join(
        f"{sum(entry['level'] == level for entry in entries)} {level}" for level in ("MUST", "SHOULD", "MAY")
    )
    return [*lines[1:], "", f"{len(entries)} clauses: {levels}"]


def page(clause: Clause, entry: dict[str, Any], *, colour: bool) -> list[str]:
    """One clause in full."""
    axis = clause.axis or "none: every profile shares it"
    if clause.values:
        axis += " = " + " | ".join(str(value) for value in clause.values)
    pinned = [f"{kind}: {', '.join(entry[kind]) or 'none'}" for kind in ("cases", "properties", "mutants")]
    return [
        painted(f"{clause.id} · {clause.level}", "1", colour=colour),
        "",
        clause.text,
        "",
        f"axis: {axis}",
        f"source: {clause.source}",
        f"chapter: {clause.chapter}",
        *(line for text in pinned for line in textwrap.wrap(text, 110, subsequent_indent="  ")),
    ]
