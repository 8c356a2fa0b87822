"""What a mutant is, and how one is made: by another profile, by a patched piece of the reference, or by its answer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.protocol import ANSWERS


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A loss that is right except for one mistake.

    Attributes:
        id: readable name, such as `iou-plus-one`.
        clause: the clause that it breaks; all other deviations follow from that.
        title: the mistake, one sentence.
        after: a real example of the mistake, such as a repository with an issue or a port, or an empty string.
        profile: the shipped profile that it claims and under which it is caught.
        options: axes of that profile that are changed while it is judged.
        dtype: the format in which it accepts predictions.
        answer: answers a question wrongly, under any profile to which the mistake applies.
    """

    id: str
    clause: str
    title: str
    after: str = ""
    profile: str = "darknet"
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float64"
    answer: Callable[[Question], Answer]


class MutantAdapter:
    """A mutant as an adapter that returns everything."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def describe(self) -> Description:
        """It claims the profile of which it is a mutant."""
        return Description(f"mutant {self.mutant.id}", (self.mutant.profile,), ANSWERS, (self.mutant.dtype,))

    def answer(self, question: Question) -> Answer:
        """The wrong answer."""
        return self.mutant.answer(question)


def right(question: Question) -> Answer:
    """The reference's answer, for mutants that change an answer or a question."""
    return NumpyAdapter().answer(question)


def patched(**pieces: Any) -> Callable[[Question], Answer]:
    """The reference with some of its functions replaced while it answers.

    Keys are `module__name` of a piece as the module that uses it knows it, such as `decisions__iou`.
    """
    targets = {f"regionloss.{key.replace('__', '.')}": piece for key, piece in pieces.items()}

    def answer(question: Question) -> Answer:
        patches = [mock.patch(target, piece) for target, piece in targets.items()]
        for patch in patches:
            patch.start()
        try:
            return right(question)
        finally:
            for patch in reversed(patches):
                patch.stop()

    return answer


@cache
def catalogue() -> dict[str, Mutant]:
    """Every mutant by id, in the order of their modules (each has a list `MUTANTS`)."""
    mutants: dict[str, Mutant] = {}
    folder = Path(__file__).parent
    for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda module: module.name):
        if module.name == "mutant":
            continue
        for one in importlib.import_module(f"regionloss_suite.mutants.{module.name}").MUTANTS:
            if one.id in mutants:
                raise ValueError(f"mutant {one.id} is in the catalogue twice")
            mutants[one.id] = one
    return mutants
