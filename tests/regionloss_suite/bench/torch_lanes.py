"""Which calls of a loss are timed by which clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from regionloss_adapters import Timed
from regionloss_suite.bench.rounds import Once
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.torch_calibration import large_copy, yardsticks
from regionloss_suite.bench.torch_clocks import (
    COLD,
    GRAPH_COLD,
    GRAPH_WARM,
    WALL,
    WALL_COLD,
    WARM,
    CaptureError,
    between_events,
    captured,
    flusher,
    on_host,
    queued,
)

Call = Callable[[Any], Any]


def of_loss(timed: Timed, device: str, *, steps: bool) -> tuple[dict[tuple[str, str], Once], tuple[str, ...]]:
    """One call of each step by each clock, by step and clock, and why some are missing.

    Args:
        timed: the loss with its batch.
        device: `cpu` or `cuda`.
        steps: whether forward, backward and no_grad are timed alone, and on the CPU both together with cold caches.
    """
    calls: dict[str, tuple[Call, Callable[[], Any] | None]] = {"both": (lambda _: timed.both(), None)}
    if steps:
        calls["forward"] = (lambda _: timed.forward(), None)
        calls["backward"] = (timed.backward, timed.forward)
        calls["no_grad"] = (lambda _: timed.no_grad(), None)
    lanes: dict[tuple[str, str], Once] = {}
    for step, (call, before) in calls.items():
        cold = steps and step == "both"
        lanes |= {(step, clock): once for clock, once in _clocks(call, before, device, cold=cold).items()}
    notes: tuple[str, ...] = ()
    if device == "cuda":
        try:
            replay = captured(timed.both)
            lanes |= {("both", clock): once for clock, once in _graph_clocks(replay).items()}
        except CaptureError as error:
            notes = (f"no CUDA graph holds it: {error}",)
    return lanes, notes


def of_yardsticks(setting: Setting, device: str, *, cold: bool) -> dict[tuple[str, str, str], Once]:
    """One call of each yardstick by each clock, by yardstick, step and clock; `cold`, whether on the CPU too."""
    lanes: dict[tuple[str, str, str], Once] = {}
    for name, call in yardsticks(setting, device).items():
        clocks = _clocks(lambda _, call=call: call(), None, device, cold=cold)  # type: ignore[misc]
        if device == "cuda":
            clocks |= _graph_clocks(captured(call))
        lanes |= {(name, "both", clock): once for clock, once in clocks.items()}
    return lanes


def bandwidth(device: str) -> float:
    """Bytes a second that a large copy reads and writes, at its best of several."""
    call, moved = large_copy(device)
    once = _clocks(lambda _: call(), None, device)[WALL]
    return moved / min(once() for _ in range(8))


def forget_compiled() -> None:
    """Let go of all that was compiled: beyond some shapes PyTorch would stop compiling a function."""
    torch.compiler.reset()


def seconds(call: Callable[[], Any], device: str) -> float:
    """What one call takes, after one that does not count."""
    once = _clocks(lambda _: call(), None, device)[WALL]
    once()
    return once()


def _clocks(call: Call, before: Callable[[], Any] | None, device: str, *, cold: bool = False) -> dict[str, Once]:
    if device == "cpu":
        flushed = {WALL_COLD: on_host(call, before, flush=_flusher("cpu"))} if cold else {}
        return {WALL: on_host(call, before), **flushed}
    return {
        WALL: queued(call, before),
        COLD: between_events(call, before, flush=_flusher("cuda")),
        WARM: between_events(call, before),
    }


def _graph_clocks(replay: Call) -> dict[str, Once]:
    return {GRAPH_COLD: between_events(replay, flush=_flusher("cuda")), GRAPH_WARM: between_events(replay)}


@cache
def _flusher(device: str) -> Tensor:
    return flusher(device)
