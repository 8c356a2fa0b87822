"""Ragged truths as one padded tensor."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from regionloss import DomainError  # noqa: E402 - only where PyTorch is installed
from regionloss.torch import pad_truths  # noqa: E402 - likewise
from unit.torch.small_batch import LISTS  # noqa: E402 - likewise


def test_ragged_truths_are_padded_with_zeros_and_counted() -> None:
    first, second = torch.tensor([[0.1, 0.2, 0.3, 0.4, 1.0]]), np.zeros((0, 5), dtype=np.float32)
    rows, counts = pad_truths([first, second], length=2)
    assert torch.equal(rows[0, 0], first[0])
    assert not rows[0, 1].any()
    assert not rows[1].any()
    assert (rows.shape, rows.dtype, counts.tolist(), counts.dtype) == ((2, 2, 5), torch.float32, [1, 0], torch.int64)
    assert pad_truths([first, LISTS[0]]).rows.shape == (2, 3, 5)
    assert pad_truths([first, first.double()]).rows.dtype == torch.float64
    assert pad_truths([first.half()]).rows.dtype == torch.float32
    assert pad_truths([]).rows.shape == (0, 0, 5)
    assert {part.device.type for part in pad_truths([first], device="meta")} == {"meta"}
    with pytest.raises(DomainError, match=r"image 1: got 3 truths, expected at most 2"):
        pad_truths([first, LISTS[0]], length=2)
    with pytest.raises(DomainError, match=r"image 1: truths have shape \[2, 4\], expected \[T, 5\]"):
        pad_truths([first, torch.zeros(2, 4)])
