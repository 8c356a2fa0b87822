"""The report as a Markdown summary, one screen long, for the summary page of a CI run."""

from __future__ import annotations

import re

from regionloss_suite.judging.report import CONFORMING, MARKS, Report, printable
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports.wording import sentence

#: The most rows of each kind that fit on one screen.
_ROWS = 8


def render(report: Report) -> str:
    """The Markdown text."""
    mark = "✅" if report.exit_code == CONFORMING else "❌"
    counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
    lines = [
        f"### {mark} {code(report.adapter)} as {code(report.profile)}: {report.outcome}",
        "",
        f"{len(report.verdicts)} clauses: {counts or 'none judged'}; {report.cases} cases; "
        + (f"{report.properties} properties; " if report.properties else "")
        + f"regionloss {code(report.version)}",
    ]
    leading = [(verdict, followers) for verdict, followers in report.folded() if verdict.verdict == "deviating"]
    leading.sort(key=lambda pair: ("MUST", "SHOULD", "MAY").index(pair[0].level))
    if report.differences:
        lines += ["", f"{len(report.differences)} measured differences, what changes most first:", ""]
        lines += [
            f"- {code(one.words)} · {code(one.clause)} · changes {one.changes} of {one.departing} departing cases"
            for one in report.differences[:_ROWS]
        ]
        lines += _more(len(report.differences) - _ROWS, "more", "more")
    if report.unexplained is not None:
        rest = report.unexplained
        lines += ["", f"Unexplained: {rest.cases} of {rest.departing} departing cases, first in {code(rest.stage)}."]
    if leading:
        lines += ["", "| clause | what it requires | what was found |", "| --- | --- | --- |"]
        lines += [_row(verdict, followers) for verdict, followers in leading[:_ROWS]]
        lines += _more(len(leading) - _ROWS, "clause deviates", "clauses deviate")
    for title, sentences in (
        ("The loss crashed on", [code(case) for case in report.crashes]),
        ("Stale expected deviations", [code(text) for text in report.stale]),
    ):
        if sentences:
            lines += ["", f"{title}:", "", *(f"- {text}" for text in sentences[:_ROWS])]
            lines += _more(len(sentences) - _ROWS, "more", "more")
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """Foreign text as a code span without markup or mentions; safe in a table."""
    text = printable(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", r"\|")


def _row(verdict: Verdict, followers: list[Verdict]) -> str:
    cell = code(str(verdict.first or verdict.reason))
    if verdict.looks_like:
        cell += f"<br>{code(verdict.looks_like)}"
    if verdict.reproduce:
        cell += f"<br>{code(verdict.reproduce)}"
    if followers:
        cell += f"<br>{len(followers)} more {'is' if len(followers) == 1 else 'are'} hidden behind it"
    required = sentence(verdict.clause).replace("|", r"\|")
    mark = MARKS[verdict.verdict][0]
    return f"| {mark} {code(verdict.clause)} {verdict.level} | {required} | {cell} |"


def _more(count: int, one: str, several: str) -> list[str]:
    return ["", f"… and {count} {one if count == 1 else several}"] if count > 0 else []
