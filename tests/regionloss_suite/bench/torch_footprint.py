"""The resources of a loss other than time: memory above the gradient, fresh pages, launches, synchronisations."""

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
    """The resources of one forward and backward; `None` for those that were not measured.

    Attributes:
        memory: peak bytes above those of the gradient.
        fresh_pages: bytes that the system had to map page by page, which is slow: most of the gradient's bytes if its
            memory was fresh, almost none if the allocator reused a block.
        launches: kernels, copies and fills on the device.
        waits: synchronisations of the host with the device.
    """

    memory: int | None = None
    fresh_pages: int | None = None
    launches: int | None = None
    waits: int | None = None

    def to_json(self) -> dict[str, int | None]:
        """The form in the results."""
        return asdict(self)


class Paged:
    """Calls of a forward and backward on the host that also record the pages mapped for them.

    The pages are counted in the timed calls, because other calls may use memory at another place.
    """

    def __init__(self, once: Once) -> None:
        self._once = once
        self._pages: list[int] = []

    def __call__(self) -> float:
        """One call, made by `once`."""
        before = _pages_so_far()
        seconds = self._once()
        self._pages.append(_pages_so_far() - before)
        return seconds

    def fresh_pages(self) -> int | None:
        """Bytes of the pages of a call: the median, because the first calls still allocate. `None` if not counted."""
        return round(median(self._pages)) * PAGESIZE if _pages_so_far() else None


def _pages_so_far() -> int:
    """The pages mapped for this process so far; 0 on a system that does not count them."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def footprint(both: Call, gradient_bytes: int, device: str, *, heavy: bool = False) -> Footprint:
    """Measure one forward and backward that has run before, except for the pages, see `Paged`.

    Args:
        both: returns the gradient.
        gradient_bytes: its size.
        device: `cpu` or `cuda`.
        heavy: whether it is too long to profile its operations, which gives the memory on the host.
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
    """The peak of PyTorch's allocations on the host, from its profiler's trace."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        gradient = both()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        del gradient
        return peak_of(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def peak_of(events: list[dict[str, Any]]) -> int:
    """The peak of allocated minus freed bytes, over the memory events of a trace."""
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
    """The number of synchronisations, which PyTorch can warn about."""
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
