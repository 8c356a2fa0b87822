"""The inputs and the result of a wrapped loss, for arrays of any framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regionloss_adapters.protocol import Question
from regionloss_spec.batch import Array

#: A loss for the helpers, called with predictions, truths and the question.
Loss = Callable[[Any, Any, Question], Any]


class MutatedInputError(RuntimeError):
    """The loss changed its predictions or its truths in place."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a loss: its scalar, its terms by name, its derivatives in the layout of the port."""

    gradient: Array | None = None
    scalar: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    curvature: Array | None = None


#: Passes predictions (float64, exact in the question's format unless activated) and truths to a loss.
Ask = Callable[[Loss, Array, Any, Question], Outcome]


def scalar_and_terms(returned: Any) -> tuple[Any, dict[str, Any]]:
    """The scalar and the terms from the result of a differentiable loss: a scalar, terms by name, or both."""
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned[0], dict(returned[1])
    if isinstance(returned, Mapping):
        return sum(returned.values()), dict(returned)
    return returned, {}


def for_each_array(function: Callable[[Array], Any], truths: Any) -> Any:
    """The same lists, tuples and dicts with a function applied to each array."""
    if isinstance(truths, Mapping):
        return {name: for_each_array(function, value) for name, value in truths.items()}
    if isinstance(truths, (list, tuple)):
        return type(truths)(for_each_array(function, value) for value in truths)
    return function(truths) if isinstance(truths, np.ndarray) else truths


def check_unchanged(what: str, before: Any, after: Any) -> None:
    """Compare the inputs of a loss before and after the call; arrays, or lists, tuples and dicts of arrays.

    Raises:
        MutatedInputError: they differ; the message names the first place.
    """
    if isinstance(before, (Mapping, list, tuple)):
        keys = list(before) if isinstance(before, Mapping) else range(len(before))
        if len(before) != len(after) or (isinstance(before, Mapping) and set(before) != set(after)):
            raise MutatedInputError(f"the loss changed its {what} in place: {len(before)} parts are {len(after)} now")
        for key in keys:
            check_unchanged(f"{what}[{key!r}]", before[key], after[key])
    elif isinstance(before, np.ndarray):
        if before.shape != after.shape:
            raise MutatedInputError(
                f"the loss changed its {what} in place: shape {list(before.shape)} is {list(after.shape)} now"
            )
        changed = np.argwhere((before != after) & ~(np.isnan(before) & np.isnan(after)))
        if len(changed):
            place = tuple(changed[0])
            raise MutatedInputError(
                f"the loss changed its {what} in place: at {[int(p) for p in place]}, "
                f"{float(before[place])!r} is {float(after[place])!r} now"
            )
