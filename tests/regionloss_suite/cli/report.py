"""`regionloss report`: convert a stored report or compare two; and the report options that commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regionloss_suite.cli.usage import UsageError, write
from regionloss_suite.judging.report import CONFORMING, Report, write_text

if TYPE_CHECKING:
    from regionloss_suite.reports.failing import Failing


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss report`."""
    report = commands.add_parser(
        "report",
        help="show a stored report in another form, or what changed between two",
        description="Show a report written by check --json; with two, show what changed from the first to the second.",
        epilog="Exit codes: 0 shown, 2 wrong usage, 4 a MUST regressed from OLD to NEW. --html and the like write NEW.",
    )
    report.add_argument("old", metavar="OLD", type=Path, help="a report, written by check --json")
    report.add_argument("new", metavar="NEW", type=Path, nargs="?", help="a later report")
    add_forms(report)
    report.set_defaults(run=_report)


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Define `--all`, and an option for each format of a report."""
    parser.add_argument(
        "--all", action="store_true", dest="every", help="list every clause, not only what fails or cannot be judged"
    )
    for name, form in (
        ("junit", "JUnit XML, one test for each clause"),
        ("html", "one HTML file, with pictures of the cases that failed"),
        ("markdown", "a Markdown summary for the page of a CI run"),
        ("badge", "an endpoint badge for shields.io (JSON)"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write {form}")
    parser.add_argument(
        "--github",
        action="store_true",
        help="print annotations for GitHub Actions, and write the outputs and the summary of the step",
    )


def _report(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_suite.reports import diff

    old = read(options.old)
    new = read(options.new) if options.new is not None else None
    write_forms(options, new or old, None)
    print(
        "\n".join(old.lines(every=options.every, colour=colour) if new is None else diff.lines(old, new, colour=colour))
    )
    annotate(options, new or old)
    return CONFORMING if new is None else diff.exit_code(diff.compare(old, new))


def read(path: Path) -> Report:
    """The report in a file. Raises `UsageError` if it cannot be read."""
    from regionloss_suite.reports.load import StoredReportError, read_report

    try:
        return read_report(path)
    except StoredReportError as error:
        raise UsageError(str(error)) from error


def write_forms(options: argparse.Namespace, report: Report, failing: Callable[[], Failing] | None) -> None:
    """Write a report in every requested format."""
    from regionloss_suite.reports import badge, html, junit, markdown

    forms: dict[str, Callable[[], str]] = {
        "junit": lambda: junit.render(report),
        "html": lambda: html.render(report, None if failing is None else failing()),
        "markdown": lambda: markdown.render(report),
        "badge": lambda: badge.render(report),
    }
    for name, render in forms.items():
        path: Path | None = getattr(options, name)
        if path is not None:
            _write_text(path, render())


def annotate(options: argparse.Namespace, report: Report) -> None:
    """Print annotations for GitHub Actions, and write the outputs and the summary of the step, if requested."""
    if options.github:
        from regionloss_suite.reports import actions, annotations

        for line in annotations.render(report):
            print(line)
        for path, text in actions.files(report, os.environ):
            write(path, partial(actions.append, path, text))


def _write_text(path: Path, text: str) -> None:
    write(path, lambda: write_text(path, text))
