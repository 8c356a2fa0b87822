"""The command line: `regionloss check`, `explain`, `clauses`, `report`, `identify` and `bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from regionloss_spec import CaseError, ProfileError, load_clauses, load_profile
from regionloss_suite.cli.bench import add_bench
from regionloss_suite.cli.check import UsageError, add_check, add_report, write
from regionloss_suite.cli.compare import add_compare
from regionloss_suite.cli.identify import add_identify
from regionloss_suite.judging.report import WRONG_USAGE, write_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 conforming, 1 not, 2 wrong usage, 3 the loss crashed, 4 regressed."""
    options = _parser().parse_args(arguments)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        return int(options.run(options, colour))
    except (UsageError, CaseError, ProfileError) as error:
        print(f"regionloss: {error}", file=sys.stderr)
        return WRONG_USAGE
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="regionloss", description="The YOLOv2 loss: its spec, its reference, its judge."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_check(commands)
    _add_explain(commands)
    _add_clauses(commands)
    add_report(commands)
    add_identify(commands)
    add_compare(commands)
    add_bench(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    explain = commands.add_parser(
        "explain",
        help="show which indicator is on at each predictor of a case, and why",
        description="Show, for each predictor of a case, which indicator is on and why, what it pays and its gradient.",
    )
    explain.add_argument(
        "case", help="the id of a bundled case, or a JSON file: a case, a recording, or your own input"
    )
    explain.add_argument("--all", action="store_true", dest="every", help="show the predictors of every cell")
    explain.add_argument("--profile", metavar="P", help="explain the input under another profile")
    explain.add_argument(
        "--html", metavar="FILE", type=Path, help="write it with maps of indicators, terms and gradient to this file"
    )
    explain.set_defaults(run=_explain)


def _add_clauses(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    clauses = commands.add_parser(
        "clauses",
        help="list the clauses of the spec, or show one",
        description="List the clauses, or show one in full.",
    )
    clauses.add_argument("id", nargs="?", help="show this clause in full")
    clauses.add_argument("--json", metavar="FILE", type=Path, help="write the list to this file")
    clauses.set_defaults(run=_clauses)


def _explain(options: argparse.Namespace, colour: bool) -> int:
    import dataclasses

    from regionloss import DomainError
    from regionloss_suite.judging.find_cases import find_case
    from regionloss_suite.reports.explain import explain

    case = find_case(options.case)
    if options.profile is not None:
        case = dataclasses.replace(case, base=options.profile, profile=load_profile(options.profile))
    try:
        print("\n".join(explain(case, every=options.every, colour=colour)))
        if options.html is not None:
            from regionloss_suite.reports.maps import page_of

            write(options.html, lambda: write_text(options.html, page_of(case)))
    except DomainError as error:
        print(f"{case.id} · {case.title}\nEvery conforming loss refuses this input: {error}")
        if options.html is not None:
            print(f"There is nothing to draw, and {options.html} is not written.")
    return 0


def _clauses(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_suite.cli.clauses import listing, page, table

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
