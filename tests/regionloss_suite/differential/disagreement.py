"""Whether two losses disagree on a batch, by more than the rounding of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss.bounds import PRECISIONS, Bounds
from regionloss_adapters import Answer
from regionloss_spec import Batch
from regionloss_suite.differential.subjects import Said, Side, ask, limits_of, reference_of

Array = NDArray[Any]

#: For a side whose reference refuses the batch, rounding is taken to be so many units of the last place.
_UNITS = 4096

#: Signs that say least.
SUMS = ("potential", "printed cost")

_CHANNELS = ("tx", "ty", "tw", "th", "to")
_BLOCKS = ("centre", "centre", "size", "size", "objectness")


@dataclass(frozen=True)
class Disagreement:
    """The first difference between two answers.

    Attributes:
        words: what it is and where.
        signs: everything that differs, roughly: blocks of the gradient by the state of the predictor, sums, indicators.
        crashed: whether one of the two broke.
    """

    words: str
    signs: frozenset[str]
    crashed: bool = False


def disagreement(one: Side, other: Side, batch: Batch, dtype: str) -> Disagreement | None:
    """The difference between two losses on a batch; `None` where there is none, or where rounding may decide.

    What differs must differ by more than the bounds of both profiles together. One that cannot be asked the batch
    disagrees with nobody; one that answers disagrees with one that refuses or breaks.
    """
    (mine, my_edge), (its, its_edge) = (limits_of(side, batch, dtype) for side in (one, other))
    if my_edge or its_edge:
        return None
    said, heard = ask(one, batch, dtype), ask(other, batch, dtype)
    if "cannot" in (said.kind, heard.kind):
        return None
    if said.answer is None or heard.answer is None:
        return _silence(one, said, other, heard)
    return _first(
        _gradients(one, batch, said.answer, heard.answer, (mine, its), dtype),
        *_numbers(said.answer, heard.answer, (mine, its), dtype),
        _indicators(said.answer, heard.answer),
    )


def _silence(one: Side, said: Said, other: Side, heard: Said) -> Disagreement | None:
    if said.answer is None and heard.answer is None:
        return None
    (quiet, why), speaks = ((one, said), other) if said.answer is None else ((other, heard), one)
    words = f"{quiet.name} {why.kind}: {why.words.splitlines()[0] if why.words else ''}; {speaks.name} answers"
    return Disagreement(words, frozenset({f"{why.kind}"}), why.kind == "crashed")


def _first(*found: Disagreement | None) -> Disagreement | None:
    """The first of several, with the signs of all."""
    there = [one for one in found if one is not None]
    if not there:
        return None
    return Disagreement(there[0].words, frozenset[str]().union(*(one.signs for one in there)))


def _gradients(
    one: Side, batch: Batch, said: Answer, heard: Answer, limits: tuple[Bounds | None, Bounds | None], dtype: str
) -> Disagreement | None:
    if said.gradient is None or heard.gradient is None:
        return None
    a, b = (np.asarray(answer.gradient, dtype=np.float64) for answer in (said, heard))
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
    name = _CHANNELS[channel] if channel < 5 else f"class {channel - 5}"
    x, y = float(a.reshape(by_anchor)[at]), float(b.reshape(by_anchor)[at])
    words = f"{name} gradient {x:.7g} against {y:.7g} · image {image}, cell ({row}, {column}), anchor {anchor}"
    return Disagreement(words, frozenset(_signs(one, batch, places)))


def max_of(a: Array, b: Array) -> Array:
    """The larger magnitude of two answers, 0 where neither is a number."""
    largest: Array = np.maximum(np.nan_to_num(np.abs(a), posinf=0.0), np.nan_to_num(np.abs(b), posinf=0.0))
    return largest


def _signs(one: Side, batch: Batch, places: Array) -> set[str]:
    result = reference_of(one, batch)
    signs = set()
    for image, row, column, anchor, channel in places.tolist():
        who = (image, anchor, row, column)
        state = ""
        if result is not None:
            decisions = result.decisions
            state = (
                "responsible" if decisions.responsible[who] else "no-object" if decisions.no_object[who] else "ignored"
            )
        signs.add(f"{_BLOCKS[channel] if channel < 5 else 'class'} {state}".strip())
    return signs


def _numbers(
    said: Answer, heard: Answer, limits: tuple[Bounds | None, Bounds | None], dtype: str
) -> list[Disagreement | None]:
    """The terms before their sum: they say more."""
    pairs: list[tuple[str, float, float, list[float | None]]] = []
    for name in sorted((said.terms or {}).keys() & (heard.terms or {}).keys()):
        bound = [None if one is None else float(one.terms[name]) for one in limits]
        pairs.append((f"term {name}", (said.terms or {})[name], (heard.terms or {})[name], bound))
    if said.potential is not None and heard.potential is not None:
        bound = [None if one is None else float(one.potential) for one in limits]
        pairs.append(("potential", said.potential, heard.potential, bound))
    if said.printed_cost is not None and heard.printed_cost is not None:
        pairs.append(("printed cost", said.printed_cost, heard.printed_cost, [None, None]))
    found: list[Disagreement | None] = []
    for name, a, b, bound in pairs:
        size = max(abs(a), abs(b))
        allowed = sum(float(_allowed(one, np.asarray(size), dtype)) for one in bound)
        if not (abs(a - b) <= allowed or a == b or (np.isnan(a) and np.isnan(b))):
            found.append(Disagreement(f"{name} {a:.7g} against {b:.7g}", frozenset({name})))
    return found


def _allowed(bound: Any, size: Array, dtype: str) -> Any:
    return _UNITS * PRECISIONS[dtype].unit * size if bound is None else bound


def _indicators(said: Answer, heard: Answer) -> Disagreement | None:
    for name in ("responsible", "ignored"):
        a, b = getattr(said, name), getattr(heard, name)
        if a is not None and b is not None and set(a) != set(b):
            image, *_, anchor, row, column = min(set(a) ^ set(b))
            words = f"{name} of one alone · image {image}, cell ({row}, {column}), anchor {anchor}"
            return Disagreement(words, frozenset({name}))
    return None
