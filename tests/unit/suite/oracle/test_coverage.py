"""Which clauses a batch reaches, and that a format is judged by what was asked in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import Batch, load_cases, load_clauses, load_profile
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.coverage import clauses_reached, holds

FORMATS = ("float64", "float32", "float16", "bfloat16")
STATISTICS = {clause for clause in load_clauses() if clause.startswith("statistics.")}


def reached(
    truths: Sequence[Sequence[float]],
    *,
    profile: str = "darknet",
    t: float = 0.0,
    size: float = 0.0,
    tree: tuple[int, ...] | None = None,
) -> set[str]:
    """The clauses that one image of 2 × 2 cells with one anchor and two classes reaches.

    The outputs for sizes are `size` and all others `t`.
    """
    predictions = np.full((1, 7, 2, 2), t)
    predictions[:, 2:4] = size
    batch = Batch(
        predictions=predictions,
        truths=(np.array(truths, dtype=np.float64).reshape(-1, 5),),
        anchors=np.ones((1, 2)),
        classes=2,
        images_seen=0,
        tree=tree,
    )
    return set(clauses_reached(evaluate(batch, load_profile(profile)), 0))


@pytest.mark.parametrize(("size", "shown"), [(0.25, True), (0.5, False), (1.0, False)])
def test_the_floor_of_a_size_shows_where_an_object_is_under_a_cell(size: float, shown: bool) -> None:
    row = (0.25, 0.25, 1.0, size, 0)
    assert ("coord.size-target-floor" in reached([row], profile="uvipen")) is shown
    assert ("coord.size-target-unclamped" in reached([row])) is shown


def test_the_statistics_show_what_they_count() -> None:
    in_its_box = (0.25, 0.25, 0.5, 0.5, 0)
    assert reached([in_its_box]) & STATISTICS == STATISTICS - {"statistics.count-zero"}
    assert reached([]) & STATISTICS == {"statistics.no-obj", "statistics.count-zero"}
    tree = reached([(1e6, 1e6, 0, 0, 1)], profile="yolo9000", tree=(-1, -1))
    assert tree & STATISTICS == {"statistics.no-obj", "statistics.count-zero", "statistics.class"}


def test_the_statistics_do_not_show_where_rounding_blurs_an_iou() -> None:
    half_of_its_box = (0.25, 0.25, 0.5 * np.exp(0.25), 0.25 * np.exp(0.25), 0)
    assert reached([half_of_its_box], size=0.25) & STATISTICS == set()
    assert "statistics.recall" in reached([(0.25, 0.25, 0.5, 0.25, 0)])  # of numbers that no precision rounds
    tiny = (0.25, 0.25, 2.0**-13, 2.0**-13, 0)
    assert reached([tiny], size=float(np.log(2.0**-12))) & STATISTICS == set()
    # Far from its own box, a tiny one has an IoU of 0 or nearly so, whatever is rounded.
    assert reached([tiny]) & STATISTICS == STATISTICS - {"statistics.count-zero"}


@pytest.mark.parametrize(
    ("value", "formats"),
    [
        (1.5, FORMATS),
        (1 + 2.0**-10, FORMATS[:3]),
        (1 + 2.0**-23, FORMATS[:2]),
        (1 + 2.0**-52, FORMATS[:1]),
        (-(2.0**100), ("float64", "float32", "bfloat16")),
        (2.0**-24, FORMATS),
        (2.0**-130, ("float64", "float32", "bfloat16")),
        (float("nan"), FORMATS),
        (float("-inf"), FORMATS),
    ],
)
def test_a_format_holds_what_is_exact_in_it(value: float, formats: tuple[str, ...]) -> None:
    values = np.array([[0.0, 1.0], [value, -2.0]])
    assert tuple(dtype for dtype in FORMATS if holds(dtype, values)) == formats


@pytest.mark.parametrize("t", [0.5, 1 + 2.0**-10, 1 + 2.0**-52])
def test_a_format_shows_where_it_holds_every_output(t: float) -> None:
    shown = {clause for clause in reached([], t=t) if clause.startswith("numerics.float") or "bfloat" in clause}
    assert shown == {f"numerics.{dtype}" for dtype in FORMATS if holds(dtype, np.array(t))}


def test_every_clause_that_a_batch_can_show_exists() -> None:
    from regionloss_suite.oracle.coverage import _SHOWN_BY

    assert {clause for clauses in _SHOWN_BY.values() for clause in clauses} <= set(load_clauses())


class InTwoFormats:
    """The reference, which loses a factor where it is asked in float32."""

    def describe(self) -> Description:
        return Description("in two formats", ("*",), ("gradient",), ("float64", "float32"))

    def answer(self, question: Question) -> Answer:
        answer = NumpyAdapter().answer(question)
        assert answer.gradient is not None
        return Answer(gradient=answer.gradient * (1.0 if question.dtype == "float64" else 1.01))


def verdicts(adapter: Any) -> dict[str, tuple[str, str]]:
    judge = Judge(adapter, load_cases())
    of_formats = (judge.verdict(load_clauses()[f"numerics.{dtype}"]) for dtype in FORMATS)
    return {verdict.clause.removeprefix("numerics."): (verdict.verdict, verdict.reason) for verdict in of_formats}


def test_a_format_is_judged_by_what_was_asked_in_it() -> None:
    by_format = verdicts(InTwoFormats())
    assert {dtype: verdict for dtype, (verdict, _) in by_format.items()} == {
        "float64": "conforming",
        "float32": "deviating",
        "float16": "not-answerable",
        "bfloat16": "not-answerable",
    }
    assert by_format["float16"][1] == "in two formats was not asked in float16"


def test_a_loss_that_breaks_in_one_format_is_not_blamed_for_another() -> None:
    class Breaks(InTwoFormats):
        def answer(self, question: Question) -> Answer:
            if question.dtype == "float32":
                raise FloatingPointError("not in single precision")
            return NumpyAdapter().answer(question)

    assert [verdict for verdict, _ in verdicts(Breaks()).values()][:2] == ["conforming", "deviating"]
