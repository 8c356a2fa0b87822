"""Mutant × clause: what each seeded mistake breaks, and how it was caught. `make mutants`."""

from __future__ import annotations

import sys

from regionloss_spec import Case, load_cases
from regionloss_suite.diagnosis.diagnosis import diagnose
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.verdict import Verdict, merged
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue


def caught(mutant: Mutant, cases: list[Case]) -> list[Verdict]:
    """The verdicts on a mutant that are not met, the blamed clauses first."""
    judge = Judge(MutantAdapter(mutant), cases, mutant.profile)
    verdicts = merged(judge.verdict(clause) for clause in judge.clauses)
    diagnosis = diagnose(judge, verdicts)
    order = [difference.clause for difference in diagnosis.differences]
    broken = [verdict for verdict in diagnosis.verdicts if verdict.verdict in ("deviating", "unexplained", "hidden")]
    return sorted(
        broken,
        key=lambda one: (one.verdict != "deviating", order.index(one.clause) if one.clause in order else len(order)),
    )


def main() -> int:
    """Print a line for each mutant; 1 if one was not caught by its own clause."""
    cases = load_cases()
    width = max(len(name) for name in catalogue())
    missed = 0
    for mutant in catalogue().values():
        verdicts = caught(mutant, cases)
        own = next((verdict for verdict in verdicts if verdict.clause == mutant.clause), None)
        blamed = verdicts[0].clause if verdicts else "nothing"
        missed += own is None
        mark = "✗" if own is None else "✓" if blamed == mutant.clause else "~"
        how = "not caught by its own clause" if own is None or own.first is None else str(own.first)
        print(
            f"{mark} {mutant.id:<{width}}  {mutant.clause} · blamed {blamed} · {len(verdicts)} clauses · {how}",
            flush=True,
        )
    print(f"\n{len(catalogue())} mutants, {missed} not caught by their own clause")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
