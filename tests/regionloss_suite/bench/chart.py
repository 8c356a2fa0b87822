"""Charts of time and memory against the batch, the grid, the classes and the truths, on axes that double evenly.

Lines differ in marks and dashes as well as in colour. A chart takes the colours of the page that embeds it, light or
dark, and has a text alternative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import ceil, floor, log10

from regionloss_suite.bench.results import Results
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.tables import in_bytes, in_seconds

#: The panels: the title, and the number of a setting along the axis.
_AXES: tuple[tuple[str, Callable[[Setting], int]], ...] = (
    ("images in the batch, N", lambda setting: setting.images),
    ("cells along the grid, H = W", lambda setting: setting.height),
    ("classes, C", lambda setting: setting.classes),
    ("truths of an image", lambda setting: setting.truths[1]),
)

_WIDTH, _HEIGHT, _GAP, _LEFT, _TOP = 200, 190, 30, 66, 66
#: Colours that stay distinct for colour-blind readers, on light and on dark backgrounds; dashes and marks of each line.
_LOOKS = (
    ("#0072b2", "#56b4e9", "", "circle"),
    ("#d55e00", "#ff8c42", "6 3", "square"),
    ("#007d5c", "#2fc79b", "2 3", "triangle"),
    ("#a0508a", "#e39bc8", "9 3 2 3", "diamond"),
    ("#8a6d00", "#f0c93d", "4 2", "cross"),
    ("#555555", "#b5b5b5", "1 3", "circle"),
    ("#333399", "#9d9df5", "8 2", "square"),
)


@dataclass(frozen=True)
class Chart:
    """A chart: its file name, its text alternative, and the SVG."""

    name: str
    alternative: str
    svg: str


@dataclass(frozen=True)
class Line:
    """One candidate along one axis: positions and values, in order."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Panel:
    """One axis with its lines."""

    title: str
    lines: tuple[Line, ...]


def charts(results: Results) -> list[Chart]:
    """The charts of time and memory, where the settings of the run differ in only one number."""

    def time(setting: Setting, name: str) -> float | None:
        timing = results.timing(setting, name)
        return None if timing is None else timing.spread.middle

    def memory(setting: Setting, name: str) -> float | None:
        timing = results.timing(setting, name)
        memory = None if timing is None else timing.extra.get("memory")
        return None if memory is None else float(max(memory, 1))

    what = f"forward and backward ({results.clock})"
    return [
        chart
        for chart in (
            _chart("time", f"Time of {what}", _panels(results, time, with_copy=True), in_seconds),
            _chart("memory", "Peak memory above the gradient", _panels(results, memory), in_bytes),
        )
        if chart is not None
    ]


def _panels(results: Results, value: Callable[[Setting, str], float | None], *, with_copy: bool = False) -> list[Panel]:
    names = [*results.names, *(["copy_"] if with_copy else [])]
    panels = []
    for title, number in _AXES:
        settings = _along(results.settings, number)
        lines = []
        for name in names:
            points = [
                (number(setting), measured) for setting in settings if (measured := value(setting, name)) is not None
            ]
            if len(points) > 1:
                lines.append(Line(name, tuple(sorted(points))))
        if lines:
            panels.append(Panel(title, tuple(lines)))
    return panels


def _along(settings: Sequence[Setting], number: Callable[[Setting], int]) -> list[Setting]:
    """Settings that differ only in this number, one for each value: the largest such group."""
    best: dict[int, Setting] = {}
    for middle in settings:
        group: dict[int, Setting] = {}
        for setting in settings:
            if all(_same(setting, middle, other) for _, other in _AXES if other is not number) and (
                replace(setting, height=1, width=1, images=1, classes=1, truths=(1, 1))
                == replace(middle, height=1, width=1, images=1, classes=1, truths=(1, 1))
            ):
                group.setdefault(number(setting), setting)
        best = max(best, group, key=len)
    return list(best.values()) if len(best) > 1 else []


def _same(one: Setting, other: Setting, number: Callable[[Setting], int]) -> bool:
    return number(one) == number(other)


