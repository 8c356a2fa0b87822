"""The yolo_loss of allanzelener/YAD2K, with the truths that its own preprocessing assigns."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_adapters import layouts, truths
from regionloss_adapters.ports.rows import Square
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_keras

FILE = "yad2k/models/keras_yolo.py"
PORT = Port(
    name="yad2k",
    upstream="https://github.com/allanzelener/YAD2K",
    commit="a42c760ef868bc115e596b56863dc25624d2e756",
    licence="MIT",
    files={FILE: "4bfb7c681b49c5e4d20bad4116d1571f84145ecb35d7ecc8f95f3ea21df4fc85"},
    framework="tensorflow",
    shims=(
        "The Keras backend is tf.keras's; its layers and models, which the loss does not use, are left out.",
        "The class of a truth is a number instead of a slice with one number, which NumPy no longer accepts in a row.",
    ),
)
_UNUSED = (
    "keras.layers", "keras.layers.merge", "keras.models", "yad2k", "yad2k.models", "yad2k.models.keras_darknet19",
    "yad2k.utils",
)  # fmt: skip


class Truths:
    """The truths of an image, in the form that its preprocessing iterates over."""

    def __init__(self, rows: NDArray[np.floating[Any]]) -> None:
        self.rows, self.shape = rows, rows.shape

    def __iter__(self) -> Iterator[Truth]:
        return map(Truth, self.rows)


class Truth:
    """One truth whose class slice is a number."""

    def __init__(self, row: NDArray[np.floating[Any]]) -> None:
        self.row = row

    def __getitem__(self, part: slice) -> Any:
        numbers = self.row[part]
        return numbers if len(numbers) > 1 else numbers[0]


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    root = port.root()
    backend = importlib.import_module("tensorflow").keras.backend
    module = load(root, FILE, stubs=stub("keras", backend=backend) | stub(*_UNUSED))

    def loss(output: Any, boxes: Any, question: Question) -> Any:
        anchors, (_, height, width, _) = question.batch.anchors, output.shape
        size = (32 * height, 32 * width)
        boxes = np.array(boxes)
        assigned = [module.preprocess_true_boxes(Truths(rows), anchors, size) for rows in boxes]
        grid = (len(boxes), height, width, len(anchors))
        mask = np.reshape([mask for mask, _ in assigned], (*grid, 1)).astype(np.float32)
        matching = np.reshape([matching for _, matching in assigned], (*grid, 5)).astype(np.float32)
        return module.yolo_loss((output, boxes.astype(np.float32), mask, matching), anchors, question.batch.classes)

    return from_keras(
        loss,
        name=port.name,
        profiles=("yad2k",),
        layout=layouts.NHWC,
        truths=Square(truths.Padded(columns="x y w h class", ends_at_zero=False)),
        answers=("gradient", "potential"),
        notes=port.notes,
    )
