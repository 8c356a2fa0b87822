"""The timing interface of an adapter: the steps of its loss, without the conversion of a batch.

`Adapter.answer` converts arrays to the inputs of a loss, and its gradient back to arrays. That is not part of the loss,
and for a fast loss it would take most of the time. An adapter with `prepare` is timed without it; otherwise the whole
answer is timed, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from regionloss_adapters.protocol import Answer, Question


@dataclass(frozen=True, eq=False, kw_only=True)
class Timed:
    """A loss with one batch in its own form, in steps without conversions.

    On an asynchronous device, the steps need not synchronise; the caller does.

    Attributes:
        forward: returns the scalar, ready for `backward`.
        backward: takes the result of `forward`, once, and returns the gradient with respect to the predictions.
        no_grad: returns the scalar alone, and keeps nothing for a gradient.
        answer: runs both steps once more and returns their result as `Adapter.answer` would.
    """

    forward: Callable[[], Any]
    backward: Callable[[Any], Any]
    no_grad: Callable[[], Any]
    answer: Callable[[], Answer]

    def both(self) -> Any:
        """The gradient, by `forward` and `backward`."""
        return self.backward(self.forward())


@runtime_checkable
class Timeable(Protocol):
    """An adapter whose loss can be timed step by step."""

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        """Convert a batch once.

        Args:
            question: the batch, as for `Adapter.answer`.
            slots: number of rows to which the truths of each image are padded, for a loss that accepts any number; by
                default as many as the fullest image needs.
            channels_last: whether the channels of the predictions are innermost in memory.

        Raises:
            CannotAnswerError: the implementation does not support the question.
        """
        ...
