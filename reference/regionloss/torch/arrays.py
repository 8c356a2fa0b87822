"""Arithmetic that is written once, for NumPy on the host and for PyTorch on a device.

A batch has few truths, and an operation of PyTorch takes more than twice as long to start as one of NumPy. Functions of
the same name in both are called through `library_of`; the others are here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

#: A NumPy array on the host, a tensor on a device.
Array = Any


def library_of(values: Array) -> Any:
    """NumPy or PyTorch."""
    return np if isinstance(values, np.ndarray) else torch


def on_host(tensor: Tensor) -> bool:
    """Whether numbers can be read without waiting for a device."""
    return tensor.device.type == "cpu"


def array_of(tensor: Tensor) -> Array:
    """The same memory as an `Array`; on the host, the type must be one of NumPy."""
    return tensor.detach().numpy() if on_host(tensor) else tensor


def cast(values: Array, kind: Any) -> Array:
    """`values` in another type of their library."""
    return values.astype(kind) if isinstance(values, np.ndarray) else values.to(kind)


def copy(values: Array) -> Array:
    """A copy."""
    return values.copy() if isinstance(values, np.ndarray) else values.clone()


def put(values: Array, where: Array, number: float) -> None:
    """Write a number into `[..., N, A, H, W]`: where a mask `[N, A, H, W]` is true, or at indices in `[N*A*H*W]`."""
    if isinstance(values, Tensor):
        values.masked_fill_(where, number)
    elif where.dtype == np.bool:
        np.copyto(values, number, where=where)
    else:
        values.reshape(*values.shape[:-4], -1)[..., where] = number
