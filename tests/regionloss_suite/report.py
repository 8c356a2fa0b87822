"""All verdicts on one adapter: complete as JSON, short on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from regionloss_suite.verdict import Verdict

#: Exit codes of `regionloss`.
CONFORMING, DEVIATING, WRONG_USAGE, CRASHED, REGRESSED = 0, 1, 2, 3, 4

#: For each verdict the mark that stands for it, which says it without colour, and its ANSI colour.
MARKS = {"conforming": ("✓", "32"), "deviating": ("✗", "31"), "expected": ("!", "33"), "not-answerable": ("·", "2")}


def _version() -> str:
    try:
        return installed_version("regionloss")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


@dataclass
class Report:
    """What one run found out.

    Attributes:
        adapter: name that the adapter was asked for by.
        profile: the profile it was judged as; `any` for an adapter that takes every profile.
        cases: how many cases were put to it.
        verdicts: one for each clause that binds the profile, in the order of the spec.
        crashes: the traceback of every case on which the loss under test broke.
        notes: what the adapter says of itself, and what was done to its answers, one sentence each.
        stale: expected deviations that expect nothing any more, one sentence each; any of them fails the run.
        version: of the suite that judged.
    """

    adapter: str
    profile: str
    cases: int
    verdicts: list[Verdict] = field(default_factory=list)
    crashes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    version: str = field(default_factory=_version)

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
        met = judged and not self.stale and not any(verdict in musts for verdict in self.deviating)
        return CONFORMING if met else DEVIATING

    @property
    def outcome(self) -> str:
        """The exit code in words."""
        return {CONFORMING: "conforming", DEVIATING: "not conforming", CRASHED: "crashed"}[self.exit_code]

    @property
    def counts(self) -> dict[str, int]:
        """How many clauses got each verdict; none that no clause got."""
        counted = Counter(verdict.verdict for verdict in self.verdicts)
        return {kind: counted[kind] for kind in MARKS if counted[kind]}

    def folded(self) -> list[tuple[Verdict, list[Verdict]]]:
        """Every verdict that stands for itself, in order, each with those that only follow from it."""
        by_clause = {verdict.clause: verdict for verdict in self.verdicts}
        under: dict[str, list[Verdict]] = {verdict.clause: [] for verdict in self.verdicts}
        leading = []
        for verdict in self.verdicts:
            first = chain(verdict, by_clause)[-1]
            if first is verdict or first.follows in by_clause:  # the latter blame each other, and so explain nothing
                leading.append(verdict)
            else:
                under[first.clause].append(verdict)
        return [(verdict, under[verdict.clause]) for verdict in leading]

    def to_json(self) -> dict[str, Any]:
        """The whole report; keys and order are stable."""
        return {
            "adapter": self.adapter,
            "profile": self.profile,
            "version": self.version,
            "cases": self.cases,
            "conforming": self.exit_code == CONFORMING,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "crashes": self.crashes,
            "notes": list(self.notes),
            "stale": list(self.stale),
        }

    def write_json(self, path: Path) -> None:
        """Write the report as a JSON file. Raises `OSError` where that cannot be done."""
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")

    def lines(self, *, colour: bool) -> list[str]:
        """The report for a terminal: chapter by chapter, then what else is to be said, then one line that sums up."""
        width = max((len(verdict.clause) for verdict in self.verdicts), default=0)
        lines = []
        for verdict, followers in self.folded():
            mark, paint = MARKS[verdict.verdict]
            text = f"{mark} {printable(verdict.clause):<{width}}  {verdict.level:<6}  {verdict.verdict}"
            if verdict.cases:
                text += f" · {verdict.cases} case{'s' * (verdict.cases != 1)}"
            lines.append(painted(text, paint if verdict.verdict != "conforming" else "", colour=colour))
            lines += [painted(f"    {said}", paint, colour=colour) for said in _details(verdict)]
            for follower in followers:
                mark, paint = MARKS[follower.verdict]
                lines.append(painted(f"    ↳ {mark} {printable(follower.clause)} follows", paint, colour=colour))
        for case, trace in list(self.crashes.items())[:3]:
            lines += ["", f"The loss crashed on case {printable(case)}:"]
            lines += [f"  | {printable(line)}" for line in trace.rstrip().splitlines()]
        if self.stale:
            lines += ["", "Expected deviations to settle:"]
            lines += [painted(f"  {printable(said)}", "31", colour=colour) for said in self.stale]
        if self.notes:
            lines += ["", *(f"note: {printable(note)}" for note in self.notes)]
        return [*lines, "", self.summary(colour=colour)]

    def summary(self, *, colour: bool) -> str:
        """One line: conforming or not, and the counts."""
        shown = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        text = f"{printable(self.adapter)} (profile {printable(self.profile)}): {self.outcome} · "
        text += f"{len(self.verdicts)} clauses: {shown} · {self.cases} case{'s' * (self.cases != 1)}"
        if self.stale:
            text += f" · {len(self.stale)} expected deviation{'s' * (len(self.stale) != 1)} to settle"
        return painted(text, "1;32" if self.exit_code == CONFORMING else "1;31", colour=colour)


def chain(verdict: Verdict, by_clause: dict[str, Verdict]) -> list[Verdict]:
    """A verdict, the one that it follows from, the one that this follows from, and so on."""
    trail = [verdict]
    while (before := by_clause.get(trail[-1].follows)) is not None and before not in trail:
        trail.append(before)
    return trail


def _details(verdict: Verdict) -> list[str]:
    said = [str(verdict.first)] if verdict.first is not None else []
    said += [f"looks like {verdict.looks_like}"] if verdict.looks_like else []
    said += [verdict.reason] if verdict.reason else []
    return [printable(text) for text in said]


def painted(text: str, paint: str, *, colour: bool) -> str:
    """Text in an ANSI colour, on terminals only."""
    return f"\x1b[{paint}m{text}\x1b[0m" if colour and paint else text


def printable(text: str) -> str:
    """Text on one line in which control characters are spelled out: an adapter's words neither steer nor end a line."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8; half of a surrogate pair, which has no UTF-8, is spelled out as in JSON."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
