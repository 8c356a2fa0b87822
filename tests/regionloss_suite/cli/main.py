"""The command line `regionloss`, one module for each command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from regionloss_spec import CaseError, ProfileError
from regionloss_suite.cli.bench import add_bench
from regionloss_suite.cli.check import add_check
from regionloss_suite.cli.clauses import add_clauses
from regionloss_suite.cli.compare import add_compare
from regionloss_suite.cli.explain import add_explain
from regionloss_suite.cli.identify import add_identify
from regionloss_suite.cli.report import add_report
from regionloss_suite.cli.usage import UsageError
from regionloss_suite.judging.report import WRONG_USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 conforming, 1 not, 2 wrong usage, 3 loss crashed, 4 regressed."""
    options = _parser().parse_args(arguments)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        return int(options.run(options, colour))
    except (UsageError, CaseError, ProfileError) as error:
        print(f"regionloss: {error}", file=sys.stderr)
        return WRONG_USAGE
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="regionloss", description="Check, explain, identify, compare and benchmark YOLOv2 (region) losses."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_check(commands)
    add_explain(commands)
    add_clauses(commands)
    add_report(commands)
    add_identify(commands)
    add_compare(commands)
    add_bench(commands)
    return parser
