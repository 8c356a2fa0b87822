"""The YOLOv2Loss of zjykzj/YOLOv2."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from regionloss_adapters import layouts, truths
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "models/yolov2v3/yolov2loss.py"
PORT = Port(
    name="zjykzj",
    upstream="https://github.com/zjykzj/YOLOv2",
    commit="b925c944e3b8f7d71bfb36b4e3bf9cdb40077396",
    licence="Apache-2.0",
    files={FILE: "1bd0f7b58d1b8d811ff01d1c08a9f5a57d9ddd44fff28dbeb0f8a4878da5f535"},
    shims=("A model with only anchors and classes replaces the network.",),
)


class Model(list[Any]):
    """The parts of a network that the loss uses: its last layer, and the device of its parameters."""

    def parameters(self) -> Any:
        """The anchors, on the device of the loss."""
        return iter([self[-1].anchors])


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    module = load(port.root(), FILE, stubs=stub("utils", "utils.torch_utils"))
    module.de_parallel = lambda model: SimpleNamespace(model=model)

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        anchors = module.torch.tensor(batch.anchors, dtype=output.dtype)[None]
        head = SimpleNamespace(na=len(batch.anchors), nc=batch.classes, nl=1, anchors=anchors)
        region = module.YOLOv2Loss(
            Model([head]),
            ignore_thresh=profile.thresh,
            coord_scale=profile.coord_weight,
            noobj_scale=profile.no_object_weight,
            obj_scale=profile.object_weight,
            class_scale=profile.class_weight,
        )
        return region([output], target)[0]

    return from_torch(
        loss,
        name=port.name,
        layout=layouts.NAHWE,
        truths=truths.Flat(columns="image class x y w h"),
        options=("thresh", "coord_weight", "object_weight", "no_object_weight", "class_weight"),
        reduction="per-image",
        answers=("gradient", "potential"),
        notes=port.notes,
    )
