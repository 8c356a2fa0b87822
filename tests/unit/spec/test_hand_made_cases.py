"""The hand-made golden cases: their numbers against a derivation of their own, and the reference against them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from mpmath import mp

from regionloss import DomainError, evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec import Case, load_clauses
from regionloss_spec.case import CASES, load_case
from regionloss_spec.profile import AXES, axis_values
from unit.spec.derivation import TERMS, Derivation, digits, fault

CASES_BY_HAND = [load_case(path) for path in sorted((*CASES.glob("hand-*.json"), *CASES.glob("worked-example*.json")))]
ANSWERED = [case for case in CASES_BY_HAND if case.expected.error is None]
REFUSED = [case for case in CASES_BY_HAND if case.expected.error is not None]
FLOAT64 = PRECISIONS["float64"]

every_case = pytest.mark.parametrize("case", CASES_BY_HAND, ids=lambda case: case.id)
every_answer = pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.id)
every_refusal = pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)


def same(got: float, expected: float) -> bool:
    """Equal but for the rounding of the number in the JSON file."""
    return (math.isnan(got) and math.isnan(expected)) or abs(got - expected) <= 1e-14 * abs(expected)


@every_answer
def test_the_expected_numbers_follow_from_the_formulas(case: Case) -> None:
    expected = case.expected
    assert expected.from_reference == ()
    assert expected.terms is not None
    assert expected.potential is not None
    assert expected.ignored is not None
    with mp.workdps(digits(case)):
        derived = Derivation(case)
        assert list(expected.responsible or ()) == derived.paid_truths()
        assert set(expected.ignored) == derived.ignored
        assert len(expected.ignored) == len(derived.ignored)
        terms = derived.terms()
        assert all(same(expected.terms[name], terms[name]) for name in TERMS), terms
        assert same(expected.potential, derived.potential())
        if expected.gradient is not None:
            for (n, k, j, i), slopes in derived.gradient().items():
                numbers = expected.gradient[n, k * derived.outputs : (k + 1) * derived.outputs, j, i]
                assert all(same(a, b) for a, b in zip(numbers, slopes, strict=True)), ((n, k, j, i), slopes)
        if expected.printed_cost is not None:
            assert same(expected.printed_cost, derived.printed_cost())
        if expected.statistics is not None:
            statistics = derived.statistics()
            assert expected.statistics.keys() == statistics.keys()
            assert all(same(expected.statistics[name], statistics[name]) for name in statistics), statistics


@every_refusal
def test_a_refused_input_has_the_fault_that_is_named_and_no_earlier_one(case: Case) -> None:
    assert fault(case) == case.expected.error


@every_answer
def test_an_answered_input_has_no_fault_and_stands_on_no_knife_edge(case: Case) -> None:
    assert fault(case) is None
    with mp.workdps(digits(case)):
        assert all(margin > 1e-4 for margin in Derivation(case).margins())


@every_answer
def test_the_reference_agrees(case: Case) -> None:
    expected = case.expected
    result = evaluate(case.batch, case.profile)
    limits = bounds(result, FLOAT64)
    responsible, ignored = indicators(result.decisions)
    assert sorted(responsible) == sorted(expected.responsible or ())
    assert sorted(ignored) == sorted(expected.ignored or ())
    if expected.gradient is not None:
        assert result.gradient.shape == expected.gradient.shape
        wrong = ~(np.abs(result.gradient - expected.gradient) <= limits.gradient)
        assert not wrong.any(), (np.argwhere(wrong)[0], result.gradient[wrong][0], expected.gradient[wrong][0])
    assert expected.terms is not None
    assert expected.potential is not None
    for name, value in expected.terms.items():
        assert abs(result.term_values[name] - value) <= limits.terms[name], name
    assert abs(result.potential - expected.potential) <= limits.potential
    if expected.printed_cost is not None:  # the reference sums it in float32, as darknet does
        assert result.printed_cost == pytest.approx(expected.printed_cost, rel=1e-6)
    if expected.statistics is not None:
        got = dataclasses.asdict(result.statistics)
        assert got == pytest.approx(expected.statistics, rel=1e-13, nan_ok=True)


@every_refusal
def test_the_reference_refuses(case: Case) -> None:
    error = case.expected.error or {}
    with pytest.raises(DomainError) as refusal:
        evaluate(case.batch, case.profile)
    place = {"clause": refusal.value.clause, "image": refusal.value.image, "truth": refusal.value.truth}
    assert {name: value for name, value in place.items() if value is not None} == error


@every_case
def test_a_case_names_clauses_that_bind_its_profile_and_how_its_numbers_follow(case: Case) -> None:
    clauses = load_clauses()
    assert case.clauses
    assert all(clauses[clause].applies_to(case.profile) for clause in case.clauses)
    assert case.provenance["kind"] == "derivation"
    assert len(case.provenance["derivation"]) > 5
    assert case.title.endswith(".")


@every_case
def test_the_predictions_are_exact_in_every_format(case: Case) -> None:
    t = np.asarray(case.batch.predictions, dtype=np.float64)
    finite = t[np.isfinite(t)]
    assert (finite.astype(np.float16) == finite).all()
    single = finite.astype(np.float32)
    assert (single == finite).all()
    assert not (single.view(np.uint32) & 0xFFFF).any()  # bfloat16 is the upper half of float32


def test_every_value_of_every_discrete_axis_is_in_some_case() -> None:
    counts = Counter((axis, getattr(case.profile, axis)) for case in ANSWERED for axis in AXES)
    missing = [(axis, value) for axis in AXES for value in axis_values(axis) if not counts[axis, value]]
    assert missing == []


def test_titles_and_names_are_unique() -> None:
    titles = Counter(case.title for case in CASES_BY_HAND)
    assert [title for title, count in titles.items() if count > 1] == []
