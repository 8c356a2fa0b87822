"""`regionloss compare`: inputs on which two losses disagree."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from regionloss_suite.cli.usage import UsageError, add_source, use_source
from regionloss_suite.judging.report import painted, printable

if TYPE_CHECKING:
    from regionloss_suite.differential import Progress

_NONE, _FOUND, _CRASHED = 0, 1, 3


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss compare`."""
    parser = commands.add_parser(
        "compare",
        help="find inputs on which two losses disagree",
        description="Search for inputs on which two losses disagree, shrink them, and name the clause that separates "
        "the two. A search resumes in the folder of an earlier one.",
        epilog="Exit codes: 0 no disagreement found, 1 they disagree, 2 wrong usage, 3 one of them crashed.",
    )
    for name in ("one", "other"):
        parser.add_argument(name, metavar=name.upper(), help="an adapter; append @PROFILE for another profile")
    add_source(parser)
    parser.add_argument("--profile", metavar="P", help="profile of a name without @PROFILE (default: as claimed)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=60.0, help="start no new round after this time (default: 60)"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="number of worker processes (default: 1)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("regionloss-compare"),
        help="folder for the cases and the progress (default: regionloss-compare)",
    )  # fmt: skip
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_adapters import AdapterError
    from regionloss_suite.differential import Search, SearchError

    if options.jobs < 1 or not options.seconds >= 0:
        raise UsageError("--jobs must be at least 1 and --seconds must not be negative")
    use_source(options)
    try:
        search = Search(options.one, options.other, options.out, options.profile)
        try:
            progress = search.run(options.seconds, options.jobs, _told)
        except KeyboardInterrupt:
            progress = search.progress
            print("interrupted; repeat the command to resume", file=sys.stderr)
    except (AdapterError, SearchError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written: {error.strerror}") from error
    print("\n".join(_lines(progress, options.out, colour=colour)))
    if any(find.crashed for find in progress.finds):
        return _CRASHED
    return _FOUND if progress.finds else _NONE


def _told(text: str) -> None:
    """Print a find on its own line, on terminals only."""
    if text and sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def _lines(progress: Progress, folder: Path, *, colour: bool) -> list[str]:
    lines = []
    for find in progress.finds:
        head = f"✗ {find.clause or 'no clause known'} · {find.words}"
        lines.append(painted(printable(head), "31", colour=colour))
        lines += [f"  {printable(find.why)}"] if find.why else []
        lines.append(f"  {find.size}")
        lines += [f"  explain: regionloss explain {folder / find.case}.json", ""]
    count = len(progress.finds)
    outcome = f"disagree in {count} way{'s' * (count != 1)}" if count else "show no disagreement so far"
    rounds = f"{len(progress.rounds)} round{'s' * (len(progress.rounds) != 1)} in {progress.dtype}"
    return [*lines, painted(f"{progress.one} and {progress.other} {outcome} · {rounds}", "1", colour=colour)]
