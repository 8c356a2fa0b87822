"""What the fast paths refuse (spec chapter 11)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regionloss.domain import DomainError, check_images_seen, check_predictions_finite, check_truth
from regionloss.torch.arrays import Array
from regionloss.torch.assignment import assign, grid_of, is_read, rows_of
from regionloss.torch.settings import Settings

#: Types of a counter. In float32 or a half type it would stop growing before the training ends.
_INTEGERS = (torch.int64, torch.int32)


def check_shapes(
    predictions: Tensor, rows: Tensor, counts: Tensor | None, anchors: Sequence[float], classes: int
) -> None:
    """Refuse tensors that do not fit together, without reading any of their numbers.

    Raises:
        TypeError: predictions or truths that are not of floating point.
        DomainError: ranks, channels, lists or devices that do not fit together.
    """
    for name, tensor in (("predictions", predictions), ("truths", rows)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} are {tensor.dtype}, expected a floating-point type")
    if predictions.dim() != 4:
        raise DomainError("domain.ranks", f"predictions have rank {predictions.dim()}, expected 4: [N, A*(5+C), H, W]")
    images, channels, height, width = predictions.shape
    expected = len(anchors) // 2 * (5 + classes)
    if channels != expected:
        raise DomainError(
            "domain.channels",
            f"predictions have {channels} channels, expected A*(5+C) = {len(anchors) // 2}*{5 + classes} = {expected}",
        )
    if height < 1 or width < 1:
        raise DomainError("domain.ranks", f"the grid is {height} x {width} cells, expected at least 1 x 1")
    if rows.dim() != 3 or rows.shape[2] != 5:
        raise DomainError("domain.ranks", f"truths have shape {list(rows.shape)}, expected [N, T, 5]")
    if len(rows) != images:
        raise DomainError("domain.ranks", f"got {len(rows)} truth lists for {images} images")
    if counts is not None and counts.shape != (images,):
        raise DomainError("domain.ranks", f"counts have shape {list(counts.shape)}, expected [{images}]")
    if counts is not None and counts.dtype not in _INTEGERS:
        raise DomainError("domain.ranks", f"counts are {counts.dtype}, expected int64 or int32")
    for name, other in (("truths", rows), ("their counts", rows if counts is None else counts)):
        if other.device != predictions.device:
            raise DomainError(
                "domain.ranks", f"{name} are on {other.device} and the predictions on {predictions.device}"
            )


def check_counter(images_seen: float | Tensor, predictions: Tensor) -> None:
    """Refuse an `images_seen` that is no number of images; of a tensor, the type, shape and device alone.

    Raises:
        DomainError: a number that is negative or not whole, or a tensor that is not 0-d, int64 or int32, and on the
            host or the device of the predictions.
    """
    if not isinstance(images_seen, Tensor):
        if not (isinstance(images_seen, int) and images_seen >= 0):
            check_images_seen(images_seen)  # type: ignore[arg-type]  # any other type is refused there
        return
    if images_seen.dim() or images_seen.dtype not in _INTEGERS:
        raise DomainError(
            "domain.images-seen",
            f"images_seen is a tensor of shape {list(images_seen.shape)} and {images_seen.dtype}, "
            "expected a 0-d tensor of int64 or int32",
        )
    if images_seen.device not in (predictions.device, torch.device("cpu")):
        raise DomainError(
            "domain.images-seen",
            f"images_seen is on {images_seen.device} and the predictions on {predictions.device}",
        )


def check_counts(rows: Tensor, counts: Tensor) -> None:
    """Refuse counts `[N]` that are negative or above the T of `[N, T, 5]`. Waits for the device.

    Raises:
        DomainError: the first such count, with its image.
    """
    for image, count in enumerate(counts.tolist()):
        if not 0 <= count <= rows.shape[1]:
            raise DomainError("domain.ranks", f"its count of truths is {count}, expected 0 to {rows.shape[1]}", image)


def check_rows(rows: Tensor, indices: Array, classes: int) -> None:
    """Refuse truths outside the domain among some rows of `[N, T, 5]`, by indices in `[N*T]`. Waits for the device.

    Raises:
        DomainError: the first such truth, with its image and index.
    """
    for index in indices.tolist():
        image, truth = divmod(index, rows.shape[1])
        check_truth(image, truth, rows[image, truth].double().cpu().numpy(), classes)


def check_truths(
    rows: Tensor, counts: Tensor | None, anchors: Sequence[float], classes: int, settings: Settings
) -> None:
    """Refuse truths that are read and outside the domain. Waits for the device.

    Raises:
        DomainError: the first such truth, with its image and index.
    """
    grid = grid_of(tuple(anchors), classes, 1, 1, rows.device, torch.float64)
    exact = rows_of(rows)
    truths, bad = assign(exact, is_read(exact, counts, settings), grid)
    check_rows(rows, truths.index[bad], classes)


def check_everything(
    predictions: Tensor, rows: Tensor, counts: Tensor | None, anchors: Sequence[float], settings: Settings
) -> None:
    """Refuse numbers outside the domain, in truths and predictions. Waits for the device.

    Raises:
        DomainError: the first such number, with its image.
    """
    if counts is not None:
        check_counts(rows, counts)
    if not torch.isfinite(predictions).all():
        check_predictions_finite(predictions.detach().double().cpu().numpy())
    check_truths(rows, counts, anchors, 2 * predictions.shape[1] // len(anchors) - 5, settings)
