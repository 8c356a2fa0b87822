"""What was found about one clause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from regionloss_suite.compare import Difference

#: From what decides a merged verdict to what says least.
_WEIGHT = ("deviating", "expected", "conforming", "not-answerable")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found about one clause.

    Attributes:
        clause: its id, and its level.
        verdict: `conforming`, `deviating`, `expected` (deviates, and was declared to) or `not-answerable`.
        cases: how many golden cases were put to the adapter for it.
        properties: names of the properties that were tried on it.
        first: the first departure of a clause that deviates.
        follows: the clause whose departure explains this one, if another one does.
        looks_like: the known loss or mistake that answers the same, in words.
        reason: why it is not answerable, or why it was expected to deviate.
    """

    clause: str
    level: str
    verdict: str
    cases: int = 0
    properties: tuple[str, ...] = ()
    first: Difference | None = None
    follows: str = ""
    looks_like: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the JSON report holds it; what there is nothing to say of is left out."""
        entry: dict[str, Any] = {
            "clause": self.clause,
            "level": self.level,
            "verdict": self.verdict,
            "cases": self.cases,
            "properties": list(self.properties),
        }
        if self.first is not None:
            entry["first"] = self.first.to_json()
        said = {"follows": self.follows, "looks_like": self.looks_like, "reason": self.reason}
        return entry | {key: text for key, text in said.items() if text}


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict for each clause, from what cases and properties found about it, in the order of first mention."""
    by_clause: dict[str, Verdict] = {}
    for verdict in verdicts:
        before = by_clause.get(verdict.clause)
        if before is None:
            by_clause[verdict.clause] = verdict
            continue
        worse, other = sorted((before, verdict), key=lambda one: _WEIGHT.index(one.verdict))
        by_clause[verdict.clause] = replace(
            worse,
            cases=before.cases + verdict.cases,
            properties=tuple(dict.fromkeys(before.properties + verdict.properties)),
            first=worse.first or other.first,
        )
    return list(by_clause.values())
