"""What the PyTorch loss refuses, on each path, and what it does where it may not look (spec chapter 11)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from torch.autograd import forward_ad  # noqa: E402 - only where PyTorch is installed

from regionloss import DomainError  # noqa: E402 - likewise
from regionloss.torch import PaddedTruths, PathError, RegionLoss, pad_truths  # noqa: E402 - likewise
from regionloss.torch.analytic import operators as analytic  # noqa: E402 - likewise
from regionloss.torch.ops import BackwardInputs, ForwardInputs  # noqa: E402 - likewise
from regionloss.torch.settings import settings_of  # noqa: E402 - likewise
from regionloss_spec import load_profile  # noqa: E402 - likewise
from unit.torch.fake_device import WaitsForDeviceError, fake_device, from_fake, to_fake  # noqa: E402 - likewise
from unit.torch.small_batch import ANCHORS, CLASSES, HOST_PATHS, LISTS, gradient_of, network  # noqa: E402 - likewise


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 1.0, "x is 1.0, expected 0 <= x < 1"),
        (1, -0.1, "y is -0.1"),
        (2, 0.0, "w is 0.0, expected 0 < w <= 1"),
        (3, 1.5, "h is 1.5"),
        (4, 3.0, "class is 3.0, expected a whole number from 0 to 2"),
        (4, 0.5, "class is 0.5"),
        (4, float("nan"), r"x, y, w, h, class are \[.*nan\], expected finite"),
        (0, float("inf"), r"x, y, w, h, class are \[inf"),
    ],
)
def test_a_truth_outside_the_domain_is_named(
    path: Any, validate: bool, column: int, value: float, message: str
) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path, validate=validate)
    rows = pad_truths(LISTS, length=4).rows
    rows[1, 1] = rows[1, 3] = rows[0, 0]  # behind the end of the list nothing is read
    rows[1, 1, column] = value
    with pytest.raises(DomainError, match=f"image 1, truth 1: {message}") as error:
        loss(network(), rows, images_seen=0)
    assert (error.value.image, error.value.truth) == (1, 1)
    rows[1, 1, 0] = 0.0
    assert torch.isfinite(loss(network(), rows, images_seen=0))


def test_predictions_that_are_not_finite_are_named_with_validate() -> None:
    t = network().detach()
    t[2, 4, 1, 3] = float("inf")
    for path, validate in (("eager", False), ("eager", True), ("analytic", True)):
        with pytest.raises(DomainError, match="image 2: prediction at channel 4, row 1, column 3 is inf"):
            RegionLoss(ANCHORS, CLASSES, path=path, validate=validate)(t, LISTS, images_seen=0)  # type: ignore[arg-type]
    t[2, 0, 1, 3] = float("nan")
    assert torch.isnan(RegionLoss(ANCHORS, CLASSES, path="analytic")(t, LISTS, images_seen=0))


def test_on_a_device_a_bad_truth_makes_the_loss_nan_without_a_wait() -> None:
    t, rows = network().detach(), pad_truths(LISTS).rows
    with fake_device(), pytest.raises(WaitsForDeviceError):
        to_fake(rows).sum().item()
    for seen in (0, 12800):
        expected = gradient_of(RegionLoss(ANCHORS, CLASSES, path="analytic"), t, rows, images_seen=seen)
        loss, gradient = on_a_device(t, rows, seen)
        assert torch.isfinite(loss)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=0)
    for column, value in ((0, 1.0), (2, 0.0), (4, 3.0), (3, float("nan"))):
        bad = rows.clone()
        bad[1, 0, column] = value
        loss, gradient = on_a_device(t, bad, 0)
        assert torch.isnan(loss)
        assert torch.isnan(gradient).flatten(1).any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize(
    "bad", [-1, 0.5, float("nan"), torch.tensor(-1), torch.tensor(3.0), torch.tensor([1]), torch.tensor(True)]
)
def test_images_seen_must_be_a_whole_number(path: Any, bad: Any) -> None:
    with pytest.raises(DomainError, match="images_seen is") as error:
        RegionLoss(ANCHORS, CLASSES, path=path)(network(), LISTS, images_seen=bad)
    assert error.value.clause == "domain.images-seen"


@pytest.mark.parametrize("path", HOST_PATHS)
def test_tensors_that_do_not_fit_together_are_refused(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    t, rows = network(), pad_truths(LISTS).rows
    wrong: list[tuple[Any, Any, str]] = [
        (t[0], rows, "predictions have rank 3, expected 4"),
        (t[:, :15], rows, r"predictions have 15 channels, expected A\*\(5\+C\) = 2\*8 = 16"),
        (t[:, :, :0], rows, "the grid is 0 x 4 cells"),
        (t, rows[:2], "got 2 truth lists for 3 images"),
        (t, rows[:, :, :4], r"truths have shape \[.*4\], expected \[.*T, 5\]"),
        (t, LISTS[:2], "got 2 truth lists for 3 images"),
    ]
    for predictions, truths, message in wrong:
        with pytest.raises(DomainError, match=message):
            loss(predictions, truths, images_seen=0)
    with pytest.raises(TypeError, match=r"predictions are torch\.int64"):
        loss(t.long(), rows, images_seen=0)


@pytest.mark.parametrize("path", HOST_PATHS)
def test_counts_that_do_not_fit_the_rows_are_refused(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path, validate=True)
    rows, counts = pad_truths(LISTS)
    for bad, message in (
        (counts[:2], r"counts have shape \[2\], expected \[3\]"),
        (counts.double(), r"counts are torch\.float64"),
        (counts - 1, r"image 2: its count of truths is -1, expected 0 to 3"),
        (counts + 1, r"image 0: its count of truths is 4, expected 0 to 3"),
    ):
        with pytest.raises(DomainError, match=message):
            loss(network(), PaddedTruths(rows, bad), images_seen=0)


def test_tensors_on_several_devices_are_refused() -> None:
    loss = RegionLoss(ANCHORS, CLASSES)
    t, rows, counts = network(), *pad_truths(LISTS)
    far = torch.tensor(0, device="meta")
    with pytest.raises(DomainError, match="truths are on meta and the predictions on cpu"):
        loss(t, rows.to("meta"), images_seen=0)
    with pytest.raises(DomainError, match="counts are on meta and the predictions on cpu"):
        loss(t, PaddedTruths(rows, counts.to("meta")), images_seen=0)
    with pytest.raises(DomainError, match="images_seen is on meta and the predictions on cpu"):
        loss(t, rows, images_seen=far)


def on_a_device(t: Any, rows: Any, seen: int) -> tuple[Any, Any]:
    """Loss and gradient of the analytic path on a device that is not the host."""
    anchors = tuple(np.ravel(ANCHORS).tolist())
    settings = settings_of(load_profile("darknet"))
    with fake_device():
        t, rows = to_fake(t), to_fake(rows)
        result = analytic.forward(ForwardInputs(t, rows, None, torch.tensor(seen), 0, anchors, settings))
        saved = BackwardInputs(torch.tensor(1.0), t, rows, *result[2:], anchors, settings)
        gradient = analytic.backward(saved)
    return from_fake(result.loss), from_fake(gradient)


@pytest.mark.parametrize("path", [path for path in HOST_PATHS if path != "eager"])  # which refuses what is not finite
@pytest.mark.parametrize("number", [1e4, 1e38, float("inf"), float("nan")])
def test_huge_outputs_raise_no_warning_and_an_overflow_shows_in_the_loss(path: Any, number: float) -> None:
    predictions = network().detach()
    predictions[0, :5] = number
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = loss(predictions, LISTS, images_seen=0)
    assert not torch.isfinite(result) or number == 1e4


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize("validate", [False, True])
def test_a_nan_truth_is_refused_without_a_warning(path: Any, validate: bool) -> None:
    rows = pad_truths(LISTS).rows
    rows[1, 0, 1] = float("nan")
    loss = RegionLoss(ANCHORS, CLASSES, path=path, validate=validate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DomainError, match="image 1, truth 0"):
            loss(network(), rows, images_seen=0)


@pytest.mark.parametrize("path", HOST_PATHS)
def test_a_derivative_in_forward_mode_is_right_or_refused(path: Any) -> None:
    loss, t = RegionLoss(ANCHORS, CLASSES, path=path), network(torch.float64).detach()
    along = torch.linspace(-1, 1, t.numel(), dtype=torch.float64).view(t.shape)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(t, along)  # type: ignore[no-untyped-call]  # PyTorch leaves it so
        if path == "eager":
            value = loss(dual, LISTS, images_seen=0)
            result = forward_ad.unpack_dual(value).tangent  # type: ignore[no-untyped-call]  # likewise
            assert result is not None
            expected = (gradient_of(loss, t, LISTS, images_seen=0) * along).sum()
            torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
        else:
            with pytest.raises(PathError, match="no derivative in forward mode"):
                loss(dual, LISTS, images_seen=0)


TRANSFORMS = {
    "grad": lambda loss, t: torch.func.grad(loss)(t),
    "vjp": lambda loss, t: torch.func.vjp(loss, t),
    "jvp": lambda loss, t: torch.func.jvp(loss, (t,), (torch.ones_like(t),)),
    "hessian": lambda loss, t: torch.func.hessian(loss)(t),
    "vmap of grad": lambda loss, t: torch.func.vmap(torch.func.grad(loss))(t[:, None]),
}


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_torch_func_is_refused_on_every_path_with_an_alternative(path: Any, transform: str) -> None:
    loss, t = RegionLoss(ANCHORS, CLASSES, path=path), network().detach()
    none: Any = torch.zeros(len(t) if transform != "vmap of grad" else 1, 0, 5)
    for value in (
        lambda outputs: loss(outputs, none, images_seen=0),
        lambda outputs: loss.details(outputs, none, images_seen=0).loss,
    ):
        with pytest.raises(PathError, match=r"no path is differentiated by torch\.func .*; torch\.autograd differ"):
            TRANSFORMS[transform](value, t)
