"""The RegionLayer of andy-yun/pytorch-0.4-yolov3."""

from __future__ import annotations

from typing import Any

from regionloss_adapters.ports.rows import AtLeast
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "region_layer.py"
PORT = Port(
    name="andy-yun",
    upstream="https://github.com/andy-yun/pytorch-0.4-yolov3",
    commit="7928dc9820dd7cae8e9b0c56d1d43a69976996af",
    licence="MIT",
    files={
        FILE: "e499826ece52ad624d94398883077b2e05d4957830f5aea862c8ac93f5815733",
        "utils.py": "203e0a2e3c7f68d0370dfe69942fbb67255747eff2c0f46b8290856eb830c760",
    },
    shims=(
        "PIL and imghdr, which the loss does not use, are left out, and its output is dropped.",
        "It raises an exception instead of ending the process on a NaN loss.",
    ),
)


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing or another version."""
    root = port.root()
    from regionloss_adapters.ports.old_torch import quiet

    module = load(root, FILE, beside=("utils",), stubs=stub("PIL", "PIL.Image", "imghdr"))

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch = question.batch
        anchors = batch.anchors.reshape(-1).tolist()
        region = module.RegionLayer(batch.classes, anchors, len(batch.anchors), use_cuda=False)
        region.thresh, region.seen = question.profile.thresh, batch.images_seen
        with quiet():
            return region(output, target)

    return from_torch(
        loss,
        name=port.name,
        profiles=("andy-yun",),
        truths=AtLeast(columns="class x y w h", rows_read=50, ends_at_zero=True),
        options=("thresh",),
        reduction="per-image",
        answers=("gradient", "potential"),
        notes=port.notes,
    )
