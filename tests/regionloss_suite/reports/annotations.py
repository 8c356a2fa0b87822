"""The report as workflow commands of GitHub Actions, each shown as an annotation of the run."""

from __future__ import annotations

from regionloss_suite.judging.report import Report

_COMMANDS = {"MUST": "error", "SHOULD": "warning", "MAY": "notice"}


def render(report: Report) -> list[str]:
    """One line for each clause that deviates by itself, each stale expectation and each crash."""
    lines = []
    for verdict, followers in report.folded():
        if verdict.verdict != "deviating":
            continue
        sentence = [verdict.sentence, verdict.reason]
        sentence += [f"first seen: case {verdict.first.case}"] if verdict.first is not None else []
        sentence += [f"reproduce: {verdict.reproduce}"] if verdict.reproduce else []
        sentence += [f"hidden behind it: {', '.join(follower.clause for follower in followers)}"] if followers else []
        title = f"{report.adapter}: {verdict.clause} ({verdict.level})"
        lines.append(_command(_COMMANDS[verdict.level], title, "\n".join(line for line in sentence if line)))
    lines += [_command("error", f"{report.adapter}: expected deviations", sentence) for sentence in report.stale]
    for case, trace in report.crashes.items():
        last = (trace.strip().splitlines() or ["crashed"])[-1]
        lines.append(_command("error", f"{report.adapter}: crashed on case {case}", last))
    return lines


def _command(command: str, title: str, message: str) -> str:
    title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{command} title={title}::{_escaped(message)}"


def _escaped(text: str) -> str:
    """Text as a command's message: escaped as GitHub decodes it, so that it cannot start a line or a command."""
    spelled = "".join(letter if letter.isprintable() or letter in "\r\n" else ascii(letter)[1:-1] for letter in text)
    return spelled.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
