"""The times of a run, read from the JSON of pytest-benchmark, the only source of every table and chart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regionloss_suite.bench.candidates import BASES
from regionloss_suite.bench.rounds import Spread, ratio, spread
from regionloss_suite.bench.setting import Setting

#: The clock that is shown and compared first, by the kind of device (see `torch_clocks.py`).
FIRST = {"cpu": "wall", "cuda": "device, cold"}

#: The same clock of the CPU with cold caches.
WALL_COLD = "wall, cold"

#: The fill and copy calls, which are not losses.
CALIBRATION = ("zero_ (fresh)", "zero_", "copy_")


class ResultsError(ValueError):
    """A file without benchmark results; the message names it."""


@dataclass(frozen=True, eq=False)
class Timing:
    """One series of times: seconds per call, one for each round."""

    candidate: str
    step: str
    clock: str
    rounds: dict[int, float]
    extra: dict[str, Any]

    @property
    def spread(self) -> Spread:
        """Quantiles of the seconds over the rounds."""
        return spread(list(self.rounds.values()))


class Results:
    """All results of one run.

    Args:
        data: the JSON, parsed.
        name: the file's name, for error messages.

    Raises:
        ResultsError: the JSON has another format.
    """

    def __init__(self, data: Any, name: str) -> None:
        try:
            self.data: dict[str, Any] = data
            self.about: dict[str, Any] = data["regionloss"]
            self.device: str = self.about["device"]
            self.settings = [Setting.from_json(one["setting"]) for one in self.about["settings"]]
            self._timings = {_key(one): _timing(one) for one in data["benchmarks"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError(f"{name}: not results of `regionloss bench`: {error!r}") from error

    @property
    def clock(self) -> str:
        """The clock that is shown and compared first."""
        return FIRST[self.device]

    @cached_property
    def rooflines(self) -> dict[Setting, dict[str, int]]:
        """The least number of bytes that each step moves, by setting."""
        return {Setting.from_json(one["setting"]): one["floor"] for one in self.about["settings"]}

    def timing(self, setting: Setting, candidate: str, step: str = "both", clock: str | None = None) -> Timing | None:
        """One series, by the first clock unless another is named; `None` if it was not timed."""
        return self._timings.get((setting.name, candidate, step, clock or self.clock))

    def candidates(self, setting: Setting) -> list[str]:
        """The losses that were timed in a setting."""
        return [name for name in self.names if self.timing(setting, name) is not None]

    @cached_property
    def names(self) -> list[str]:
        """Every timed loss: those under test first, then the comparators."""
        names = dict.fromkeys(key[1] for key in self._timings)
        losses = [name for name in names if name not in CALIBRATION]
        return sorted(losses, key=lambda name: BASES.index(name) if name in BASES else -1)

    @cached_property
    def base(self) -> str | None:
        """The loss that the tables use as the base of ratios; `None` if no comparator was timed."""
        return next((name for name in BASES if name in self.names), None)

    @cached_property
    def clocks(self) -> list[str]:
        """The clocks that timed `both`, in the order of the file."""
        return list(dict.fromkeys(key[3] for key in self._timings if key[2] == "both"))

    def bandwidth(self, setting: Setting) -> float:
        """The best copy rate of this run in bytes per second: of a large tensor, or of one like the gradient."""
        copy = self.timing(setting, "copy_")
        best = 0.0 if copy is None else 2 * setting.gradient_bytes / min(copy.rounds.values())
        return max(best, float(self.about["bandwidth"]))

    def roofline_seconds(self, setting: Setting, step: str = "both") -> float:
        """The least time of a step at that bandwidth."""
        return self.rooflines[setting][step] / self.bandwidth(setting)

    def ratio(self, setting: Setting, candidate: str, base: str, clock: str | None = None) -> Spread | None:
        """The time of a loss as a multiple of a base, forward and backward; `None` if one of the two was not timed."""
        one, other = self.timing(setting, candidate, clock=clock), self.timing(setting, base, clock=clock)
        return None if one is None or other is None else ratio(one.rounds, other.rounds)


def read_results(path: Path) -> Results:
    """The results in a file. Raises `ResultsError` if it cannot be read or has no results."""
    try:
        return Results(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise error if isinstance(error, ResultsError) else ResultsError(f"{path}: not JSON: {error}") from error


def to_text(data: dict[str, Any]) -> str:
    """The JSON with every series and setting on a line of its own."""
    parts = []
    for key, value in data.items():
        if key == "benchmarks":
            lines = ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in value)
            parts.append(f' "{key}": [\n{lines}\n ]')
        else:
            parts.append(f' "{key}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _key(one: dict[str, Any]) -> tuple[str, str, str, str]:
    extra = one["extra_info"]
    return one["group"], extra["contender"], extra["step"], extra["clock"]


def _timing(one: dict[str, Any]) -> Timing:
    extra = one["extra_info"]
    rounds = dict(zip(extra["rounds"], one["stats"]["data"], strict=True))
    return Timing(extra["contender"], extra["step"], extra["clock"], rounds, extra)
