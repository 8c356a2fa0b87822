"""The RegionLoss of marvis/pytorch-yolo2, which many forks contain unchanged."""

from __future__ import annotations

from typing import Any

from regionloss_adapters.ports.rows import AtLeast
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "region_loss.py"
PORT = Port(
    name="marvis",
    upstream="https://github.com/clibdev/pytorch-yolo2",
    commit="692ce031e8267234d13924c55b8a76f441c2de60",
    licence="MIT",
    files={
        FILE: "0676be721a756c638d83c3ccd695b23ad22ac12e929926c74c150fb1a43843ab",
        "utils.py": "d7ebb78611f3c903e0f8a729d5b38fa69903f8f3181d9921ef5439bf80a99de8",
    },
    shims=(
        "Tensors that it moves to CUDA stay on the CPU.",
        "Tensors with equally many elements are combined element by element whatever their shapes, as in PyTorch 0.1.",
        "The first element of a tensor without dimensions is the tensor itself, as in PyTorch 0.1.",
        "xrange is range, and division by a number of anchors gives an integer, as in Python 2.",
        "PIL and imghdr, which the loss does not use, are left out, and its output is dropped.",
    ),
)


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    root = port.root()
    from regionloss_adapters.ports.old_torch import NAMES_2, Count, old_torch, quiet

    pictures = stub("PIL", "PIL.Image", "imghdr")
    module = load(root, FILE, beside=("utils",), stubs=pictures, names=NAMES_2)

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        with old_torch(), quiet():
            region = module.RegionLoss(batch.classes, batch.anchors.reshape(-1).tolist(), Count(len(batch.anchors)))
            region.thresh, region.seen = profile.thresh, batch.images_seen
            region.coord_scale, region.class_scale = profile.coord_weight, profile.class_weight
            region.object_scale, region.noobject_scale = profile.object_weight, profile.no_object_weight
            return region(output, target)

    return from_torch(
        loss,
        name=port.name,
        profiles=("marvis",),
        truths=AtLeast(columns="class x y w h", rows_read=50, ends_at_zero=True),
        options=("thresh", "coord_weight", "object_weight", "no_object_weight", "class_weight"),
        answers=("gradient", "potential"),
        notes=port.notes,
    )
