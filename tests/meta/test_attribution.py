"""Every mutant is blamed on its own clause first; what else departs is folded under it."""

from __future__ import annotations

from functools import cache

import pytest

from regionloss_spec import Case, load_cases, load_clauses
from regionloss_suite.matrix import caught
from regionloss_suite.mutants import Mutant, catalogue

MUTANTS = list(catalogue().values())


@cache
def small_cases() -> list[Case]:
    return [case for case in load_cases() if case.batch.predictions.size < 2000]


def cases_for(mutant: Mutant) -> list[Case]:
    """The small cases under profiles that the mutant's clause binds: elsewhere its mistake may even be right."""
    clause = load_clauses()[mutant.clause]
    return [case for case in small_cases() if clause.applies_to(case.profile)]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.id for mutant in MUTANTS])
def test_the_first_clause_blamed_is_the_one_that_is_broken(mutant: Mutant) -> None:
    verdicts = caught(mutant, cases_for(mutant))
    assert verdicts[0].clause == mutant.clause, verdicts[0].looks_like
