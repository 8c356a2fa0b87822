"""How a loss treats its input (spec chapters 2 and 12)."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from regionloss_suite.judging.exchange import copied, written_to
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import Response


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
    given = copied(batch)
    response = harness.ask(given)
    if written := written_to(batch, given):
        raise response.deviation(written, "changed", "unchanged")


@pins("numerics.repeatability", every_format=True)
def the_same_question_has_the_same_answer(harness: PropertyHarness, data: st.DataObject) -> None:
    """Bitwise equal, with another question in between."""
    batch = harness.draw(data)
    one = harness.ask(copied(batch))
    harness.ask(harness.draw(data))
    _same_bits(one, harness.ask(copied(batch)))


@pins("notation.channel-order")
def how_the_inputs_lie_in_memory_means_nothing(harness: PropertyHarness, data: st.DataObject) -> None:
    """Channels last, reversed, and every second element of a larger array, all of them read-only."""
    batch = harness.draw(data)
    other = copied(batch)
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
    for array in (predictions, anchors, *truths):
        array.flags.writeable = False
    harness.agree(harness.ask(batch), harness.ask(other))
