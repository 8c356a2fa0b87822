"""Two processes with half of the batch each: together they take the step of one process with all of it.

The loss is a sum over images; DistributedDataParallel and FSDP average the gradients of the processes. So each process
multiplies its loss by their number, and then no image weighs more or less because of its process (`scale.sum`).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from torch import nn  # noqa: E402 - only where PyTorch is installed

from regionloss.torch import RegionLoss, pad_truths  # noqa: E402 - likewise

WORLD, IMAGES, STEPS, CLASSES = 2, 3, 3, 2
ANCHORS = [[1.0, 2.0], [2.0, 1.0]]
LISTS = [
    [[0.4, 0.4, 0.2, 0.6, 1], [0.45, 0.4, 0.2, 0.5, 0]],
    [[0.1, 0.8, 0.6, 0.3, 1]],
    [],
]

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo"
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(4, len(ANCHORS) * (5 + CLASSES), 1)]
    return nn.Sequential(*layers).double()


def train(model: nn.Module, outputs: slice, factor: float) -> list[float]:
    """Some steps on a share of the images; the losses."""
    loss = RegionLoss(ANCHORS, CLASSES, prior_until=2 * IMAGES)  # the last step is taken without the prior
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    pictures = torch.randn(IMAGES, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    truths = pad_truths(LISTS[outputs])
    values = []
    for step in range(STEPS):
        optimizer.zero_grad()
        # Images seen by the run, by all of its processes.
        value = loss(model(pictures[outputs]), truths, images_seen=step * IMAGES)
        (factor * value).backward()
        optimizer.step()
        values.append(value.item())
    return values


def weights_of(model: nn.Module) -> dict[str, Any]:
    return {name.removeprefix("module."): value.detach() for name, value in model.named_parameters()}


def _work(rank: int, port: int, kinds: list[str], folder: str) -> None:
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    answers = {kind: _trained(rank, kind) for kind in kinds}
    if rank == 0:
        torch.save(answers, Path(folder) / "answers.pt")
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that tears them down in order


def _trained(rank: int, kind: str) -> tuple[Any, dict[str, Any]]:
    """The losses of the steps, summed over the processes, and the weights after them."""
    import torch.distributed as dist

    model: Any = network()
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
    outputs = slice(0, 2) if rank == 0 else slice(2, IMAGES)
    values = torch.tensor(train(model, outputs, factor=WORLD), dtype=torch.float64)
    dist.all_reduce(values)
    weights = weights_of(model)
    if kind == "fsdp":
        assert all(value.to_local().numel() < value.numel() for value in weights.values()), "nothing was sharded"
        weights = {name: value.full_tensor() for name, value in weights.items()}
    return values, weights


def _has_fsdp() -> bool:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        return False
    return callable(fully_shard)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(tmp_path: Path) -> None:
    # With the same two processes for both kinds: to start them takes most of the time.
    kinds = ["ddp", "fsdp"] if _has_fsdp() else ["ddp"]
    torch.multiprocessing.spawn(_work, (_free_port(), kinds, str(tmp_path)), nprocs=WORLD)
    answers = torch.load(tmp_path / "answers.pt")
    model = network()
    values = torch.tensor(train(model, slice(0, IMAGES), factor=1), dtype=torch.float64)
    weights, start = weights_of(model), weights_of(network())
    assert not any(torch.equal(weights[name], start[name]) for name in weights)
    torch.testing.assert_close(answers, dict.fromkeys(kinds, (values, weights)), rtol=1e-12, atol=1e-14)
