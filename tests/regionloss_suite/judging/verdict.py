"""The verdict on one clause."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from regionloss_suite.judging.differences import known_fields
from regionloss_suite.oracle.comparison import Difference

#: Verdicts in the order of precedence when they are merged.
_WEIGHT = ("deviating", "unexplained", "hidden", "expected", "conforming", "not-answerable")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one clause, with the evidence for it.

    Attributes:
        clause: its id, and its level.
        verdict: `conforming` (its cases agree, if need be once what is blamed is taken into account), `deviating`,
            `hidden` (its cases depart, but behind a clause that deviates nobody can tell), `unexplained` (its cases
            depart, and nothing tells why), `expected` (deviates, and was declared to) or `not-answerable`.
        cases: how many golden cases were put to the adapter for it.
        properties: names of the properties that were run for it.
        first: the first deviation of a clause that deviates.
        follows: the clause that this one is hidden behind, if any.
        looks_like: what the loss does instead, as measured, or the known mistake that gives the same answers.
        reason: why it conforms although cases depart, is not answerable, or was expected to deviate.
        reproduce: the command that shows the deviation again, if there is one.
        explain: the command that explains the case that showed it first.
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
    reproduce: str = ""
    explain: str = ""

    @property
    def sentence(self) -> str:
        """What deviates, where first, by how much, and what it looks like, on one line."""
        parts = [f"{self.clause} deviates", self.departure, self.looks_like]
        return " · ".join(part for part in parts if part)

    @property
    def departure(self) -> str:
        """The place and the numbers of the first deviation; empty if there is none."""
        return "" if self.first is None else " · ".join(_place_and_numbers(self.first))

    def to_json(self) -> dict[str, Any]:
        """The form in the JSON report, without empty entries."""
        entry: dict[str, Any] = {
            "clause": self.clause,
            "level": self.level,
            "verdict": self.verdict,
            "cases": self.cases,
            "properties": list(self.properties),
        }
        if self.first is not None:
            entry["first"] = self.first.to_json()
        texts = {name: getattr(self, name) for name in ("follows", "looks_like", "reason", "reproduce", "explain")}
        return entry | {key: text for key, text in texts.items() if text}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Verdict:
        """Read what `to_json` wrote; keys of a newer version are ignored."""
        known = known_fields(cls, entry)
        return cls(**known | {"properties": tuple(known.get("properties", ()))})


def _place_and_numbers(first: Difference) -> list[str]:
    """The place and the numbers of a deviation, with as many digits as show the difference."""
    place = [] if first.image is None else [f"image {first.image}"]
    place += [] if first.row is None else [f"cell ({first.row}, {first.column})"]
    place += [] if first.anchor is None else [f"anchor {first.anchor}"]
    got, expected = first.got, first.expected
    if not isinstance(got, str) and not isinstance(expected, str):
        digits = _digits(got, expected)
        got, expected = (f"{number:#.{digits}g}".rstrip(".") if number else "0" for number in (got, expected))
    within = "" if first.bound is None else f" ± {_short(first.bound)}" if first.bound else " exactly"
    what = "" if first.quantity == "error" else f"{first.quantity} "  # a refusal or a crash speaks for itself
    return [*([", ".join(place)] if place else []), f"{what}{got}, expected {expected}{within}"]


def _digits(one: float, other: float) -> int:
    """How many significant digits show two numbers to differ: four, or one more than they share, at most 17."""
    apart, largest = abs(one - other), max(abs(one), abs(other))
    if not math.isfinite(apart) or not apart:
        return 4
    return min(17, max(4, 1 + math.ceil(math.log10(largest / apart))))


def _short(bound: float) -> str:
    """A bound to one digit, rounded up, such as `3e-7`."""
    if not math.isfinite(bound):
        return f"{bound:g}"
    power = math.floor(math.log10(bound))
    digit = math.ceil(bound / 10.0**power - 1e-9)
    return f"{digit}e{power}" if digit < 10 else f"1e{power + 1}"


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict for each clause, from cases and properties, in the order of first mention."""
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
