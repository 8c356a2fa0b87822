"""What a run has measured, told to pytest-benchmark: one test for each series, which plays its times back.

pytest-benchmark times one function after the other with one clock. Here contenders take turns and a device has clocks
of its own, so the times are taken elsewhere (`rounds.py`) and handed to it by its own timer, for its statistics, its
JSON, its machine and commit. This is no test file; `filing.py` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from regionloss_suite.bench.export import Filed


class Playback:
    """A timer by which each call takes as long as was measured."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._readings = iter([reading for second in seconds for reading in (0.0, second)])

    def __call__(self) -> float:
        """The reading: 0 before a call, and what it took after it."""
        return next(self._readings)


def test_series(filed: Filed, request: pytest.FixtureRequest) -> None:
    """Hand one series to pytest-benchmark."""
    request.node.add_marker(pytest.mark.benchmark(timer=Playback(filed.seconds), group=filed.group))
    benchmark: Any = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(filed.extra)
    benchmark.pedantic(lambda: None, rounds=len(filed.seconds))
