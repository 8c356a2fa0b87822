"""What a reader wants to know of the machine before believing a time."""

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
    """Versions, threads and the processor; what pytest-benchmark says itself is left out."""
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
    """Let PyTorch compute on so many threads of the host for a while."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def keep_memory() -> bool:
    """Have glibc keep what is freed for the next that asks, in pieces of up to 32 MB; false, where there is no glibc.

    Else it depends on what a process allocated before, and where, whether a tensor gets such memory or fresh pages of
    the system, which cost more than the arithmetic on them. A process that trains a large network has come to keep
    what it frees; so who makes many large tensors is not charged for pages.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    largest, most = 32 * 2**20, 2**31 - 1  # the largest that it takes for either
    return bool(mallopt(_M_MMAP_THRESHOLD, largest) and mallopt(_M_TRIM_THRESHOLD, most))


def clocks(device: str) -> dict[str, str]:
    """How fast the processors run just now, as far as the system says; asked right after work."""
    if device == "cuda":
        return _of_gpu()
    try:
        readings = re.findall(r"cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return {}
    clocks = sorted({f"{float(one):.0f}" for one in readings})
    return {"cpu": f"{'–'.join([clocks[0], *clocks[1:][-1:]])} MHz"} if clocks else {}


def load() -> float | None:
    """How many programs wanted a processor in the last minute; none, where the system does not say."""
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
