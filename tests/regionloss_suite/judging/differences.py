"""What a loss was measured to do differently, and what no measurement explains: the data of a report."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from regionloss_suite.oracle.comparison import Difference


def known_fields(cls: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of a class in a JSON object, with the first deviation read; keys of a newer version are left out."""
    names = {field.name for field in fields(cls)}
    known = {key: value for key, value in entry.items() if key in names}
    return known if "first" not in known else known | {"first": Difference.from_json(known["first"])}


@dataclass(frozen=True, kw_only=True)
class MeasuredDifference:
    """One choice in which a loss differs from its profile.

    Attributes:
        choice: an axis of the profile, a factor beside it, or a known mistake, in words.
        measured: what the loss does.
        expected: what the profile does.
        clause: id of the clause that states it.
        known: the shipped profiles that do the same, in words; empty if none does.
        evidence: the question that shows this choice alone, with the answer, or how a known mistake was recognised.
        changes: number of departing cases that this choice changes: with it put back, the loss would have answered
            differently there.
        departing: number of departing cases in all.
        case: the smallest case in which this choice shows, if possible it alone.
        alone: whether nothing else shows in that case.
        first: the deviation in that case.
        reproduce: the command that shows it again.
        explain: the command that explains the case.
    """

    choice: str
    measured: Any
    expected: Any
    clause: str
    known: str = ""
    evidence: str = ""
    changes: int = 0
    departing: int = 0
    case: str = ""
    alone: bool = False
    first: Difference | None = None
    reproduce: str = ""
    explain: str = ""

    @property
    def words(self) -> str:
        """The difference on one line."""
        if self.measured is None:
            return self.choice
        expected = "" if self.expected is None else f", expected {shown(self.expected)}"
        known = f" (as in {self.known})" if self.known else ""
        return f"{self.choice} = {shown(self.measured)}{expected}{known}"

    @property
    def reach(self) -> str:
        """How many of the departing cases it changes, in words."""
        return f"alone, this changes {self.changes} of the {self.departing} departing cases"

    def to_json(self) -> dict[str, Any]:
        """The form in the JSON report, without empty entries."""
        entry = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "first"}
        kept = ("choice", "measured", "expected", "clause", "changes", "departing")
        entry = {key: value for key, value in entry.items() if key in kept or value}
        return entry if self.first is None else entry | {"first": self.first.to_json()}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> MeasuredDifference:
        """Read what `to_json` wrote; keys of a newer version are ignored."""
        known = known_fields(cls, entry)
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class Unexplained:
    """What departs even from the measured loss.

    Attributes:
        cases: number of cases.
        departing: number of departing cases in all.
        stage: the first stage that departs, in words.
        case: the smallest case.
        first: the deviation there.
        resembles: a known mistake that explains some of these cases, and how far it reaches; empty if there is none.
        findings: what the measuring questions say that no profile expresses, one sentence each.
        reproduce: the command that shows the smallest case again.
        explain: the command that explains it.
    """

    cases: int
    departing: int
    stage: str
    case: str = ""
    first: Difference | None = None
    resembles: str = ""
    findings: tuple[str, ...] = ()
    reproduce: str = ""
    explain: str = ""

    def to_json(self) -> dict[str, Any]:
        """The form in the JSON report, without empty entries."""
        entry = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "first"}
        entry = {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items() if value}
        return entry if self.first is None else entry | {"first": self.first.to_json()}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Unexplained:
        """Read what `to_json` wrote; keys of a newer version are ignored."""
        known = known_fields(cls, entry)
        return cls(**known | {"findings": tuple(known.get("findings", ()))})


def shown(value: Any) -> str:
    """A value of a choice, as it is printed."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)
