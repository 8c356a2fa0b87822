"""What a loss takes besides time: memory above the gradient, fresh pages, launches, waits for the device."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from mmap import PAGESIZE
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from regionloss_suite.bench.rounds import Once

Call = Callable[[], Any]


@dataclass(frozen=True)
class Footprint:
    """What one forward and backward takes; `None` for what was not measured.

    Attributes:
        memory: bytes at its peak above those of the gradient.
        fresh_pages: bytes of memory that the system had to hand over page by page, which is slow: the larger part of
            the gradient's if it was fresh, next to none if the allocator used a former one again.
        launches: kernels, copies and fills on the device.
        waits: times that the host waited for the device.
    """

    memory: int | None = None
    fresh_pages: int | None = None
    launches: int | None = None
    waits: int | None = None

    def to_json(self) -> dict[str, int | None]:
        """As the results hold it."""
        return asdict(self)


class Paged:
    """Calls of a forward and backward on the host, of which each is also asked for the pages that it was handed over.

    They are counted in the calls that are timed: in others, the memory that those work in may lie elsewhere.
    """

    def __init__(self, once: Once) -> None:
        self._once = once
        self._pages: list[int] = []

    def __call__(self) -> float:
        """One call, as `once` makes it."""
        before = _pages_so_far()
        seconds = self._once()
        self._pages.append(_pages_so_far() - before)
        return seconds

    def fresh_pages(self) -> int | None:
        """Bytes of the pages of a call: the median, for the first still look for room. `None` if nobody counts them."""
        return round(median(self._pages)) * PAGESIZE if _pages_so_far() else None


def _pages_so_far() -> int:
    """The pages that this process was handed over; 0 on a system that does not count them."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def footprint(both: Call, gradient_bytes: int, device: str, *, heavy: bool = False) -> Footprint:
    """Measure one forward and backward that has been run before, but for the pages, see `Paged`.

    Args:
        both: gives the gradient.
        gradient_bytes: its size.
        device: `cpu` or `cuda`.
        heavy: whether it is too long for a profile of its operations, which tells the memory on the host.
    """
    if device == "cuda":
        return Footprint(_peak_on_cuda(both) - gradient_bytes, None, _launches(both), waits_of(both))
    return Footprint(None if heavy else _peak_on_host(both) - gradient_bytes)


def _peak_on_cuda(both: Call) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gradient = both()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del gradient
    return peak


def _peak_on_host(both: Call) -> int:
    """The peak of what PyTorch allocates on the host, out of its profiler's trace."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        gradient = both()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        del gradient
        return peak_of(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def peak_of(events: list[dict[str, Any]]) -> int:
    """The peak of the bytes allocated less those freed, over the memory events of a trace."""
    moves = [event for event in events if event.get("name") == "[memory]" and event["args"].get("Device Type") == 0]
    total = peak = 0
    for event in sorted(moves, key=lambda event: float(event["ts"])):
        total += int(event["args"]["Bytes"])
        peak = max(peak, total)
    return peak


def _launches(both: Call) -> int:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        both()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return launches_of(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def launches_of(events: list[dict[str, Any]]) -> int:
    """The kernels, copies and fills of a trace."""
    return sum(event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset") for event in events)


def waits_of(both: Call) -> int:
    """The times that the host waited for the device, which PyTorch can be made to warn of."""
    torch.cuda.synchronize()
    mode, always = torch.cuda.get_sync_debug_mode(), torch.is_warn_always_enabled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.set_warn_always(True)
            torch.cuda.set_sync_debug_mode("warn")
            both()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            torch.set_warn_always(always)
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
