"""A fake device on the host: its numbers are right, and code that waits for it raises.

Its tensors say that they are on `meta`, so code takes the branch of a device, but the host computes every operator on
them. To read a number, or a shape that depends on numbers, would wait for a real device, and raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from regionloss.torch import arrays, assignment, checks
from regionloss.torch.analytic import operators as analytic

#: Operators that wait for a device.
WAITING = {
    getattr(torch.ops.aten, name)
    for name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")
}


def take_branches_of_a_device(patch: pytest.MonkeyPatch) -> None:
    """Let the path `analytic` treat tensors on the host as tensors on a device, whose numbers it must not read."""
    patch.setattr(arrays, "on_host", lambda _: False)
    for module in (analytic, checks):
        patch.setattr(module, "grid_of", assignment.grid_of.__wrapped__)  # its cache has arrays of NumPy for the host


class WaitsForDeviceError(AssertionError):
    """An operator would wait for a real device."""


class FakeTensor(Tensor):
    """A tensor on the fake device, which holds its numbers in a tensor on the host."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> FakeTensor:
        tensor: FakeTensor = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=torch.device("meta"),
        )
        tensor.numbers = numbers
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves it so
    """Puts new tensors on the fake device as well."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operator, args, kwargs or {})


@contextmanager
def fake_device() -> Iterator[None]:
    """Within it, new tensors are on the fake device; `to_fake` moves a tensor there and `from_fake` back."""
    make = torch.tensor

    def without_device(values: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        with _disable_current_modes():
            return FakeTensor(make(values, dtype=dtype))

    # `torch.tensor` writes its numbers where no mode sees them; on `meta` they would be lost.
    with patch.object(torch, "tensor", without_device), _Mode():  # type: ignore[no-untyped-call]  # likewise
        yield


def to_fake(tensor: Tensor) -> Tensor:
    """A tensor on the fake device with the numbers of one on the host."""
    return tensor if isinstance(tensor, FakeTensor) else FakeTensor(tensor)


def from_fake(tensor: Tensor) -> Tensor:
    """The numbers of a tensor on the fake device, on the host."""
    assert isinstance(tensor, FakeTensor), "this tensor is not on the fake device"
    return tensor.numbers


def _run(operator: Any, args: Any, kwargs: Any) -> Any:
    if operator.overloadpacket in WAITING:
        raise WaitsForDeviceError(f"{operator} waits for the device")
    fakes: list[FakeTensor] = []

    def unwrap(value: Any) -> Any:
        if isinstance(value, torch.device):
            if value.type == "cpu" and operator.overloadpacket is torch.ops.aten._to_copy:
                raise WaitsForDeviceError(f"{operator} copies to the host")
            return torch.device("cpu")
        if isinstance(value, FakeTensor):
            fakes.append(value)
            return value.numbers
        return value

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for tensor in fakes:  # written in place
            if tensor.numbers is value:
                return tensor
        return FakeTensor(value)

    return tree_map(wrap, operator(*tree_map(unwrap, args), **tree_map(unwrap, kwargs)))
