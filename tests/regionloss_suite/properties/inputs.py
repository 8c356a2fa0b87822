"""How a loss treats its input (spec chapters 2 and 12)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response


def _copy(batch: Batch) -> Batch:
    """A batch with writable copies of the same arrays."""
    return dataclasses.replace(
        batch,
        predictions=batch.predictions.copy(),
        truths=tuple(rows.copy() for rows in batch.truths),
        anchors=batch.anchors.copy(),
    )


def _arrays(batch: Batch) -> dict[str, Array]:
    lists = {f"truths of image {image}": rows for image, rows in enumerate(batch.truths)}
    return {"predictions": batch.predictions, "anchors": batch.anchors, **lists}


def _same_bits(one: Response, other: Response) -> None:
    """Raise `DeviationError` unless two answers are bitwise equal."""
    if one.returned.gradient is not None and other.returned.gradient is not None:
        other.hold("gradient", other.gradient, one.gradient, np.zeros(1))
    numbers = {"potential": (one.returned.potential, other.returned.potential)}
    for name, value in (one.returned.terms or {}).items():
        numbers[f"term {name}"] = (value, (other.returned.terms or {}).get(name))
    for name, (first, second) in numbers.items():
        if first is not None and second is not None and first != second:
            raise other.deviation(name, second, first, 0.0)
    for name in ("responsible", "ignored"):
        if getattr(one.returned, name) != getattr(other.returned, name):
            raise other.deviation(name, str(getattr(other.returned, name)), str(getattr(one.returned, name)))


@pins("numerics.repeatability")
def the_inputs_are_left_as_they_are(harness: PropertyHarness, data: st.DataObject) -> None:
    """The loss does not write to its input arrays."""
    batch = harness.draw(data)
    given = _copy(batch)
    response = harness.ask(given)
    for name, before in _arrays(batch).items():
        if not np.array_equal(before, _arrays(given)[name]):
            raise response.deviation(name, "changed", "unchanged")


@pins("numerics.repeatability", every_format=True)
def the_same_question_has_the_same_answer(harness: PropertyHarness, data: st.DataObject) -> None:
    """Bitwise equal, with another question in between."""
    batch = harness.draw(data)
    one = harness.ask(_copy(batch))
    harness.ask(harness.draw(data))
    _same_bits(one, harness.ask(_copy(batch)))


@pins("notation.channel-order")
def how_the_inputs_lie_in_memory_means_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Channels last, reversed, and every second element of a larger array, all of them read-only."""
    batch = harness.draw(data)
    other = _copy(batch)
    lie = data.draw(st.sampled_from(("channels last", "columns first", "turned", "strided")))
    p = batch.predictions
    predictions = {
        "channels last": np.ascontiguousarray(np.moveaxis(p, 1, 3)).transpose(0, 3, 1, 2),
        "columns first": np.asfortranarray(p),
        "turned": np.ascontiguousarray(p[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
        "strided": np.repeat(p, 2, axis=3)[:, :, :, ::2],
    }[lie]
    truths = tuple(np.asfortranarray(rows) for rows in other.truths)
    anchors = np.ascontiguousarray(other.anchors[:, ::-1])[:, ::-1]
    other = dataclasses.replace(other, predictions=predictions, truths=truths, anchors=anchors)
    for array in _arrays(other).values():
        array.flags.writeable = False
    harness.agree(harness.ask(batch), harness.ask(other))
