"""Whether two losses disagree on a batch, by more than the rounding of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regionloss.bounds import PRECISIONS, Bounds
from regionloss_adapters import Answer
from regionloss_spec import Batch
from regionloss_spec.batch import Array
from regionloss_suite.differential.subjects import Subject, ask, limits_of, reference_of
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.oracle.channels import channel_name

#: The rounding of a loss whose reference refuses the batch, in units in the last place.
_UNITS = 4096

#: The least specific symptoms.
SUMS = ("potential", "printed cost")

_BLOCKS = ("centre", "centre", "size", "size", "objectness")


@dataclass(frozen=True)
class Disagreement:
    """The first difference between two answers.

    Attributes:
        words: what it is and where.
        symptoms: everything that differs, coarsely: blocks of the gradient by state of the predictor, sums, indicators.
        crashed: whether one of the two crashed.
    """

    words: str
    symptoms: frozenset[str]
    crashed: bool = False


def disagreement(one: Subject, other: Subject, batch: Batch, dtype: str) -> Disagreement | None:
    """The difference between two losses on a batch; `None` if they agree, or if rounding may decide.

    A difference must exceed the bounds of both profiles together. A loss that does not support the batch disagrees
    with none; a loss that answers disagrees with one that refuses or crashes.
    """
    (limit, ambiguous), (other_limit, other_ambiguous) = (limits_of(subject, batch, dtype) for subject in (one, other))
    if ambiguous or other_ambiguous:
        return None
    first, second = ask(one, batch, dtype), ask(other, batch, dtype)
    if first.unanswerable or second.unanswerable:
        return None
    if first.answer is None or second.answer is None:
        return _one_sided(one, first, other, second)
    limits = (limit, other_limit)
    return _first(
        _gradients(one, batch, first.answer, second.answer, limits, dtype),
        *_numbers(first.answer, second.answer, limits, dtype),
        _indicators(first.answer, second.answer),
    )


def _one_sided(one: Subject, first: Exchange, other: Subject, second: Exchange) -> Disagreement | None:
    """The disagreement of a loss that answers with one that does not; `None` if neither does."""
    if first.answer is None and second.answer is None:
        return None
    (silent, exchange), answering = ((one, first), other) if first.answer is None else ((other, second), one)
    outcome, why = exchange.outcome, exchange.message.splitlines()[0] if exchange.message else ""
    words = f"{silent.name} {outcome}: {why}; {answering.name} answers"
    return Disagreement(words, frozenset({outcome}), outcome == "crashed")


def _first(*candidates: Disagreement | None) -> Disagreement | None:
    """The first of several, with the symptoms of all of them."""
    present = [one for one in candidates if one is not None]
    if not present:
        return None
    return Disagreement(present[0].words, frozenset[str]().union(*(one.symptoms for one in present)))


def _gradients(
    one: Subject, batch: Batch, first: Answer, second: Answer, limits: tuple[Bounds | None, Bounds | None], dtype: str
) -> Disagreement | None:
    if first.gradient is None or second.gradient is None:
        return None
    a, b = (np.asarray(answer.gradient, dtype=np.float64) for answer in (first, second))
    if a.shape != b.shape:
        return Disagreement(f"gradients of shapes {list(a.shape)} and {list(b.shape)}", frozenset({"shape"}))
    allowed = sum(_allowed(None if bound is None else bound.gradient, max_of(a, b), dtype) for bound in limits)
    with np.errstate(invalid="ignore"):
        same = (np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return None
    n, _, height, width = a.shape
    by_anchor = (n, len(batch.anchors), -1, height, width)
    places = np.argwhere(np.moveaxis(~same.reshape(by_anchor), (3, 4), (1, 2)))  # image, row, column, anchor, channel
    image, row, column, anchor, channel = map(int, places[0])
    at = (image, anchor, channel, row, column)
    x, y = float(a.reshape(by_anchor)[at]), float(b.reshape(by_anchor)[at])
    name, place = channel_name(channel), f"image {image}, cell ({row}, {column}), anchor {anchor}"
    words = f"{name} gradient {x:.7g} against {y:.7g} · {place}"
    return Disagreement(words, frozenset(_symptoms(one, batch, places)))


def max_of(a: Array, b: Array) -> Array:
    """The larger magnitude of two answers, 0 if neither is a number."""
    largest: Array = np.maximum(np.nan_to_num(np.abs(a), posinf=0.0), np.nan_to_num(np.abs(b), posinf=0.0))
    return largest


def _symptoms(one: Subject, batch: Batch, places: Array) -> set[str]:
    result = reference_of(one, batch)
    symptoms = set()
    for image, row, column, anchor, channel in places.tolist():
        index = (image, anchor, row, column)
        state = ""
        if result is not None:
            decisions = result.decisions
            state = (
                "responsible"
                if decisions.responsible[index]
                else "no-object"
                if decisions.no_object[index]
                else "ignored"
            )
        symptoms.add(f"{_BLOCKS[channel] if channel < 5 else 'class'} {state}".strip())
    return symptoms


def _numbers(
    first: Answer, second: Answer, limits: tuple[Bounds | None, Bounds | None], dtype: str
) -> list[Disagreement | None]:
    """The terms before their sum, because they are more specific."""
    pairs: list[tuple[str, float, float, list[float | None]]] = []
    for name in sorted((first.terms or {}).keys() & (second.terms or {}).keys()):
        bound = [None if one is None else float(one.terms[name]) for one in limits]
        pairs.append((f"term {name}", (first.terms or {})[name], (second.terms or {})[name], bound))
    if first.potential is not None and second.potential is not None:
        bound = [None if one is None else float(one.potential) for one in limits]
        pairs.append(("potential", first.potential, second.potential, bound))
    if first.printed_cost is not None and second.printed_cost is not None:
        pairs.append(("printed cost", first.printed_cost, second.printed_cost, [None, None]))
    disagreements: list[Disagreement | None] = []
    for name, a, b, bound in pairs:
        size = max(abs(a), abs(b))
        allowed = sum(float(_allowed(one, np.asarray(size), dtype)) for one in bound)
        if not (abs(a - b) <= allowed or a == b or (np.isnan(a) and np.isnan(b))):
            disagreements.append(Disagreement(f"{name} {a:.7g} against {b:.7g}", frozenset({name})))
    return disagreements


def _allowed(bound: Any, size: Array, dtype: str) -> Any:
    return _UNITS * PRECISIONS[dtype].unit * size if bound is None else bound


def _indicators(first: Answer, second: Answer) -> Disagreement | None:
    for name in ("responsible", "ignored"):
        a, b = getattr(first, name), getattr(second, name)
        if a is not None and b is not None and set(a) != set(b):
            image, *_, anchor, row, column = min(set(a) ^ set(b))
            words = f"{name} of one alone · image {image}, cell ({row}, {column}), anchor {anchor}"
            return Disagreement(words, frozenset({name}))
    return None
