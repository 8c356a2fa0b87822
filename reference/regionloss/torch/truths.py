"""The truths of a batch as one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from regionloss.domain import DomainError


class PaddedTruths(NamedTuple):
    """Truths of all images in one tensor.

    Attributes:
        rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`; zeros after the last truth of an image.
        counts: number of truths of each image, int64 `[N]`.
    """

    rows: Tensor
    counts: Tensor


def pad_truths(
    truths: Sequence[Tensor | ArrayLike], *, length: int | None = None, device: torch.device | str | None = None
) -> PaddedTruths:
    """Pad ragged lists of truths into one tensor, so that a batch moves to the device in one copy.

    Args:
        truths: for each image `[T, 5]` of x, y, w, h (fractions of the image) and class (`notation.truth-units`).
        length: T of the result, by default the longest list. A fixed length keeps the shape of every batch the same.
        device: of the result, by default the host.

    Returns:
        The rows in the widest floating-point type among the lists, and the counts.

    Raises:
        DomainError: a list that is not `[T, 5]` of numbers, or longer than `length`.
    """
    tables = [_table(image, table) for image, table in enumerate(truths)]
    for image, table in enumerate(tables):
        if table.dim() != 2 or table.shape[1] != 5:
            raise DomainError("domain.ranks", f"truths have shape {list(table.shape)}, expected [T, 5]", image)
        if length is not None and len(table) > length:
            raise DomainError("truths.capacity", f"got {len(table)} truths, expected at most {length}", image)
    longest = max([0, *(len(table) for table in tables)]) if length is None else length
    dtype = torch.float32
    for table in tables:
        dtype = torch.promote_types(dtype, table.dtype)
    rows = torch.zeros(len(tables), longest, 5, dtype=dtype)
    for image, table in enumerate(tables):
        rows[image, : len(table)] = table.detach()
    counts = torch.tensor([len(table) for table in tables], dtype=torch.int64)
    return PaddedTruths(rows.to(device), counts.to(device))


def _table(image: int, table: Tensor | ArrayLike) -> Tensor:
    """The truths of an image in a floating-point type; numbers of Python are float64, as NumPy takes them."""
    try:
        tensor = table if isinstance(table, Tensor) else torch.as_tensor(np.asarray(table))
    except (TypeError, ValueError) as error:
        raise DomainError("domain.ranks", f"truths cannot be read as an array of numbers: {error}", image) from error
    if not tensor.numel():
        tensor = tensor.reshape(0, 5)
    return tensor if tensor.is_floating_point() else tensor.double()
