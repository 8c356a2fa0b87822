"""How often losses with several differences are diagnosed rightly. `make confusion`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from meta.several import RETURNS, clauses_of, diagnosed, draw, shown_axes

#: The columns of the table.
COLUMNS = ("losses", "right first", "right set", "false accusations", "hidden", "unexplained")


def outcome(seed: int, returns: str) -> Counter[str]:
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


def main() -> int:
    """Print a line of the table for each kind of answer; 1 if anything is accused falsely."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", type=int, default=75, help="drawn losses for each kind of answer (default: 75)")
    parser.add_argument("--begin", type=int, default=1000, help="the first seed (default: 1000)")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes (default: 2)")
    options = parser.parse_args()
    print(f"| what the loss returns | {' | '.join(COLUMNS)} |\n| --- |{' --: |' * len(COLUMNS)}")
    wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for returns in RETURNS:
            seeds = range(options.begin, options.begin + options.losses)
            counts = sum(pool.map(partial(outcome, returns=returns), seeds), Counter[str]())
            print(f"| {returns} | {' | '.join(str(counts[column]) for column in COLUMNS)} |", flush=True)
            wrong += counts["false accusations"]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
