"""Train a small detector with the YOLOv2 loss until it overfits eight synthetic pictures.

    pip install 'regionloss[torch,examples]'
    python docs/examples/train.py --steps 400 --out trained

On two cores it takes about a minute. It prints its progress and writes two pictures: `boxes.png`, the detections beside
the truths, and `curves.png`, the loss and its terms.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pictures import SHAPES, Array, draw_boxes, draw_curves, make_pictures
from regionloss.torch import RegionLoss, pad_truths

PICTURES, SIZE, STRIDE, ANCHORS = 8, 128, 16, 3


def main() -> None:
    """Make pictures, train, and draw the detections."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--steps", type=int, default=400, help="optimiser steps, each on all pictures")
    arguments.add_argument("--out", type=Path, default=Path("trained"), help="folder for the two pictures")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    arrays, lists = make_pictures(PICTURES, SIZE, np.random.default_rng(0))
    pictures = torch.from_numpy(arrays).float()
    truths = pad_truths(lists)  # [N, T, 5] and the counts of each image: one copy moves them to a device
    sizes = np.concatenate(lists)[:, 2:4] * (SIZE // STRIDE)
    anchors = typical_sizes(sizes, ANCHORS)
    network = detector(ANCHORS * (5 + len(SHAPES)))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=max(options.steps, 2))

    # For the first 12800 images, darknet also pulls every box that is not responsible towards its anchor. A real
    # training leaves that behind after a few minutes; this one sees 8 images a step and would never reach the end of
    # it. So here the prior ends after a tenth of the steps. The rest of the loss is darknet's.
    prior_steps = options.steps // 10
    loss = RegionLoss(anchors, len(SHAPES), prior_until=prior_steps * PICTURES)
    curves: dict[str, list[float]] = {}
    for step in range(options.steps):
        # t counts the images that the training has seen, over all its steps and processes.
        details = loss.details(network(pictures), truths, images_seen=step * PICTURES)
        optimizer.zero_grad()
        # The loss is a sum over images, so its gradient grows with their number. Dividing is up to the training loop.
        (details.loss / PICTURES).backward()
        optimizer.step()
        schedule.step()
        for name, value in {"loss": details.loss, **details.terms}.items():
            curves.setdefault(name, []).append(value.item() / PICTURES)
        if step % 50 == 0 or step == options.steps - 1:
            overlap, recall = judge(detect(network, pictures, anchors), lists)
            progress = "  ".join(f"{name} {values[-1]:8.4f}" for name, values in curves.items())
            print(f"step {step:4d}  {progress}  IoU {overlap:.3f}  recall {recall:.2f}", flush=True)

    draw_boxes(arrays, lists, detect(network, pictures, anchors), options.out / "boxes.png")
    draw_curves(curves, prior_steps, "the prior ends", options.out / "curves.png")
    print(
        f"wrote {options.out / 'boxes.png'} and {options.out / 'curves.png'}; path {details.path!r} computed the loss"
    )


def detector(outputs: int) -> nn.Sequential:
    """A network of four halvings: `[N, 3, S, S]` to raw outputs `[N, A*(5+C), S/16, S/16]`."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    layers += [nn.Conv2d(96, 96, 3, 1, 1, bias=False), nn.BatchNorm2d(96), nn.LeakyReLU(0.1)]
    # The outputs are raw: the loss applies the sigmoids, the exponentials and the softmax.
    return nn.Sequential(*layers, nn.Conv2d(96, outputs, 1))


def typical_sizes(sizes: Array, count: int) -> Array:
    """Anchors: the centres of k-means on widths and heights `[T, 2]`, whose distance is 1 - IoU of the shapes."""
    order = np.argsort(sizes.prod(axis=1))
    centres: Array = sizes[order[np.linspace(0, len(sizes) - 1, count).round().astype(int)]]
    for _ in range(20):
        shared = np.minimum(sizes[:, None], centres).prod(axis=2)
        fit = shared / (sizes.prod(axis=1)[:, None] + centres.prod(axis=1) - shared)
        closest = fit.argmax(axis=1)
        centres = np.array(
            [sizes[closest == k].mean(axis=0) if (closest == k).any() else centres[k] for k in range(count)]
        )
    return centres


@torch.no_grad()
def detect(network: nn.Module, pictures: Tensor, anchors: Array, least: float = 0.3) -> list[Array]:
    """The detections: for each picture `[D, 6]` of x, y, w, h, class and confidence."""
    network.eval()
    t = network(pictures).double()
    network.train()
    images, _, height, width = t.shape
    t = t.view(images, len(anchors), -1, height, width)
    size = torch.from_numpy(anchors).T[:, None, :, None, None]  # [2, 1, A, 1, 1]
    x = (t[:, :, 0].sigmoid() + torch.arange(width)) / width
    y = (t[:, :, 1].sigmoid() + torch.arange(height)[:, None]) / height
    w, h = t[:, :, 2].exp() * size[0] / width, t[:, :, 3].exp() * size[1] / height
    probability, kind = t[:, :, 5:].softmax(dim=2).max(dim=2)
    confidence = t[:, :, 4].sigmoid() * probability
    rows = torch.stack([x, y, w, h, kind, confidence], dim=-1).flatten(1, 3)  # [N, A*H*W, 6]
    return [best_of_each(image[image[:, 5] > least].numpy()) for image in rows]


def best_of_each(rows: Array) -> Array:
    """Non-max suppression of `[D, 6]`: of boxes of a class that overlap by more than .45, the most confident stays."""
    rows = rows[np.argsort(-rows[:, 5], kind="stable")]
    kept: list[Array] = []
    for row in rows:
        if all(row[4] != other[4] or iou(row, other) <= 0.45 for other in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, 6)


def judge(detections: Sequence[Array], truths: Sequence[Array]) -> tuple[float, float]:
    """Mean IoU of the truths with the best box of their class, and the share of them above .5."""
    best = [
        max((iou(truth, row) for row in rows if row[4] == truth[4]), default=0.0)
        for rows, table in zip(detections, truths, strict=True)
        for truth in table
    ]
    return float(np.mean(best)), float(np.mean(np.array(best) > 0.5))


def iou(box: Array, other: Array) -> float:
    """Intersection over union of two rows that start with x, y, w, h."""
    edge = np.minimum(box[:2] + box[2:4] / 2, other[:2] + other[2:4] / 2)
    shared = (edge - np.maximum(box[:2] - box[2:4] / 2, other[:2] - other[2:4] / 2)).clip(0).prod()
    return float(shared / (box[2:4].prod() + other[2:4].prod() - shared))


if __name__ == "__main__":
    main()
