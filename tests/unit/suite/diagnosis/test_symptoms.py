"""What a departing answer looks like: a right answer is spoilt in one known way, and must be called by its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from regionloss.boxes import sigmoid_grad
from regionloss_adapters import Answer, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import Case, load_cases, load_clauses
from regionloss_suite.diagnosis.clause_symptoms import symptoms_of_clause
from regionloss_suite.diagnosis.symptoms import symptoms_of
from regionloss_suite.judging.exchange import Exchange, Outcome
from regionloss_suite.judging.judge import Observation
from regionloss_suite.oracle.comparison import reference_of

CASES = {case.id: case for case in load_cases()}
#: One image, one truth; cell (1, 1) holds a responsible predictor, one that is ignored and one that pays no-object.
SAME_CELL = "pj-ignored-same-cell"
#: t = 4999: the prior is paid, next to a responsible and an ignored predictor.
EARLY = "hand-prior-4999"

#: Spoils a gradient `[N, A, 5+C, H, W]` in place.
Spoil = Callable[[NDArray[np.float64], Case], None]


def right(case: Case) -> Answer:
    return NumpyAdapter().answer(Question(batch=case.batch, profile=case.profile, dtype="float64"))


def symptoms(case: Case, answer: Answer) -> set[str]:
    return set(symptoms_of([departing(case, answer)])[0].symptoms)


def departing(case: Case, answer: Answer | None = None, outcome: Outcome = "answered") -> Observation:
    question = Question(batch=case.batch, profile=case.profile, dtype="float64")
    return Observation(Exchange(case, question, NumpyAdapter().describe(), outcome, answer), departs=True)


def spoilt(case: Case, spoil: Spoil, **said: object) -> Answer:
    answer = right(case)
    assert answer.gradient is not None
    gradient = np.array(answer.gradient, dtype=np.float64).reshape(reference_of(case).t.shape)
    spoil(gradient, case)
    return dataclasses.replace(answer, gradient=gradient.reshape(answer.gradient.shape), **said)  # type: ignore[arg-type]


def value(case: Case, term: str, factor: float) -> dict[str, float]:
    terms = right(case).terms
    assert terms is not None
    return {**terms, term: terms[term] * factor}


def at(case: Case, state: str) -> tuple[int, int, int, int]:
    """The first predictor in a state."""
    decisions = reference_of(case).decisions
    there = {"responsible": decisions.responsible, "ignored": decisions.ignored, "no-object": decisions.no_object}[
        state
    ]
    n, k, j, i = (int(index) for index in np.argwhere(there & (~decisions.responsible | (state == "responsible")))[0])
    return n, k, j, i


def times(channels: slice, state: str, factor: float) -> Spoil:
    def spoil(gradient: NDArray[np.float64], case: Case) -> None:
        n, k, j, i = at(case, state)
        gradient[n, k, channels, j, i] *= factor

    return spoil


def plus(channels: slice, state: str, surplus: float) -> Spoil:
    def spoil(gradient: NDArray[np.float64], case: Case) -> None:
        n, k, j, i = at(case, state)
        gradient[n, k, channels, j, i] += surplus

    return spoil


def without_slope(gradient: NDArray[np.float64], case: Case) -> None:
    n, k, j, i = at(case, "responsible")
    gradient[n, k, :2, j, i] /= sigmoid_grad(reference_of(case).t[n, k, :2, j, i])


SIZE, OBJECTNESS, CLASSES = slice(2, 4), slice(4, 5), slice(5, None)


@pytest.mark.parametrize(
    ("name", "spoil", "terms", "symptom"),
    [
        (SAME_CELL, times(OBJECTNESS, "responsible", 3.0), ("object", 3.0), "objectness factor"),
        (SAME_CELL, times(OBJECTNESS, "responsible", 3.0), ("object", 9.0), "objectness other"),
        (SAME_CELL, times(OBJECTNESS, "responsible", 0.0), ("object", 0.0), "objectness vanishes"),
        (SAME_CELL, times(CLASSES, "responsible", 2.0), ("class", 2.0), "class factor"),
        (SAME_CELL, times(CLASSES, "responsible", 2.0), None, "class factor alone"),
        (SAME_CELL, times(CLASSES, "responsible", float("nan")), ("class", float("nan")), "class nan"),
        (SAME_CELL, times(SIZE, "responsible", 1 + 1e-4), None, "size rounds alone"),
        (SAME_CELL, plus(slice(2, 3), "responsible", 0.5), ("coord", 1.5), "size other"),
        (SAME_CELL, without_slope, None, "centre slope alone"),
        (SAME_CELL, plus(CLASSES, "ignored", 0.5), ("class", 1.5), "ignored class appears"),
        (SAME_CELL, plus(CLASSES, "no-object", 0.5), ("class", 1.5), "free class appears"),
        (SAME_CELL, plus(SIZE, "no-object", 0.5), ("coord", 1.5), "free size appears"),
        (EARLY, plus(slice(2, 3), "no-object", 0.5), ("prior", 1.5), "prior size other"),
        (EARLY, times(SIZE, "ignored", 0.0), ("prior", 0.5), "prior size of ignored vanishes"),
    ],
)
def test_a_payment_is_called_by_who_pays_and_what_became_of_it(
    name: str, spoil: Spoil, terms: tuple[str, float] | None, symptom: str
) -> None:
    case = CASES[name]
    said = {} if terms is None else {"terms": value(case, *terms)}
    assert symptoms(case, spoilt(case, spoil, **said)) == {symptom}


def test_a_value_that_departs_alone_is_told_from_its_gradient() -> None:
    case = CASES[SAME_CELL]
    assert symptoms(case, dataclasses.replace(right(case), terms=value(case, "coord", 2.0))) == {"coord value alone"}
    assert symptoms(case, dataclasses.replace(right(case), potential=1.0)) == {"potential alone"}
    assert symptoms(case, dataclasses.replace(right(case), printed_cost=1.0)) == {"printed cost alone"}


def test_one_factor_on_everything_is_one_sign_and_so_is_one_on_the_squares() -> None:
    case = CASES[SAME_CELL]
    answer = right(case)
    assert answer.gradient is not None
    assert answer.terms is not None
    doubled = {term: 2 * number for term, number in answer.terms.items()}
    every = dataclasses.replace(answer, gradient=2 * answer.gradient, terms=doubled)
    assert symptoms(case, every) == {"all by one factor"}
    kept = answer.gradient.reshape(reference_of(case).t.shape) * np.array([2, 2, 2, 2, 2, 1, 1, 1])[:, None, None]
    squares = dataclasses.replace(
        answer, gradient=kept.reshape(answer.gradient.shape), terms={**doubled, "class": answer.terms["class"]}
    )
    assert symptoms(case, squares) == {"squares by one factor"}


def test_what_a_truth_does_instead_is_named() -> None:
    case = CASES[SAME_CELL]
    answer = right(case)
    assert answer.responsible is not None
    ((n, truth, k, j, i),) = answer.responsible
    wrong = spoilt(
        case, times(CLASSES, "responsible", 0.0)
    ).gradient  # an indicator that is told and not acted on is another symptom

    def told(*responsible: tuple[int, ...]) -> set[str]:
        return symptoms(case, dataclasses.replace(answer, responsible=responsible, gradient=wrong))

    assert told((n, truth, k + 1, j, i)) == {"another anchor"}
    assert told((n, truth, k, j, i + 1)) == {"another cell"}
    assert told() == {"no predictor"}
    assert told((n, truth, k, j, i), (n, truth, k + 1, j, i)) == {"several predictors"}
    assert told((n, truth, k, j, i), (n, truth + 1, k, j, i)) == {"unread truth"}
    assert symptoms(case, dataclasses.replace(answer, responsible=())) == {"told only"}


def test_an_assignment_is_read_off_a_gradient_that_stands_alone() -> None:
    case = CASES[SAME_CELL]

    def moved(gradient: NDArray[np.float64], case: Case) -> None:
        n, k, j, i = at(case, "responsible")
        gradient[n, k + 1, :, j, i] = gradient[n, k, :, j, i]
        gradient[n, k, :, j, i] = 0.0

    assert symptoms(case, Answer(gradient=spoilt(case, moved).gradient)) == {"another anchor"}


def test_a_threshold_that_was_moved_is_told_from_another_measure() -> None:
    case = CASES[SAME_CELL]
    decisions = reference_of(case).decisions
    answer = right(case)
    wrong = spoilt(case, times(OBJECTNESS, "no-object", 2.0)).gradient
    free = np.argwhere(~decisions.responsible)
    by_iou = sorted((tuple(map(int, place)) for place in free), key=lambda place: -decisions.max_iou[place])

    def told(*ignored: tuple[int, ...]) -> set[str]:
        return symptoms(case, dataclasses.replace(answer, ignored=ignored, gradient=wrong))

    assert told() == {"nobody ignored"}
    assert told(*by_iou[:4]) == {"another threshold"}
    assert told(by_iou[0], by_iou[-1]) == {"ignored too many"}
    assert told(by_iou[-1]) == {"ignored differently"}


def test_a_refusal_is_a_stage_of_its_own() -> None:
    valid, invalid = CASES[SAME_CELL], CASES["hand-error-w-zero"]

    def symptoms_after(case: Case, outcome: Outcome, answer: Answer | None = None) -> set[str]:
        return set(symptoms_of([departing(case, answer, outcome)])[0].symptoms)

    assert symptoms_after(valid, "refused") == {"refuses what is valid"}
    assert symptoms_after(invalid, "answered", Answer(potential=0.0)) == {"accepts what is invalid"}
    assert symptoms_after(invalid, "refused") == {"refuses at another place"}


@pytest.mark.parametrize(("term", "symptom"), [("object", "objectness factor"), ("class", "class factor")])
def test_a_sum_alone_tells_a_weight_by_several_cases(term: str, symptom: str) -> None:
    seen = []
    for name in (SAME_CELL, EARLY, "hand-collision-last"):
        case = CASES[name]
        result = reference_of(case)
        potential = result.potential + 2 * result.term_values[term]
        seen.append(departing(case, Answer(potential=potential)))
    assert [set(symptom.symptoms) for symptom in symptoms_of(seen)] == [{symptom}] * 3
    assert [set(symptom.symptoms) for symptom in symptoms_of(seen[:1])] == [{"another potential"}], (
        "one case tells nothing"
    )


def test_every_clause_that_must_hold_has_symptoms() -> None:
    musts = [clause.id for clause in load_clauses().values() if clause.level == "MUST" and not clause.untestable]
    assert [clause for clause in musts if not symptoms_of_clause(clause, "terms")] == []
