"""Times that can be held against each other: every candidate takes its turn in every round, so noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

#: Makes one call and gives the seconds that it took, on whatever clock; what goes before it may take longer.
Once = Callable[[], float]

#: Most calls of one turn, most that go ahead of them, and fewest rounds that a slow candidate takes part in.
MOST_CALLS, MOST_AHEAD, FEWEST_ROUNDS = 50, 8, 3


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        rounds: how often each candidate takes its turn.
        turn: seconds that a turn takes, if a call takes less.
        most: seconds that one candidate may take over all rounds; a slow one takes part in fewer of them.
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
    """A quantile, interpolated between the two numbers that it falls between."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def spread(values: Sequence[float]) -> Spread:
    """The quantiles of some numbers, of which there is at least one."""
    return Spread(*(quantile(values, share) for share in (0.2, 0.5, 0.8)))


def ratio(times: Mapping[int, float], base: Mapping[int, float]) -> Spread | None:
    """How many times as long something took as a base, over the rounds in which both took part; none, where none."""
    both = sorted(times.keys() & base.keys())
    return spread([times[number] / base[number] for number in both]) if both else None


def interleave(timed_calls: Mapping[Key, Once], effort: Effort) -> dict[Key, dict[int, float]]:
    """Let every lane take its turn in every round, and begin each round with another one.

    A turn is as many calls as fill its time, and its result their median. Half as many go ahead of them uncounted: the
    first find the caches and the memory as the candidate before has left them, and it takes some eight of them until a
    loop is what it would be alone. Where a single call fills the turn twice over, that matters too little to be worth
    its time.

    Args:
        timed_calls: makes one call each.
        effort: how long is measured.

    Returns:
        For each lane the seconds of a call in each round that it took part in.
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
    """Whether a round is one of the `share` that lie evenly among all of them, the first being one."""
    return number * share // rounds != (number - 1) * share // rounds
