"""One question to an adapter: what its answer becomes, inside the domain and outside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from regionloss_adapters import Adapter, Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import load_cases
from regionloss_suite.judging.exchange import put
from regionloss_suite.judging.judge import Judge

INVALID = "hand-error-w-zero"


class AnswersAnything(Adapter):
    """A mean over images or objects that refuses nothing."""

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction

    def describe(self) -> Description:
        return dataclasses.replace(NumpyAdapter().describe(), reduction=self.reduction)  # type: ignore[arg-type]

    def answer(self, question: Question) -> Answer:
        return Answer(gradient=np.ones_like(question.batch.predictions))


@pytest.mark.parametrize("reduction", ["sum", "per-image", "per-object"])
def test_a_loss_that_answers_an_invalid_batch_departs_whatever_it_divides_by(reduction: str) -> None:
    cases = [case for case in load_cases() if case.id == INVALID]
    judge = Judge(AnswersAnything(reduction), cases)
    observed = judge.observe(judge.cases[0])
    assert observed
    assert all(each.departs and each.exchange.outcome == "answered" for each in observed)
    assert all(each.exchange.comparison is None for each in observed)


def test_a_mean_over_objects_of_a_batch_outside_the_domain_stays_as_it_is() -> None:
    (case,) = [case for case in load_cases() if case.id == INVALID]
    adapter = AnswersAnything("per-object")
    question = Question(batch=case.batch, profile=case.profile, dtype="float64")
    exchange = put(adapter, question, case=case, description=adapter.describe())
    assert exchange.answer is not None
    assert np.all(np.asarray(exchange.answer.gradient) == 1)
    assert exchange.comparison is None
