"""`regionloss check` and `regionloss report`: what is asked for, judged or read, written and printed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regionloss_spec import load_profile
from regionloss_suite.judging.report import CONFORMING, DEVIATING, REGRESSED, Report, write_text

if TYPE_CHECKING:
    from regionloss_suite.reports.failing import Failing


class UsageError(Exception):
    """The command was asked for something that there is not; exit code 2."""


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss check`."""
    check = commands.add_parser(
        "check",
        help="judge a loss, clause by clause",
        description="Judge a loss clause by clause, by the golden cases and then by properties of drawn batches.",
        epilog="Exit code: 0 conforming, 1 not, 2 wrong usage, 3 the loss under test crashed, "
        "4 a MUST regressed against the report given with --against (which takes the place of 0 and 1).",
    )
    check.add_argument(
        "adapter",
        nargs="?",
        default="numpy",
        help="numpy, torch, darknet, a port such as lightnet, your own as module:object, or cmd:command "
        "(default: numpy)",
    )
    add_source(check)
    check.add_argument(
        "--profile", metavar="P", help="judge it as this profile, a name or a .toml file (default: all that it claims)"
    )
    check.add_argument(
        "--golden", action="store_true", help="judge by the golden cases alone, which takes seconds, not half a minute"
    )
    check.add_argument(
        "--cases",
        metavar="CASES",
        help="judge by these alone: a folder of cases or of darknet recordings, a file, or the id of a bundled case",
    )
    check.add_argument(
        "--failures",
        metavar="DIR",
        type=Path,
        default=Path("regionloss-failures"),
        help="where to write the smallest batch on which a property fails (default: regionloss-failures)",
    )
    check.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=_cores(),
        help="try the properties in so many processes, where pytest-xdist is installed (default: as many as cores)",
    )
    check.add_argument(
        "--expect",
        metavar="FILE",
        type=Path,
        help="a .toml file of expected deviations: a table for each clause, with a reason",
    )
    check.add_argument("--json", metavar="FILE", type=Path, help="write the complete report to this file")
    _add_forms(check)
    check.add_argument(
        "--against", metavar="OLD", type=Path, help="show what changed since this report, written by --json"
    )
    check.set_defaults(run=_check)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Define `--source`, which `use_source` reads."""
    parser.add_argument(
        "--source",
        metavar="PATH",
        type=Path,
        help="where the source of darknet or of a port lies: your own checkout of it (default: what the environment "
        "names, such as REGIONLOSS_LIGHTNET)",
    )


def use_source(options: argparse.Namespace) -> None:
    """Let the adapter, here and in processes started from here, find its source. Raises `UsageError` without one."""
    from regionloss_adapters import AdapterError
    from regionloss_adapters.ports.source import name_source

    if options.source is not None:
        try:
            name_source(options.adapter, options.source)
        except AdapterError as error:
            raise UsageError(str(error)) from error


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss report`."""
    report = commands.add_parser(
        "report",
        help="show a stored report in another form, or what changed between two",
        description="Show a report that check --json wrote; with two, show what changed from the first to the second.",
        epilog="Exit code: 0 shown, 2 wrong usage, 4 a MUST regressed from OLD to NEW. --html and the like write NEW.",
    )
    report.add_argument("old", metavar="OLD", type=Path, help="a report, written by check --json")
    report.add_argument("new", metavar="NEW", type=Path, nargs="?", help="a later one")
    _add_forms(report)
    report.set_defaults(run=_report)


def _add_forms(parser: argparse.ArgumentParser) -> None:
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
        help="print annotations for GitHub Actions, and add to the outputs and the page of the step",
    )


def _check(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_adapters import AdapterError
    from regionloss_suite.judging.expectations import ExpectationError, apply, load_expectations
    from regionloss_suite.judging.judge import NothingToJudgeError
    from regionloss_suite.reports import diff, failing
    from regionloss_suite.run import run

    if options.profile is not None:
        load_profile(options.profile)
    old = _read(options.against) if options.against is not None else None
    use_source(options)
    try:
        expectations = load_expectations(options.expect) if options.expect is not None else {}
        ran = run(
            options.adapter,
            profile=options.profile,
            cases=options.cases,
            golden=options.golden,
            failures=options.failures,
            jobs=options.jobs,
            show=True,
            source=options.source,
        )
    except (AdapterError, ExpectationError, NothingToJudgeError) as error:
        raise UsageError(str(error)) from error
    report = apply(ran.report, expectations, date.today())
    if options.json is not None:
        write(options.json, lambda: report.write_json(options.json))
    _write_forms(options, report, lambda: failing.answered(report, [*ran.judge.observations, *ran.drawn]))
    print("\n".join(report.lines(colour=colour)))
    _annotate(options, report)
    code = report.exit_code
    if old is not None:
        print("\n" + "\n".join(diff.lines(old, report, colour=colour)))
        if code in (CONFORMING, DEVIATING) and diff.exit_code(diff.compare(old, report)) == REGRESSED:
            code = REGRESSED
    return code


def _report(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_suite.reports import diff

    old = _read(options.old)
    new = _read(options.new) if options.new is not None else None
    _write_forms(options, new or old, None)
    print("\n".join(old.lines(colour=colour) if new is None else diff.lines(old, new, colour=colour)))
    _annotate(options, new or old)
    return CONFORMING if new is None else diff.exit_code(diff.compare(old, new))


def _read(path: Path) -> Report:
    from regionloss_suite.reports.load import StoredReportError, read_report

    try:
        return read_report(path)
    except StoredReportError as error:
        raise UsageError(str(error)) from error


def _write_forms(options: argparse.Namespace, report: Report, failing: Callable[[], Failing] | None) -> None:
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


def _annotate(options: argparse.Namespace, report: Report) -> None:
    if options.github:
        from regionloss_suite.reports import actions, annotations

        for line in annotations.render(report):
            print(line)
        for path, text in actions.files(report, os.environ):
            write(path, partial(actions.append, path, text))


def _write_text(path: Path, text: str) -> None:
    write(path, lambda: write_text(path, text))


def write(path: Path, writing: Callable[[], object]) -> None:
    """Do the writing of a file. Raises `UsageError` where that cannot be done."""
    try:
        writing()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
