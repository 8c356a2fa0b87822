"""Compare a run with an earlier one by ratios alone: a time depends on the machine as much as on the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from regionloss_suite.bench.candidates import BASES
from regionloss_suite.bench.results import Results
from regionloss_suite.bench.rounds import Spread
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.tables import ratio_in_words, times

#: The share of a ratio that may be lost before it counts as a regression.
SLACK = 0.2


@dataclass(frozen=True)
class Change:
    """The speed-up of a loss over a comparator, in both runs.

    Attributes:
        new: `None` if the loss failed the correctness check.
    """

    setting: Setting
    candidate: str
    base: str
    old: Spread
    new: Spread | None

    def regressed(self, slack: float = SLACK) -> bool:
        """Whether even the better rounds of the new run are below the old median, less the slack."""
        return self.new is None or self.new.high < (1 - slack) * self.old.middle

    def __str__(self) -> str:
        now = "not timed" if self.new is None else ratio_in_words(self.new)
        return f"{self.candidate}, faster than {self.base}, {self.setting.title}: {times(self.old.middle)}, now {now}"


def compare(old: Results, new: Results) -> list[Change]:
    """Every ratio of the old run that the new run also has, or whose loss the new run did not time."""
    return list(_changes(old, new))


def _changes(old: Results, new: Results) -> Iterator[Change]:
    refused = {(one["setting"], one["contender"]) for one in new.about["refused"]}
    for setting in old.settings:
        for candidate in (name for name in old.candidates(setting) if name not in BASES):
            for base in BASES:
                then, now = old.ratio(setting, base, candidate), new.ratio(setting, base, candidate)
                if then is not None and (now is not None or (setting.name, candidate) in refused):
                    yield Change(setting, candidate, base, then, now)


def lines(changes: list[Change], old: Results, new: Results) -> list[str]:
    """The regressions, and how many ratios were compared."""
    if not changes:
        return ["Nothing to compare: the two runs have no ratio in common."]
    broken = [change for change in changes if change.regressed()]
    lines = [f"✗ {change}" for change in broken]
    counted = f"{len(changes)} ratio{'s' * (len(changes) != 1)} compared, {len(broken)} regressed"
    lines.append(f"{counted}; a loss of up to {SLACK:.0%} is tolerated.")
    if _processor(old) != _processor(new):
        lines.append(f"The earlier run used another processor, {_processor(old)}; this one used {_processor(new)}.")
    return lines


def _processor(results: Results) -> str:
    cpu = results.data["machine_info"].get("cpu") or {}
    return str(results.about.get("gpu") or cpu.get("brand_raw", "unknown"))
