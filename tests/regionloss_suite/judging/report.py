"""All verdicts on one adapter: complete as JSON, short on a terminal."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from regionloss_suite.judging.differences import MeasuredDifference, Unexplained
from regionloss_suite.judging.verdict import Verdict

#: Exit codes of `regionloss`.
CONFORMING, DEVIATING, WRONG_USAGE, CRASHED, REGRESSED = 0, 1, 2, 3, 4

#: For each verdict its mark, which is clear without colour, and its ANSI colour.
MARKS = {
    "conforming": ("✓", "32"),
    "deviating": ("✗", "31"),
    "unexplained": ("?", "31"),
    "hidden": ("↳", "33"),
    "expected": ("!", "33"),
    "not-answerable": ("·", "2"),
}
#: The verdicts that fail a run if a MUST has one.
FAILING = ("deviating", "unexplained")


#: Columns of a terminal that a list of clauses is wrapped at.
_WIDTH = 100


def _version() -> str:
    try:
        return installed_version("regionloss")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


@dataclass
class Report:
    """The verdicts of one run.

    Attributes:
        adapter: the name that the user gave for the adapter.
        profile: the profile it was judged as; `any` for an adapter that takes every profile.
        cases: how many cases were put to it.
        verdicts: one for each clause that binds the profile, in the order of the spec.
        crashes: the traceback of every case on which the loss under test crashed.
        notes: the adapter's notes, and changes made to its answers, one sentence each.
        stale: expected deviations that are out of date, one sentence each; any of them fails the run.
        version: of the suite that judged.
        differences: what the loss was measured to do differently, what changes most cases first.
        unexplained: what departs even then, if anything does.
        formula: the measured loss, a line for each term; empty if it was not measured.
        claimed: the profile in the same form.
    """

    adapter: str
    profile: str
    cases: int
    verdicts: list[Verdict] = field(default_factory=list)
    crashes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    version: str = field(default_factory=_version)
    differences: tuple[MeasuredDifference, ...] = ()
    unexplained: Unexplained | None = None
    formula: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()

    @property
    def deviating(self) -> list[Verdict]:
        """The clauses that deviate."""
        return [verdict for verdict in self.verdicts if verdict.verdict == "deviating"]

    @property
    def exit_code(self) -> int:
        """0 conforming, 1 not, 3 when the loss under test crashed; SHOULD and MAY are reported but do not decide."""
        if self.crashes:
            return CRASHED
        musts = [verdict for verdict in self.verdicts if verdict.level == "MUST"]
        judged = any(verdict.verdict == "conforming" for verdict in musts)
        met = judged and not self.stale and not any(verdict.verdict in FAILING for verdict in musts)
        return CONFORMING if met else DEVIATING

    @property
    def outcome(self) -> str:
        """The exit code in words."""
        return {CONFORMING: "conforming", DEVIATING: "not conforming", CRASHED: "crashed"}[self.exit_code]

    @property
    def level(self) -> str:
        """How far the loss conforms: `full` if nothing deviates, `must` if no MUST deviates, else `none`.

        It is `expected` if the only deviating MUSTs are expected ones.
        """
        if self.exit_code != CONFORMING:
            return "none"
        kept = [verdict for verdict in self.verdicts if verdict.verdict in (*FAILING, "expected")]
        if any(verdict.level == "MUST" for verdict in kept):
            return "expected"
        return "must" if kept else "full"

    @property
    def counts(self) -> dict[str, int]:
        """How many clauses have each verdict, without the verdicts that no clause has."""
        counted = Counter(verdict.verdict for verdict in self.verdicts)
        return {kind: counted[kind] for kind in MARKS if counted[kind]}

    @property
    def properties(self) -> int:
        """How many properties were run on random batches."""
        return len({name for verdict in self.verdicts for name in verdict.properties})

    def folded(self) -> list[tuple[Verdict, list[Verdict]]]:
        """Every verdict that stands for itself, in order, with those that follow from it."""
        by_clause = {verdict.clause: verdict for verdict in self.verdicts}
        under: dict[str, list[Verdict]] = {verdict.clause: [] for verdict in self.verdicts}
        leading = []
        for verdict in self.verdicts:
            first = chain(verdict, by_clause)[-1]
            if first is verdict or first.follows in by_clause:  # a cycle of verdicts explains nothing
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
            "level": self.level,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "crashes": self.crashes,
            "notes": list(self.notes),
            "stale": list(self.stale),
            "differences": [difference.to_json() for difference in self.differences],
            "hidden": {verdict.clause: verdict.follows for verdict in self.verdicts if verdict.verdict == "hidden"},
            "unexplained": None if self.unexplained is None else self.unexplained.to_json(),
            "formula": list(self.formula),
            "claimed": list(self.claimed),
        }

    def write_json(self, path: Path) -> None:
        """Write the report as a JSON file. Raises `OSError` if that fails."""
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")

    def lines(self, *, every: bool = False, colour: bool) -> list[str]:
        """The report for a terminal: the differences, the evidence for each, what could not be judged, and a summary.

        Args:
            every: list every clause first.
            colour: whether the terminal shows colours.
        """
        lines = self._overview(colour=colour)
        measured = {difference.clause for difference in self.differences}
        failures = [(verdict, followers) for verdict, followers in self.folded() if verdict.verdict == "deviating"]
        for difference in self.differences:
            lines += ["", *_evidence(difference, colour=colour)]
        for verdict, followers in sorted(failures, key=lambda failure: -len(failure[1])):
            if verdict.clause not in measured:
                lines += ["", *_failure(verdict, followers, colour=colour)]
        lines += self._rest()
        listed = self._clauses(self.verdicts, colour=colour) if every else self._not_judged(colour=colour)
        lines += ["", *listed] if lines and listed else listed
        lines += self._crash([verdict.first.case for verdict, _ in failures if verdict.first is not None])
        if self.stale:
            lines += ["", "Stale expected deviations:"]
            lines += [painted(f"  {printable(sentence)}", "31", colour=colour) for sentence in self.stale]
        if self.notes:
            lines += ["", *(f"note: {printable(note)}" for note in self.notes)]
        lines = lines[1:] if lines and not lines[0] else lines
        return [*lines, *([""] if lines else []), self.summary(colour=colour)]

    def _overview(self, *, colour: bool) -> list[str]:
        """The differences, one line each, and what remains after them."""
        if not self.differences and self.unexplained is None:
            return []
        if not self.differences:
            lines = ["No measured difference explains what departs."]
        else:
            number = _count(len(self.differences), "difference", "differences")
            lines = [f"{number} from profile {printable(self.profile)}, what changes most first:"]
        mark, paint = MARKS["deviating"]
        for difference in self.differences:
            text = f"{mark} {difference.words} · {difference.clause} · {difference.reach}"
            lines.append(painted(printable(text), paint, colour=colour))
        if self.unexplained is None:
            hidden = [verdict for verdict in self.verdicts if verdict.verdict == "hidden"]
            if hidden:
                behind = ", ".join(dict.fromkeys(verdict.follows for verdict in hidden))
                number = _count(len(hidden), "clause is", "clauses are")
                return [*lines, f"{number} hidden behind {printable(behind)}, and cannot be told before it is mended."]
            return [*lines, f"After {'it' if len(self.differences) == 1 else 'all of them'}, nothing remains."]
        rest = self.unexplained
        mark, paint = MARKS["unexplained"]
        text = f"{mark} unexplained: {rest.cases} of the {rest.departing} departing cases depart"
        text += f" after {'it' if len(self.differences) == 1 else 'all of them'}" if self.differences else ""
        return [*lines, painted(printable(f"{text}, first in {rest.stage}"), paint, colour=colour)]

    def _rest(self) -> list[str]:
        """What is known about the cases that nothing explains."""
        rest = self.unexplained
        if rest is None:
            return []
        lines = ["", f"Unexplained, in {rest.stage}:"]
        lines += [f"  smallest case: {rest.case}"] if rest.case else []
        lines += [f"  {rest.first}"] if rest.first is not None else []
        lines += [f"  {rest.resembles}"] if rest.resembles else []
        lines += [f"  measured, but in no profile: {finding}" for finding in rest.findings]
        lines += [f"  reproduce: {rest.reproduce}"] if rest.reproduce else []
        lines += [f"  explain: {rest.explain}"] if rest.explain else []
        clauses = ", ".join(verdict.clause for verdict in self.verdicts if verdict.verdict == "unexplained")
        lines += [f"  clauses whose cases depart: {clauses}"] if clauses else []
        return [lines[0], *map(printable, lines[1:])]

    def _not_judged(self, *, colour: bool) -> list[str]:
        """What neither conforms nor fails: expected deviations, and by reason the clauses that are not answerable."""
        lines = self._clauses([verdict for verdict in self.verdicts if verdict.verdict == "expected"], colour=colour)
        by_reason: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            if verdict.verdict == "not-answerable":
                by_reason.setdefault(verdict.reason, []).append(verdict.clause)
        mark, paint = MARKS["not-answerable"]
        for reason, clauses in by_reason.items():
            text = printable(f"{mark} {_count(len(clauses), 'clause', 'clauses')} not answerable: {reason}")
            listed = textwrap.wrap(
                printable(", ".join(clauses)), _WIDTH, initial_indent="    ", subsequent_indent="    ",
                break_on_hyphens=False, break_long_words=False,
            )  # fmt: skip
            lines += [painted(line, paint, colour=colour) for line in (text, *listed)]
        return lines

    def _clauses(self, verdicts: list[Verdict], *, colour: bool) -> list[str]:
        """One line for each verdict."""
        width = max((len(verdict.clause) for verdict in verdicts), default=0)
        lines = []
        for verdict in verdicts:
            mark, paint = MARKS[verdict.verdict]
            text = f"{mark} {printable(verdict.clause):<{width}}  {verdict.level:<6}  {verdict.verdict}"
            judged = verdict.verdict != "not-answerable"
            parts = [_count(verdict.cases, "case", "cases")] if verdict.cases else []
            parts += (
                [_count(len(verdict.properties), "property", "properties")] if verdict.properties and judged else []
            )
            parts += [verdict.reason] if verdict.reason else []
            text += "".join(f" · {printable(part)}" for part in parts)
            lines.append(painted(text, paint if verdict.verdict != "conforming" else "", colour=colour))
        return lines

    def _crash(self, first: list[str]) -> list[str]:
        """The traceback of one crash, preferably of a case that is shown above."""
        name = next((case for case in [*first, *self.crashes] if case in self.crashes), None)
        if name is None:
            return []
        lines = ["", f"The loss crashed on case {printable(name)}:"]
        lines += [f"  | {printable(line)}" for line in self.crashes[name].rstrip().splitlines()]
        return [*lines, f"and on {len(self.crashes) - 1} more"] if len(self.crashes) > 1 else lines

    def summary(self, *, colour: bool) -> str:
        """One line: conforming or not, and the counts."""
        shown = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        text = f"{printable(self.adapter)} (profile {printable(self.profile)}): {self.outcome} · "
        text += f"{len(self.verdicts)} clauses: {shown} · {_count(self.cases, 'case', 'cases')}"
        text += f" · {_count(self.properties, 'property', 'properties')}" if self.properties else ""
        if self.stale:
            text += f" · {len(self.stale)} stale expected deviation{'s' * (len(self.stale) != 1)}"
        return painted(text, "1;32" if self.exit_code == CONFORMING else "1;31", colour=colour)


def chain(verdict: Verdict, by_clause: dict[str, Verdict]) -> list[Verdict]:
    """A verdict, the one that it follows from, the one that this follows from, and so on."""
    trail = [verdict]
    while (before := by_clause.get(trail[-1].follows)) is not None and before not in trail:
        trail.append(before)
    return trail


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _failure(verdict: Verdict, followers: list[Verdict], *, colour: bool) -> list[str]:
    """A clause that deviates by itself, its consequences, and the commands to go on with."""
    mark, paint = MARKS[verdict.verdict]
    lines = [painted(f"{mark} {printable(verdict.sentence)}", paint, colour=colour)]
    if verdict.first is not None:
        dtype = f", in {verdict.first.dtype}" if verdict.first.dtype else ""
        lines.append(f"  first seen: case {verdict.first.case}{dtype}")
    lines += [f"  {verdict.reason}"] if verdict.reason else []
    lines += [f"  reproduce: {verdict.reproduce}"] if verdict.reproduce else []
    lines += [f"  explain: {verdict.explain}"] if verdict.explain else []
    if followers:
        lines.append(f"  {_count(len(followers), 'clause is', 'clauses are')} hidden behind it")
    return [lines[0], *map(printable, lines[1:])]


def _evidence(difference: MeasuredDifference, *, colour: bool) -> list[str]:
    """The evidence for a difference, the case that shows it, and the commands to go on with."""
    mark, paint = MARKS["deviating"]
    lines = [painted(printable(f"{mark} {difference.words} · {difference.clause}"), paint, colour=colour)]
    lines += [f"  {difference.evidence}"] if difference.evidence else []
    if difference.case:
        shown = "the smallest case in which only this shows" if difference.alone else "the smallest case with it"
        lines.append(f"  {shown}: {difference.case}")
    lines += [f"  {difference.first}"] if difference.first is not None else []
    lines += [f"  reproduce: {difference.reproduce}"] if difference.reproduce else []
    lines += [f"  explain: {difference.explain}"] if difference.explain else []
    return [lines[0], *map(printable, lines[1:])]


def painted(text: str, paint: str, *, colour: bool) -> str:
    """Text in an ANSI colour, on terminals only."""
    return f"\x1b[{paint}m{text}\x1b[0m" if colour and paint else text


def printable(text: str) -> str:
    """Text on one line with control characters escaped, so that an adapter's text cannot control the terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8; a lone surrogate, which UTF-8 cannot encode, is escaped as in JSON."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
