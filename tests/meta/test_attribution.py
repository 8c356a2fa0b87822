"""Every mutant is blamed on its own clause first, and most even by a suite that does not know them."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from regionloss_adapters import Adapter, Answer, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS, Description
from regionloss_spec import Case, load_cases, load_clauses
from regionloss_suite.diagnosis.diagnosis import Diagnosis, diagnose
from regionloss_suite.diagnosis.ranking import rank_clauses
from regionloss_suite.judging.judge import Judge
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue
from tools.mutant_matrix import caught

MUTANTS = list(catalogue().values())
#: The first mutant of each chapter, which `make test` takes; every third one belongs to the sweep, and `make mutants`
#: prints the first blame of all.
FIRST = {mutant.clause.partition(".")[0]: mutant.id for mutant in reversed(MUTANTS)}
DIAGNOSED = [mutant for place, mutant in enumerate(MUTANTS) if place % 3 == 0 or mutant.id in FIRST.values()]


@cache
def small_cases() -> list[Case]:
    return [case for case in load_cases() if case.batch.predictions.size < 2000]


def cases_for(mutant: Mutant) -> list[Case]:
    """The small cases under profiles that the mutant's clause binds: elsewhere its mistake may even be right."""
    clause = load_clauses()[mutant.clause]
    return [case for case in small_cases() if clause.applies_to(case.profile)]


#: Mutants whose answers are those of a loss with another weight or factor, so that measuring names that.
SAME_AS_A_WEIGHT = {
    "derivative-without-two": "scale.squared-factor",
    "focal-without-alpha": "scale.class-weight",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.id, marks=() if mutant.id in FIRST.values() else pytest.mark.sweep)
        for mutant in DIAGNOSED
    ],
)
def test_the_first_clause_blamed_is_the_one_that_is_broken(mutant: Mutant) -> None:
    verdicts = caught(mutant, cases_for(mutant))
    assert verdicts[0].clause == SAME_AS_A_WEIGHT.get(mutant.id, mutant.clause), verdicts[0].looks_like


class Reticent(MutantAdapter):
    """A mutant that answers some of what it could."""

    def __init__(self, mutant: Mutant, *answers: str) -> None:
        super().__init__(mutant)
        self.answers = answers

    def describe(self) -> Description:
        return dataclasses.replace(super().describe(), answers=self.answers)

    def answer(self, question: Question) -> Answer:
        answer = super().answer(question)
        kept = {name: getattr(answer, name) for name in ("gradient", "potential", "terms") if name in self.answers}
        return answer if self.answers == ANSWERS else Answer(**kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "exact", "family", "among_three"),
    [
        pytest.param(ANSWERS, 0.70, 0.82, 0.83, id="everything"),
        pytest.param(("gradient", "potential"), 0.54, 0.64, 0.66, id="gradient and potential", marks=pytest.mark.sweep),
        pytest.param(("potential",), 0.36, 0.44, 0.46, id="potential alone", marks=pytest.mark.sweep),
    ],
)
def test_most_mistakes_are_blamed_rightly_without_knowing_any(
    answers: tuple[str, ...], exact: float, family: float, among_three: float
) -> None:
    """Every ninth mutant, by cases and symptoms alone; the limits leave some slack to what was measured of all."""
    blamed = []
    mutants = MUTANTS[::9]
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


def judged(adapter: Adapter) -> Diagnosis:
    """The diagnosis of a loss that claims darknet, by the small golden cases."""
    judge = Judge(adapter, small_cases(), "darknet")
    return diagnose(judge, [judge.verdict(clause) for clause in judge.clauses])


def of_kind(diagnosis: Diagnosis, kind: str) -> set[str]:
    """The clauses with a verdict."""
    return {verdict.clause for verdict in diagnosis.verdicts if verdict.verdict == kind}


class TwoMistakes:
    """Darknet's loss with a target of 1 for the objectness and a class term that counts three times."""

    def describe(self) -> Description:
        return Description("two mistakes", answers=ANSWERS, dtypes=("float64",))

    def answer(self, question: Question) -> Answer:
        profile = question.profile.replace(object_target="one", class_weight=3 * question.profile.class_weight)
        return NumpyAdapter().answer(dataclasses.replace(question, profile=profile))


