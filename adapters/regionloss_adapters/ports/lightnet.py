"""The RegionLoss of eavise-kul/lightnet."""

from __future__ import annotations

import re
from typing import Any

from regionloss_adapters import truths
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "lightnet/network/loss/_regionloss.py"
PORT = Port(
    name="lightnet",
    upstream="https://github.com/eavise-kul/lightnet",
    commit="c9f19e60e96b3938ab669a5cd064fa56b6cd017b",
    licence="MIT",
    files={FILE: "05af33a4498bed2bf570a89725ceb16cb48bc7ff7ea9acaa74e2866c031d186b"},
    package="lightnet",
    shims=("distutils, which Python no longer has, is replaced for the comparison of versions.",),
)


class Version(tuple[int, ...]):
    """A version with distutils' comparison, by its numbers."""

    def __new__(cls, text: str) -> Version:
        """Of a text such as 2.1.0+cpu."""
        return super().__new__(cls, map(int, re.findall(r"\d+", text)[:3]))


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout or of the installed package. Raises `AdapterError` if it is missing or another version."""
    module = load(port.root(), FILE, stubs=stub("distutils", "distutils.version", LooseVersion=Version))

    def loss(output: Any, target: Any, question: Question) -> Any:
        batch, profile = question.batch, question.profile
        region = module.RegionLoss(
            batch.classes,
            batch.anchors.tolist(),
            thresh=profile.thresh,
            object_scale=profile.object_weight,
            noobject_scale=profile.no_object_weight,
            class_scale=profile.class_weight,
            coord_prefill=profile.prior_until,
        )
        return region.train()(output, target, seen=batch.images_seen)

    return from_torch(
        loss,
        name=port.name,
        profiles=("lightnet",),
        truths=truths.Padded(columns="class x y w h", fill=-1.0),
        options=("thresh", "object_weight", "no_object_weight", "class_weight", "prior_until"),
        reduction="per-image",
        answers=("gradient", "potential"),
        notes=port.notes,
    )
