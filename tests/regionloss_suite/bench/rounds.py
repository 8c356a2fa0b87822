"""Comparable times: every candidate runs in every round, so that noise affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

#: Makes one call and returns the seconds that it took, by any clock; preparation is not included.
Once = Callable[[], float]

#: The most calls of a turn, the most warm-up calls, and the fewest rounds of a slow candidate.
MOST_CALLS, MOST_AHEAD, FEWEST_ROUNDS = 50, 8, 3


@dataclass(frozen=True)
class Effort:
    """The effort of a measurement.

    Attributes:
        rounds: how many turns each candidate gets.
        turn: seconds of a turn, if a call takes less.
        most: the most seconds for one candidate over all rounds; a slow one runs in fewer rounds.
    """

    rounds: int = 15
    turn: float = 0.02
    most: float = 6.0


@dataclass(frozen=True)
class Spread:
    """The 20, 50 and 80 % quantiles of some numbers."""

    low: float
    middle: float
    high: float


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile, interpolated between its two neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def spread(values: Sequence[float]) -> Spread:
    """The quantiles of at least one number."""
    return Spread(*(quantile(values, share) for share in (0.2, 0.5, 0.8)))


def ratio(times: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """The time as a multiple of a base, over the rounds that have both; `None` if no round has."""
    both = sorted(times.keys() & base.keys())
    return spread([times[number] / base[number] for number in both]) if both else None


def interleave(timed_calls: Mapping[Key, Once], effort: Effort) -> dict[Key, dict[int, float]]:
    """Run every candidate in every round, and start each round with a different one.

    A turn makes as many calls as fill its time, and its result is their median. Half as many uncounted warm-up calls
    come first: the first ones run with the caches and memory of the candidate before, and it takes about eight until a
    loop behaves as if it ran alone. If a single call takes more than two turns, the effect is too small to be worth the
    time.

    Args:
        timed_calls: each makes one call.
        effort: the effort of the measurement.

    Returns:
        For each candidate, the seconds per call in each of its rounds.
    """
    calls: dict[Key, int] = {}
    ahead: dict[Key, int] = {}
    share: dict[Key, int] = {}
    for key, once in timed_calls.items():
        once()
        begin = perf_counter()
        seconds = once()
        seconds = max(seconds, perf_counter() - begin)
        calls[key] = min(max(int(effort.turn / seconds), 1), MOST_CALLS)
        ahead[key] = min(-(-calls[key] // 2), MOST_AHEAD) if seconds < 2 * effort.turn else 0
        turns = int(effort.most / (seconds * (calls[key] + ahead[key])))
        share[key] = min(effort.rounds, max(turns, FEWEST_ROUNDS))
    times: dict[Key, dict[int, float]] = {key: {} for key in timed_calls}
    order = list(timed_calls)
    for number in range(effort.rounds):
        first = number % max(len(order), 1)
        for key in order[first:] + order[:first]:
            if _takes_part(number, share[key], effort.rounds):
                for _ in range(ahead[key]):
                    timed_calls[key]()
                times[key][number] = median(timed_calls[key]() for _ in range(calls[key]))
    return times


def _takes_part(number: int, share: int, rounds: int) -> bool:
    """Whether a round is one of `share` of them, spaced evenly and starting with the first."""
    return number * share // rounds != (number - 1) * share // rounds
