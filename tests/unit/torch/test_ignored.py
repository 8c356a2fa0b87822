"""Which predictors a truth silences from afar: each path looks only where a box may overlap it enough."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the fast paths need PyTorch: pip install 'regionloss[torch]'")

from regionloss.torch import RegionLoss  # noqa: E402 - only where PyTorch is installed
from regionloss.torch.analytic import dense  # noqa: E402 - likewise
from unit.torch.fake_device import take_branches_of_a_device  # noqa: E402 - likewise

PATHS = ("eager", "analytic", "compiled")

#: Cells along the tested axis, and the size of the truth in its middle.
CELLS, SIZE = 41, 12.0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("thresh", [0.25, 0.6, 0.8])
@pytest.mark.parametrize("axis", ["across", "down"])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_farthest_box_that_overlaps_a_truth_beyond_the_threshold_is_found(
    path: Any, thresh: float, axis: str, side: int
) -> None:
    # A box whose far side is that of the truth, d cells off, is SIZE + 2d long: the IoU is SIZE / (SIZE + 2d).
    limit = SIZE * (1 / thresh - 1) / 2
    for off, silenced in ((0.999 * limit, True), (1.001 * limit, False)):
        for within in (0.02, 0.5, 0.98):  # where in its cell the centre of the box lies
            cell = CELLS // 2
            middle = cell + within + side * off
            logit = math.log(within / (1 - within))
            predictions = torch.full((1, 6, 1, CELLS), -9.0, dtype=torch.float64)
            predictions[0, 0, 0, cell] = logit
            predictions[0, 1, 0, cell] = 0.0
            predictions[0, 2, 0, cell] = math.log(SIZE + 2 * off)
            predictions[0, 3, 0, cell] = 0.0
            rows = torch.tensor([[[middle / CELLS, 0.5, SIZE / CELLS, 1.0, 0]]], dtype=torch.float64)
            if axis == "down":
                predictions = predictions[:, [1, 0, 3, 2, 4, 5]].transpose(2, 3)
                rows = rows[:, :, [1, 0, 3, 2, 4]]
            loss = RegionLoss([[1.0, 1.0]], 1, path=path, thresh=thresh)
            result = loss.details(predictions, rows, images_seen=20000).ignored.flatten()
            assert int(middle) != cell  # where the predictor would be responsible, which is not to be ignored
            assert result[cell] == silenced, (off, within)
            assert result.sum() == int(silenced)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("thresh", [0.25, 0.6, 0.8])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("sides", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_the_farthest_box_along_both_axes_is_found(
    path: Any, thresh: float, share: float, sides: tuple[int, int]
) -> None:
    # A box whose far sides are those of the truth, dx and dy off, is w + 2dx wide and h + 2dy high, and around it.
    size = (9.0, 5.0)
    for limit, silenced in ((0.999 / thresh, True), (1.001 / thresh, False)):
        longer = (limit**share, limit ** (1 - share))  # than the truth; the IoU is 1 by their product
        middle = (20.3, 20.6)
        predictions = torch.full((1, 12, CELLS, CELLS), -9.0, dtype=torch.float64)
        rows = torch.tensor([[[*(m / CELLS for m in middle), *(s / CELLS for s in size), 0]]], dtype=torch.float64)
        place = [m + side * (by - 1) / 2 * s for m, side, by, s in zip(middle, sides, longer, size, strict=True)]
        i, j = map(int, place)
        predictions[0, 6:10, j, i] = torch.tensor(
            [
                *(math.log(at % 1 / (1 - at % 1)) for at in place),
                *(math.log(by * s) for by, s in zip(longer, size, strict=True)),
            ]
        )
        loss = RegionLoss([size, [1.0, 1.0]], 1, path=path, thresh=thresh)  # the first is responsible for the truth
        result = loss.details(predictions, rows, images_seen=20000).ignored[0, 1]
        assert result[j, i] == silenced, limit
        assert result.sum() == int(silenced)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("thresh", [0.25, 0.6, 0.8])
@pytest.mark.parametrize("axis", ["across", "down"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_shortest_and_the_longest_box_that_overlap_a_truth_beyond_the_threshold_are_found(
    path: Any, thresh: float, axis: str, dtype: Any
) -> None:
    # Around the same centre and as wide as each other, boxes have the IoU of the shorter to the longer.
    for ratio, silenced in ((1.001 * thresh, True), (0.999 * thresh, False)):
        for length in (SIZE * ratio, SIZE / ratio):
            predictions = torch.full((1, 12, 1, CELLS), -9.0, dtype=dtype)
            predictions[0, 6:10, 0, CELLS // 2] = torch.tensor([0.0, 0.0, math.log(length), 0.0])
            rows = torch.tensor([[[0.5, 0.5, SIZE / CELLS, 1.0, 0]]], dtype=torch.float64)
            anchors = [[SIZE, 1.0], [1.0, 1.0]]  # the first is responsible for the truth
            if axis == "down":
                predictions = predictions[:, [1, 0, 3, 2, 4, 5, 7, 6, 9, 8, 10, 11]].transpose(2, 3)
                rows = rows[:, :, [1, 0, 3, 2, 4]]
                anchors = [[1.0, SIZE], [1.0, 1.0]]
            loss = RegionLoss(anchors, 1, path=path, thresh=thresh)
            result = loss.details(predictions, rows, images_seen=20000).ignored[0, 1].flatten()
            assert result[CELLS // 2] == silenced, (length, ratio)
            assert result.sum() == int(silenced)


@pytest.mark.parametrize("path", PATHS)
def test_at_or_above_a_threshold_of_zero_silences_every_predictor_even_without_truths(path: Any) -> None:
    predictions = torch.zeros(2, 12, 3, 4, dtype=torch.float64)
    rows = torch.zeros(2, 3, 5, dtype=torch.float64)
    rows[0, 0] = torch.tensor([0.5, 0.5, 0.1, 0.1, 0])
    loss = RegionLoss([[1.0, 1.0], [2.0, 2.0]], 1, path=path, thresh=0.0, ignore="at-or-above")
    result = loss.details(predictions, rows, images_seen=20000)
    assert result.terms["no_object"] == 0
    assert (result.ignored | result.responsible).all()
    above = RegionLoss([[1.0, 1.0], [2.0, 2.0]], 1, path=path, thresh=0.0)
    assert not above.details(predictions, rows, images_seen=20000).ignored[1].any()


@pytest.mark.parametrize("path", PATHS)
def test_above_a_threshold_of_zero_any_overlap_silences_from_any_distance(path: Any) -> None:
    predictions = torch.full((1, 6, 1, CELLS), -9.0, dtype=torch.float64)
    predictions[0, 2, 0, -2:] = torch.tensor([4.4, 4.3])  # 81 and 74 cells wide, around 39.0001 and 40.0001
    rows = torch.tensor([[[0.5 / CELLS, 0.5, 1 / CELLS, 1.0, 0]]], dtype=torch.float64)  # from 0 to 1
    loss = RegionLoss([[1.0, 1.0]], 1, path=path, thresh=0.0)
    result = loss.details(predictions, rows, images_seen=20000).ignored.flatten()
    assert result[-2:].tolist() == [True, False]


@pytest.mark.parametrize("path", PATHS)
def test_a_box_too_wide_for_its_format_and_too_low_for_it_overlaps_nothing(path: Any) -> None:
    # Infinity times zero would be no number. For a target of 0: 5 * (1/2 - 0) * 1/2 * (1 - 1/2).
    predictions = torch.tensor([0.0, 0.0, 100.0, -110.0, 0.0, 0.0]).view(1, 6, 1, 1).requires_grad_()
    rows = torch.tensor([[[0.5, 0.5, 1.0, 1.0, 0.0]]])
    loss = RegionLoss([[1.0, 1.0]], 1, path=path)
    loss(predictions, rows, images_seen=0).backward()
    assert predictions.grad is not None
    assert predictions.grad.flatten().tolist() == [0, 0, 100, -110, 0.625, 0]


@pytest.mark.parametrize("path", PATHS)
def test_a_box_and_a_truth_without_an_area_in_their_format_overlap_by_nothing(path: Any) -> None:
    # 0/0 would be no number. For a target of 0: 5 * (1/2 - 0) * 1/2 * (1 - 1/2).
    predictions = torch.tensor([0.0, 0.0, -110.0, -110.0, 0.0, 0.0]).view(1, 6, 1, 1).requires_grad_()
    rows = torch.tensor([[[0.5, 0.5, 1e-30, 1e-30, 0.0]]], dtype=torch.float64)
    loss = RegionLoss([[1.0, 1.0]], 1, path=path)
    loss(predictions, rows, images_seen=0).backward()
    assert predictions.grad is not None
    assert predictions.grad.flatten()[4].item() == 0.625


@pytest.mark.parametrize("pairs", [1, 50, 1000])
def test_silenced_predictors_do_not_depend_on_how_many_pairs_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    draw = torch.Generator().manual_seed(4)
    predictions = 0.3 * torch.randn(3, 2 * 6, 9, 13, generator=draw, dtype=torch.float64)
    rows = torch.rand(3, 7, 5, generator=draw, dtype=torch.float64) * 0.4 + 0.1
    rows[..., 4] = 0
    loss = RegionLoss([[2.0, 3.0], [4.0, 3.0]], 1, path="eager", thresh=0.3)
    expected = loss.details(predictions, rows, images_seen=0).ignored
    assert all(20 < image.sum() < image.numel() / 2 for image in expected)
    monkeypatch.setattr(dense, "PAIRS", pairs)
    loss.path = "analytic"
    assert torch.equal(loss.details(predictions, rows, images_seen=0).ignored, expected)
    take_branches_of_a_device(monkeypatch)
    assert torch.equal(loss.details(predictions, rows, images_seen=0).ignored, expected)
