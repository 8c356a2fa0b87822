"""Facts about the machine that a reader needs to trust a time."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

#: Parameters of glibc's `mallopt`, from its `malloc.h`.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")


def machine(device: str) -> dict[str, Any]:
    """Versions, threads and the processor, except for what pytest-benchmark records itself."""
    about: dict[str, Any] = {
        "versions": {name: version for name in ("torch", "triton", "numpy") if (version := _version(name))},
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        about["gpu"] = properties.name
        about["gpu memory"] = properties.total_memory
        about["L2 cache"] = properties.L2_cache_size
        about["CUDA"] = torch.version.cuda
    return about


def has_cuda() -> bool:
    """Whether PyTorch sees a CUDA device."""
    return torch.cuda.is_available()


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch's host threads for a while."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def keep_memory() -> bool:
    """Have glibc keep freed blocks of up to 32 MB for reuse; false if there is no glibc.

    By default, it depends on the earlier allocations of a process whether a tensor gets such a block or fresh pages of
    the system, which cost more than the arithmetic on them. A process that trains a large network ends up keeping what
    it frees, so a loss with many large tensors is not charged for the pages.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    largest, most = 32 * 2**20, 2**31 - 1  # the largest value that it accepts for either
    return bool(mallopt(_M_MMAP_THRESHOLD, largest) and mallopt(_M_TRIM_THRESHOLD, most))


def clocks(device: str) -> dict[str, str]:
    """The current clock rate of the processors, as far as the system reports it; call it right after work."""
    if device == "cuda":
        return _of_gpu()
    try:
        readings = re.findall(r"cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return {}
    clocks = sorted({f"{float(one):.0f}" for one in readings})
    return {"cpu": f"{'–'.join([clocks[0], *clocks[1:][-1:]])} MHz"} if clocks else {}


def load() -> float | None:
    """The load average of the last minute; `None` if the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _of_gpu() -> dict[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, f"--query-gpu={','.join(_CLOCKS)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    values = done.stdout.strip().splitlines()[:1] if done.returncode == 0 else []
    return dict(zip(_CLOCKS, (value.strip() for value in values[0].split(",")), strict=False)) if values else {}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
