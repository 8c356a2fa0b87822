from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionloss import region_loss
from regionloss_adapters import CannotAnswerError, Question
from regionloss_adapters.truths import Counted, Dense, Flat, Padded, Ragged, Rows
from regionloss_spec import Batch, load_profile
from regionloss_suite.oracle.strategies import batches

DARKNET = load_profile("darknet")
#: The profile of ports that do not end a list at x = 0.
ALL_READ = DARKNET.replace(truth_end="none")
ANCHORS = np.array([[1.0, 2.0], [2.0, 1.0]])
#: Two images; every number is a sum of few powers of two, so that no form of it is rounded.
FIRST = [0.5, 0.25, 0.25, 0.5, 1]
SECOND = [0.75, 0.75, 0.5, 0.125, 2]
THIRD = [0.125, 0.5, 0.25, 1.0, 0]


def ask(*images: Any, grid: tuple[int, int] = (2, 4), dtype: str = "float32", profile: Any = DARKNET) -> Question:
    tables = tuple(np.array(rows, dtype=np.float64) for rows in images)
    predictions = np.zeros((len(images), 2 * 8, *grid))
    return Question(batch=Batch(predictions, tables, ANCHORS, 3, 0), profile=profile, dtype=dtype)


TWO = ask([FIRST, SECOND], [THIRD])


def test_ragged_lists_are_the_tables_of_the_batch_in_the_format_asked_for() -> None:
    first, second = Ragged()(TWO)
    assert first.dtype == np.float32
    assert first.tolist() == [FIRST, SECOND]
    assert second.tolist() == [THIRD]
    assert [table.shape for table in Ragged()(ask([], [THIRD], []))] == [(0, 5), (1, 5), (0, 5)]


@pytest.mark.parametrize(
    ("columns", "unit", "expected"),
    [
        ("class x y w h", "fraction", [1, 0.5, 0.25, 0.25, 0.5]),
        ("x1 y1 x2 y2 class", "fraction", [0.375, 0.0, 0.625, 0.5, 1]),
        ("class x1 y1 w h", "fraction", [1, 0.375, 0.0, 0.25, 0.5]),
        ("x y x2 y2 class", "fraction", [0.5, 0.25, 0.625, 0.5, 1]),
        ("x y w h class", "cells", [2.0, 0.5, 1.0, 1.0, 1]),
        ("x y w h class", "pixels", [64.0, 16.0, 32.0, 32.0, 1]),
        ("class x1 y1 x2 y2", "pixels", [1, 48.0, 0.0, 80.0, 32.0]),
        ("x y w h 1 classes", "fraction", [0.5, 0.25, 0.25, 0.5, 1, 0, 1, 0]),
        ("-1 class x y w h image", "fraction", [-1, 1, 0.5, 0.25, 0.25, 0.5, 0]),
        ("y1 x1 y2 x2", "cells", [0.0, 1.5, 1.0, 2.5]),
    ],
)
def test_columns_of_a_truth(columns: str, unit: Any, expected: list[float]) -> None:
    form = Ragged(columns=columns, unit=unit)
    assert form(TWO)[0][0].tolist() == expected
    assert form.width(TWO) == len(expected)


def test_pixels_are_those_of_the_image_size_that_is_given() -> None:
    form = Ragged(columns="class x1 y1 x2 y2", unit="pixels", image_size=(640, 480))
    assert form(TWO)[0][0].tolist() == [1, 240, 0, 400, 240]
    assert form(TWO)[1][0].tolist() == [0, 0, 0, 160, 480]


@pytest.mark.parametrize(("asked", "stated", "expected"), [
    ("float32", None, "float32"),
    ("float64", None, "float64"),
    ("float16", None, "float32"),
    ("bfloat16", None, "float32"),
    ("float32", "float64", "float64"),
])  # fmt: skip
def test_format_of_the_numbers(asked: str, stated: Any, expected: str) -> None:
    question = ask([FIRST], dtype=asked)
    for form in (Ragged(dtype=stated), Padded(dtype=stated), Flat(dtype=stated), Dense(dtype=stated)):
        assert form(question)[0].dtype == expected
    assert Padded(dtype=stated)(ask(dtype=asked)).dtype == expected
    assert Flat(dtype=stated)(ask([], dtype=asked)).dtype == expected


def test_padded_rows_follow_the_truths() -> None:
    zeros = Padded(capacity=3)(TWO)
    assert zeros.tolist() == [[FIRST, SECOND, [0.0] * 5], [THIRD, [0.0] * 5, [0.0] * 5]]
    assert Padded(fill=-1, columns="class x y w h")(TWO)[1].tolist() == [[0, *THIRD[:4]], [-1.0] * 5]
    assert Padded()(TWO).shape == (2, 2, 5)
    assert Padded()(ask([], [])).tolist() == [[[0.0] * 5]] * 2
    assert Padded()(ask()).shape == (0, 1, 5)


