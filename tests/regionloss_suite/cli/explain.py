"""`regionloss explain`: a case in words and numbers, and as maps."""

from __future__ import annotations

import argparse
from pathlib import Path

from regionloss_spec import load_profile
from regionloss_suite.cli.usage import write
from regionloss_suite.judging.report import write_text


def add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Define `regionloss explain`."""
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
        "--html", metavar="FILE", type=Path, help="also write an HTML page with maps of indicators, terms and gradient"
    )
    explain.set_defaults(run=_run)


def _run(options: argparse.Namespace, colour: bool) -> int:
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
