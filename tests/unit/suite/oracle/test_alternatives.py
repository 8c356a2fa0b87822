"""Decisions that float32 cannot settle: both sides are accepted, and nothing else is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from regionloss import Result, evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters import Answer, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.batch import Array
from regionloss_suite.judging.exchange import drawn_case
from regionloss_suite.oracle.alternatives import OUTCOMES, other_answers, too_many, unsettled
from regionloss_suite.oracle.comparison import VIEWS, Comparison

DARKNET = load_profile("darknet")
TREE = load_profile("yolo9000")
NOTHING = np.zeros((0, 5))
LATE = 10**6
#: Less than float32 can tell of a number near ½, and far more than float64 needs.
HAIR = 2.0**-30


def grid(cells: tuple[int, int], anchors: int = 1, classes: int = 2, images: int = 1) -> Array:
    """Outputs of 0 everywhere, `[N, A, 5+C, H, W]`."""
    return np.zeros((images, anchors, 5 + classes, *cells))


def batch_of(t: Array, truths: Any, anchors: Any = ((1.0, 1.0),), tree: tuple[int, ...] | None = None) -> Batch:
    images, count, channels, height, width = t.shape
    tables = tuple(np.array(rows, dtype=np.float64).reshape(-1, 5) for rows in truths)
    return Batch(
        t.reshape(images, count * channels, height, width), tables, np.array(anchors), channels - 5, LATE, tree
    )


def answer(batch: Batch, profile: Profile) -> Answer:
    """What the reference answers."""
    return NumpyAdapter().answer(Question(batch=batch, profile=profile, dtype="float64"))


def departures(batch: Batch, profile: Profile, said: Answer, dtype: str = "float32") -> list[str]:
    """Where an answer departs, looked at from every side."""
    comparison = Comparison(drawn_case("edge", "edge", batch, profile), said, dtype)
    differences = (comparison.difference(view) for view in VIEWS)
    return [difference.quantity for difference in differences if difference is not None]


def kinds(batch: Batch, profile: Profile, dtype: str = "float32") -> tuple[str, ...]:
    result = evaluate(batch, profile)
    return unsettled(result, bounds(result, PRECISIONS[dtype]), PRECISIONS[dtype])


def two_images_at_the_threshold() -> tuple[Batch, Profile]:
    """In each image the second anchor overlaps the truth, which is the first one's, by a hair less than the threshold.

    Its outputs are a little off 0, so that nothing about its box is exact.
    """
    t = grid((1, 1), anchors=2, images=2)
    t[:, 1, 2] = 0.25
    batch = batch_of(t, [[[0.5, 0.5, 0.9, 0.9, 1.0]]] * 2, ((0.9, 0.9), (0.6, 0.9)))
    overlap = float(evaluate(batch, DARKNET).decisions.max_iou[0, 1, 0, 0])
    return batch, DARKNET.replace(thresh=overlap + HAIR)


def silenced(said: Answer, result: Result, images: tuple[int, ...]) -> Answer:
    """The answer with the second anchor of some images ignored, put together by hand."""
    gradient, value = np.array(said.gradient), result.terms["no_object"].value
    terms, cost = dict(said.terms or {}), said.printed_cost or 0.0
    for image in images:
        gradient[image, 7 + 4] = 0.0
        terms["no_object"] -= value[image, 1, 0, 0]
        cost -= result.delta[image, 1, 4, 0, 0] ** 2
    return dataclasses.replace(
        said,
        gradient=gradient,
        terms=terms,
        potential=sum(terms.values()),
        printed_cost=cost,
        ignored=tuple((image, 1, 0, 0) for image in images),
    )


@pytest.mark.parametrize("images", [(0,), (1,), (0, 1)])
def test_each_predictor_at_the_threshold_may_fall_on_either_side_of_it(images: tuple[int, ...]) -> None:
    batch, profile = two_images_at_the_threshold()
    right = answer(batch, profile)
    assert not right.ignored
    other = silenced(right, evaluate(batch, profile), images)
    assert kinds(batch, profile) == ("threshold", "threshold")
    assert departures(batch, profile, other) == []
    assert kinds(batch, profile, "float64") == ()
    assert "indicator" in departures(batch, profile, other, "float64")
    half = dataclasses.replace(other, gradient=(np.asarray(right.gradient) + np.asarray(other.gradient)) / 2)
    assert departures(batch, profile, half) == ["to gradient"]
    terms = dict(other.terms or {}, no_object=(other.terms or {})["no_object"] + 0.01)
    assert departures(batch, profile, dataclasses.replace(other, terms=terms)) == ["term no_object"]


def test_equality_of_exact_numbers_is_settled_and_of_others_is_not() -> None:
    t = grid((1, 1))
    exact = batch_of(t, [[[0.5, 0.5, 0.5, 1.0, 0.0]]])
    every = DARKNET.replace(thresh=0.5, no_object_applies="every-predictor")
    assert kinds(exact, every) == ()
    quiet = answer(exact, every.replace(ignore="at-or-above"))
    assert "to gradient" in departures(exact, every, quiet)
    t[0, 0, 2] = 0.25
    other = batch_of(t, [[[0.5, 0.5, 0.5, 1.0, 0.0]]])
    level = every.replace(thresh=float(evaluate(other, every).decisions.max_iou[0, 0, 0, 0]))
    assert kinds(other, level) == ("threshold",)
    assert departures(other, level, answer(other, level.replace(ignore="at-or-above"))) == []


def test_a_truth_beside_a_border_may_be_in_either_cell_and_give_its_predictor_back() -> None:
    t = grid((1, 4))
    rows = [[0.6, 0.5, 0.2, 0.5, 0.0], [0.5 + HAIR, 0.5, 0.2, 0.5, 1.0]]
    batch = batch_of(t, [rows])
    right = answer(batch, DARKNET)
    assert right.responsible == ((0, 1, 0, 0, 2),)
    beside = batch_of(t, [[rows[0], [0.5 - HAIR, *rows[1][1:]]]])
    moved = answer(beside, DARKNET)
    assert moved.responsible == ((0, 0, 0, 0, 2), (0, 1, 0, 0, 1))
    assert kinds(batch, DARKNET) == ("cell border",)
    assert departures(batch, DARKNET, moved) == []
    assert departures(beside, DARKNET, right) == []
    assert "indicator" in departures(batch, DARKNET, moved, "float64")
    # The first truth does not get it back: then nobody answers for it.
    lost = dataclasses.replace(moved, responsible=((0, 1, 0, 0, 1),))
    assert departures(batch, DARKNET, lost) == ["indicator"]


def test_a_border_that_float32_cannot_hold_is_no_border() -> None:
    """1/41 as float32 holds it lies before the border, as float64 holds it upon it."""
    batch = batch_of(grid((1, 41)), [[[1 / 41, 0.5, 0.01, 0.5, 0.0]]])
    assert answer(batch, DARKNET).responsible == ((0, 0, 0, 0, 1),)
    assert kinds(batch, DARKNET) == ("cell border",)
    assert kinds(batch, DARKNET, "float64") == ()
    assert kinds(batch_of(grid((1, 4)), [[[0.25, 0.5, 0.01, 0.5, 0.0]]]), DARKNET) == ()


def test_a_truth_that_two_anchors_fit_alike_may_choose_either() -> None:
    t = grid((1, 1), anchors=2)
    truth = [[[0.5, 0.5, 0.3, 0.3, 1.0]]]
    batch = batch_of(t, truth, ((0.5, 0.6), (0.6 - HAIR, 0.5)))
    assert answer(batch, DARKNET).responsible == ((0, 0, 1, 0, 0),)
    other = answer(batch_of(t, truth, ((0.5, 0.6), (0.6 + HAIR, 0.5))), DARKNET)
    assert other.responsible == ((0, 0, 0, 0, 0),)
    assert kinds(batch, DARKNET) == ("anchor",)
    assert departures(batch, DARKNET, other) == []
    assert "indicator" in departures(batch, DARKNET, other, "float64")


def test_where_no_predicted_box_surely_overlaps_the_first_anchor_may_be_chosen() -> None:
    profile = DARKNET.replace(anchor_choice="predicted-iou")
    t = grid((1, 2), anchors=2)
    t[0, 0, 2:4] = -5.0
    t[0, 1, 3] = 89.0  # an area of float32 that overflows with the anchor's
    truth = [[[0.4, 0.9, 0.05, 0.05, 1.0]]]
    batch = batch_of(t, truth, ((0.5, 0.5), (4.0, 4.0)))
    right = answer(batch, profile)
    assert right.responsible == ((0, 0, 1, 0, 0),)
    first = answer(batch, DARKNET.replace(anchor_choice="anchor-shape"))
    assert first.responsible == ((0, 0, 0, 0, 0),)
    assert departures(batch, profile, first) == []


def class_only(off: float, anchors: int = 1) -> Batch:
    """Two cells as sure of the class of an image without boxes, up to a little."""
    t = grid((1, 2), anchors=anchors, classes=3)
    t[:, :, 4] = 0.3
    t[0, 0, 4, 0, 1] += off
    t[0, 0, 5, 0, 1], t[0, 0, 6, 0, 1] = -0.25, -0.25
    return batch_of(t, [[[1e6, 1e6, 1.0, 1.0, 2.0]]], ((1.0, 1.0),) * anchors, (-1, -1, 0))


def test_an_image_without_boxes_may_be_paid_at_either_of_two_predictors_that_are_as_sure() -> None:
    batch, other = class_only(HAIR), class_only(-HAIR)
    chosen = [evaluate(one, TREE).decisions.matches[0].column for one in (batch, other)]
    assert chosen == [1, 0]
    assert kinds(batch, TREE) == ("class-only image",)
    assert departures(batch, TREE, answer(other, TREE)) == []
    assert departures(batch, TREE, answer(other, TREE), "float64") != []
    nobody = answer(batch, TREE)
    twice = dataclasses.replace(nobody, terms=dict(nobody.terms or {}, **{"class": 2 * (nobody.terms or {})["class"]}))
    assert departures(batch, TREE, twice) == ["term class"]


def test_equal_outputs_are_equally_sure_and_the_first_is_chosen() -> None:
    t = grid((1, 2), classes=2)
    t[:, :, 4] = 0.3
    batch = batch_of(t, [[[1e6, 1e6, 1.0, 1.0, 1.0]]], tree=(-1, -1))
    assert kinds(batch, TREE) == ()


@pytest.mark.parametrize("weight", ["full", "by-objectness"])
def test_an_ignored_predictor_may_pay_the_class_of_either_truth_that_it_overlaps_alike(weight: str) -> None:
    """A predictor between two truths of different classes, which belong to the cells beside it."""
    profile = DARKNET.replace(ignored_class=weight, thresh=0.1)
    t = grid((1, 4))
    t[0, 0, 2, 0, 1] = 1.0
    rows = [[0.225, 0.5, 0.25 + HAIR, 0.75, 0.0], [0.525, 0.5, 0.25, 0.75, 1.0]]
    swapped = [[*rows[0][:2], 0.25, 0.75, 0.0], [*rows[1][:2], 0.25 + HAIR, 0.75, 1.0]]
    batch, other = batch_of(t, [rows]), batch_of(t, [swapped])
    nearest = [int(evaluate(one, profile).decisions.best_truth[0, 0, 0, 1]) for one in (batch, other)]
    assert nearest == [0, 1]
    assert kinds(batch, profile) == ("nearest truth",)
    assert departures(batch, profile, answer(other, profile)) == []
    assert "class 0 gradient" in departures(batch, profile, answer(other, profile), "float64")


def on_the_truth() -> tuple[Batch, Profile]:
    """A box that is its truth, so that no edge says which of the two it is of."""
    t = grid((1, 1))
    t[0, 0, 4] = 0.5
    profile = DARKNET.replace(object_target_gradient="flows", coord_weight=0.0)
    return batch_of(t, [[[0.5, 0.5, 0.5, 0.25, 0.0]]], ((0.5, 0.25),)), profile


def test_at_a_kink_of_the_iou_any_slope_between_those_on_both_sides_is_accepted() -> None:
    batch, profile = on_the_truth()
    right = answer(batch, profile)
    # IoU is 0.125/0.125; growing w by dw adds 0.25·dw to the union alone, or if the truth is larger to the overlap.
    # So dIoU/dw is -2 or 2, dw/dtw is ½, and the residual of objectness is σ(½) - 1.
    once = 5.0 * (1 / (1 + np.exp(-0.5)) - 1)
    expected = np.asarray(right.gradient)[0, 2:4, 0, 0]
    assert expected == pytest.approx([once, once])
    assert kinds(batch, profile) == ("kink of the IoU",)
    for share in (-1.0, -0.4, 0.0, 0.5):
        gradient = np.array(right.gradient)
        gradient[0, 2] *= share
        assert departures(batch, profile, dataclasses.replace(right, gradient=gradient)) == []
    for share in (-1.01, 1.01):
        gradient = np.array(right.gradient)
        gradient[0, 2] *= share
        assert departures(batch, profile, dataclasses.replace(right, gradient=gradient)) == ["tw gradient"]


def test_without_flow_there_is_no_kink() -> None:
    batch, profile = on_the_truth()
    assert kinds(batch, profile.replace(object_target_gradient="constant")) == ()


def test_boxes_that_just_touch_may_move_the_iou_or_not() -> None:
    t = grid((1, 2))
    profile = DARKNET.replace(object_target_gradient="flows", coord_weight=0.0)
    # The box of the right cell ends where the truth, a little narrower or wider than touching, begins.
    t[0, 0, 2, 0, 1] = t[0, 0, 3, 0, 1] = 0.25
    left = 0.75 - 0.5 * np.exp(0.25) / 4
    apart, meeting = (
        batch_of(t, [[[0.5, 0.5, 2 * (left - 0.5) + off, 0.5, 0.0]]], ((0.5, 0.5),)) for off in (-HAIR, HAIR)
    )
    assert [evaluate(one, profile).decisions.matches[0].iou > 0 for one in (apart, meeting)] == [False, True]
    assert departures(apart, profile, answer(meeting, profile)) == []
    assert departures(meeting, profile, answer(apart, profile)) == []


def test_a_truth_with_an_iou_of_about_one_half_may_be_recalled_or_not() -> None:
    t = grid((1, 1), images=3)
    t[:, :, 2] = 0.25
    wide = float(np.exp(0.25)) / 4
    rows = [[[0.5, 0.5, wide, 0.5 * 0.5 + HAIR, 0.0]]] * 2 + [[[0.5, 0.5, wide, 0.5, 0.0]]]
    batch = batch_of(t, rows, ((0.25, 0.5),))
    right = answer(batch, DARKNET)
    assert (right.statistics or {})["avg_recall"] == 1.0
    for recall, accepted in ((1.0, True), (2 / 3, True), (1 / 3, True), (0.0, False), (0.5, False)):
        other = dataclasses.replace(right, statistics={**(right.statistics or {}), "avg_recall": recall})
        assert departures(batch, DARKNET, other) == ([] if accepted else ["statistics avg_recall"])
        single = departures(batch, DARKNET, other, "float64")
        assert single == ([] if recall == 1.0 else ["statistics avg_recall"])


def test_statistics_follow_the_side_that_a_decision_falls_on() -> None:
    t = grid((1, 4))
    t[0, 0, 4, 0, 1] = 2.0
    rows = [0.5, 0.5, 0.2, 0.5, 1.0]
    right, left = (batch_of(t, [[[rows[0] + off, *rows[1:]]]]) for off in (HAIR, -HAIR))
    assert (answer(left, DARKNET).statistics or {})["avg_obj"] > 0.8
    assert departures(right, DARKNET, answer(left, DARKNET)) == []
    mixed = {**(answer(left, DARKNET).statistics or {}), "avg_iou": 0.123}
    assert departures(right, DARKNET, dataclasses.replace(answer(left, DARKNET), statistics=mixed)) == [
        "statistics avg_iou"
    ]


def test_every_combination_of_a_few_decisions_is_tried_and_of_many_it_is_said() -> None:
    def many(images: int) -> Batch:
        return batch_of(grid((1, 4), images=images), [[[0.5 + HAIR, 0.5, 0.2, 0.5, 1.0]]] * images)

    precision = PRECISIONS["float32"]
    for images, enough in ((3, True), (6, True), (7, False)):
        batch = many(images)
        result = evaluate(batch, DARKNET)
        limits = bounds(result, precision)
        assert too_many(result, limits, precision) is not enough
        assert len(other_answers(batch, result, limits, precision)) >= min(2**images - 1, OUTCOMES)
    batch = many(3)
    result = evaluate(batch, DARKNET)
    others = other_answers(batch, result, bounds(result, precision), precision)
    assert len({tuple(match.column for match in other.decisions.matches) for other in others}) == 7


def test_an_infinity_is_accepted_for_what_the_format_cannot_hold_and_for_nothing_else() -> None:
    profile = DARKNET.replace(size_space="decoded")
    t = grid((1, 1))
    t[0, 0, 2] = 60.0
    batch = batch_of(t, [[[0.5, 0.5, 0.5, 0.5, 1.0]]])
    right = answer(batch, profile)
    assert 3.5e38 < (right.potential or 0.0) < np.inf
    infinite = dict(right.terms or {}, coord=np.inf)
    gradient = np.array(right.gradient)
    gradient[gradient > 3.5e38] = np.inf
    over = dataclasses.replace(right, potential=np.inf, terms=infinite, gradient=gradient, printed_cost=np.inf)
    assert departures(batch, profile, over) == []
    assert departures(batch, profile, over, "float64") == ["tw gradient", "term coord", "potential"]
    under = dataclasses.replace(over, potential=-np.inf, terms=dict(infinite, object=np.inf))
    assert departures(batch, profile, under) == ["term object", "potential"]


def test_an_infinite_printed_cost_is_that_of_float32_and_its_exact_sum_is_right_too() -> None:
    t = grid((1, 1))
    t[0, 0, 2] = 2.0**68
    batch = batch_of(t, [[[0.5, 0.5, 0.5, 0.5, 1.0]]])
    right = answer(batch, DARKNET)
    assert right.printed_cost == np.inf
    exact = (1.75 * 2.0**68) ** 2  # 2 - w·h and the residual of tw, beside which all others vanish
    for dtype in ("float32", "float64"):
        assert departures(batch, DARKNET, right, dtype) == []
        assert departures(batch, DARKNET, dataclasses.replace(right, printed_cost=exact), dtype) == []
        wrong = dataclasses.replace(right, printed_cost=1.01 * exact)
        assert departures(batch, DARKNET, wrong, dtype) == ["printed cost"]
