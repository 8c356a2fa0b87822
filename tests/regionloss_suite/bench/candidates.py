"""Who is timed: adapters by name, and the comparators of the project, which are adapters too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from regionloss_adapters import Adapter, AdapterError, Question, Timeable, Timed, load_adapter

#: The comparators, by the names that the reports show, and where they are.
COMPARATORS = {
    "materialised": "regionloss_suite.bench.torch_materialised:materialised",
    "materialised-compiled": "regionloss_suite.bench.torch_materialised:materialised_compiled",
    "python-loop": "regionloss_suite.bench.torch_loop:python_loop",
}

#: The losses that others are held against, the first that is there first of all.
BASES = ("materialised", "torch-eager", "python-loop", "materialised-compiled")

#: Contenders that compile anew for every shape.
COMPILING = ("materialised-compiled",)


@dataclass(frozen=True)
class Candidate:
    """One loss that is timed, by the name that it was asked for by."""

    name: str
    adapter: Adapter

    @property
    def compiles(self) -> bool:
        """Whether every new shape costs seconds."""
        return self.name in COMPILING

    def prepare(self, question: Question, *, slots: int, channels_last: bool) -> tuple[Timed, bool]:
        """The loss in steps, and whether its conversions are timed with it.

        Raises:
            CannotAnswerError: it cannot be asked this.
        """
        if isinstance(self.adapter, Timeable):
            return self.adapter.prepare(question, slots=slots, channels_last=channels_last), False

        def whole(_: Any = None) -> Any:
            return self.adapter.answer(question)

        return Timed(forward=lambda: None, backward=whole, no_grad=lambda: None, answer=whole), True


def candidate(name: str) -> Candidate:
    """A comparator, or an adapter as `regionloss check` takes it. Raises `AdapterError` where there is none."""
    try:
        return Candidate(name, load_adapter(COMPARATORS.get(name, name)))
    except AdapterError as error:
        if name in COMPARATORS or ":" in name:
            raise
        raise AdapterError(f"{error}; the benchmarks also know {', '.join(COMPARATORS)}") from error
