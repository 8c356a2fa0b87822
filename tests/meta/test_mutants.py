"""Every mutant of the catalogue is caught by the golden cases alone, and every clause that must hold has one."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import Answer, CannotAnswerError, Question, RefusedError
from regionloss_spec import AXES, Case, load_cases, load_clauses, load_profile
from regionloss_suite.judging.judge import Judge
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue
from regionloss_suite.mutants.mutant import right
from regionloss_suite.oracle.coverage import clauses_reached

MUTANTS = list(catalogue().values())

every_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)


@cache
def cases() -> list[Case]:
    """The golden cases with the clauses that they pin, those that hold derived numbers first and small ones first."""
    pinned = [
        case
        if case.clauses
        else dataclasses.replace(
            case, clauses=clauses_reached(evaluate(case.batch, case.profile), case.batch.images_seen)
        )
        for case in load_cases()
    ]
    return sorted(pinned, key=lambda case: (case.recorded, case.batch.predictions.size))


def cases_for(mutant: Mutant) -> list[Case]:
    """The cases that pin its clause, of the profile and the axes that it is caught under."""
    return [
        case
        for case in cases()
        if case.base == mutant.profile
        and mutant.clause in case.clauses
        and all(getattr(case.profile, axis) == value for axis, value in mutant.options.items())
    ]


def kind(mutant: Mutant) -> str:
    """What its answers to those cases differ in: `value`, `gradient`, `index`, several of them, or none."""
    found = set()
    for case in cases_for(mutant)[:20]:
        question = Question(batch=case.batch, profile=case.profile, dtype="float64")
        try:
            told, answer = mutant.answer(question), right(question)
        except (CannotAnswerError, RefusedError):
            continue
        found |= {name for name, said in said_by(told).items() if not np.array_equal(said, said_by(answer)[name], True)}
    return "+".join(sorted(found))


def said_by(answer: Answer) -> dict[str, Any]:
    terms = answer.terms or {}
    places = [sorted({place[-4:] if name == "ignored" else place for place in said or ()}) for name, said in (
        ("responsible", answer.responsible), ("ignored", answer.ignored)
    )]  # fmt: skip
    return {
        "gradient": np.asarray(answer.gradient),
        "value": np.array([*terms.values(), answer.potential, answer.printed_cost], dtype=np.float64),
        "index": np.array([index for group in places for place in (*group, (-1,)) for index in place]),
    }


@every_mutant
def test_the_clause_that_a_mutant_breaks_deviates(mutant: Mutant) -> None:
    judge = Judge(MutantAdapter(mutant), cases_for(mutant), mutant.profile)
    verdict = judge.verdict(load_clauses()[mutant.clause])
    assert verdict.verdict == "deviating", verdict
    assert judge.crashes == {}


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        ("iou-zero-over-zero", "hand-zero-over-zero"),
        ("iou-smoothed", "hand-zero-over-zero"),
        ("recall-at-one-half", "hand-statistics"),
        ("recall-above-thresh", "hand-statistics"),
        ("class-only-without-objectness", "hand-class-only"),
        ("class-only-by-objectness", "hand-class-only"),
    ],
)
def test_a_case_tells_what_it_was_made_for_by_itself(mutant: str, case: str) -> None:
    broken = catalogue()[mutant]
    judge = Judge(MutantAdapter(broken), [one for one in cases() if one.id == case], broken.profile)
    assert judge.verdict(load_clauses()[broken.clause]).verdict == "deviating"


@every_mutant
def test_a_mutant_is_told_by_its_name_its_title_and_a_profile_that_its_clause_binds(mutant: Mutant) -> None:
    assert mutant.clause in load_clauses()
    assert mutant.id == mutant.id.lower().replace(" ", "-")
    assert mutant.title == mutant.title.strip(" .")
    profile = load_profile(mutant.profile).replace(**mutant.options)
    assert load_clauses()[mutant.clause].applies_to(profile)


def test_the_catalogue_is_large_and_says_nothing_twice() -> None:
    assert len(MUTANTS) >= 60
    assert len({mutant.title for mutant in MUTANTS}) == len(MUTANTS)


def test_every_clause_that_must_hold_has_a_mutant() -> None:
    testable = {clause.id for clause in load_clauses().values() if clause.level == "MUST" and not clause.untestable}
    assert testable - {mutant.clause for mutant in MUTANTS} == set()


def test_every_axis_has_a_mutant() -> None:
    clauses = load_clauses()
    assert set(AXES) - {clauses[mutant.clause].axis for mutant in MUTANTS} == set()


@pytest.mark.sweep
def test_some_mutants_show_in_one_kind_of_answer_only() -> None:
    kinds = [kind(mutant) for mutant in MUTANTS]
    assert kinds.count("value") >= 3
    assert kinds.count("gradient") >= 3
    assert kinds.count("index") >= 2


def test_a_mutant_changes_nothing_that_it_was_asked() -> None:
    case = next(case for case in cases() if case.id == "hand-reduction-sum")
    predictions, truths = case.batch.predictions.copy(), [rows.copy() for rows in case.batch.truths]
    for mutant in MUTANTS:
        try:
            mutant.answer(Question(batch=case.batch, profile=case.profile, dtype="float64"))
        except (CannotAnswerError, RefusedError):
            continue
        assert np.array_equal(case.batch.predictions, predictions), mutant.id
        assert all(map(np.array_equal, case.batch.truths, truths)), mutant.id
