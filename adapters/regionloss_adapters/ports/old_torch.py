"""Idioms of PyTorch 0.1 and Python 2 that no longer work, emulated while an old loss runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Globals that a module for Python 2 needs.
NAMES_2 = {"xrange": range}


class Count(int):
    """A number of anchors that divides integers as in Python 2."""

    def __rtruediv__(self, other: int) -> int:  # type: ignore[misc]  # int has no such overload
        return other // int(self)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop printed output, and turn an exit of the process into an exception."""
    with redirect_stdout(None):
        try:
            yield
        except SystemExit as end:
            raise RuntimeError("the port called sys.exit(), as it does on a NaN loss") from end


@contextmanager
def old_torch() -> Iterator[None]:
    """Emulate the idioms of PyTorch 0.1, on the CPU."""
    with ExitStack() as stack:
        for name in ("FloatTensor", "LongTensor"):
            stack.enter_context(mock.patch.object(torch.cuda, name, getattr(torch, name)))
        stack.enter_context(_Idioms())
        yield


class _Idioms(TorchFunctionMode):
    """Intercepts every call before PyTorch; replacing methods of `Tensor` would leave traces in the class."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = function.__name__
        if name == "cuda":
            return args[0]
        if name in ("add", "mul", "__add__", "__mul__") and len(args) == 2:
            return _by_count(function, *args)
        if name == "__getitem__":
            return args[0] if not args[0].dim() and args[1] == 0 else function(args[0], _key(*args))
        if name == "__setitem__":
            return function(args[0], _key(*args[:2]), _value(*args))
        return function(*args, **(kwargs or {}))


def _by_count(function: Callable[..., Any], one: Any, other: Any) -> Any:
    """Element by element if there are equally many, whatever the shapes."""
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    if both and one.shape != other.shape and one.numel() == other.numel():
        return function(one.reshape(-1), other.reshape(-1)).reshape(one.shape)
    return function(one, other)


def _key(tensor: Tensor, key: Any) -> Any:
    """A mask in the shape of the tensor that it masks."""
    same = isinstance(key, Tensor) and key.dtype is torch.bool and key.numel() == tensor.numel()
    return key.reshape(tensor.shape) if same else key


def _value(tensor: Tensor, key: Any, value: Any) -> Any:
    """The value for a row, in the shape of the row."""
    row = tensor.shape[1:]
    fits = isinstance(value, Tensor) and isinstance(key, int) and value.numel() == row.numel()
    return value.reshape(row) if fits else value
