"""The YoloLoss of uvipen/Yolo-v2-pytorch."""

from __future__ import annotations

from typing import Any

from regionloss_adapters import truths
from regionloss_adapters.ports.source import Port, load
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "src/loss.py"
PORT = Port(
    name="uvipen",
    upstream="https://github.com/uvipen/Yolo-v2-pytorch",
    commit="94c02ab06eddd7e31683c2dc957acbea123c1800",
    licence="MIT",
    files={FILE: "c6a861188da3d87341c03682d8d54cced0732d719b7f91c9a5851652e10579e4"},
)


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    module = load(port.root(), FILE)

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        region = module.YoloLoss(
            batch.classes,
            batch.anchors.tolist(),
            coord_scale=profile.coord_weight,
            object_scale=profile.object_weight,
            noobject_scale=profile.no_object_weight,
            thresh=profile.thresh,
        )
        return region(output, target)[0]

    return from_torch(
        loss,
        name=port.name,
        profiles=("uvipen",),
        truths=truths.Ragged(columns="x1 y1 w h class", unit="pixels"),
        options=("thresh", "coord_weight", "object_weight", "no_object_weight"),
        reduction="per-image",
        answers=("gradient", "potential"),
        notes=port.notes,
    )
