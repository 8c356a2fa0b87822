"""The images of a batch, and how their losses combine (spec chapters 5, 10 and 11)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec import Batch
from regionloss_spec.clause import TERMS
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.oracle.comparison import VIEWS
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response

_TOTALS = tuple(view for view in VIEWS if view.answer == "potential" or view.term == "no_object")


def chosen(batch: Batch, images: list[int]) -> Batch:
    """Selected images of a batch, in a given order."""
    return dataclasses.replace(
        batch, predictions=batch.predictions[images], truths=tuple(batch.truths[image] for image in images)
    )


@pins("notation.predictor", "noobj.same-image")
def the_order_of_the_images_changes_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Images are permuted, and their gradients with them."""
    batch = harness.draw(data, images=(2, 3))
    order = data.draw(st.permutations(range(len(batch.truths))))
    one, other = harness.ask(batch), harness.ask(chosen(batch, order))
    harness.agree(one, other, carry=lambda array: array[order])


@pins("noobj.same-image", "scale.sum", "scale.per-image", "notation.predictor")
def a_batch_is_the_sum_of_its_images(harness: PropertyHarness, data: st.DataObject) -> None:
    """Each image alone has the same gradient as in the batch, and their losses add up to that of the batch."""
    batch = harness.draw(data, images=(2, 3))
    whole = harness.ask(batch)
    parts = [harness.ask(chosen(batch, [image])) for image in range(len(batch.truths))]
    # Under a mean, each image alone has the weight of the whole batch.
    scale = 1.0 if harness.profile.reduction == "sum" else 1.0 / len(parts)
    assume(not whole.edges and not any(part.edges for part in parts))
    if whole.answer.gradient is not None:
        together = np.concatenate([part.gradient for part in parts]) * scale
        bound = np.concatenate([part.gradient_bound for part in parts]) * scale + whole.gradient_bound
        whole.hold("gradient", whole.gradient, together, bound + harness.rounding(whole.gradient, together))
    for name in ("potential", *TERMS):
        numbers = [_number(part, name) for part in parts]
        wanted = _number(whole, name)
        if wanted is None or any(number is None for number in numbers):
            continue
        limit = _limit(whole, name) + scale * sum(_limit(part, name) for part in parts)
        total = scale * sum(number or 0.0 for number in numbers)
        whole.hold_number(name, wanted, total, limit + harness.rounding_of_sum(whole, wanted, total))


@pins("domain.empty-batch", share=0.2)
def a_batch_without_images_is_answered(harness: PropertyHarness, data: st.DataObject) -> None:
    """The loss is 0 and the gradient empty."""
    harness.ask(chosen(harness.draw(data, images=(1, 1)), [])).conforms()


@pins("domain.smallest", "class.one-class")
def the_smallest_grid_is_computed_like_any_other(harness: PropertyHarness, data: st.DataObject) -> None:
    """One cell, one anchor, one class."""
    batch = harness.draw(data, images=(1, 2))
    truths = []
    for rows in batch.truths:
        boxes = rows[rows[:, 0] <= 1].copy()
        boxes[:, 4] = 0
        truths.append(boxes)
    tree = None if batch.tree is None else (-1,)
    harness.ask(
        dataclasses.replace(
            batch,
            predictions=batch.predictions[:, :6, :1, :1],
            truths=tuple(truths),
            anchors=batch.anchors[:1],
            classes=1,
            tree=tree,
        )
    ).conforms()


@pins("numerics.accumulation", needs=("potential",), every_format=True, share=0.2)
def a_sum_of_many_small_terms_does_not_stop_growing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Thousands of predictors in an empty image: a running sum in a half format would stop growing.

    Often all of them are equal, so that rounding errors do not cancel in a sequential sum.
    """
    cells = data.draw(st.sampled_from((48, 64)))
    t = np.zeros((1, 6, cells, cells))
    values = np.random.default_rng(data.draw(st.integers(0, 2**16))).normal(size=(cells, cells))
    t[:, 4] = values[0, 0] if data.draw(st.booleans()) else values
    empty, tree = (np.zeros((0, 5)),), (-1,) if harness.profile.class_term == "tree" else None
    limit = 10 * harness.profile.prior_until
    harness.ask(Batch(quantised(t, harness.dtype), empty, np.ones((1, 2)), 1, limit, tree)).conforms(_TOTALS)


def _number(response: Response, name: str) -> float | None:
    if name == "potential":
        return response.answer.potential
    return None if response.answer.terms is None else response.answer.terms.get(name)


def _limit(response: Response, name: str) -> float:
    return response.bounds.potential if name == "potential" else response.bounds.terms[name]
