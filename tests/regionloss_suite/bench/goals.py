"""The performance goals, as ratios within one run, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from regionloss_suite.bench.plan import GOALS
from regionloss_suite.bench.results import FIRST, WALL_COLD, Results
from regionloss_suite.bench.rounds import Spread
from regionloss_suite.bench.setting import Setting, said


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        setting: where it is measured.
        what: what is measured, in words.
        limit: the ratio, share or count to reach or not to exceed.
        at_least: whether the limit is a minimum; otherwise it is a maximum.
        measured: the measured number in some results; `None` if it was not measured.
        unit: `×` for a ratio of times, `%` for a share, nothing for a count.
        cold: the same with cold caches, shown beside it; `None` if it was not measured.
    """

    setting: Setting
    what: str
    limit: float
    at_least: bool
    measured: Callable[[Results], Spread | None]
    unit: Literal["×", "%", ""] = "×"
    cold: Callable[[Results], Spread | None] = lambda _: None

    @property
    def where(self) -> str:
        """The setting in words, no longer than needed to distinguish the goals."""
        return (
            f"{self.setting.height}², C={self.setting.classes}, N={self.setting.images}, "
            f"{said(self.setting.truths, '–')} truths"
        )

    def met(self, results: Results) -> bool | None:
        """Whether the median over the rounds meets the limit; `None` if it was not measured."""
        spread = self.measured(results)
        if spread is None:
            return None
        return spread.middle >= self.limit if self.at_least else spread.middle <= self.limit


def goals_of(device: str) -> tuple[Goal, ...]:
    """The goals for one kind of device."""
    return _on_cuda() if device == "cuda" else _on_cpu()


def _on_cpu() -> tuple[Goal, ...]:
    few, many, full, large = GOALS["cpu"]
    loss, compiled = "torch-analytic", "torch-compiled"
    return (
        *(_faster(setting, loss, "materialised", 10) for setting in (few, many)),
        *(_faster(setting, loss, "python-loop", 300) for setting in (few, many)),
        *(_faster(setting, compiled, "materialised", 20) for setting in (few, many)),
        _faster(full, loss, "materialised", 5),
        _within(large, loss, "zero_ (fresh)", 3),
        _takes(large, loss, "memory", 0.25),
    )


def _on_cuda() -> tuple[Goal, ...]:
    small, large, largest = GOALS["cuda"]
    loss = "torch-triton"
    return (
        *(_over_roofline(setting, loss, 1.6) for setting in (large, largest)),
        *(_within(setting, loss, "copy_", 1) for setting in (large, largest)),
        _within(small, loss, "zero_", 2.5, "graph, cold"),
        _faster(small, loss, "materialised", 12, "wall"),
        _faster(small, loss, "materialised-compiled", 2, "wall"),
        _takes(small, loss, "launches", 3),
        _takes(small, loss, "waits", 0),
        *(_takes(setting, loss, "memory", 0.01) for setting in (small, large, largest)),
    )


def _faster(setting: Setting, loss: str, base: str, limit: float, clock: str | None = None) -> Goal:
    return _ratio(setting, f"{loss}, times faster than {base}{_by(clock)}", limit, True, (base, loss), clock)


def _within(setting: Setting, loss: str, base: str, limit: float, clock: str | None = None) -> Goal:
    return _ratio(setting, f"{loss}, times as long as {base}{_by(clock)}", limit, False, (loss, base), clock)


def _ratio(setting: Setting, what: str, limit: float, at_least: bool, pair: tuple[str, str], clock: str | None) -> Goal:
    def measured(results: Results) -> Spread | None:
        return results.ratio(setting, *pair, clock)

    def cold(results: Results) -> Spread | None:
        return results.ratio(setting, *pair, WALL_COLD)

    return Goal(setting, what, limit, at_least, measured, cold=cold)


def _over_roofline(setting: Setting, loss: str, limit: float) -> Goal:
    """The time as a multiple of the roofline, at the bandwidth of a copy in the same run."""

    def measured(results: Results) -> Spread | None:
        timing = results.timing(setting, loss)
        if timing is None:
            return None
        spread, least = timing.spread, results.roofline_seconds(setting)
        return Spread(spread.low / least, spread.middle / least, spread.high / least)

    return Goal(setting, f"{loss}, times as long as the roofline{_by(FIRST['cuda'])}", limit, False, measured)


def _takes(setting: Setting, loss: str, what: str, limit: float) -> Goal:
    """Memory above the gradient as a share of it, launches, or synchronisations."""
    share = setting.gradient_bytes if what == "memory" else 1

    def measured(results: Results) -> Spread | None:
        timing = results.timing(setting, loss)
        measured = None if timing is None else timing.extra.get(what)
        return None if measured is None else Spread(measured / share, measured / share, measured / share)

    said_of = {"memory": "peak memory above the gradient", "waits": "synchronisations"}.get(what, what)
    return Goal(setting, f"{loss}, {said_of}", limit, False, measured, "%" if what == "memory" else "")


def _by(clock: str | None) -> str:
    return "" if clock is None else f" ({clock})"
