"""NumPy for the truths of a batch on the host, and PyTorch elsewhere, for arithmetic that is written once for both.

A batch has few truths, and an operation of PyTorch takes more than twice as long to start as one of NumPy. What the two
libraries spell alike is called by `library_of`; the rest is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

#: An array of NumPy where it lies on the host, else a tensor.
Array = Any


def library_of(values: Array) -> Any:
    """NumPy or PyTorch."""
    return np if isinstance(values, np.ndarray) else torch


def on_host(tensor: Tensor) -> bool:
    """Whether numbers can be looked at without waiting for them."""
    return tensor.device.type == "cpu"


def array_of(tensor: Tensor) -> Array:
    """The same memory; on the host, of a type that NumPy has too."""
    return tensor.detach().numpy() if on_host(tensor) else tensor


def cast(values: Array, kind: Any) -> Array:
    """`values` in a type of their library."""
    return values.astype(kind) if isinstance(values, np.ndarray) else values.to(kind)


def copy(values: Array) -> Array:
    """Memory of its own."""
    return values.copy() if isinstance(values, np.ndarray) else values.clone()


def put(values: Array, where: Array, number: float) -> None:
    """Write a number into `[..., N, A, H, W]` where a mask `[N, A, H, W]` says, or at indices in `[N*A*H*W]`."""
    if isinstance(values, Tensor):
        values.masked_fill_(where, number)
    elif where.dtype == np.bool:
        np.copyto(values, number, where=where)
    else:
        values.reshape(*values.shape[:-4], -1)[..., where] = number
