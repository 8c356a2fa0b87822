"""The training example learns, draws what it learned, and decodes boxes as the loss does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the example needs PyTorch: pip install 'regionloss[torch,examples]'")
Image = pytest.importorskip("PIL.Image", reason="the example draws with Pillow: pip install 'regionloss[examples]'")

from regionloss.torch import RegionLoss  # noqa: E402 - only where PyTorch is installed

EXAMPLES = Path(__file__).parents[3] / "docs/examples"


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example as a module, imported from its folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train

    yield train
    for name in ("train", "pictures"):
        sys.modules.pop(name, None)


def run(folder: Path, steps: int) -> list[dict[str, float]]:
    """The lines of progress, by the names in them."""
    command = [sys.executable, str(EXAMPLES / "train.py"), "--steps", str(steps), "--out", str(folder)]
    # One thread: where tests run side by side, threads that wait for each other take longer than one alone.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("step")]
    return [{name: float(number) for name, number in re.findall(r"(\w+) +([\d.]+)", line)} for line in lines]


@pytest.mark.slow
def test_it_learns_and_draws_what_it_learned(tmp_path: Path) -> None:
    first, *_, last = run(tmp_path, 60)
    assert (first["step"], last["step"]) == (0, 59)
    terms = ("no_object", "prior", "coord", "object", "class")
    assert first["loss"] == pytest.approx(sum(first[name] for name in terms), abs=5e-4)  # four decimals each
    assert first["prior"] > 0 == last["prior"]
    assert last["loss"] < first["loss"] / 20
    assert first["recall"] < 0.2
    assert last["recall"] > 0.7
    assert last["IoU"] > first["IoU"] + 0.4
    for name in ("boxes.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 100, name


@pytest.mark.slow
def test_drawing_works_after_one_step(tmp_path: Path) -> None:
    assert len(run(tmp_path, 1)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"boxes.png", "curves.png"}


def test_boxes_are_decoded_as_the_loss_does(train: Any) -> None:
    # Centre a quarter into column 2 of 4 and row 1 of 2; half as wide and twice as high as the second anchor.
    truth = np.array([[2.25 / 4, 1.25 / 2, 1.0 / 4, 1.0 / 2, 3]])
    anchors = np.array([[4.0, 4.0], [2.0, 0.5]])
    t = torch.full((1, 2, 9, 2, 4), -9.0)
    t[0, 1, :2, 1, 2] = float(np.log(0.25 / 0.75))
    t[0, 1, 2, 1, 2], t[0, 1, 3, 1, 2] = float(np.log(0.5)), float(np.log(2))
    t[0, 1, 4, 1, 2] = t[0, 1, 8, 1, 2] = 9.0
    t = t.reshape(1, 18, 2, 4)
    paid = RegionLoss(anchors, 4, prior_until=0).details(t, [truth], images_seen=0)
    assert paid.assigned_truth[0, 1, 1, 2] == 0
    assert paid.loss < 1e-5

    (result,) = train.detect(torch.nn.Identity(), t, anchors)
    assert result[:, :5] == pytest.approx(truth, abs=1e-6)
    assert result[0, 5] > 0.99
    assert train.judge([result], [truth]) == (pytest.approx(1, abs=1e-6), 1)
    shifted = truth + np.array([[0.125, 0, 0, 0, 0]])  # half of the width: a third of the union is shared
    assert train.judge([result], [shifted]) == (pytest.approx(1 / 3, abs=1e-6), 0)
    assert train.judge([result[:0]], [truth]) == (0, 0)
    assert train.judge([result], [truth - np.array([[0, 0, 0, 0, 1]])]) == (0, 0)  # the same box, another class


@pytest.mark.usefixtures("train")
def test_detections_are_drawn_in_the_colour_of_their_class_and_truths_in_white(tmp_path: Path) -> None:
    import pictures

    truths = [np.array([[0.5, 0.5, 0.5, 0.25, 0]])]
    result = [np.array([[0.5, 0.5, 0.75, 0.75, 1, 0.9]])]
    pictures.draw_boxes(np.zeros((1, 3, 64, 64)), truths, result, tmp_path / "boxes.png")
    with Image.open(tmp_path / "boxes.png") as sheet:
        pixels = sheet.convert("RGB")
        middle = 8 + 64  # a margin of 8, and two pixels for each of 64
        colours = [pixels.getpixel((8 + 128 * left // 8, middle)) for left in (0, 1, 2, 3)]
    assert colours == [(0, 0, 0), (46, 196, 182), (255, 255, 255), (0, 0, 0)]


def test_of_overlapping_boxes_the_most_confident_one_stays(train: Any) -> None:
    rows = np.array([[0.5, 0.5, 0.4, 0.4, 1, 0.8], [0.52, 0.5, 0.4, 0.4, 1, 0.9], [0.5, 0.5, 0.4, 0.4, 2, 0.7]])
    assert train.best_of_each(rows).tolist() == rows[[1, 2]].tolist()


def test_typical_sizes_are_the_centres_of_clusters(train: Any) -> None:
    groups = np.array([[1.0, 1.0], [1.1, 0.9], [4.0, 1.0], [4.2, 1.2], [3.0, 6.0], [3.2, 6.4]])
    assert train.typical_sizes(groups, 3) == pytest.approx(groups.reshape(3, 2, 2).mean(axis=1))


def test_pictures_are_the_same_each_time_and_shapes_fill_their_boxes(train: Any) -> None:
    import pictures

    first, second = (pictures.make_pictures(4, 64, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    for picture, table in zip(*first, strict=True):
        assert 2 <= len(table) <= 4
        covered = (picture.max(axis=0) > 0.4).nonzero()
        edges = 64 * np.concatenate([table[:, :2] - table[:, 2:4] / 2, table[:, :2] + table[:, 2:4] / 2], axis=1)
        assert covered[1].min() == pytest.approx(edges[:, 0].min(), abs=1.5)
        assert covered[0].max() + 1 == pytest.approx(edges[:, 3].max(), abs=1.5)
