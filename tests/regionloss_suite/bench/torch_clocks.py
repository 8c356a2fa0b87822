"""The clocks by which a call is timed: that of the host, and on CUDA that of the device.

- `wall`: the host's. On CUDA ten calls are made one behind the other and then waited for, and a tenth is the time.
- `wall, cold`: the host's on the CPU, where before each call the caches were filled with something else.
- `device, cold` and `device, warm`: CUDA events around the call, without or with what the last call left in the L2
  cache. The device is kept busy before, so that short calls queue up behind and no gap between launches is counted; a
  call whose launches take the host longer than that shows its gaps.
- `graph, cold` and `graph, warm`: the same around the replay of a CUDA graph of the call, which has no gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from regionloss_suite.bench.rounds import Once

Call = Callable[[], Any]

WALL, WALL_COLD = "wall", "wall, cold"
COLD, WARM, GRAPH_COLD, GRAPH_WARM = "device, cold", "device, warm", "graph, cold", "graph, warm"

#: Calls made one behind the other before the host waits for them.
_QUEUED = 10

#: Cycles that the device is kept busy for before a call that its events time, about half a millisecond.
_BUSY = 1_000_000


class CaptureError(Exception):
    """The call cannot be captured in a CUDA graph; the message says why."""


def on_host(call: Callable[[Any], Any], before: Call | None = None, *, flush: Tensor | None = None) -> Once:
    """One call by the host's clock; what `before` gives is its argument, and is not timed.

    `flush` is written before the call, larger than the caches, so that it finds nothing there.
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
    """The host's clock for a device that works on its own."""

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
    """The device's clock. `flush` is written first, larger than the cache, so that the call finds nothing there."""
    # PyTorch leaves the types of these out.
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
        CaptureError: the call waits for the device, or does something else that a graph cannot hold.
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
    """What is written to empty the caches: half a gigabyte, and on CUDA four times the L2 cache at least."""
    size = 1 << 29
    if device == "cuda":
        size = max(size, 4 * torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    return torch.empty(size, dtype=torch.uint8, device=device)
