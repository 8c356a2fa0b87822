"""`regionloss check`: judge a loss, print the report and write it in other forms."""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path

from regionloss_spec import load_profile
from regionloss_suite.cli.report import add_forms, annotate, read, write_forms
from regionloss_suite.cli.usage import UsageError, add_source, use_source, write
from regionloss_suite.judging.report import CONFORMING, DEVIATING, REGRESSED


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss check`."""
    check = commands.add_parser(
        "check",
        help="judge a loss, clause by clause",
        description="Judge a loss clause by clause: the golden cases first, then property tests on random batches.",
        epilog="Exit codes: 0 conforming, 1 not conforming, 2 wrong usage, 3 the loss under test crashed, "
        "4 a MUST regressed relative to --against (overrides 0 and 1).",
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
        "--profile",
        metavar="P",
        help="check against this profile, a name or a .toml file (default: every profile that the adapter claims)",
    )
    check.add_argument(
        "--golden", action="store_true", help="skip the property tests: seconds instead of half a minute"
    )
    check.add_argument(
        "--cases",
        metavar="CASES",
        help="use only these cases: a folder of cases or darknet recordings, a file, or the id of a bundled case",
    )
    check.add_argument(
        "--failures",
        metavar="DIR",
        type=Path,
        default=Path("regionloss-failures"),
        help="where to write the smallest batch that fails a property (default: regionloss-failures)",
    )
    check.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=_cores(),
        help="number of worker processes for the property tests; needs pytest-xdist (default: number of cores)",
    )
    check.add_argument(
        "--expect",
        metavar="FILE",
        type=Path,
        help="a .toml file of expected deviations: one table per clause, with a reason",
    )
    check.add_argument(
        "--budget",
        metavar="SECONDS",
        type=float,
        default=120.0,
        help="how long a loss that deviates may be measured (default: 120); what was found until then is reported",
    )
    check.add_argument("--json", metavar="FILE", type=Path, help="write the complete report to this file")
    add_forms(check)
    check.add_argument(
        "--against", metavar="OLD", type=Path, help="show what changed relative to this report, written by --json"
    )
    check.set_defaults(run=_check)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(options: argparse.Namespace, colour: bool) -> int:
    from regionloss_adapters import AdapterError
    from regionloss_suite.judging.expectations import ExpectationError, apply, load_expectations
    from regionloss_suite.judging.judge import NothingToJudgeError
    from regionloss_suite.reports import diff, failing
    from regionloss_suite.run import run

    if options.profile is not None:
        load_profile(options.profile)
    old = read(options.against) if options.against is not None else None
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
            budget=options.budget,
        )
    except (AdapterError, ExpectationError, NothingToJudgeError) as error:
        raise UsageError(str(error)) from error
    report = apply(ran.report, expectations, date.today())
    if options.json is not None:
        write(options.json, lambda: report.write_json(options.json))
    write_forms(options, report, lambda: failing.answered(report, [*ran.judge.observations, *ran.drawn]))
    print("\n".join(report.lines(every=options.every, colour=colour)))
    annotate(options, report)
    code = report.exit_code
    if old is not None:
        print("\n" + "\n".join(diff.lines(old, report, colour=colour)))
        if code in (CONFORMING, DEVIATING) and diff.exit_code(diff.compare(old, report)) == REGRESSED:
            code = REGRESSED
    return code
