"""Every mutant is blamed on its own clause first, and most even by a suite that does not know them."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from regionloss_adapters import Answer, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS, Description
from regionloss_spec import Case, load_cases, load_clauses
from regionloss_suite.diagnosis.diagnosis import diagnose, fold
from regionloss_suite.diagnosis.known_causes import joint_causes
from regionloss_suite.diagnosis.ranking import rank_clauses
from regionloss_suite.judging.judge import Judge
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue
from tools.mutant_matrix import caught

MUTANTS = list(catalogue().values())
#: The first mutant of each chapter, which `make test` takes; the others belong to the sweep.
FIRST = {mutant.clause.partition(".")[0]: mutant.id for mutant in reversed(MUTANTS)}


@cache
def small_cases() -> list[Case]:
    return [case for case in load_cases() if case.batch.predictions.size < 2000]


def cases_for(mutant: Mutant) -> list[Case]:
    """The small cases under profiles that the mutant's clause binds: elsewhere its mistake may even be right."""
    clause = load_clauses()[mutant.clause]
    return [case for case in small_cases() if clause.applies_to(case.profile)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.id, marks=() if mutant.id in FIRST.values() else pytest.mark.sweep)
        for mutant in MUTANTS
    ],
)
def test_the_first_clause_blamed_is_the_one_that_is_broken(mutant: Mutant) -> None:
    verdicts = caught(mutant, cases_for(mutant))
    assert verdicts[0].clause == mutant.clause, verdicts[0].looks_like


class Reticent(MutantAdapter):
    """A mutant that answers some of what it could."""

    def __init__(self, mutant: Mutant, *answers: str) -> None:
        super().__init__(mutant)
        self.answers = answers

    def describe(self) -> Description:
        return dataclasses.replace(super().describe(), answers=self.answers)

    def answer(self, question: Question) -> Answer:
        said = super().answer(question)
        kept = {name: getattr(said, name) for name in ("gradient", "potential") if name in self.answers}
        return said if self.answers == ANSWERS else Answer(**kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every", "answers", "exact", "family", "among_three"),
    [
        pytest.param(9, ANSWERS, 0.70, 0.82, 0.83, id="a ninth by everything"),
        pytest.param(1, ANSWERS, 0.70, 0.82, 0.83, id="everything", marks=pytest.mark.sweep),
        pytest.param(
            1, ("gradient", "potential"), 0.54, 0.64, 0.66, id="gradient and potential", marks=pytest.mark.sweep
        ),
        pytest.param(1, ("potential",), 0.36, 0.44, 0.46, id="potential alone", marks=pytest.mark.sweep),
    ],
)
def test_most_mistakes_are_blamed_rightly_without_knowing_any(
    every: int, answers: tuple[str, ...], exact: float, family: float, among_three: float
) -> None:
    """Every n-th mutant, by cases and symptoms alone; the limits leave some slack to what was measured of all."""
    blamed = []
    mutants = MUTANTS[::every]
    for mutant in mutants:
        judge = Judge(Reticent(mutant, *answers), cases_for(mutant), mutant.profile)
        for clause in judge.clauses:
            judge.verdict(clause)
        ranked = [clause.clause for clause in rank_clauses(judge.observations)]
        if ranked:
            blamed.append((mutant.clause, ranked))
    assert len(blamed) >= 0.7 * len(mutants)
    assert sum(clause == ranked[0] for clause, ranked in blamed) / len(blamed) >= exact
    assert sum(clause.split(".")[0] == ranked[0].split(".")[0] for clause, ranked in blamed) / len(blamed) >= family
    assert sum(clause in ranked[:3] for clause, ranked in blamed) / len(blamed) >= among_three


class TwoMistakes:
    """Darknet's loss with a target of 1 for the objectness and a class term that counts three times."""

    def describe(self) -> Description:
        return Description("two mistakes", answers=ANSWERS, dtypes=("float64",))

    def answer(self, question: Question) -> Answer:
        profile = question.profile.replace(object_target="one", class_weight=3 * question.profile.class_weight)
        return NumpyAdapter().answer(dataclasses.replace(question, profile=profile))


@pytest.mark.slow
def test_two_mistakes_are_both_named() -> None:
    judge = Judge(TwoMistakes(), small_cases(), "darknet")
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    leading = [
        one for one in fold(verdicts, diagnose(judge, deviating)) if one.verdict == "deviating" and not one.follows
    ]
    assert [verdict.clause for verdict in leading] == ["object.iou-target", "scale.class-weight"]


class ApartMistakes(TwoMistakes):
    """Weighs small boxes by 2 - w², and reads every truth where there are more than an image may have."""

    def answer(self, question: Question) -> Answer:
        crowded = any(len(rows) > question.profile.max_truths for rows in question.batch.truths)
        mutant = catalogue()["truths-without-limit" if crowded else "small-box-weight-of-width"]
        return mutant.answer(question)


@pytest.mark.slow
def test_of_two_known_mistakes_in_different_cases_each_is_recognised() -> None:
    judge = Judge(ApartMistakes(), small_cases(), "darknet")
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    deviating = [verdict for verdict in verdicts if verdict.verdict == "deviating"]
    folded = {one.clause: one for one in fold(verdicts, diagnose(judge, deviating))}
    leading = {one.clause: one.looks_like for one in folded.values() if one.verdict == "deviating" and not one.follows}
    assert leading.keys() == {"coord.small-box-weight", "truths.capacity"}
    assert leading["coord.small-box-weight"].startswith("the weight of small boxes is 2 - w²")
    assert leading["truths.capacity"].startswith("all truths are read, however many")
    # What departs with the first follows from the first, and with the second from the second.
    assert folded["coord.value"].follows == "coord.small-box-weight"


class FragileMistake(TwoMistakes):
    """Weighs small boxes by 2 - w², breaks on a batch without images, and is NaN for large predictions."""

    def answer(self, question: Question) -> Answer:
        if not question.batch.truths:
            raise ZeroDivisionError("division by zero")
        answer = catalogue()["small-box-weight-of-width"].answer(question)
        if answer.gradient is None or np.abs(question.batch.predictions).max() <= 80:
            return answer
        return dataclasses.replace(answer, gradient=np.full_like(answer.gradient, np.nan))


@pytest.mark.slow
def test_a_known_mistake_is_recognised_beside_breaks_however_unlikely_they_make_its_clause() -> None:
    judge = Judge(FragileMistake(), small_cases(), "darknet")
    for clause in judge.clauses:
        judge.verdict(clause)
    ranked = rank_clauses(judge.observations)[::-1]  # the breaks of a loss may put any clause last
    assert judge.crashes
    together = joint_causes(judge.observations, ranked, without="")
    assert together is not None
    assert [one.mutant for one in together.causes] == ["small-box-weight-of-width"]
