"""The loss of experiencor/keras-yolo2, with the grid of truths that its own generator fills."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from regionloss_adapters import layouts, truths
from regionloss_adapters.ports.rows import Square
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_keras

PORT = Port(
    name="keras-yolo2",
    upstream="https://github.com/experiencor/keras-yolo2",
    commit="8bc3fcdc123a5d6b9624ed4188e07b876b79dac5",
    licence="MIT",
    files={
        "frontend.py": "04ac56a13e5881f8dc1c90338645b996481798fc1d138bea3abd2603aa467c09",
        "preprocessing.py": "f47554a68b8130cf51239007fd03346ef29be1a484e13d90231b9d67a2280508",
        "utils.py": "e3b7d476ae59a5fe24e34c8f687b9eb1942eb42c5c4ea699b4efb555ca08bb49",
    },
    framework="tensorflow",
    shims=(
        "tensorflow is tensorflow.compat.v1, run eagerly.",
        "Keras, OpenCV and imgaug, which the loss does not use, are left out, and so are images: a pixel is a cell.",
        "Its warm-up counts batches; each question is the first batch, and the warm-up is on below 12800 images.",
    ),
)
_UNUSED = (
    "cv2", "imgaug", "backend", "keras", "keras.applications", "keras.applications.mobilenet", "keras.callbacks",
    "keras.layers", "keras.layers.advanced_activations", "keras.layers.merge", "keras.models", "keras.optimizers",
    "keras.utils",
)  # fmt: skip


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    root = port.root()
    stubs = stub(*_UNUSED) | {"tensorflow": importlib.import_module("tensorflow.compat.v1")}
    module = load(root, "frontend.py", beside=("utils", "preprocessing"), stubs=stubs)

    def loss(output: Any, boxes: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        images, height, width, anchors, _ = output.shape
        longest = max([1, *map(len, boxes)])
        grid, buffer = _filled(module.BatchGenerator, boxes, question, height, width, longest)
        model = SimpleNamespace(
            grid_h=height, grid_w=width, batch_size=images, nb_box=anchors, anchors=batch.anchors.reshape(-1).tolist(),
            true_boxes=buffer, class_wt=np.ones(batch.classes, dtype=np.float32), debug=False,
            coord_scale=profile.coord_weight, object_scale=profile.object_weight,
            no_object_scale=profile.no_object_weight, class_scale=profile.class_weight,
            warmup_batches=int(batch.images_seen < profile.prior_until),
        )  # fmt: skip
        return module.YOLO.custom_loss(model, grid, output)

    return from_keras(
        loss,
        name=port.name,
        layout=layouts.NHWAE,
        truths=Square(truths.Ragged(columns="x1 y1 x2 y2 class", unit="cells", dtype="float64")),
        options=("coord_weight", "object_weight", "no_object_weight", "class_weight", "prior_until"),
        answers=("gradient", "potential"),
        notes=port.notes,
    )


def _filled(generator: Any, boxes: Any, question: Question, height: int, width: int, longest: int) -> tuple[Any, Any]:
    """The grid of truths and the list of boxes as its generator creates them, float32."""
    classes, anchors = question.batch.classes, question.batch.anchors
    names = ("xmin", "ymin", "xmax", "ymax")
    images = []
    for rows in boxes:
        objects = [dict(zip(names, map(float, row), strict=False)) | {"name": int(row[4])} for row in np.array(rows)]
        images.append({"object": objects})
    filler = generator.__new__(generator)
    filler.images, filler.jitter, filler.norm = images, False, lambda picture: 0
    filler.aug_image = lambda image, jitter: (None, image["object"])
    filler.config = {
        "BATCH_SIZE": len(images), "IMAGE_H": height, "IMAGE_W": width, "GRID_H": height, "GRID_W": width,
        "BOX": len(anchors), "LABELS": list(range(classes)), "TRUE_BOX_BUFFER": longest,
    }  # fmt: skip
    filler.anchors = [SimpleNamespace(xmin=0, ymin=0, xmax=w, ymax=h) for w, h in anchors.tolist()]
    (_, buffer), grid = filler[0]
    return grid.astype(np.float32), buffer.astype(np.float32)
