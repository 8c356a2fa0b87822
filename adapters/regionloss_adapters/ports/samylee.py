"""The YOLOV2Loss of samylee/YOLOV2_PyTorch_Train."""

from __future__ import annotations

from typing import Any

from regionloss_adapters import truths
from regionloss_adapters.ports.rows import Square
from regionloss_adapters.ports.source import Port, load
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "utils/loss.py"
PORT = Port(
    name="samylee",
    upstream="https://github.com/samylee/YOLOV2_PyTorch_Train",
    commit="d76ab160f81f25558e6c18defd4149134d43b9dc",
    licence="Apache-2.0",
    files={
        FILE: "0c72f8fcdc465fe0b3b6e6b34eb9ab409c528c2b672909e628d8e46e56d0cba6",
        "utils/utils.py": "643f2137ae651e78dbc360116217a0e5356dc7883b8a2a7bc96bd23b8227d0a1",
    },
)


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    module = load(port.root(), FILE, beside=("utils",))

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        region = module.YOLOV2Loss(
            len(batch.anchors),
            batch.classes,
            object_scale=profile.object_weight,
            noobject_scale=profile.no_object_weight,
            class_scale=profile.class_weight,
            coord_scale=profile.coord_weight,
            anchors=batch.anchors,
            device="cpu",
        )
        region.iou_thresh, region.seen = profile.thresh, batch.images_seen
        return region(output, target)

    return from_torch(
        loss,
        name=port.name,
        profiles=("samylee",),
        truths=Square(truths.Padded(columns="class x y w h")),
        options=("thresh", "coord_weight", "object_weight", "no_object_weight", "class_weight"),
        reduction="per-image",
        answers=("gradient", "potential"),
        notes=port.notes,
    )
