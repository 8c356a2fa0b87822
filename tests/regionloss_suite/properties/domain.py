"""The domain: input outside it is refused, and nothing is repaired (spec chapters 11 and 13)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss import DomainError, evaluate
from regionloss_spec import Batch, Profile
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.lists import ROW, draw_image, with_rows
from regionloss_suite.properties.property import Function
from regionloss_suite.properties.registry import always, pins
from regionloss_suite.properties.response import DeviationError

_NAN, _INF = float("nan"), float("inf")

Fault = Callable[[st.DataObject, Batch], Batch]


def _in_predictions(data: st.DataObject, batch: Batch) -> Batch:
    predictions = batch.predictions.copy()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in predictions.shape)
    predictions[place] = data.draw(st.sampled_from((_NAN, _INF, -_INF)))
    return dataclasses.replace(batch, predictions=predictions)


def _in_channels(data: st.DataObject, batch: Batch) -> Batch:
    predictions = batch.predictions
    return data.draw(
        st.sampled_from(
            (
                dataclasses.replace(batch, predictions=predictions[:, :-1]),
                dataclasses.replace(batch, predictions=np.concatenate([predictions, predictions[:, :1]], axis=1)),
                dataclasses.replace(batch, classes=batch.classes + 1),
            )
        )
    )


def _in_rank(data: st.DataObject, batch: Batch) -> Batch:
    predictions = batch.predictions
    other = (predictions[0], predictions[None], predictions[:, :, :0], predictions[:, :, :, :0])
    return dataclasses.replace(batch, predictions=data.draw(st.sampled_from(other)))


def _in_lists(data: st.DataObject, batch: Batch) -> Batch:
    truths, rows = batch.truths, np.array([ROW])
    other = (truths[:-1], (*truths, rows), (rows[:, :4], *truths[1:]), (np.hstack([rows, rows[:, :1]]), *truths[1:]))
    return dataclasses.replace(batch, truths=data.draw(st.sampled_from(other)))


def _in_truth(columns: tuple[int, ...], *values: float) -> Fault:
    def fault(data: st.DataObject, batch: Batch) -> Batch:
        image = draw_image(data, batch)
        rows = batch.truths[image] if len(batch.truths[image]) else np.array([ROW])
        rows = rows.copy()
        rows[data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(columns))] = data.draw(
            st.sampled_from(values)
        )
        return with_rows(batch, image, rows)

    return fault


def _in_class(data: st.DataObject, batch: Batch) -> Batch:
    return _in_truth((4,), -1.0, float(batch.classes), 0.5, 1e9)(data, batch)


def _in_anchors(data: st.DataObject, batch: Batch) -> Batch:
    anchors = batch.anchors.copy()
    anchors[data.draw(st.integers(0, len(anchors) - 1)), data.draw(st.integers(0, 1))] = data.draw(
        st.sampled_from((0.0, -1.0, _NAN, _INF))
    )
    return dataclasses.replace(batch, anchors=anchors)


def _in_images_seen(data: st.DataObject, batch: Batch) -> Batch:
    return dataclasses.replace(batch, images_seen=data.draw(st.sampled_from((-1, -64))))


def _in_tree(data: st.DataObject, batch: Batch) -> Batch:
    tree = batch.tree or ()
    wrong: tuple[Any, ...] = (None, tree[:-1], (*tree, 0), (0, *tree[1:]), (-2, *tree[1:]), (*tree[:-1], len(tree) - 1))
    return dataclasses.replace(batch, tree=data.draw(st.sampled_from(wrong)))


_centre = _in_truth((0, 1), 1.0, 1.0000001192092896, -0.25, -1e-30, 1.5, 416.0)
_size = _in_truth((2, 3), 0.0, -0.25, 1.0000001192092896, 2.0, 32.0)

#: Each fault in words: the clause that refuses it, how to produce it, and the profiles to which it applies.
_FAULTS: dict[str, tuple[str, Fault, Callable[[Profile], bool]]] = {
    "a prediction that is not finite": ("domain.predictions-finite", _in_predictions, always),
    "a number of channels that does not fit": ("domain.channels", _in_channels, lambda p: p.class_term != "tree"),
    "an array of predictions of another rank": ("domain.ranks", _in_rank, always),
    "a list of truths too many or of another width": ("domain.ranks", _in_lists, always),
    "a truth that is not finite": ("domain.truths-finite", _in_truth((0, 1, 2, 3, 4), _NAN, _INF, -_INF), always),
    "a centre outside the image": ("domain.centre", _centre, always),
    "a size outside the domain": ("domain.size", _size, always),
    "a class that does not exist": ("domain.class", _in_class, always),
    "an anchor without a size": ("domain.anchors", _in_anchors, always),
    "a negative number of images seen": ("domain.images-seen", _in_images_seen, always),
    "a tree that is none": ("tree.groups", _in_tree, lambda profile: profile.class_term == "tree"),
}


def _refused(
    harness: PropertyHarness, data: st.DataObject, clause: str, fault: Fault
) -> tuple[Batch, DomainError, Exchange]:
    """Put a batch with a fault to the adapter: the batch, the reference's refusal, and the adapter's refusal.

    A fault in a row that is not read is no fault, so another one is drawn.
    """
    batch = fault(data, harness.draw(data, boxless=False))
    try:
        with np.errstate(all="ignore"):
            evaluate(batch, harness.profile)
    except DomainError as error:
        expected = error
    else:
        assume(False)
        raise AssertionError
    assume(expected.clause == clause)
    return batch, expected, harness.refusal(batch)


def _refuses(clause: str, fault: Fault) -> Function:
    def property_of_one_fault(harness: PropertyHarness, data: st.DataObject) -> None:
        """An error instead of a number; if it names a place, the place is right."""
        batch, expected, refusal = _refused(harness, data, clause, fault)
        for name in ("image", "truth"):
            got, place = getattr(refusal, name), getattr(expected, name)
            if got is not None and got != place:
                raise _elsewhere(harness, batch, f"{name} {got}", str(expected))

    return property_of_one_fault


def _elsewhere(harness: PropertyHarness, batch: Batch, got: str, expected: str) -> DeviationError:
    difference = Difference(case=harness.case, dtype=harness.dtype, quantity="error", got=got, expected=expected)
    return DeviationError(difference, batch, harness.profile)


for _words, (_clause, _fault, _when) in _FAULTS.items():
    _pinned = (_clause, "domain.no-repair") if _clause.startswith("domain.") else (_clause,)
    pins(*_pinned, name=f"{_words} is refused", needs=("errors",), when=_when, share=0.8)(_refuses(_clause, _fault))


@pins("domain.error-message", needs=("errors",), share=0.5)
def an_error_says_where_the_fault_lies(harness: PropertyHarness, data: st.DataObject) -> None:
    """The indices of image and truth, from the refusal's attributes or its message."""
    faults = (("domain.predictions-finite", _in_predictions), ("domain.centre", _centre), ("domain.size", _size))
    batch, expected, refusal = _refused(harness, data, *data.draw(st.sampled_from(faults)))
    for name in ("image", "truth"):
        place, got = getattr(expected, name), getattr(refusal, name)
        named = got == place if got is not None else re.search(rf"\b{place}\b", refusal.message)
        if place is not None and not named:
            raise _elsewhere(harness, batch, refusal.message or "no words", f"{name} {place}")
