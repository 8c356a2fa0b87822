"""`regionloss clauses`: the clauses with what pins them, for a terminal and as JSON."""

from __future__ import annotations

import argparse
import json
import re
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

from regionloss_spec import Case, Clause, load_cases, load_clauses
from regionloss_suite.cli.usage import UsageError, write
from regionloss_suite.judging.report import painted

_WIDTH = 110


def add_clauses(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss clauses`."""
    clauses = commands.add_parser(
        "clauses",
        help="list the clauses of the spec, or show one",
        description="List the clauses of the spec with what pins them, or show one in full.",
    )
    clauses.add_argument("id", nargs="?", help="show this clause in full")
    clauses.add_argument("--json", metavar="FILE", type=Path, help="write the list to this file")
    clauses.set_defaults(run=_run)


def _run(options: argparse.Namespace, colour: bool) -> int:
    entries = listing()
    if options.id is not None:
        clauses = load_clauses()
        if options.id not in clauses:
            close = [
                known for known in clauses if options.id in known or known.split(".")[0] == options.id.split(".")[0]
            ]
            raise UsageError(f"no clause {options.id!r}" + (f"; did you mean {', '.join(close[:8])}?" if close else ""))
        entries = [entry for entry in entries if entry["id"] == options.id]
        print("\n".join(page(clauses[options.id], entries[0], colour=colour)))
    else:
        print("\n".join(table(entries, colour=colour)))
    if options.json is not None:
        text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
        write(options.json, lambda: options.json.write_text(text, encoding="utf-8"))
    return 0


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
    if clause.follows_from:
        entry["follows_from"] = list(clause.follows_from)
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
    consequences = sum("follows_from" in entry for entry in entries)
    counts = f"{len(entries) - consequences} requirements, {consequences} consequences of others"
    return [*lines[1:], "", f"{len(entries)} clauses: {levels} · {counts}"]


def page(clause: Clause, entry: dict[str, Any], *, colour: bool) -> list[str]:
    """One clause in full: its norm, formulas and note, where it comes from and what pins it."""
    axis = clause.axis or "none: every profile shares it"
    if clause.values:
        axis += " = " + " | ".join(str(value) for value in clause.values)
    facts = {
        "follows from": ", ".join(clause.follows_from),
        "axis": axis,
        "source": plain(clause.source),
        "chapter": clause.chapter,
        "cases": ", ".join(entry["cases"]) or "none",
        "properties": ", ".join(entry["properties"]) or "none",
        "mutants": ", ".join(entry["mutants"]) or "none",
        "untestable": clause.untestable,
    }
    return [
        painted(f"{clause.id} · {clause.level}", "1", colour=colour),
        "",
        *_wrapped(plain(clause.norm)),
        *(line for formula in clause.formulas for line in ["", *_indented(plain(f"${formula}$"))]),
        *(["", *_wrapped(plain(f"Note: {clause.note}"))] if clause.note else []),
        "",
        *(line for name, fact in facts.items() if fact for line in _wrapped(f"{name}: {fact}", "  ")),
    ]


def plain(text: str) -> str:
    """Markdown with LaTeX between dollar signs, as text that a terminal shows."""
    from pylatexenc.latex2text import LatexNodes2Text

    def formula(match: re.Match[str]) -> str:
        latex = match[1].strip().replace(r"\tfrac", r"\frac").replace(r"\dfrac", r"\frac")
        latex = re.sub(r"([_^])\{([^{}]*\s[^{}]*)\}", r"\1{(\2)}", latex)
        shown = LatexNodes2Text(math_mode="text").latex_to_text(f"${latex}$")
        return unicodedata.normalize("NFKC", re.sub(r"[ \t]+", " ", shown)).strip()

    return re.sub(r"\$\$?(.+?)\$\$?", formula, text, flags=re.DOTALL)


def _wrapped(text: str, indent: str = "") -> list[str]:
    lines = (line.removeprefix("> ").removeprefix(">") for line in text.splitlines())
    wrap = textwrap.TextWrapper(_WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return [part for line in lines for part in (wrap.wrap(line) or [""])]


def _indented(text: str) -> list[str]:
    return [f"    {line.strip()}" for line in text.splitlines() if line.strip()]
