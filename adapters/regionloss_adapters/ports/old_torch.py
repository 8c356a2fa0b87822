"""Idioms of PyTorch 0.1 and Python 2 that neither takes any more, answered while an old loss runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any
from unittest import mock

import torch
from torch import Tensor

#: What the globals of a module of Python 2 must hold.
NAMES_2 = {"xrange": range}


class Count(int):
    """A number of anchors by which a length divides as in Python 2."""

    def __rtruediv__(self, other: int) -> int:  # type: ignore[misc]  # int has no such overload
        return other // int(self)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed, and say in an exception that the process would have ended."""
    with redirect_stdout(None):
        try:
            yield
        except SystemExit as end:
            raise RuntimeError("it ends the process, as it does when its loss is not a number") from end


@contextmanager
def old_torch() -> Iterator[None]:
    """Answer the idioms of PyTorch 0.1, on the CPU."""
    with ExitStack() as patches:
        for name in ("__add__", "__mul__"):
            patches.enter_context(mock.patch.object(Tensor, name, _by_count(getattr(Tensor, name))))
        patches.enter_context(mock.patch.object(Tensor, "__getitem__", _get(Tensor.__getitem__)))
        patches.enter_context(mock.patch.object(Tensor, "__setitem__", _set(Tensor.__setitem__)))
        patches.enter_context(mock.patch.object(Tensor, "cuda", lambda self: self))
        for name in ("FloatTensor", "LongTensor"):
            patches.enter_context(mock.patch.object(torch.cuda, name, getattr(torch, name)))
        patches.enter_context(mock.patch.object(torch, "FloatTensor", _of_numbers(torch.FloatTensor)))
        yield


def _by_count(plain: Callable[[Tensor, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def combined(self: Tensor, other: Any) -> Tensor:
        if isinstance(other, Tensor) and self.shape != other.shape and self.numel() == other.numel():
            return plain(self.reshape(-1), other.reshape(-1)).reshape(self.shape)
        return plain(self, other)

    return combined


def _of_numbers(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of numbers that are elements of a tensor too."""

    def made(*given: Any) -> Tensor:
        values = [[float(value) for value in one] if isinstance(one, list) else one for one in given]
        return plain(*values)

    return made


def _key(self: Tensor, key: Any) -> Any:
    """A mask in the shape of what it masks."""
    same = isinstance(key, Tensor) and key.dtype is torch.bool and key.numel() == self.numel()
    return key.reshape(self.shape) if same else key


def _get(plain: Callable[[Tensor, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def got(self: Tensor, key: Any) -> Tensor:
        if not self.dim() and key == 0:
            return self
        return plain(self, _key(self, key))

    return got


def _set(plain: Callable[[Tensor, Any, Any], None]) -> Callable[[Tensor, Any, Any], None]:
    def put(self: Tensor, key: Any, value: Any) -> None:
        key = _key(self, key)
        if isinstance(value, Tensor) and isinstance(key, int) and value.shape != self.shape[1:]:
            value = value.reshape(self.shape[1:]) if value.numel() == self.shape[1:].numel() else value
        plain(self, key, value)

    return put
