"""Results as tables, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from regionloss_suite.bench.goals import Goal, goals_of
from regionloss_suite.bench.plan import STEPS
from regionloss_suite.bench.results import CALIBRATION, WALL_COLD, Results, Timing
from regionloss_suite.bench.rounds import Spread
from regionloss_suite.bench.setting import Setting

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table with a title and a sentence or two below it; the first `words` columns are text, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()
    words: int = 1

    def text(self) -> list[str]:
        """For a terminal: text to the left, numbers to the right."""
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        lines = [self.title]
        for row in (self.header, *self.rows):
            cells = [cell.ljust(width) for cell, width in zip(row[: self.words], widths, strict=False)]
            cells += [cell.rjust(width) for cell, width in zip(row[self.words :], widths[self.words :], strict=True)]
            lines.append("  " + "  ".join(cells).rstrip())
        return [*lines, *(f"  {sentence}" for sentence in self.below)]

    def markdown(self) -> list[str]:
        """For a page."""
        lines = [f"### {self.title}", "", _row(self.header), self._rule()]
        lines += [_row(row) for row in self.rows]
        return [*lines, *(["", *self.below] if self.below else [])]

    def _rule(self) -> str:
        return _row(["---" if column < self.words else "---:" for column in range(len(self.header))])


def goals_table(results: Results) -> Table | None:
    """The measured goals; for the standard plan, all of them."""
    goals = [goal for goal in goals_of(results.device) if _is_shown(goal, results)]
    if not goals:
        return None
    header: tuple[str, ...] = "where", "what", "goal", "measured", "20–80 %", ""
    rows = tuple(_goal(goal, results) for goal in goals)
    if WALL_COLD in results.clocks:
        cold = [goal.cold(results) for goal in goals]
        header = (*header, "with cold caches")
        rows = tuple((*row, _ratio(one)) for row, one in zip(rows, cold, strict=True))
    return Table("The goals, as ratios within this run", header, rows, words=2)


def _is_shown(goal: Goal, results: Results) -> bool:
    return results.about["plan"] == "standard" or goal.met(results) is not None


def _goal(goal: Goal, results: Results) -> tuple[str, ...]:
    spread, met = goal.measured(results), goal.met(results)
    limit = f"{'≥' if goal.at_least else '≤'} {_amount(goal.limit, goal.unit)}"
    if spread is None:
        return goal.where, goal.what, limit, NONE, NONE, "not measured"
    between = (
        NONE if spread.low == spread.high else f"{_amount(spread.low, goal.unit)}–{_amount(spread.high, goal.unit)}"
    )
    return goal.where, goal.what, limit, _amount(spread.middle, goal.unit), between, "✓ met" if met else "✗ not met"


def setting_tables(results: Results) -> list[Table]:
    """A table for each setting whose steps were timed, and one for the settings of the charts."""
    alone = [setting for setting in results.settings if _has_steps(results, setting)]
    others = [setting for setting in results.settings if setting not in alone and results.candidates(setting)]
    tables = [table for setting in alone for table in _of_setting(results, setting)]
    return [*tables, *([_joined(results, others)] if others else [])]


def _has_steps(results: Results, setting: Setting) -> bool:
    return any(results.timing(setting, name, "forward") for name in results.names)


def _of_setting(results: Results, setting: Setting) -> list[Table]:
    candidates = [results.timing(setting, name) for name in (*results.candidates(setting), *CALIBRATION)]
    timings = [timing for timing in candidates if timing is not None]
    roofline = results.rooflines[setting]
    below = [
        f"Gradient {in_bytes(setting.gradient_bytes)}; roofline of forward {in_bytes(roofline['forward'])}, "
        f"of both {in_bytes(roofline['both'])}, which takes {in_seconds(results.roofline_seconds(setting))} "
        f"at {results.bandwidth(setting) / 1e9:.3g} GB/s."
    ]
    below += [f"{timing.candidate}: {note}." for timing in timings for note in timing.extra.get("notes", ())]
    header = (f"time ({results.clock})", "both (20–80 %)", "forward", "backward", "no-grad", "GB/s", "of roofline")
    rows = tuple((_marked(timing), *_times(results, setting, timing)) for timing in timings)
    tables = [Table(setting.title, header, rows, tuple(below)), _held_against(results, setting, timings)]
    if len(results.clocks) > 1:
        tables.append(_by_clock(results, setting, timings))
    return tables


def _times(results: Results, setting: Setting, timing: Timing) -> tuple[str, ...]:
    moved, middle = results.rooflines[setting]["both"], timing.spread.middle
    if timing.candidate in CALIBRATION:
        moved = setting.gradient_bytes * (2 if timing.candidate == "copy_" else 1)
    steps = [results.timing(setting, timing.candidate, step) for step in STEPS]
    return (
        time_in_words(timing.spread),
        *(NONE if step is None else in_seconds(step.spread.middle) for step in steps),
        digits(moved / middle / 1e9),
        percent(moved / results.bandwidth(setting) / middle),
    )


def _held_against(results: Results, setting: Setting, timings: Sequence[Timing]) -> Table:
    """Each loss as a multiple of the calibration calls and of a comparator, with its resources other than time."""
    # On the host the system maps fresh pages for a gradient, which takes time; on CUDA it does not.
    zero = "zero_" if results.device == "cuda" else "zero_ (fresh)"
    last = ("launches", "synchronisations") if results.device == "cuda" else ("its gradient's memory",)
    clocks = [None, *(clock for clock in results.clocks if clock == WALL_COLD)]
    rows = []
    for timing in timings:
        name, extra = timing.candidate, timing.extra
        if name in CALIBRATION:
            continue
        memory = extra.get("memory")
        if results.device == "cuda":
            footprint = tuple(NONE if extra.get(key) is None else str(extra[key]) for key in last)
        else:
            footprint = (_pages(extra.get("fresh_pages"), setting),)
        rows.append(
            (
                _marked(timing),
                *(_ratio(results.ratio(setting, name, reference)) for reference in (zero, "copy_")),
                *(_faster(results, setting, name, clock) for clock in clocks),
                NONE if memory is None else f"{in_bytes(memory)} ({percent(memory / setting.gradient_bytes)})",
                *footprint,
            )
        )
    faster = f"faster than {results.base or NONE}"
    header = (
        "both, as ratios",
        f"as long as {zero}",
        "as long as copy_",
        faster,
        *["with cold caches"] * (len(clocks) - 1),
    )
    return Table(f"{setting.title}: compared", (*header, "memory above", *last), tuple(rows))


def _faster(results: Results, setting: Setting, name: str, clock: str | None) -> str:
    """The speed-up of a loss over the comparator."""
    base = results.base
    return NONE if base is None or base == name else _ratio(results.ratio(setting, base, name, clock))


def _by_clock(results: Results, setting: Setting, timings: Sequence[Timing]) -> Table:
    rows = []
    for timing in timings:
        name = timing.candidate
        cells = [results.timing(setting, name, clock=clock) for clock in results.clocks]
        rows.append((name, *(NONE if cell is None else time_in_words(cell.spread) for cell in cells)))
    return Table(f"{setting.title}: by each clock", ("both (20–80 %)", *results.clocks), tuple(rows))


def _joined(results: Results, settings: Sequence[Setting]) -> Table:
    """Settings side by side: forward and backward of every candidate, and the memory above the gradient."""
    names = [name for name in results.names if any(results.timing(setting, name) for setting in settings)]
    header = ["forward and backward"]
    for name in names:
        header += [name, "memory above"]
    rows = []
    for setting in settings:
        row = [setting.title]
        for name in names:
            timing = results.timing(setting, name)
            memory = None if timing is None else timing.extra.get("memory")
            row.append(NONE if timing is None else time_in_words(timing.spread))
            row.append(NONE if memory is None else in_bytes(memory))
        rows.append(tuple(row))
    return Table("Along the axes of the charts", tuple(header), tuple(rows))


def _marked(timing: Timing) -> str:
    return f"{timing.candidate} (with conversions)" if timing.extra.get("conversions") else timing.candidate


def _pages(fresh: int | None, setting: Setting) -> str:
    """Whether the gradient was written to fresh or to reused memory."""
    if fresh is None:
        return NONE
    share = fresh / setting.gradient_bytes
    return "fresh" if share >= 0.5 else "reused" if share < 0.05 else f"reused, {percent(share)} fresh"


def _ratio(spread: Spread | None) -> str:
    return NONE if spread is None else ratio_in_words(spread)


def _amount(value: float, unit: str) -> str:
    return {"%": percent(value), "×": times(value), "": f"{value:g}"}[unit]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def digits(value: float, count: int = 3) -> str:
    """A number to this many significant digits, without an exponent."""
    mantissa, _, exponent = f"{value:.{count - 1}e}".partition("e")
    return f"{float(f'{mantissa}e{exponent}'):.{max(count - 1 - int(exponent), 0)}f}"


def in_seconds(seconds: float, count: int = 3) -> str:
    """A time in a suitable unit."""
    return _with_unit(seconds, _SECONDS, count)


def in_bytes(size: float, count: int = 3) -> str:
    """A size in decimal units."""
    return _with_unit(size, _BYTES, count)


def times(value: float) -> str:
    """A ratio."""
    return f"{digits(value)}×"


def ratio_in_words(spread: Spread) -> str:
    """A ratio with its spread over the rounds."""
    return f"{times(spread.middle)} ({digits(spread.low)}–{digits(spread.high)})"


def time_in_words(spread: Spread) -> str:
    """A time with its spread over the rounds."""
    size, _ = _scaled(spread.middle, _SECONDS)
    return f"{in_seconds(spread.middle)} ({digits(spread.low / size)}–{digits(spread.high / size)})"


def percent(share: float) -> str:
    """A share."""
    return f"{digits(100 * share, 2)} %"


def _with_unit(value: float, units: tuple[tuple[float, str], ...], count: int) -> str:
    size, unit = _scaled(value, units)
    return f"{digits(value / size, count)} {unit}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next(((size, unit) for size, unit in units if abs(value) >= size), units[-1])
