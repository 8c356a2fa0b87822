from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionloss.torch.settings import refusal
from regionloss_adapters import Answer, Description, Question
from regionloss_spec import Profile, load_cases
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.strategies import batches
from unit.torch.on_triton import ADAPTER, DARKNET, INTERPRETED, conforms

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")


class Quick:
    """The adapter in float32 alone: what a half format adds is in `test_triton_path.py`."""

    def describe(self) -> Description:
        return dataclasses.replace(ADAPTER.describe(), dtypes=("float32",))

    def answer(self, question: Question) -> Answer:
        return ADAPTER.answer(question)


@pytest.mark.parametrize(
    ("every", "clauses", "asked"), [pytest.param(1, 90, 120, marks=pytest.mark.sweep), (3, 84, 40)]
)
def test_no_clause_deviates_on_the_golden_cases(every: int, clauses: int, asked: int) -> None:
    cases = [case for case in load_cases() if refusal(case.profile) is None and case.expected.error is None]
    if INTERPRETED:  # it needs seconds for a case of many predictors, and of these one is enough
        cases = [case for case in cases if case.batch.predictions.size < 1000 or case.id == "pj-voc-13x13-early"]
    judge = Judge(Quick() if INTERPRETED else ADAPTER, cases[::every])
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert [f"{one.clause}: {one.first}" for one in verdicts if one.verdict == "deviating"] == []
    assert sum(one.verdict == "conforming" for one in verdicts) > clauses
    assert len(judge.observations) > asked


def variants() -> list[Any]:
    choices: list[dict[str, Any]] = [
        {},
        {"ignore": "none"},
        {"ignore": "at-or-above", "thresh": 0.5},
        {"ignore": "at-or-above", "thresh": 0.0},
        {"thresh": 0.7},
        {"thresh": 0.0},
        {"no_object_applies": "every-predictor", "prior_applies": "every-predictor"},
        {"prior_applies": "every-predictor", "prior_until": 10**9},
        {"collision": "first", "reduction": "per-image"},
        {"size_target_floor": "one-cell", "small_box_exponent": 2},
        {"object_target": "one", "small_box_exponent": 0},
        {"class_term": "squared-error", "squared_factor": 1.0},
        {"truth_end": "none", "max_truths": 2},
        {"coord_weight": 0.3, "object_weight": 2.5, "no_object_weight": 0.7, "class_weight": 1.7, "prior_weight": 0.5},
    ]
    return [
        pytest.param(DARKNET.replace(**axes), id=" ".join(map(str, axes.values())) or "darknet") for axes in choices
    ]


@pytest.mark.sample(every=5)
@pytest.mark.parametrize("profile", variants())
@settings(max_examples=3, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_drawn_batches_are_within_the_bound_of_the_reference(profile: Profile, data: st.DataObject) -> None:
    conforms(data.draw(batches(profile)), profile)
