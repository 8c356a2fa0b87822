"""The page of implementations: what `python -m tools.record_ports` recorded, as tables."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from regionloss_docs.chapters import titles
from regionloss_docs.places import case_url, clause_url, link, profile_url
from regionloss_spec import AXES, Profile, load_clauses, load_profile
from regionloss_suite.measure.formula import assumed, first_of
from regionloss_suite.measure.profile import canonical

FOLDER = Path(__file__).parents[2] / "implementations"
HERE = "implementations.html"
#: How many items of a kind to list for one implementation.
SHOWN = 8
#: What no experiment on a gradient shows, or what stands for no term of the formula.
_UNTOLD = ("printed_cost", "squared_factor")


@cache
def records() -> list[dict[str, Any]]:
    """Every record, both families of darknet first."""
    read = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    return sorted(read, key=lambda record: (not record["name"].startswith("darknet"), record["name"].lower()))


def summary() -> str:
    """One line for each implementation: where it is from, and how well its formula is known, Markdown."""
    lines = [
        "| implementation | commit, licence | run with | nearest profile | of the cases of its profile "
        "| of random batches | of edge cases | time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in records():
        identified = record["identified"]
        nearest, axes = identified["nearest"]["profile"], identified["nearest"]["differences"]
        apart = f", {axes} axes apart" if axes > 1 else ", 1 axis apart" if axes else ""
        profile, own = list(record["judged"].items())[-1]
        agreeing = f"{own['cases'] - len(own['departing'])} of {own['cases']}"
        held = identified["verification"]
        timed = record.get("times as long as torch-eager", {}).get("ratio")
        commit = record["commit"]
        lines.append(
            f"| [{record['name']}](implementations/{record['name']}.json) "
            f"| [{commit[:7]}]({record['upstream']}/tree/{commit}), {record['licence']} "
            f"| {record['framework']} "
            f"| [{nearest}]({profile_url(nearest).replace('.html', '.md')}){apart} "
            f"| {agreeing} as {profile} "
            f"| {held['explained']} of {held['batches']} "
            f"| {held['edges'] - len(held['edges left'])} of {held['edges']} "
            f"| {f'{timed:g}×' if timed else '–'} |"
        )
    return "\n".join(lines) + "\n"


def axes() -> str:
    """Every axis as it was identified in every implementation, HTML; what differs from darknet is marked."""
    rows = []
    usual = load_profile("darknet")
    for axis in AXES:
        if axis in _UNTOLD:
            continue
        cells = []
        for record in records():
            unknown = record["identified"]["not identified"]
            # What is divided by something that depends on the batch has no weight to compare.
            if axis in unknown or (axis.endswith("_weight") and "reduction" in unknown):
                cells.append("<td>–</td>")
                continue
            value, plain = getattr(_profile(record), axis), getattr(usual, axis)
            shown = escape(f"{value:g}" if isinstance(value, float) else str(value))
            cells.append(f"<td>{shown}</td>" if value == plain else f'<td class="differs"><b>{shown}</b></td>')
        rows.append(f'<tr><th scope="row"><code>{axis}</code></th>{"".join(cells)}</tr>')
    return _table("axis", rows, records())


def _profile(record: dict[str, Any]) -> Profile:
    """The profile that was identified, with the weights of squared terms for a factor of one half."""
    axes = record["identified"]["profile"]
    return canonical(Profile(name=record["name"], title="", source=record["upstream"], **axes))


def clauses() -> str:
    """For each clause and implementation on how many cases it departs from darknet, HTML."""
    rows, chapter = [], ""
    answering = [record for record in records() if record["judged"]["darknet"]["cases"]]
    for clause in load_clauses().values():
        counts = [record["judged"]["darknet"]["clauses"].get(clause.id) for record in answering]
        if not any(counts):
            continue
        if clause.chapter != chapter:
            chapter = clause.chapter
            title = escape(titles()[chapter])
            rows.append(f'<tr class="chapter"><th colspan="{len(counts) + 1}" scope="rowgroup">{title}</th></tr>')
        cells = "".join(_cell(count) for count in counts)
        rows.append(f'<tr><th scope="row">{link(clause.id, clause_url(clause.id), HERE)}</th>{cells}</tr>')
    return _table("clause", rows, answering)


def _cell(count: list[Any] | None) -> str:
    if count is None:
        return "<td>·</td>"
    departing, answered, *first = count
    if not departing:
        return "<td>✓</td>"
    return f'<td class="differs">{link(f"{departing}/{answered}", case_url(first[0]), HERE, code=False)}</td>'


def formulas() -> str:
    """The formula of each implementation with its differences and what is odd about it, Markdown."""
    lines = []
    for record in records():
        identified = record["identified"]
        held = identified["verification"]
        lines += [f'??? abstract "{record["name"]}"', ""]
        lines += ["    ```text", *(f"    {line}" for line in identified["formula"]), "    ```", ""]
        odd = [axis for axis in identified["not identified"] if axis in identified["odd"]]
        lines += [f"    {sentence[0].upper()}{sentence[1:]}.\n" for sentence in assumed(odd)]
        lines += [f"    - {axis}: {evidence}" for axis, evidence in identified["odd"].items()]
        often = sorted(held["left"].items(), key=lambda item: -item[1])
        unexplained = [f"not explained: {what} (in {number} batches)" for what, number in often]
        edges = [_on_an_edge(case, what) for case, what in held["edges left"].items()]
        items = [*first_of(unexplained, SHOWN, "outputs or states"), *first_of(edges, SHOWN, "edge cases")]
        lines += [f"    - {item}" for item in items]
        lines += [f"    - {note}" for note in record["notes"]]
        lines.append("")
    return "\n".join(lines) + "\n"


def _on_an_edge(case: str, deviation: str) -> str:
    """What departs on an edge case, which is linked instead of named, Markdown."""
    what = deviation.removeprefix(f"{case}: ").removeprefix(f"{case}, ")
    return f"on an edge: [`{case}`]({case_url(case).replace('.html', '.md')}): {what}"


def _table(corner: str, rows: list[str], columns: list[dict[str, Any]]) -> str:
    names = "".join(f'<th scope="col">{escape(record["name"])}</th>' for record in columns)
    return (
        '<div class="wide" tabindex="0" data-search-exclude><table class="matrix">'
        f'<thead><tr><th scope="col">{corner}</th>{names}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
    )
