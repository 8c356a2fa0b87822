"""What a property is: a sentence that holds for every batch, and the clauses that it pins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from regionloss_spec import Profile, load_clauses
from regionloss_suite.properties.harness import PropertyHarness

#: The property that ordinary batches are tried by.
EVERYTHING = "everything that decides the loss agrees with the reference"

Function = Callable[[PropertyHarness, st.DataObject], None]


@dataclass(frozen=True)
class Property:
    """Something that holds for every batch, as a sentence.

    Attributes:
        name: the sentence.
        clauses: ids of the clauses that it pins.
        function: raises `DeviationError` where it does not hold for what it draws and asks.
        needs: what an adapter has to answer for it, out of `ANSWERS` and `DERIVATIVES` of its protocol.
        when: for which profiles it says anything.
        by_feature: it pins a clause only where a drawn batch shows it.
        every_format: whether it is worth trying in every format and on every device.
        share: how much of the usual number of batches it is worth.
    """

    name: str
    clauses: tuple[str, ...]
    function: Function
    needs: tuple[str, ...] = ()
    when: Callable[[Profile], bool] = lambda profile: True
    by_feature: bool = False
    every_format: bool = False
    share: float = 1.0

    @property
    def id(self) -> str:
        """The name as a word for files and tests."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())

    def binds(self, profile: Profile) -> tuple[str, ...]:
        """The clauses that it pins under a profile."""
        clauses = load_clauses()
        return tuple(clause for clause in self.clauses if clauses[clause].applies_to(profile))
