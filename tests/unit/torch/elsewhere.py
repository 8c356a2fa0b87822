"""A device that is not the host, imitated on the host: its numbers are right, and whoever waits for it is caught.

Its tensors say that they are on `meta`, so code takes the branch of a device; every operator on them is computed on the
host all the same. To read a number, or to ask for a shape that depends on numbers, is to wait, and raises.
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

WAITING = {
    getattr(torch.ops.aten, name)
    for name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")
}


def take_branches_of_a_device(patch: pytest.MonkeyPatch) -> None:
    """Let the path `analytic` work on tensors of the host as it does where to look at a number would be to wait."""
    patch.setattr(arrays, "on_host", lambda _: False)
    for module in (analytic, checks):
        patch.setattr(module, "grid_of", assignment.grid_of.__wrapped__)  # its cache has arrays of NumPy for the host


class WaitsForDeviceError(AssertionError):
    """An operator that a real device would have to finish its work for."""


class Elsewhere(Tensor):
    """A tensor of the device, which holds its numbers in one of the host."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Elsewhere:
        found: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=torch.device("meta"),
        )
        found.numbers = numbers
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves it so
    """So that tensors which are made anew are of the device as well."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operator, args, kwargs or {})


@contextmanager
def device_elsewhere() -> Iterator[None]:
    """Within it, new tensors are on the device; `there` puts old ones there and `here` takes them back."""
    make = torch.tensor

    def without_device(values: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        with _disable_current_modes():
            return Elsewhere(make(values, dtype=dtype))

    # `torch.tensor` writes its numbers where no mode sees them, and on `meta` they would be gone.
    with patch.object(torch, "tensor", without_device), _Mode():  # type: ignore[no-untyped-call]  # likewise
        yield


def there(tensor: Tensor) -> Tensor:
    """A tensor of the device."""
    return tensor if isinstance(tensor, Elsewhere) else Elsewhere(tensor)


def here(tensor: Tensor) -> Tensor:
    """A tensor of the host."""
    assert isinstance(tensor, Elsewhere), "this tensor has never been on the device"
    return tensor.numbers


def _run(operator: Any, args: Any, kwargs: Any) -> Any:
    if operator.overloadpacket in WAITING:
        raise WaitsForDeviceError(f"{operator} waits for the device")
    given: list[Elsewhere] = []

    def inside(value: Any) -> Any:
        if isinstance(value, torch.device):
            if value.type == "cpu" and operator.overloadpacket is torch.ops.aten._to_copy:
                raise WaitsForDeviceError(f"{operator} copies to the host")
            return torch.device("cpu")
        if isinstance(value, Elsewhere):
            given.append(value)
            return value.numbers
        return value

    def outside(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for tensor in given:  # written in place
            if tensor.numbers is value:
                return tensor
        return Elsewhere(value)

    return tree_map(outside, operator(*tree_map(inside, args), **tree_map(inside, kwargs)))