def _chart(name: str, title: str, panels: Sequence[Panel], say: Callable[..., str]) -> Chart | None:
    if not panels:
        return None
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    values = [value for panel in panels for line in panel.lines for _, value in line.points]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    width = _LEFT + len(panels) * (_WIDTH + _GAP)
    alternative = f"{title}. {' '.join(_in_words(panel, say) for panel in panels)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + 52}" role="img" '
        f'aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="12">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(alternative)}</desc>',
        _style(len(names)),
        f'<text x="{_LEFT}" y="18" class="ink head">{escape(title)}</text>',
        *_legend(names),
    ]
    for index, panel in enumerate(panels):
        parts += _panel(panel, _LEFT + index * (_WIDTH + _GAP), low, high, names, say, with_labels=index == 0)
    return Chart(name, alternative, "\n".join([*parts, "</svg>", ""]))


def _in_words(panel: Panel, say: Callable[..., str]) -> str:
    lines = []
    for line in panel.lines:
        (first, one), (last, other) = line.points[0], line.points[-1]
        lines.append(f"{line.name} from {say(one)} at {first} to {say(other)} at {last}")
    return f"Against {panel.title}: {'; '.join(lines)}."


def _style(count: int) -> str:
    light = "".join(f".s{index}{{--c:{look[0]}}}" for index, look in enumerate(_LOOKS[:count]))
    dark = "".join(f".s{index}{{--c:{look[1]}}}" for index, look in enumerate(_LOOKS[:count]))
    return (
        "<style>.ground{fill:#fff}.ink{fill:#1f2328}.grid{stroke:#d0d7de;stroke-width:1}"
        ".head{font-size:14px;font-weight:600}.line{fill:none;stroke:var(--c);stroke-width:2}"
        f".mark{{fill:var(--c);stroke:var(--c);stroke-width:1.5}}{light}"
        "@media (prefers-color-scheme: dark){.ground{fill:#0d1117}.ink{fill:#e6edf3}.grid{stroke:#3d444d}"
        f'{dark}}}</style><rect class="ground" width="100%" height="100%"/>'
    )


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], float(_LEFT)
    for index, name in enumerate(names):
        dashes = _LOOKS[index % len(_LOOKS)][2]
        parts.append(f'<path class="line s{index}" stroke-dasharray="{dashes}" d="M{x:.0f} 38h26"/>')
        parts.append(_mark(index, x + 13, 38))
        parts.append(f'<text class="ink" x="{x + 32:.0f}" y="42">{escape(name)}</text>')
        x += 52 + 6.8 * len(name)
    return parts


def _panel(
    panel: Panel,
    left: int,
    low: int,
    high: int,
    names: Sequence[str],
    say: Callable[..., str],
    *,
    with_labels: bool,
) -> list[str]:
    places = sorted({place for line in panel.lines for place, _ in line.points})
    span = log10(places[-1] / places[0])

    def x(place: int) -> float:
        return left + 8 + (_WIDTH - 16) * log10(place / places[0]) / span

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - log10(value)) / (high - low)

    parts = []
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}h{_WIDTH}"/>')
        if with_labels:
            parts.append(_text(left - 8, at + 4, say(float(f"1e{power}"), count=1), "end"))
    shown = -1e9
    for place in places:
        if x(place) - shown > 20:  # where two would overlap, the second has no label
            shown = x(place)
            parts.append(_text(shown, _TOP + _HEIGHT + 18, str(place)))
    parts.append(_text(left + _WIDTH / 2, _TOP + _HEIGHT + 38, panel.title))
    for line in panel.lines:
        index = names.index(line.name)
        steps = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in line.points)
        dashes = _LOOKS[index % len(_LOOKS)][2]
        parts.append(f'<polyline class="line s{index}" stroke-dasharray="{dashes}" points="{steps}"/>')
        parts += [_mark(index, x(place), y(value)) for place, value in line.points]
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="ink" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _mark(index: int, x: float, y: float) -> str:
    shape = _LOOKS[index % len(_LOOKS)][3]
    path = {
        "circle": f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "square": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z",
        "triangle": f"M{x:.1f} {y - 4.5:.1f}l4.5 8h-9z",
        "diamond": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
        "cross": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8",
    }[shape]
    return f'<path class="mark s{index}" d="{path}"/>'
