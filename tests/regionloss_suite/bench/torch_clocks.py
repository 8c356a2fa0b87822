"""The clocks that time a call: the host's, and on CUDA the device's.

- `wall`: the host's clock. On CUDA, ten calls and one synchronisation; a tenth of that is the time.
- `wall, cold`: the host's clock on the CPU, with the caches overwritten before each call.
- `device, cold` and `device, warm`: CUDA events around the call, with the L2 cache flushed or as the last call left
  it. The device is kept busy before, so that short calls queue up and the gaps between launches are not counted; the
  gaps do show if the launches of a call take the host longer than that.
- `graph, cold` and `graph, warm`: the same for the replay of a CUDA graph of the call, which has no gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from regionloss_adapters import Timed
from regionloss_suite.bench.rounds import Once
from regionloss_suite.bench.setting import Setting
from regionloss_suite.bench.torch_calibration import calibration, large_copy

Call = Callable[[], Any]
_Call = Callable[[Any], Any]

WALL, WALL_COLD = "wall", "wall, cold"
COLD, WARM, GRAPH_COLD, GRAPH_WARM = "device, cold", "device, warm", "graph, cold", "graph, warm"

#: Number of calls before the host synchronises.
_QUEUED = 10

#: Cycles that the device is kept busy before a call timed by events, about half a millisecond.
_BUSY = 1_000_000


class CaptureError(Exception):
    """The call cannot be captured in a CUDA graph; the message states why."""


def on_host(call: Callable[[Any], Any], before: Call | None = None, *, flush: Tensor | None = None) -> Once:
    """One call by the host's clock; its argument is the result of `before`, which is not timed.

    `flush`, larger than the caches, is written before the call, so that the caches hold none of its data.
    """

    def once() -> float:
        given = before() if before is not None else None
        if flush is not None:
            flush.zero_()
        start = perf_counter()
        call(given)
        return perf_counter() - start

    return once


def queued(call: Callable[[Any], Any], before: Call | None = None) -> Once:
    """The host's clock for an asynchronous device."""

    def once() -> float:
        given = [before() if before is not None else None for _ in range(_QUEUED)]
        torch.cuda.synchronize()
        start = perf_counter()
        for one in given:
            call(one)
        torch.cuda.synchronize()
        return (perf_counter() - start) / _QUEUED

    return once


def between_events(call: Callable[[Any], Any], before: Call | None = None, *, flush: Tensor | None = None) -> Once:
    """The device's clock. `flush`, larger than the cache, is written first, so that the call's data is not cached."""
    # PyTorch has no types for these.
    start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def once() -> float:
        given = before() if before is not None else None
        if flush is not None:
            flush.zero_()
        torch.cuda._sleep(_BUSY)  # type: ignore[no-untyped-call]
        start.record()
        call(given)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return once


def captured(call: Call) -> Callable[[Any], Any]:
    """The replay of a CUDA graph of a call.

    Raises:
        CaptureError: the call synchronises, or does something else that a graph cannot capture.
    """
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            kept = call()
    except RuntimeError as error:
        torch.cuda.synchronize()
        raise CaptureError(str(error).strip().splitlines()[0]) from error

    def replay(_: Any = None) -> Any:
        graph.replay()
        return kept

    return replay


def flusher(device: str) -> Tensor:
    """The tensor whose writing empties the caches: half a gigabyte, on CUDA at least four times the L2 cache."""
    size = 1 << 29
    if device == "cuda":
        size = max(size, 4 * torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    return torch.empty(size, dtype=torch.uint8, device=device)


def of_loss(timed: Timed, device: str, *, steps: bool) -> tuple[dict[tuple[str, str], Once], tuple[str, ...]]:
    """One call of each step by each clock, by step and clock, and the reasons why some are missing.

    Args:
        timed: the loss with its batch.
        device: `cpu` or `cuda`.
        steps: whether to time forward, backward and no_grad separately, and on the CPU both together with cold caches.
    """
    calls: dict[str, tuple[_Call, Callable[[], Any] | None]] = {"both": (lambda _: timed.both(), None)}
    if steps:
        calls["forward"] = (lambda _: timed.forward(), None)
        calls["backward"] = (timed.backward, timed.forward)
        calls["no_grad"] = (lambda _: timed.no_grad(), None)
    timed_calls: dict[tuple[str, str], Once] = {}
    for step, (call, before) in calls.items():
        cold = steps and step == "both"
        timed_calls |= {(step, clock): once for clock, once in _clocks(call, before, device, cold=cold).items()}
    notes: tuple[str, ...] = ()
    if device == "cuda":
        try:
            replay = captured(timed.both)
            timed_calls |= {("both", clock): once for clock, once in _graph_clocks(replay).items()}
        except CaptureError as error:
            notes = (f"it cannot be captured in a CUDA graph: {error}",)
    return timed_calls, notes


def of_calibration(setting: Setting, device: str, *, cold: bool) -> dict[tuple[str, str, str], Once]:
    """One call of each calibration by each clock, by calibration, step and clock; `cold`: also on the CPU."""
    timed_calls: dict[tuple[str, str, str], Once] = {}
    for name, call in calibration(setting, device).items():
        clocks = _clocks(lambda _, call=call: call(), None, device, cold=cold)  # type: ignore[misc]
        if device == "cuda":
            clocks |= _graph_clocks(captured(call))
        timed_calls |= {(name, "both", clock): once for clock, once in clocks.items()}
    return timed_calls


def bandwidth(device: str) -> float:
    """The best of several rates at which a large copy reads and writes, in bytes per second."""
    call, moved = large_copy(device)
    once = _clocks(lambda _: call(), None, device)[WALL]
    return moved / min(once() for _ in range(8))


def forget_compiled() -> None:
    """Drop all compiled code: PyTorch stops compiling a function after a number of shapes."""
    torch.compiler.reset()


def seconds(call: Callable[[], Any], device: str) -> float:
    """The seconds of one call, after a warm-up call."""
    once = _clocks(lambda _: call(), None, device)[WALL]
    once()
    return once()


def _clocks(call: _Call, before: Callable[[], Any] | None, device: str, *, cold: bool = False) -> dict[str, Once]:
    if device == "cpu":
        flushed = {WALL_COLD: on_host(call, before, flush=_flusher("cpu"))} if cold else {}
        return {WALL: on_host(call, before), **flushed}
    return {
        WALL: queued(call, before),
        COLD: between_events(call, before, flush=_flusher("cuda")),
        WARM: between_events(call, before),
    }


def _graph_clocks(replay: _Call) -> dict[str, Once]:
    return {GRAPH_COLD: between_events(replay, flush=_flusher("cuda")), GRAPH_WARM: between_events(replay)}


@cache
def _flusher(device: str) -> Tensor:
    return flusher(device)
