"""Numbers as people read them."""

from __future__ import annotations

from regionloss_suite.bench.rounds import Spread

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def digits(value: float, count: int = 3) -> str:
    """A number to so many significant digits, without an exponent."""
    mantissa, _, exponent = f"{value:.{count - 1}e}".partition("e")
    return f"{float(f'{mantissa}e{exponent}'):.{max(count - 1 - int(exponent), 0)}f}"


def in_seconds(seconds: float, count: int = 3) -> str:
    """A time in the unit that suits it."""
    return _with_unit(seconds, _SECONDS, count)


def in_bytes(size: float, count: int = 3) -> str:
    """A size in decimal units."""
    return _with_unit(size, _BYTES, count)


def times(value: float) -> str:
    """A ratio."""
    return f"{digits(value)}×"


def ratio_in_words(found: Spread) -> str:
    """A ratio with its spread over the rounds."""
    return f"{times(found.middle)} ({digits(found.low)}–{digits(found.high)})"


def time_in_words(found: Spread) -> str:
    """A time with its spread over the rounds."""
    size, _ = _scaled(found.middle, _SECONDS)
    return f"{in_seconds(found.middle)} ({digits(found.low / size)}–{digits(found.high / size)})"


def percent(share: float) -> str:
    """A share."""
    return f"{digits(100 * share, 2)} %"


def _with_unit(value: float, units: tuple[tuple[float, str], ...], count: int) -> str:
    size, unit = _scaled(value, units)
    return f"{digits(value / size, count)} {unit}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next(((size, unit) for size, unit in units if abs(value) >= size), units[-1])
