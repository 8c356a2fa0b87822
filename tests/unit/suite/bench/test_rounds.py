"""How candidates take turns, and how times become ratios; clocks are made up, and no time is asserted."""

from __future__ import annotations

from typing import Any

import pytest

from regionloss_suite.bench.rounds import Effort, Spread, interleave, quantile, ratio, spread


def test_a_quantile_lies_between_the_two_numbers_around_it() -> None:
    assert [quantile([4.0, 1.0, 2.0], share) for share in (0.0, 0.2, 0.5, 0.75, 1.0)] == [1.0, 1.4, 2.0, 3.0, 4.0]
    assert spread([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]) == Spread(20.0, 35.0, 50.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    # Both are twice as slow in round 1, which a ratio of medians would not see.
    assert ratio({0: 3.0, 1: 6.0, 2: 3.0}, {0: 1.0, 1: 2.0, 2: 1.0}) == Spread(3.0, 3.0, 3.0)
    assert ratio({0: 3.0, 4: 8.0}, {4: 2.0, 5: 1.0}) == Spread(4.0, 4.0, 4.0)
    assert ratio({0: 3.0}, {1: 1.0}) is None


class Clock:
    """A made-up clock: each lane's calls take the times that it is given, the last of them for ever."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def lane(self, name: str, *seconds: float) -> Any:
        def once() -> float:
            self.called.append(name)
            count = self.called.count(name)
            return seconds[min(count, len(seconds)) - 1]

        return once


def test_candidates_take_turns_and_each_round_begins_with_another() -> None:
    clock = Clock()
    seconds = interleave(
        {"a": clock.lane("a", 1.0), "b": clock.lane("b", 2.0), "c": clock.lane("c", 3.0)},
        Effort(rounds=4, turn=0.1, most=100.0),
    )
    assert "".join(clock.called) == "aabbcc" + "abc" + "bca" + "cab" + "abc"  # two calls each go ahead
    assert seconds == {
        "a": {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0},
        "b": {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0},
        "c": {0: 3.0, 1: 3.0, 2: 3.0, 3: 3.0},
    }


def test_a_short_call_is_made_several_times_a_turn_and_the_first_do_not_count() -> None:
    clock = Clock()
    # Two calls ahead; then two of 9.0, and a turn of four whose median is 0.3.
    once = clock.lane("a", 5.0, 0.25, 9.0, 9.0, 0.3, 0.9, 0.2, 0.3)
    assert interleave({"a": once}, Effort(rounds=1, turn=1.0, most=100.0)) == {"a": {0: 0.3}}
    assert len(clock.called) == 2 + 2 + 4


@pytest.mark.parametrize(
    ("seconds", "ahead", "counted"),
    [(0.01, 8, 50), (0.0625, 8, 16), (0.3, 2, 3), (0.75, 1, 1), (1.5, 1, 1), (2.5, 0, 1)],
)
def test_how_many_calls_go_ahead_of_a_turn(seconds: float, ahead: int, counted: int) -> None:
    clock = Clock()
    interleave({"a": clock.lane("a", seconds)}, Effort(rounds=1, turn=1.0, most=100.0))
    assert len(clock.called) == 2 + ahead + counted


def test_a_slow_candidate_takes_part_in_some_rounds_that_lie_evenly() -> None:
    clock = Clock()
    timed_calls = {
        "slow": clock.lane("slow", 2.0),
        "fast": clock.lane("fast", 0.5),
        "endless": clock.lane("endless", 50.0),
    }
    seconds = interleave(timed_calls, Effort(rounds=12, turn=0.1, most=12.0))
    assert list(seconds["slow"]) == [0, 2, 4, 6, 8, 10]
    assert list(seconds["fast"]) == list(range(12))
    assert list(seconds["endless"]) == [0, 4, 8]


def test_what_goes_before_a_call_counts_for_how_many_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    calls = 0

    def once() -> float:  # three seconds go before a call that takes a tenth of one
        nonlocal now, calls
        now, calls = now + 3.1, calls + 1
        return 0.1

    monkeypatch.setattr("regionloss_suite.bench.rounds.perf_counter", lambda: now)
    assert interleave({"a": once}, Effort(rounds=10, turn=1.0, most=16.0)) == {"a": dict.fromkeys((0, 2, 4, 6, 8), 0.1)}
    assert calls == 2 + 5  # not ten to a turn, and no more rounds than sixteen seconds hold
