"""Losses that know nothing, and must never be called conforming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from regionloss_adapters import Answer, CannotAnswerError, Description, Question, RefusedError
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS
from regionloss_spec import Case, load_cases
from regionloss_suite.diagnosis.diagnosis import diagnose
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.report import CRASHED, DEVIATING, Report

#: What is wrong in any answer that was not made from the question.
TELLING = {"noobj.gradient", "prior.value", "coord.value", "object.gradient", "class.gradient", "domain.centre"}


class Double:
    """Something that claims to answer everything, by a function of the question."""

    def __init__(self, answer: Callable[[Question], Answer], answers: tuple[str, ...]) -> None:
        self.answer = answer
        self.answers = answers

    def describe(self) -> Description:
        return Description("double", ("darknet",), self.answers, ("float64",))


@cache
def cases() -> list[Case]:
    return [case for case in load_cases() if case.base == "darknet" and case.batch.predictions.size < 5000]


def judged(answer: Callable[[Question], Answer], answers: tuple[str, ...] = ANSWERS) -> Report:
    judge = Judge(Double(answer, answers), cases(), "darknet")
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    return Report("double", "darknet", len(judge.cases), verdicts, judge.crashes)


def filled(question: Question, number: Callable[[int], np.ndarray]) -> Answer:
    """An answer of the right shape made of numbers."""
    shape = np.asarray(question.batch.predictions).shape
    terms = dict(zip(("no_object", "prior", "coord", "object", "class"), map(float, number(5)), strict=True))
    names = ("avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall", "count")
    return Answer(
        gradient=number(int(np.prod(shape))).reshape(shape),
        potential=float(number(1)[0]),
        terms=terms,
        responsible=(),
        ignored=(),
        printed_cost=float(number(1)[0]),
        statistics=dict(zip(names, map(float, number(6)), strict=True)),
    )


def asked(case: Case) -> Question:
    return Question(batch=case.batch, profile=case.profile, dtype="float64")


def test_zeros_are_no_loss() -> None:
    report = judged(lambda question: filled(question, np.zeros))
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING


def test_nan_is_no_loss() -> None:
    report = judged(lambda question: filled(question, lambda count: np.full(count, np.nan)))
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING


def test_random_numbers_are_no_loss() -> None:
    generator = np.random.default_rng(1)
    report = judged(lambda question: filled(question, lambda count: generator.normal(size=count)))
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING


def test_the_previous_answer_is_no_answer() -> None:
    before: list[Answer] = []

    def answer(question: Question) -> Answer:
        try:
            before.append(NumpyAdapter().answer(question))
        except RefusedError:
            before.append(filled(question, np.zeros))
        return before[-2] if len(before) > 1 else before[-1]

    report = judged(answer)
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING - {"prior.value"}


def test_the_answer_to_another_batch_of_the_same_shape_is_no_answer() -> None:
    answered = [case for case in cases() if case.expected.error is None]
    by_shape: dict[tuple[int, ...], list[Case]] = {}
    for case in answered:
        by_shape.setdefault(case.batch.predictions.shape, []).append(case)
    told_for = {
        case.batch.predictions.tobytes(): group[(at + 1) % len(group)]
        for group in by_shape.values()
        for at, case in enumerate(group)
    }

    def answer(question: Question) -> Answer:
        other = told_for.get(question.batch.predictions.tobytes())
        if other is None:
            return filled(question, np.zeros)
        return NumpyAdapter().answer(dataclasses.replace(asked(other), upstream=question.upstream))

    report = judged(answer)
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING - {"prior.value"}


def test_the_first_answer_of_each_shape_is_no_answer() -> None:
    kept: dict[tuple[int, ...], Answer] = {}

    def answer(question: Question) -> Answer:
        shape = question.batch.predictions.shape
        if shape not in kept:
            try:
                kept[shape] = NumpyAdapter().answer(question)
            except RefusedError:
                return filled(question, np.zeros)
        return kept[shape]

    assert judged(answer).exit_code == DEVIATING


@pytest.mark.parametrize("array", ["predictions", "anchors", "truths"])
def test_an_answer_beside_a_changed_input_is_no_answer(array: str) -> None:
    """Right, but for its own copy alone: whoever asks again, or compares, has another batch."""

    def answer(question: Question) -> Answer:
        right = NumpyAdapter().answer(question)
        for one in question.batch.truths if array == "truths" else [getattr(question.batch, array)]:
            one[...] = 0.0
        return right

    judge = Judge(Double(answer, ("gradient",)), cases(), "darknet")
    before = [case.batch.predictions.copy() for case in judge.cases]
    diagnosis = diagnose(judge, [judge.verdict(clause) for clause in judge.clauses])
    assert {one.clause for one in diagnosis.verdicts if one.verdict == "deviating"} == {"numerics.repeatability"}
    assert "in place" in diagnosis.differences[0].evidence
    assert all(
        np.array_equal(one, case.batch.predictions, equal_nan=True)
        for one, case in zip(before, judge.cases, strict=True)
    )


def test_whoever_skips_everything_conforms_to_nothing() -> None:
    def answer(question: Question) -> Answer:
        raise CannotAnswerError("not today")

    report = judged(answer)
    assert report.exit_code == DEVIATING
    assert {verdict.verdict for verdict in report.verdicts} == {"not-answerable"}


def test_whoever_says_nothing_conforms_to_nothing() -> None:
    report = judged(lambda question: Answer(), ("gradient",))
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.verdicts if verdict.verdict == "conforming"} == set()


def test_whoever_refuses_everything_does_not_conform() -> None:
    def answer(question: Question) -> Answer:
        raise RefusedError("outside the domain")

    report = judged(answer)
    assert report.exit_code == DEVIATING
    assert {verdict.clause for verdict in report.deviating} >= TELLING - {"domain.centre"}


def test_whoever_breaks_on_everything_has_crashed() -> None:
    def answer(question: Question) -> Answer:
        raise RuntimeError("index 13 is out of bounds for axis 3 with size 13")

    report = judged(answer)
    assert report.exit_code == CRASHED
    assert {verdict.clause for verdict in report.deviating} >= TELLING


@pytest.mark.parametrize("spoilt", ["gradient", "potential", "terms", "responsible", "ignored"])
def test_one_spoilt_answer_among_right_ones_is_enough(spoilt: str) -> None:
    def answer(question: Question) -> Answer:
        right = NumpyAdapter().answer(question)
        return dataclasses.replace(right, **{spoilt: getattr(filled(question, np.ones), spoilt)})

    assert judged(answer).exit_code == DEVIATING