@pytest.mark.slow
def test_two_mistakes_are_both_named_and_nothing_else() -> None:
    diagnosis = judged(TwoMistakes())
    assert {one.choice: (one.measured, one.expected) for one in diagnosis.differences} == {
        "object_target": ("one", "iou"),
        "class_weight": (3.0, 1.0),
    }
    assert of_kind(diagnosis, "deviating") == {"object.iou-target", "scale.class-weight"}
    assert not of_kind(diagnosis, "hidden") | of_kind(diagnosis, "unexplained")
    assert diagnosis.unexplained is None
    for one in diagnosis.differences:
        assert 0 < one.changes <= one.departing
        assert one.case


class ApartMistakes(TwoMistakes):
    """Weighs small boxes by 2 - w², and reads every truth where there are more than an image may have."""

    def answer(self, question: Question) -> Answer:
        crowded = any(len(rows) > question.profile.max_truths for rows in question.batch.truths)
        mutant = catalogue()["truths-without-limit" if crowded else "small-box-weight-of-width"]
        return mutant.answer(question)


@pytest.mark.slow
def test_of_two_known_mistakes_in_different_cases_each_is_recognised() -> None:
    diagnosis = judged(ApartMistakes())
    assert of_kind(diagnosis, "deviating") == {"coord.small-box-weight", "truths.capacity"}
    words = {one.clause: one.words for one in diagnosis.differences}
    assert words["coord.small-box-weight"].startswith("the weight of small boxes is 2 - w²")
    # What departs with one of them conforms once both are taken into account.
    coord = next(verdict for verdict in diagnosis.verdicts if verdict.clause == "coord.value")
    assert coord.verdict == "conforming"
    assert "coord.small-box-weight" in coord.reason


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
def test_a_crash_on_one_kind_of_input_is_said_and_the_rest_is_judged_without_it() -> None:
    diagnosis = judged(FragileMistake())
    assert any("crashes on a batch without images" in note for note in diagnosis.notes)
    empty = next(verdict for verdict in diagnosis.verdicts if verdict.clause == "domain.empty-batch")
    assert empty.verdict == "deviating"
    assert "division by zero" in str(empty.first)
    assert "notation.predictor" not in of_kind(diagnosis, "deviating")


class BrokenAdapter(TwoMistakes):
    """Fails at every question alike."""

    def answer(self, question: Question) -> Answer:
        raise AttributeError("no such attribute")


def test_a_loss_that_crashes_at_every_question_breaks_no_clause() -> None:
    diagnosis = judged(BrokenAdapter())
    assert not of_kind(diagnosis, "deviating") | of_kind(diagnosis, "conforming")
    assert diagnosis.notes == (
        "It crashes at every question, so no clause was judged: AttributeError: no such attribute",
    )


class Forgetful(TwoMistakes):
    """Pays twice in every second answer."""

    def __init__(self) -> None:
        self.calls = 0

    def answer(self, question: Question) -> Answer:
        self.calls += 1
        answer = NumpyAdapter().answer(question)
        assert answer.gradient is not None
        return Answer(gradient=answer.gradient * (1 + self.calls % 2))


@pytest.mark.slow
def test_a_loss_that_remembers_is_blamed_on_repeatability_and_hides_the_rest() -> None:
    diagnosis = judged(Forgetful())
    assert of_kind(diagnosis, "deviating") == {"numerics.repeatability"}
    assert len(of_kind(diagnosis, "hidden")) > 20
    assert not of_kind(diagnosis, "unexplained")
    (difference,) = diagnosis.differences
    assert "for the same question" in difference.evidence


@pytest.mark.slow
@pytest.mark.parametrize("clause", ["scale.printed-cost", "statistics.avg-iou"])
def test_what_departs_beside_gradient_and_scalar_is_blamed_too(clause: str) -> None:
    one = next(one for one in MUTANTS if one.clause == clause and one.profile == "darknet" and not one.options)
    diagnosis = judged(MutantAdapter(one))
    assert of_kind(diagnosis, "deviating") == {one.clause}
