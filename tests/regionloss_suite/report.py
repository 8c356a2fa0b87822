"""All verdicts on one adapter: complete as JSON, short on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from regionloss_suite.judge import Verdict

#: Exit codes of `regionloss check`.
CONFORMING, DEVIATING, WRONG_USAGE, CRASHED = 0, 1, 2, 3

_MARK = {"conforming": ("✓", "32"), "deviating": ("✗", "31"), "expected": ("!", "33"), "not-answerable": ("·", "2")}


@dataclass
class Report:
    """What one run found out.

    Attributes:
        adapter: name that the adapter was asked for by.
        profile: the profile it was judged as; `any` for an adapter that takes every profile.
        cases: how many cases were put to it.
        verdicts: one for each clause that binds the profile, in the order of the spec.
        crashes: the traceback of every case on which the loss under test broke.
    """

    adapter: str
    profile: str
    cases: int
    verdicts: list[Verdict] = field(default_factory=list)
    crashes: dict[str, str] = field(default_factory=dict)

    @property
    def deviating(self) -> list[Verdict]:
        """The clauses that the adapter does not meet."""
        return [verdict for verdict in self.verdicts if verdict.verdict == "deviating"]

    @property
    def exit_code(self) -> int:
        """0 conforming, 1 not, 3 when the loss under test crashed; SHOULD and MAY are reported but do not decide."""
        if self.crashes:
            return CRASHED
        musts = [verdict for verdict in self.verdicts if verdict.level == "MUST"]
        judged = any(verdict.verdict == "conforming" for verdict in musts)
        return CONFORMING if judged and not any(verdict in musts for verdict in self.deviating) else DEVIATING

    def to_json(self) -> dict[str, Any]:
        """The whole report; keys and order are stable."""
        return {
            "adapter": self.adapter,
            "profile": self.profile,
            "version": _version(),
            "cases": self.cases,
            "conforming": self.exit_code == CONFORMING,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "crashes": self.crashes,
        }

    def write_json(self, path: Path) -> None:
        """Write the report as a JSON file. Raises `OSError` where that cannot be done."""
        path.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def lines(self, *, colour: bool) -> list[str]:
        """The report for a terminal: chapter by chapter, then what deviates, then one line that sums up."""
        width = max((len(verdict.clause) for verdict in self.verdicts), default=0)
        lines = []
        for verdict in self.verdicts:
            mark, paint = _MARK[verdict.verdict]
            text = f"{mark} {verdict.clause:<{width}}  {verdict.level:<6}  {verdict.verdict}"
            if verdict.cases:
                text += f" · {verdict.cases} case{'s' * (verdict.cases != 1)}"
            lines.append(painted(text, paint if verdict.verdict != "conforming" else "", colour=colour))
            if verdict.first is not None:
                lines.append(painted(f"    {verdict.first}", paint, colour=colour))
            elif verdict.reason:
                lines.append(painted(f"    {verdict.reason}", paint, colour=colour))
        lines += [
            f"\nThe loss crashed on case {case}:\n{trace.rstrip()}" for case, trace in list(self.crashes.items())[:3]
        ]
        return [*lines, "", self.summary(colour=colour)]

    def summary(self, *, colour: bool) -> str:
        """One line: conforming or not, and the counts."""
        counts = Counter(verdict.verdict for verdict in self.verdicts)
        said = {CONFORMING: "conforming", DEVIATING: "not conforming", CRASHED: "crashed"}[self.exit_code]
        shown = ", ".join(f"{counts[kind]} {kind}" for kind in _MARK if counts[kind])
        text = f"{self.adapter} (profile {self.profile}): {said} · "
        text += f"{len(self.verdicts)} clauses: {shown} · {self.cases} cases"
        return painted(text, "1;32" if self.exit_code == CONFORMING else "1;31", colour=colour)


def painted(text: str, paint: str, *, colour: bool) -> str:
    """Text in an ANSI colour, on terminals only."""
    return f"\x1b[{paint}m{text}\x1b[0m" if colour and paint else text


def _version() -> str:
    try:
        return version("regionloss")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
