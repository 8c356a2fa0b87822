"""A property: a sentence that holds for every batch, and the clauses that it pins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from regionloss_spec import Profile, load_clauses
from regionloss_suite.properties.harness import PropertyHarness

#: The property that tries ordinary batches.
EVERYTHING = "everything that decides the loss agrees with the reference"

Function = Callable[[PropertyHarness, st.DataObject], None]


@dataclass(frozen=True)
class Property:
    """A claim about every batch, as a sentence.

    Attributes:
        name: the sentence.
        clauses: ids of the clauses that it pins.
        function: draws batches, puts them to the adapter, and raises `DeviationError` if the claim is false.
        needs: what an adapter must return for it, out of `ANSWERS` and `DERIVATIVES` of its protocol.
        when: the profiles to which it applies.
        by_feature: it pins a clause only if a random batch shows the clause.
        every_format: whether it runs in every format and on every device.
        share: the share of the usual number of batches.
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
        """The name as a word, for files and tests."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())

    def binds(self, profile: Profile) -> tuple[str, ...]:
        """The clauses that it pins under a profile."""
        clauses = load_clauses()
        return tuple(clause for clause in self.clauses if clauses[clause].applies_to(profile))
