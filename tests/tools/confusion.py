"""How often losses that the suite does not know are diagnosed rightly. `make confusion`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from meta.several import RETURNS, clauses_of, diagnosed, draw, shown_axes
from meta.unlisted import mistakes
from meta.unlisted.outcome import outcome_of

#: The columns of the table of several differences, and of that of single mistakes.
COLUMNS = ("losses", "right first", "right set", "false accusations", "hidden", "unexplained")
SINGLE = ("mistakes", "not caught", "right", "family", "false", "unexplained")


def of_several(seed: int, returns: str) -> Counter[str]:
    """The columns that one drawn loss counts in."""
    random = np.random.default_rng(seed)
    loss = draw(random, int(random.choice([2, 3, 4, 5, 6])), returns)
    diagnosis = diagnosed(loss)
    by_axis = clauses_of(loss.options)
    right = set().union(*by_axis.values())
    blamed = {verdict.clause for verdict in diagnosis.verdicts if verdict.verdict == "deviating"}
    missed = [axis for axis in shown_axes(loss) if not by_axis[axis] & blamed]
    first = diagnosis.differences[0].clause if diagnosis.differences else ""
    return Counter(
        {
            "losses": 1,
            "right first": int(first in right),
            "right set": int(blamed <= right and not missed),
            "false accusations": int(not blamed <= right),
            "hidden": int(any(verdict.verdict == "hidden" for verdict in diagnosis.verdicts)),
            "unexplained": int(diagnosis.unexplained is not None),
        }
    )


def of_single(id: str) -> tuple[str, str, str, str]:
    """The id and kind of one mistake that is not in the catalogue, what becomes of it, and the clause blamed first."""
    mistake = next(mistake for mistake in mistakes() if mistake.id == id)
    outcome = outcome_of(mistake)
    return id, mistake.kind, outcome.kind, outcome.first


def print_row(name: str, columns: tuple[str, ...], counts: Counter[str]) -> None:
    """Print a line of a table."""
    print(f"| {name} | {' | '.join(str(counts[column]) for column in columns)} |", flush=True)


def print_head(name: str, columns: tuple[str, ...]) -> None:
    """Print the head of a table."""
    print(f"\n| {name} | {' | '.join(columns)} |\n| --- |{' --: |' * len(columns)}", flush=True)


def main() -> int:
    """Print both tables, then the single mistakes that are not blamed rightly; 1 if anything is accused falsely."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", type=int, default=75, help="drawn losses for each kind of answer (default: 75)")
    parser.add_argument("--begin", type=int, default=1000, help="the first seed (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first single mistake (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes (default: 2)")
    options = parser.parse_args()
    wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.losses:
            print_head("what the loss returns", COLUMNS)
        for returns in RETURNS if options.losses else ():
            seeds = range(options.begin, options.begin + options.losses)
            counts = sum(pool.map(partial(of_several, returns=returns), seeds), Counter[str]())
            print_row(returns, COLUMNS, counts)
            wrong += counts["false accusations"]
        ids = [mistake.id for mistake in mistakes()[options.first :]]
        outcomes = list(pool.map(of_single, ids))
    print_head("single mistakes", SINGLE)
    for kind in dict.fromkeys(kind for _, kind, _, _ in outcomes):
        known = [outcome for _, of, outcome, _ in outcomes if of == kind]
        print_row(kind, SINGLE, Counter({"mistakes": len(known), **Counter(known)}))
    print_row("all", SINGLE, Counter({"mistakes": len(ids), **Counter(outcome for _, _, outcome, _ in outcomes)}))
    print()
    for id, kind, outcome, first in outcomes:
        if outcome in ("false", "unexplained"):
            print(f"{kind}: {id}: {outcome}{f', {first}' if first else ''}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