def test_padded_rows_without_room_name_the_first_truth_that_is_left_out() -> None:
    with pytest.raises(CannotAnswerError, match="image 0, truth 1: one of 2, and this format has room for 1"):
        Padded(capacity=1)(TWO)


def test_counted_rows_come_with_their_number() -> None:
    rows, counts = Counted(capacity=4)(TWO)
    assert rows.shape == (2, 4, 5)
    assert rows[1].tolist() == [THIRD, *[[0.0] * 5] * 3]
    assert counts.tolist() == [2, 1]
    assert counts.dtype == np.int64


def test_flat_rows_say_which_image_they_are_of() -> None:
    assert Flat()(TWO).tolist() == [[0, *FIRST], [0, *SECOND], [1, *THIRD]]
    assert Flat()(ask([], [])).shape == (0, 6)
    assert Flat()(ask()).shape == (0, 6)
    assert Flat(columns="image class x1 y1 x2 y2")(ask([], [THIRD])).tolist() == [[1, 0, 0.0, 0.0, 0.25, 1.0]]


def test_dense_grid_has_each_truth_at_its_predictor() -> None:
    # On 4 x 2 cells FIRST is 1 x 1 cells: a tie of both anchors, which the first wins. SECOND is 2 x .25: anchor 1.
    grid = Dense()(TWO)
    assert grid.shape == (2, 2, 4, 2, 8)
    expected = np.zeros((2, 2, 4, 2, 8))
    expected[0, 0, 2, 0] = [*FIRST[:4], 1, 0, 1, 0]
    expected[0, 1, 3, 1] = [*SECOND[:4], 1, 0, 0, 1]
    expected[1, 1, 0, 0] = [*THIRD[:4], 1, 1, 0, 0]
    assert np.array_equal(grid, expected)
    assert np.array_equal(Dense(axes="n a e h w")(TWO), expected.transpose(0, 3, 4, 1, 2))


@settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_dense_grid_agrees_with_the_assignment_of_the_reference(data: st.DataObject) -> None:
    batch = data.draw(batches(DARKNET))
    result = region_loss(batch.predictions, batch.truths, batch.anchors, batch.classes, images_seen=0)
    try:
        grid = Dense()(Question(batch=batch, profile=DARKNET))
    except CannotAnswerError:
        predictors = [match.predictor for match in result.decisions.matches]
        assert len(set(predictors)) < len(predictors)
        return
    assert np.array_equal(grid[..., 4].transpose(0, 3, 1, 2) == 1, result.decisions.responsible)


def test_what_a_dense_grid_cannot_hold_is_not_asked() -> None:
    with pytest.raises(
        CannotAnswerError, match=r"image 1, truth 1: anchor 0 of cell \(0, 2\) already holds another truth"
    ):
        Dense()(ask([], [FIRST, FIRST]))
    with pytest.raises(CannotAnswerError, match="predicted-iou"):
        Dense()(ask([FIRST], profile=DARKNET.replace(anchor_choice="predicted-iou")))
    with pytest.raises(CannotAnswerError, match="image 0, truth 0: its centre"):
        Dense()(ask([[1.5, 0.5, 0.5, 0.5, 0]]))


ENDED = [FIRST, [0.0, np.nan, 7.0, -1.0, 99.0], SECOND]


def test_a_terminator_is_handed_over_where_the_port_ends_its_lists_so() -> None:
    question = ask(ENDED)
    forms: list[Any] = [Padded(), Padded(columns="class x y w h", unit="cells"), Ragged(ends_at_zero=True)]
    assert [len(form(question)[0]) for form in [*forms, Padded(fill=-1, ends_at_zero=True)]] == [3] * 4
    np.testing.assert_array_equal(Padded()(question)[0], np.array(ENDED, dtype=np.float32))


def test_a_terminator_is_not_asked_where_the_port_ends_its_lists_otherwise() -> None:
    for form in (Ragged(), Flat(), Counted(), Dense(), Padded(fill=-1), Padded(columns="x1 y1 x2 y2 class")):
        with pytest.raises(CannotAnswerError, match="image 0, truth 1: x = 0 ends the list"):
            form(ask(ENDED))


def test_a_truth_at_zero_is_asked_unless_it_would_end_the_list() -> None:
    border = [0.0, 0.5, 0.25, 0.25, 2]
    question = ask([FIRST, border], profile=ALL_READ)
    with pytest.raises(CannotAnswerError, match="image 0, truth 1: x is 0, which ends the list for this loss"):
        Padded()(question)
    forms: list[Any] = [Ragged(), Padded(fill=-1), Padded(ends_at_zero=False), Padded(columns="x1 y1 w h class")]
    assert [len(form(question)[0]) for form in forms] == [2] * 4


