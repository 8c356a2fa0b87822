"""The golden cases as pages: what each one shows, what it pins, and what `regionloss explain` prints of it."""

from __future__ import annotations

from regionloss import DomainError
from regionloss_docs.chapters import titles
from regionloss_docs.commands import output
from regionloss_docs.places import case_url, clause_url, folded, link
from regionloss_spec import Case, load_cases, load_clauses
from regionloss_suite.reports.maps import maps_of


def page(case: Case) -> str:
    """The Markdown of one case."""
    command = f"regionloss explain {case.id}"
    clauses = [link(clause, clause_url(clause), case_url(case.id)) for clause in case.clauses]
    return "\n".join(
        [
            "---",
            "hide: [navigation, toc]",
            "---",
            "",
            f"# `{case.id}`",
            "",
            case.title,
            "",
            # Every explanation answers the two questions: in the search they would hide the page that is about them.
            '<div data-search-exclude markdown="1">',
            "",
            f'```text title="{command}"',
            output(command),
            "```",
            "",
            "</div>",
            "",
            *_maps(case),
            f'<div class="named-list">Pins {folded(clauses, 12)}</div>',
            "",
            _origin(case),
            "",
            "[All golden cases](../cases.md)",
            "",
        ]
    )


def _maps(case: Case) -> list[str]:
    try:
        return [f'<div class="maps" data-search-exclude>{"".join(maps_of(case))}</div>', ""]
    except DomainError:  # every conforming loss refuses it, which its explanation says
        return []


def table() -> str:
    """All cases: those made by hand under the chapter of the first clause that they pin, then the recordings."""
    lines: list[str] = []
    cases = load_cases()
    for chapter, title in titles().items():
        of_chapter = [
            case for case in cases if not case.recorded and load_clauses()[case.clauses[0]].chapter == chapter
        ]
        lines += _section(title, of_chapter)
    for repository in sorted({case.provenance["repository"] for case in cases if case.recorded}):
        recorded = [case for case in cases if case.provenance.get("repository") == repository]
        lines += _section(f"Recorded from {repository}", recorded)
    return "\n".join(lines) + "\n"


def _section(title: str, cases: list[Case]) -> list[str]:
    if not cases:
        return []
    rows = [f"| `{case.id}` | {case.title} |" for case in cases]
    return ["", f"## {title}", "", "| case | what it shows |", "| --- | --- |", *rows]


def _origin(case: Case) -> str:
    origin = case.provenance
    if not case.recorded:
        return f"Its expected numbers were derived by hand. {origin['derivation']}"
    return (
        f"Its expected numbers were recorded from `{origin['function']}` of {origin['repository']} "
        f"at {origin['commit'][:10]} ({origin['build']})."
    )
