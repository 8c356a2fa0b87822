"""The timed candidates: adapters by name, and the comparators of the project, which are adapters too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regionloss_adapters import Adapter, AdapterError, Question, Timeable, Timed, load_adapter

#: The comparators, by the names in the reports, with the places where they are defined.
COMPARATORS = {
    "materialised": "regionloss_suite.bench.torch_materialised:materialised",
    "materialised-compiled": "regionloss_suite.bench.torch_materialised:materialised_compiled",
    "python-loop": "regionloss_suite.bench.torch_loop:python_loop",
}

#: The losses that ratios refer to; the first one available is used.
BASES = ("materialised", "torch-eager", "python-loop", "materialised-compiled")

#: Candidates that compile again for every shape.
COMPILING = ("materialised-compiled",)


@dataclass(frozen=True)
class Candidate:
    """One timed loss, under the name given by the user."""

    name: str
    adapter: Adapter

    @property
    def compiles(self) -> bool:
        """Whether compiling for a new shape takes seconds."""
        return self.name in COMPILING

    def prepare(self, question: Question, *, slots: int, channels_last: bool) -> tuple[Timed, bool]:
        """The steps of the loss, and whether its conversions are timed with them.

        Raises:
            CannotAnswerError: the loss does not support this setting.
        """
        if isinstance(self.adapter, Timeable):
            return self.adapter.prepare(question, slots=slots, channels_last=channels_last), False

        def whole(_: Any = None) -> Any:
            return self.adapter.answer(question)

        return Timed(forward=lambda: None, backward=whole, no_grad=lambda: None, answer=whole), True


def candidate(name: str) -> Candidate:
    """A comparator, or an adapter as `regionloss check` accepts it. Raises `AdapterError` if there is none."""
    try:
        return Candidate(name, load_adapter(COMPARATORS.get(name, name)))
    except AdapterError as error:
        if name in COMPARATORS or ":" in name:
            raise
        raise AdapterError(f"{error}; the benchmarks also know {', '.join(COMPARATORS)}") from error
