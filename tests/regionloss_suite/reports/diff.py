"""The changes from one report to a later one."""

from __future__ import annotations

from dataclasses import dataclass

from regionloss_suite.judging.report import CONFORMING, REGRESSED, Report, painted, printable
from regionloss_suite.judging.verdict import Verdict

#: The name of a change, by the verdicts before and after; see `Change.kind` for clauses that were not judged before.
_KINDS = {
    ("conforming", "deviating"): "newly deviating",
    ("conforming", "expected"): "newly deviating, as expected",
    ("deviating", "conforming"): "fixed",
    ("deviating", "expected"): "expected from now on",
    ("expected", "conforming"): "fixed",
    ("expected", "deviating"): "no longer expected",
}
_NEWLY = {
    "deviating": ", deviating",
    "unexplained": ", unexplained",
    "hidden": ", hidden",
    "expected": ", deviating as expected",
    "not-answerable": ", not answerable",
}
_PAINT = {"fixed": "32", "newly answerable": "32", "newly deviating": "31", "no longer answerable": "33"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A clause whose verdict has changed.

    Attributes:
        clause: its id, and its level.
        before, after: the verdicts; `absent` if a report does not judge the clause.
        now: the finding of the later report, in words.
    """

    clause: str
    level: str
    before: str
    after: str
    now: str = ""

    @property
    def kind(self) -> str:
        """The name of the change."""
        if self.after == "absent":
            return "no longer judged"
        if self.before in ("absent", "not-answerable"):
            return f"newly {'judged' if self.before == 'absent' else 'answerable'}{_NEWLY.get(self.after, '')}"
        return _KINDS.get((self.before, self.after), "no longer answerable")

    @property
    def regression(self) -> bool:
        """Whether a MUST that was met is no longer met, or can no longer be judged."""
        lost = self.after in ("deviating", "unexplained", "hidden", "not-answerable")
        return self.level == "MUST" and self.before == "conforming" and lost


def compare(old: Report, new: Report) -> list[Change]:
    """The clauses whose verdict changed: regressions first, each group in the order of the spec."""
    before = {verdict.clause: verdict for verdict in old.verdicts}
    after = {verdict.clause: verdict for verdict in new.verdicts}
    changes = [_change(before.get(clause), after.get(clause)) for clause in {**after, **before}]
    return sorted((change for change in changes if change.before != change.after), key=lambda c: not c.regression)


def _change(old: Verdict | None, new: Verdict | None) -> Change:
    known = new or old
    assert known is not None
    now = "" if new is None else str(new.first or new.reason)
    before, after = ("absent" if verdict is None else verdict.verdict for verdict in (old, new))
    return Change(clause=known.clause, level=known.level, before=before, after=after, now=now)


def exit_code(changes: list[Change]) -> int:
    """4 if something regressed, otherwise 0."""
    return REGRESSED if any(change.regression for change in changes) else CONFORMING


def lines(old: Report, new: Report, *, colour: bool) -> list[str]:
    """The changes, for a terminal; the last line is the summary."""
    changes = compare(old, new)
    lines = [f"{printable(_who(old))} → {printable(_who(new))}"]
    if old.profile != new.profile:
        lines.append("The profiles differ, so the losses got different questions.")
    width = max((len(change.clause) for change in changes), default=0)
    for change in changes:
        mark = "✗" if change.regression else "·"
        text = f"{mark} {printable(change.clause):<{width}}  {change.level:<6}  {change.kind}"
        lines.append(painted(text, _PAINT.get(change.kind, ""), colour=colour))
        if change.now:
            lines.append(f"    {printable(change.now)}")
    worse = sum(change.regression for change in changes)
    verdict = f"{worse} regression{'s' * (worse != 1)}" if worse else "no regression"
    summed = f"{verdict}, {len(changes)} change{'s' * (len(changes) != 1)}"
    return [*lines, painted(summed, "1;31" if worse else "1;32", colour=colour)]


def _who(report: Report) -> str:
    return f"{report.adapter} (profile {report.profile}, regionloss {report.version})"
