"""The batches that a port declares not to accept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from regionloss_adapters import CannotAnswerError, Limits, Question, from_numpy
from regionloss_spec import Batch, load_profile


def batch(
    *, anchors: int = 2, truths: tuple[int, ...] = (1,), classes: int = 2, grid: tuple[int, int] = (2, 3)
) -> Batch:
    rows = tuple(np.tile([0.5, 0.5, 0.25, 0.25, 0], (count, 1)) for count in truths)
    predictions = np.zeros((len(truths), anchors * (5 + classes), *grid))
    return Batch(predictions, rows, np.ones((anchors, 2)), classes, images_seen=0)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "reason"),
    [
        (Limits(anchors=5), batch(anchors=5), batch(anchors=4), "exactly 5 anchors; this batch has 4"),
        (Limits(truths=3), batch(truths=(3, 0)), batch(truths=(0, 4)), "at most 3 truths an image; image 1 has 4"),
        (Limits(classes=2), batch(classes=2), batch(classes=1), "at least 2 classes; this batch has 1"),
        (Limits(square=True), batch(grid=(3, 3)), batch(grid=(3, 2)), "square grids only; this one has 3 × 2 cells"),
        (Limits(empty=False), batch(truths=(1, 1)), batch(truths=(1, 0)), "no image without truths, such as image 1"),
        (Limits(images=1), batch(), batch(truths=()), "at least 1 image; this batch has 0"),
    ],
)
def test_a_limit_names_what_is_beyond_it(limits: Limits, inside: Batch, outside: Batch, reason: str) -> None:
    assert limits.beyond(inside) == ""
    assert reason in limits.beyond(outside)
    assert Limits().beyond(outside) == ""


def test_a_batch_beyond_the_limits_is_not_put_to_the_loss() -> None:
    def never(predictions: object, truths: object, question: Question) -> float:
        raise AssertionError("it was asked")

    adapter = from_numpy(never, name="limited", answers=("potential",), limits=Limits(anchors=5))
    with pytest.raises(CannotAnswerError, match="exactly 5 anchors; this batch has 2"):
        adapter.answer(Question(batch=batch(), profile=load_profile("darknet")))


@pytest.mark.parametrize("name", ["anchors", "truths", "classes", "images"])
def test_a_limit_is_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1, expected 0 or more"):
        dataclasses.replace(Limits(), **{name: -1})  # type: ignore[arg-type]
