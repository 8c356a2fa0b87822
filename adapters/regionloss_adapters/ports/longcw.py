"""The loss of longcw/yolo2-pytorch, with its own IoU functions, compiled by Cython."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from regionloss.c_compiler import CompilerError, build
from regionloss_adapters import truths
from regionloss_adapters.ports.source import Port, load, stub
from regionloss_adapters.protocol import Adapter, AdapterError, Question
from regionloss_adapters.wrap.from_loss import from_torch

FILE = "darknet.py"
PORT = Port(
    name="longcw",
    upstream="https://github.com/longcw/yolo2-pytorch",
    commit="f046769ea157e6d57579c67dcef62fdd3b71111e",
    licence="MIT",
    files={
        FILE: "2120247aaa4b7b5af8b34c372eb4eef5e56fbef40ba00ca661c2c5eda21eb3ec",
        "utils/bbox.pyx": "0ed87db31e3284bdb93f34807dbde293a4660a272e3a914fff0d69b3e5393ef9",
        "utils/yolo.pyx": "344019b732c68d543fb595f9984274d168d619e2e161aefffae65fe9c899cd88",
    },
    needs=("Cython",),
    shims=(
        "Its layers are left out: its predictions are the outputs of the last one.",
        "Its weights are those of its configuration, 5, 1, 1 and 1, which is left out because it also names the data.",
        "Tensors that it moves to CUDA stay on the CPU, and this process does the work of its pool of ten.",
        "np.float and np.int are float and int, as in NumPy before 1.24, and its output is dropped.",
    ),
)
_WEIGHTS = {"object_scale": 5.0, "noobject_scale": 1.0, "class_scale": 1.0, "coord_scale": 1.0}
_LEFT_OUT = ("utils", "utils.network", "cfgs", "cfgs.config", "layers", "layers.reorg", "layers.reorg.reorg_layer")
_STRIDE = 32


def adapter(port: Port = PORT) -> Adapter:
    """The loss of a checkout. Raises `AdapterError` if it is missing, another version, or cannot be compiled."""
    root = port.root()
    from regionloss_adapters.ports.old_torch import quiet

    with _old_numpy():
        stubs = stub(*_LEFT_OUT) | {f"utils.cython_{name}": _compiled(root, name) for name in ("bbox", "yolo")}
        module = load(root, FILE, stubs=stubs)
    torch = module.torch
    module.net_utils = SimpleNamespace(
        np_to_variable=lambda values, dtype=torch.FloatTensor: torch.from_numpy(values).type(dtype)
    )

    def loss(output: Any, boxes: Any, question: Question) -> Any:
        batch = question.batch
        height, width = output.shape[2:]
        size = np.array([width, height])
        module.cfg = SimpleNamespace(
            multi_scale_inp_size=[size * _STRIDE], multi_scale_out_size=[size], anchors=batch.anchors,
            num_anchors=len(batch.anchors), num_classes=batch.classes, iou_thresh=question.profile.thresh, **_WEIGHTS
        )  # fmt: skip
        network = _without_layers(module)
        rows = [np.asarray(image, dtype=np.float64) for image in boxes]
        with _old_numpy(), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's warnings about renamed arguments
            network(output, [row[:, :4] for row in rows], [row[:, 4].astype(int) for row in rows], [None] * len(rows))
            return network.loss

    return from_torch(
        loss,
        name=port.name,
        truths=truths.Ragged(columns="x1 y1 x2 y2 class", unit="pixels", dtype="float64"),
        options=("thresh",),
        answers=("gradient", "potential"),
        notes=port.notes,
    )


def _without_layers(module: Any) -> Any:
    """Its network, which passes its input to its loss."""
    network = module.Darknet19.__new__(module.Darknet19)
    module.torch.nn.Module.__init__(network)
    for name in ("conv1s", "conv2", "conv3", "conv4", "conv5", "global_average_pool"):
        setattr(network, name, lambda values: values)
    network.reorg = lambda values: values[:, :0]  # the tensor it is concatenated with
    network.pool = SimpleNamespace(map=lambda work, images: [work(image) for image in images])
    return network


@contextmanager
def _old_numpy() -> Iterator[None]:
    with mock.patch.object(np, "float", float, create=True), mock.patch.object(np, "int", int, create=True):
        yield


def _compiled(root: Path, name: str) -> ModuleType:
    """One of its modules in Cython. Raises `AdapterError` if Cython or the compiler fails, or is missing."""
    file = root / f"utils/{name}.pyx"
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / f"{name}.c"
        command = [sys.executable, "-m", "cython", "-3", str(file), "-o", str(translated)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AdapterError(f"adapter {PORT.name!r}: Cython cannot translate {file}: {done.stderr[-2000:]}")
        source = translated.read_text(encoding="utf-8")
    headers = (f"-I{headers}" for headers in (np.get_include(), sysconfig.get_path("include")))
    try:
        library = build(f"longcw-{name}", ["-O2", "-w", "-shared", "-fPIC", *headers, "-x", "c", "-"], source=source)
    except CompilerError as error:
        raise AdapterError(f"adapter {PORT.name!r}: {file} cannot be compiled: {error}") from error
    loader = ExtensionFileLoader(name, str(library))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(library)))
    loader.exec_module(module)
    return module