def test_a_class_without_a_box_is_asked_only_by_its_centre() -> None:
    profile = load_profile("yolo9000")
    question = ask([[1e6, 1e6, 1e6, 1e6, 1]], profile=profile)
    assert Padded()(question)[0, 0].tolist() == [1e6, 1e6, 1e6, 1e6, 1]
    for form in (Padded(columns="x1 y1 x2 y2 class"), Padded(unit="cells")):
        with pytest.raises(CannotAnswerError, match="image 0, truth 0: a class without a box"):
            form(question)


CORNERS = Padded(columns="class x1 y1 x2 y2")


def test_rounded_corners_that_say_another_size_are_not_asked() -> None:
    small = [0.9, 0.9, 0.01, 0.3, 0]
    with pytest.raises(CannotAnswerError, match=r"image 1, truth 0: w is 0\.01 but would become 0\.00999999"):
        CORNERS(ask([], [small]))
    rows = Padded(columns="class x1 y1 x2 y2", dtype="float64")(ask([], [small]))
    np.testing.assert_allclose(rows[1, 0], [0, 0.895, 0.75, 0.905, 1.05], rtol=1e-15)


def test_a_centre_that_rounds_into_another_cell_is_not_asked() -> None:
    with pytest.raises(CannotAnswerError, match=r"image 0, truth 0: x is 0\.5 but would become 0\.5"):
        Ragged()(ask([[np.nextafter(0.5, 0), 0.5, 0.5, 0.5, 0]]))


@settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_form_that_is_asked_says_the_truths_of_the_batch(data: st.DataObject) -> None:
    batch = data.draw(batches(DARKNET))
    columns = data.draw(st.sampled_from(["x y w h class", "x1 y1 x2 y2 class", "x1 y1 w h class", "x y x1 y2 class"]))
    unit: Any = data.draw(st.sampled_from(["fraction", "cells", "pixels"]))
    height, width = batch.predictions.shape[2:]
    grid = np.array([width, height])
    scale = {"fraction": np.ones(2), "cells": grid, "pixels": np.array([416.0, 320.0])}[unit]
    try:
        tables = Ragged(columns=columns, unit=unit, image_size=(416, 320))(Question(batch=batch, profile=DARKNET))
    except CannotAnswerError:
        assert "x1" in columns or unit != "fraction"
        return
    for table, truths in zip(tables, batch.truths, strict=True):
        first, second = table[:, :2].astype(np.float64) / scale, table[:, 2:4].astype(np.float64) / scale
        if columns.startswith("x1 y1 x2"):
            first, second = (first + second) / 2, second - first
        elif columns.startswith("x1 y1 w"):
            first = first + second / 2
        elif columns.startswith("x y x1"):
            second = 2 * np.abs(first - second)
        np.testing.assert_allclose(first, truths[:, :2], rtol=0, atol=2**-23)
        np.testing.assert_allclose(second, truths[:, 2:4], rtol=2**-22, atol=0)
        assert np.array_equal(np.floor(first * grid), np.floor(truths[:, :2] * grid))
        assert np.array_equal(table[:, 4], truths[:, 4])


def test_a_list_that_is_no_table_is_not_asked() -> None:
    uneven = np.array([np.zeros(5), np.zeros(4)], dtype=object)
    with pytest.raises(CannotAnswerError, match="image 0: its truths are not a table of numbers"):
        Padded()(Question(batch=Batch(np.zeros((1, 16, 2, 2)), (uneven,), ANCHORS, 3, 0), profile=DARKNET))
    with pytest.raises(CannotAnswerError, match=r"image 1: truths have shape \[1, 4\]"):
        Padded()(ask([], [[0.5, 0.5, 0.5, 0.5]]))


def test_a_format_neither_changes_the_batch_nor_gives_its_arrays_away() -> None:
    for dtype in ("float32", "float64"):
        question = ask([FIRST, SECOND], [THIRD], dtype=dtype)
        for form in (Ragged(), Padded(), Flat(), Counted(), Dense()):
            arrays = form(question)
            for array in arrays if isinstance(arrays, (list, tuple)) else [arrays]:
                array[...] = -5
        assert [table.tolist() for table in question.batch.truths] == [[FIRST, SECOND], [THIRD]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"columns": "x y w h label"}, "column 'label'"),
        ({"columns": "x w h class"}, "need two of y, h, y1, y2"),
        ({"unit": "inch"}, "unit is 'inch', expected one of fraction, cells, pixels"),
    ],
)
def test_a_form_that_does_not_exist_is_refused_when_it_is_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rows(**wrong)
    with pytest.raises(ValueError, match="expected each of n, a, e, h, w once"):
        Dense(axes="n h w a")
