"""What a benchmark asks of an adapter beyond an answer: the steps of its loss, apart from what converts a batch.

`Adapter.answer` turns arrays into what a loss takes, and its gradient back into arrays. That is no work of the loss,
and for a fast one it would be most of the time. An adapter that has `prepare` is timed without it; of one that has
not, the whole answer is timed, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from regionloss_adapters.protocol import Answer, Question


@dataclass(frozen=True, eq=False, kw_only=True)
class Timed:
    """A loss that holds one batch in its own form, in steps that convert nothing.

    On a device that works on its own, the steps need not wait for it: whoever times them does.

    Attributes:
        forward: gives the scalar, ready for `backward`.
        backward: takes what `forward` gave, once, and gives the gradient with respect to the predictions.
        no_grad: gives the scalar alone, and keeps nothing for a gradient.
        answer: takes both steps once more and says what came of them, as `Adapter.answer` would.
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
            question: the batch, as `Adapter.answer` takes it.
            slots: how many rows the truths of each image are padded to, for a loss that takes them padded to any
                number; as many as the fullest image needs if left out.
            channels_last: whether the predictions lie in memory with the channels innermost.

        Raises:
            CannotAnswerError: this implementation cannot be asked this.
        """
        ...
