"""The time of a public loss as a multiple of the eager path, without the correctness check.

`regionloss bench` times only conforming losses; these compute something else, so the ratio stands alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from regionloss_adapters import Adapter, Question, Timeable, load_adapter
from regionloss_suite.bench.setting import Setting
from regionloss_suite.measure.experiments import question_profile

#: How many times a loss and the eager path are timed in alternation.
ROUNDS = 15


def ratio(adapter: Timeable) -> dict[str, Any]:
    """The time of forward and backward as a multiple of the eager path, timed in alternation on one thread."""
    setting = Setting()
    batch, losses = setting.draw(), (adapter, load_adapter("torch-eager"))
    assert isinstance(adapter, Adapter)
    profile = setting.profile(question_profile(adapter, None))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = [
            one.prepare(Question(batch=batch, profile=profile)).both for one in losses if isinstance(one, Timeable)
        ]
        for step in steps:
            step()
        times = [[_seconds(step) for step in steps] for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(before)
    return {
        "ratio": float(f"{statistics.median(theirs / ours for theirs, ours in times):.3g}"),
        "milliseconds": float(f"{1e3 * statistics.median(theirs for theirs, _ in times):.3g}"),
        "setting": setting.title,
    }


def _seconds(step: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin
