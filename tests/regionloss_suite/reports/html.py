"""The report as one HTML file: no script, nothing loaded from other hosts, all foreign text escaped."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from itertools import groupby

from regionloss_suite.judging.differences import shown
from regionloss_suite.judging.report import MARKS, Report, printable
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports.failing import Failing, bundled, failing_verdicts
from regionloss_suite.reports.failing_section import failing_section
from regionloss_suite.reports.page import page, safe
from regionloss_suite.reports.wording import chapter, sentence, set_in_html

#: More than these would hide what follows.
_SHOWN = 5

_COLUMNS = "<tr><th>clause<th>level<th>verdict<th>first difference, or why"


def render(report: Report, cases: Failing | None = None) -> str:
    """The HTML text.

    Args:
        report: what is shown.
        cases: the failing cases, with the returned gradient if there is one; a missing case is taken from the spec if
            it is bundled, and its gradients are not compared.
    """
    known = {**bundled(report), **(cases or {})}
    failing = failing_verdicts(report)
    sections = [
        failing_section(verdicts, known.get(case), f"case-{number}")
        for number, (case, verdicts) in enumerate(failing.items())
    ]
    places = {verdict.clause: f"case-{n}" for n, verdicts in enumerate(failing.values()) for verdict in verdicts}
    body = [
        *_head(report),
        *_differences(report),
        *_formula(report),
        *_crashes(report),
        *_found(report, places),
        *(["<h2>Where</h2>", *sections] if sections else []),
        "<h2>Clauses</h2>",
        *_chapters(report),
    ]
    return page(f"{report.adapter}: {report.outcome}", body)


def _head(report: Report) -> list[str]:
    kind = {"conforming": "conforming", "not conforming": "deviating", "crashed": "crashed"}[report.outcome]
    mark = "✓" if kind == "conforming" else "✗"
    counts = [
        f'<li class="{name}"><b>{count}</b> {MARKS[name][0]} {name}</li>' for name, count in report.counts.items()
    ]
    about = f"profile <code>{safe(report.profile)}</code> · {len(report.verdicts)} clauses · {report.cases} cases"
    about += f" · {report.properties} properties" if report.properties else ""
    return [
        f"<header><h1>{safe(report.adapter)}</h1>",
        f'<p class="outcome {kind}">{mark} {report.outcome}</p>',
        f'<p class="faint">{about} · regionloss {safe(report.version)}</p>',
        f'<ul class="counts">{"".join(counts)}</ul>',
        *(f"<p>{safe(note)}</p>" for note in report.notes),
        "</header>",
    ]


def _differences(report: Report) -> list[str]:
    """What the loss does differently, in one table, and what remains after it."""
    if not report.differences and report.unexplained is None:
        return []
    number = len(report.differences)
    lines = [f"<h2>{number} difference{'s' * (number != 1)} from profile <code>{safe(report.profile)}</code></h2>"]
    if report.differences:
        lines.append(
            '<table class="differences"><thead><tr><th>choice<th>measured<th>expected<th>clause<th>changes<th>evidence'
            "</thead>"
        )
        for one in report.differences:
            measured, expected = ("" if value is None else shown(value) for value in (one.measured, one.expected))
            lines.append(
                f"<tr><td>{safe(one.choice)}<td><b>{safe(measured)}</b><td>{safe(expected)}"
                f'<td><a href="#{safe(one.clause)}"><code>{safe(one.clause)}</code></a>'
                f"<td>{one.changes} of {one.departing} departing cases<td>{safe(one.evidence)}"
                + (f"<br>case <code>{safe(one.case)}</code>" if one.case else "")
                + (f"<br><code>{safe(one.reproduce)}</code>" if one.reproduce else "")
            )
        lines.append("</table>")
    rest = report.unexplained
    if rest is None:
        return [*lines, "<p>After all of them, nothing remains.</p>"]
    lines.append(
        f"<p><b>Unexplained:</b> {rest.cases} of the {rest.departing} departing cases depart after all of them, "
        f"first in {safe(rest.stage)}; the smallest is <code>{safe(rest.case)}</code>. {safe(rest.resembles)}</p>"
    )
    if rest.findings:
        found = "".join(f"<li>{safe(finding)}</li>" for finding in rest.findings)
        lines.append(f"<details><summary>measured, but in no profile</summary><ul>{found}</ul></details>")
    return lines


def _formula(report: Report) -> list[str]:
    """The measured formula beside that of the profile, with the lines that differ set apart."""
    if not report.formula:
        return []
    lines = ["<h2>Formula</h2>"]
    for title, formula, other in (
        ("This loss, as measured", report.formula, report.claimed),
        (f"Profile {report.profile}", report.claimed, report.formula),
    ):
        known = {line.strip() for line in other}
        open_lines = {line.split()[0] for line in other if line.startswith("truths:") and "?" in line}
        marked = [
            safe(line)
            if line.strip() in known or "?" in line or line.split()[0] in open_lines
            else f"<mark>{safe(line)}</mark>"
            for line in formula
        ]
        text = "\n".join(marked)
        lines.append(f'<h3>{safe(title)}</h3><pre tabindex="0">{text}</pre>')
    return lines


def _found(report: Report, places: dict[str, str]) -> list[str]:
    named = {difference.clause for difference in report.differences}
    leading = sorted(report.folded(), key=lambda pair: pair[0].clause not in named)
    blocks = [_block(v, followers, places) for v, followers in leading if v.verdict in ("deviating", "unexplained")]
    expected = [_block(v, followers, places) for v, followers in report.folded() if v.verdict == "expected"]
    stale = [f'<div class="found"><p>{safe(sentence)}</p></div>' for sentence in report.stale]
    return [
        *(["<h2>What deviates</h2>", *_folded(blocks)] if blocks else []),
        *(["<h2>Stale expected deviations</h2>", *stale] if stale else []),
        *(["<h2>Deviates as expected</h2>", *_folded(expected)] if expected else []),
    ]


def _folded(blocks: list[str]) -> list[str]:
    """The first blocks, and the rest in a collapsed section."""
    more = blocks[_SHOWN:]
    return [
        *blocks[:_SHOWN],
        *(["<details><summary>", f"{len(more)} more</summary>", *more, "</details>"] if more else []),
    ]


def _block(verdict: Verdict, followers: list[Verdict], places: dict[str, str]) -> str:
    mark = MARKS[verdict.verdict][0]
    lines = [
        f'<div class="found {verdict.verdict}">',
        f"<h3>{mark} <code>{safe(verdict.clause)}</code> <small>{safe(verdict.level)}</small></h3>",
        f"<p>{set_in_html(sentence(verdict.clause))}</p>",
    ]
    if verdict.first is not None:
        lines.append(f"<p><code>{safe(verdict.departure)}</code> · case <code>{safe(verdict.first.case)}</code></p>")
    if verdict.looks_like:
        lines.append(f"<p>{safe(verdict.looks_like)}</p>")
    if verdict.reason:
        lines.append(f"<p>{safe(verdict.reason)}</p>")
    commands = [safe(command) for command in (verdict.reproduce, verdict.explain) if command]
    if commands:
        lines.append(f'<pre tabindex="0">{"<br>".join(commands)}</pre>')
    if verdict.clause in places:
        lines.append(f'<p><a href="#{places[verdict.clause]}">See where</a></p>')
    if followers:
        names = ", ".join(f'<a href="#{safe(one.clause)}"><code>{safe(one.clause)}</code></a>' for one in followers)
        counted = "1 clause is" if len(followers) == 1 else f"{len(followers)} clauses are"
        lines.append(f"<details><summary>{counted} hidden behind it</summary><p>{names}</p></details>")
    return "\n".join([*lines, "</div>"])


def _crashes(report: Report) -> list[str]:
    if not report.crashes:
        return []
    shown = [
        f"<details><summary>{safe(case)}</summary><pre>{escape(_printable_lines(trace))}</pre></details>"
        for case, trace in report.crashes.items()
    ]
    return ["<h2>Crashes</h2>", *_folded(shown)]


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _chapters(report: Report) -> list[str]:
    """A table for each chapter; open if it has a deviation that is hidden behind nothing else."""
    shown = ("deviating", "unexplained", "expected")
    leading = [verdict for verdict, _ in report.folded() if verdict.verdict in shown]
    lines = []
    for title, group in groupby(report.verdicts, key=lambda verdict: chapter(verdict.clause)):
        verdicts = list(group)
        notable = any(verdict in leading for verdict in verdicts)
        counts = ", ".join(
            f"{n} {MARKS[kind][0]} {kind}" for kind, n in replace(report, verdicts=verdicts).counts.items()
        )
        lines.append(f"<details{' open' * notable}><summary>{escape(title)} <small>{counts}</small>")
        lines.append(f'</summary><table class="clauses"><thead>{_COLUMNS}</thead>')
        lines += [_row(verdict) for verdict in verdicts]
        lines.append("</table></details>")
    return lines


def _row(verdict: Verdict) -> str:
    mark = MARKS[verdict.verdict][0]
    why = f"<code>{safe(str(verdict.first))}</code>" if verdict.first is not None else safe(verdict.reason)
    if verdict.follows:
        why = f'hidden behind <a href="#{safe(verdict.follows)}"><code>{safe(verdict.follows)}</code></a><br>{why}'
    return (
        f'<tr id="{safe(verdict.clause)}"><td><code>{safe(verdict.clause)}</code><td>{safe(verdict.level)}'
        f'<td class="{safe(verdict.verdict)}">{mark} {safe(verdict.verdict)}<td>{why}'
    )
