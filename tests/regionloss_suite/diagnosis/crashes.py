"""Crashes are no clauses: on which kind of input a loss crashes, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from regionloss_spec import Batch
from regionloss_suite.judging.judge import Observation


@dataclass(frozen=True)
class CrashKind:
    """A kind of input on which a loss always crashes.

    Attributes:
        words: the kind.
        clause: id of the clause that asks for an answer there.
    """

    words: str
    clause: str


def _rows(batch: Batch) -> list[int]:
    return [len(rows) for rows in batch.truths]


#: Each kind in words, its clause, and whether a batch is of it; a special kind comes before those that contain it.
_KINDS: tuple[tuple[str, str, Callable[[Batch], bool]], ...] = (
    ("a batch without images", "domain.empty-batch", lambda batch: not batch.truths),
    ("a batch without truths", "truths.empty", lambda batch: not any(_rows(batch))),
    ("an image without truths", "truths.empty", lambda batch: not all(_rows(batch))),
    ("an image of more than 30 truths", "truths.capacity", lambda batch: max(_rows(batch), default=0) > 30),
    ("a grid that is not square", "domain.smallest", lambda batch: len(set(np.shape(batch.predictions)[2:])) > 1),
    ("a grid of one cell", "domain.smallest", lambda batch: np.prod(np.shape(batch.predictions)[2:]) == 1),
    ("one anchor", "domain.smallest", lambda batch: len(batch.anchors) == 1),
    ("one class", "class.one-class", lambda batch: batch.classes == 1),
    ("more than one image", "domain.smallest", lambda batch: len(batch.truths) > 1),
    ("any number of anchors but five", "domain.smallest", lambda batch: len(batch.anchors) != 5),
    (
        "a row with x = 0",
        "truths.terminator",
        lambda batch: any((np.asarray(rows)[:, 0] == 0).any() for rows in batch.truths if len(rows)),
    ),
)


def crash_kinds(observations: Sequence[Observation]) -> tuple[CrashKind, ...]:
    """The kinds of input on which a loss crashes: all inputs of each crash; the kind with most of them first."""
    crashed = {id(one.case): one.case.batch for one in observations if one.exchange.outcome == "crashed"}
    others = [one.case.batch for one in observations if one.exchange.outcome != "crashed"]
    whole = {
        CrashKind(words, clause): {case for case, batch in crashed.items() if is_of(batch)}
        for words, clause, is_of in _KINDS
        if not any(is_of(batch) for batch in others)
    }
    kinds: list[CrashKind] = []
    left = set(crashed)
    while left:
        best = max(whole, key=lambda kind: len(whole[kind] & left), default=None)
        if best is None or not whole[best] & left:
            break
        kinds.append(best)
        left -= whole.pop(best)
    return tuple(kinds)
