"""Calibration calls to compare a loss with: filling and copying a tensor of the size of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from regionloss_suite.bench.setting import Setting

#: `zero_` and `copy_` write to an existing tensor; the fresh one is also allocated.
FRESH, ZERO, COPY = "zero_ (fresh)", "zero_", "copy_"
CALIBRATION = (FRESH, ZERO, COPY)

#: Size of the tensor whose copy measures the memory bandwidth, by the kind of device.
_LARGE = {"cpu": 1 << 24, "cuda": 1 << 29}


def calibration(setting: Setting, device: str) -> dict[str, Callable[[], Any]]:
    """Filling a fresh tensor, filling an existing one and copying one, in the gradient's size, dtype and layout."""
    form = torch.channels_last if setting.layout == "channels_last" else torch.contiguous_format
    channels = setting.elements // (setting.images * setting.height * setting.width)
    shape = (setting.images, channels, setting.height, setting.width)
    source = torch.randn(shape, device=device).to(getattr(torch, setting.dtype)).contiguous(memory_format=form)
    target = torch.zeros_like(source)
    return {
        FRESH: lambda: torch.empty_like(source).zero_(),
        ZERO: target.zero_,
        COPY: lambda: target.copy_(source),
    }


def large_copy(device: str) -> tuple[Callable[[], Any], int]:
    """The copy of a tensor larger than any cache, and the bytes that it reads and writes."""
    source = torch.ones(_LARGE[device], device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source), 2 * source.numel() * source.element_size()
