"""What a mistake of this folder is, and the adapter that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regionloss_adapters import Answer, Description, Question
from regionloss_suite.mutants.tools import Answering

EVERYTHING = ("gradient", "potential", "terms", "indicators")
TERMS = ("gradient", "potential", "terms")
BOTH = ("gradient", "potential")
SCALAR = ("potential",)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A loss that is right except for one mistake that the catalogue of mutants does not have.

    Attributes:
        id: readable name.
        kind: its module: `iou`, `memory`, `max-iou`, `everywhere`, `framework` or `term`.
        title: the mistake, one sentence.
        right: the clauses on which the blame is right; one who knows the spec names one of these first.
        family: further clauses that are acceptable, because they say the same of this mistake.
        profile: the shipped profile that the loss claims.
        answers: what it returns.
        dtype: the format in which it accepts predictions.
        shown: whether the golden cases show it when each is asked once.
        begin: makes the loss, which has no memory yet.
    """

    id: str
    kind: str
    title: str
    right: tuple[str, ...]
    family: tuple[str, ...] = ()
    profile: str = "darknet"
    answers: tuple[str, ...] = EVERYTHING
    dtype: str = "float64"
    shown: bool = True
    begin: Callable[[], Answering]

    def adapter(self) -> MistakenAdapter:
        """The loss as an adapter, without a memory of earlier calls."""
        return MistakenAdapter(self)


class MistakenAdapter:
    """A loss with a mistake; it returns only what the mistake declares."""

    def __init__(self, mistake: Mistake) -> None:
        self.mistake = mistake
        self._answer = mistake.begin()

    def describe(self) -> Description:
        """It claims one profile and does not promise to refuse anything."""
        mistake = self.mistake
        return Description(f"mistake {mistake.id}", (mistake.profile,), mistake.answers, (mistake.dtype,))

    def answer(self, question: Question) -> Answer:
        """The wrong answer."""
        said, answers = self._answer(question), self.mistake.answers
        return Answer(
            gradient=said.gradient if "gradient" in answers else None,
            potential=said.potential if "potential" in answers else None,
            terms=said.terms if "terms" in answers else None,
            responsible=said.responsible if "indicators" in answers else None,
            ignored=said.ignored if "indicators" in answers else None,
        )


def always(answer: Answering) -> Callable[[], Answering]:
    """A loss without a memory."""
    return lambda: answer
