"""Input outside the domain is refused, with the clause, the image and the truth; inside it, nothing is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from regionloss import DomainError, region_loss

GOOD = [0.3, 0.6, 0.2, 0.4, 1.0]


def ask(**changed: Any) -> Any:
    inputs: dict[str, Any] = {
        "predictions": np.zeros((2, 14, 3, 4)),
        "truths": [[GOOD], [GOOD, GOOD]],
        "anchors": [[1, 1], [2, 1]],
        "classes": 2,
        "images_seen": 0,
    }
    return region_loss(**(inputs | changed))


@pytest.mark.parametrize(
    ("column", "value", "clause", "said"),
    [
        (0, 1.0, "domain.centre", "x is 1.0, expected 0 <= x < 1"),
        (0, -0.1, "domain.centre", "x is -0.1"),
        (1, 1.0, "domain.centre", "y is 1.0"),
        (1, float("nan"), "domain.truths-finite", "nan"),
        (2, 0.0, "domain.size", "w is 0.0, expected 0 < w <= 1"),
        (3, -0.2, "domain.size", "h is -0.2"),
        (2, 1.5, "domain.size", "w is 1.5"),
        (3, float("inf"), "domain.truths-finite", "inf"),
        (4, 2.0, "domain.class", "class is 2.0, expected a whole number from 0 to 1"),
        (4, -1.0, "domain.class", "class is -1.0"),
        (4, 0.5, "domain.class", "class is 0.5"),
    ],
)
def test_a_bad_truth_is_named_by_image_and_truth(column: int, value: float, clause: str, said: str) -> None:
    bad = list(GOOD)
    bad[column] = value
    with pytest.raises(DomainError) as caught:
        ask(truths=[[GOOD], [GOOD, bad]])
    assert (caught.value.image, caught.value.truth, caught.value.clause) == (1, 1, clause)
    assert str(caught.value).startswith("image 1, truth 1: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_prediction_that_is_not_finite_is_named_by_its_place(value: float) -> None:
    predictions = np.zeros((2, 14, 3, 4))
    predictions[1, 9, 2, 3] = value
    with pytest.raises(DomainError, match="channel 9, row 2, column 3") as caught:
        ask(predictions=predictions)
    assert (caught.value.image, caught.value.clause) == (1, "domain.predictions-finite")


@pytest.mark.parametrize(
    ("changed", "clause"),
    [
        ({"predictions": np.zeros((2, 13, 3, 4))}, "domain.channels"),
        ({"classes": 3}, "domain.channels"),
        ({"classes": 0}, "domain.channels"),
        ({"predictions": np.zeros((2, 14, 12))}, "domain.ranks"),
        ({"predictions": np.zeros((2, 14, 0, 4))}, "domain.ranks"),
        ({"truths": [[GOOD]]}, "domain.ranks"),
        ({"truths": [[GOOD], [GOOD[:4]]]}, "domain.ranks"),
        ({"truths": [[GOOD], [GOOD, GOOD[:4]]]}, "domain.ranks"),
        ({"anchors": [[1, 1], [0, 1]]}, "domain.anchors"),
        ({"anchors": [[1, 1], [float("inf"), 1]]}, "domain.anchors"),
        ({"anchors": [1, 1]}, "domain.anchors"),
        ({"anchors": np.zeros((0, 2))}, "domain.anchors"),
        ({"images_seen": -1}, "domain.images-seen"),
        ({"images_seen": 0.5}, "domain.images-seen"),
        ({"images_seen": float("nan")}, "domain.images-seen"),
        ({"profile": "yolo9000"}, "tree.groups"),
        ({"profile": "yolo9000", "tree": [1, -1]}, "tree.groups"),
        ({"profile": "yolo9000", "tree": [-1]}, "tree.groups"),
    ],
)
def test_other_bad_input_names_its_clause(changed: dict[str, Any], clause: str) -> None:
    with pytest.raises(DomainError) as caught:
        ask(**changed)
    assert caught.value.clause == clause
    assert str(caught.value).endswith(f"[{clause}]")


def test_rows_behind_the_terminator_and_the_capacity_are_never_judged() -> None:
    garbage = [float("nan"), 7.0, -1.0, 0.0, 99.0]
    end = [0.0, 5.0, 5.0, 5.0, 5.0]
    assert len(ask(truths=[[GOOD, end, garbage], [GOOD]]).truths[0]) == 1
    full = [[0.01 + 0.03 * n, *GOOD[1:]] for n in range(30)]
    assert len(ask(truths=[[*full, garbage], [GOOD]]).truths[0]) == 30


def test_without_a_terminator_the_same_rows_are_judged() -> None:
    with pytest.raises(DomainError, match="image 0, truth 1"):
        ask(truths=[[GOOD, [0.0, 5.0, 5.0, 5.0, 5.0]], [GOOD]], profile="formula")


def test_the_corners_of_the_domain_are_inside() -> None:
    below_one = float(np.nextafter(1.0, 0.0))
    corner = [below_one, below_one, 1.0, 1.0, 0.0]
    assert np.isfinite(ask(truths=[[corner], [[1e-300, 0.0, 1e-300, 1.0, 1.0]]]).gradient).all()
    assert ask(predictions=np.zeros((0, 14, 3, 4)), truths=[]).potential == 0.0
    smallest = region_loss(np.zeros((1, 6, 1, 1)), [[[0.5, 0.5, 1, 1, 0]]], [[1, 1]], 1, images_seen=12800)
    assert smallest.gradient.shape == (1, 6, 1, 1)


def test_inputs_are_not_touched() -> None:
    predictions, truths, anchors = np.full((1, 14, 3, 4), 0.25), [np.array([GOOD])], np.ones((2, 2))
    before = predictions.copy(), truths[0].copy(), anchors.copy()
    for array in (predictions, truths[0], anchors):
        array.flags.writeable = False
    region_loss(predictions, truths, anchors, 2, images_seen=0)
    for array, kept in zip((predictions, truths[0], anchors), before, strict=True):
        assert (array == kept).all()


def in_row(image: int, truth: int, column: int, value: float) -> Callable[[dict[str, Any]], None]:
    def fault(inputs: dict[str, Any]) -> None:
        inputs["truths"][image][truth][column] = value

    return fault


def to(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def fault(inputs: dict[str, Any]) -> None:
        inputs[name] = change(inputs[name])

    return fault


def with_nan(predictions: Any) -> Any:
    predictions[1, 0, 0, 0] = np.nan
    return predictions


#: Every kind of fault with its clause and place, in the order of "Which fault comes first" (spec, chapter 1).
FAULTS: list[tuple[Callable[[dict[str, Any]], None], tuple[str, int | None, int | None]]] = [
    (to("anchors", lambda _: [[0, 1], [2, 1]]), ("domain.anchors", None, None)),
    (to("classes", lambda _: 0), ("domain.channels", None, None)),
    (to("images_seen", lambda _: -1), ("domain.images-seen", None, None)),
    (to("predictions", lambda t: t[None]), ("domain.ranks", None, None)),
    (to("predictions", lambda t: t[:, :-1]), ("domain.channels", None, None)),
    (to("predictions", lambda t: t[:, :, :0]), ("domain.ranks", None, None)),
    (to("predictions", with_nan), ("domain.predictions-finite", 1, None)),
    (to("truths", lambda lists: [*lists, []]), ("domain.ranks", None, None)),
    (to("tree", lambda _: (0, -1)), ("tree.groups", None, None)),
    (to("truths", lambda lists: [[row[:4] for row in lists[0]], *lists[1:]]), ("domain.ranks", 0, None)),
    (in_row(1, 0, 3, float("nan")), ("domain.truths-finite", 1, 0)),
    (in_row(1, 0, 0, 1.0), ("domain.centre", 1, 0)),
    (in_row(1, 0, 2, 0.0), ("domain.size", 1, 0)),
    (in_row(1, 0, 4, 2.0), ("domain.class", 1, 0)),
    (in_row(1, 1, 3, float("nan")), ("domain.truths-finite", 1, 1)),
]


@pytest.mark.parametrize(
    ("earlier", "later"),
    list(itertools.combinations(range(len(FAULTS)), 2)),
    ids=lambda at: f"{at}-{FAULTS[at][1][0]}",
)
def test_of_two_faults_the_first_in_the_order_of_the_spec_counts(earlier: int, later: int) -> None:
    inputs: dict[str, Any] = {
        "predictions": np.zeros((2, 14, 3, 4)),
        "truths": [[list(GOOD)], [list(GOOD), list(GOOD)]],
        "anchors": [[1, 1], [2, 1]],
        "classes": 2,
        "images_seen": 0,
        "tree": (-1, -1),
    }
    region_loss(**inputs, profile="yolo9000")
    for at in (later, earlier):  # an array that a fault makes smaller has no place left for a later one
        FAULTS[at][0](inputs)
    with pytest.raises(DomainError) as caught:
        region_loss(**inputs, profile="yolo9000")
    assert (caught.value.clause, caught.value.image, caught.value.truth) == FAULTS[earlier][1]
