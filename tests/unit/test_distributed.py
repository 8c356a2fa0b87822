"""The loss under torch.distributed: what two processes compute together, and what averaging does to it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from regionloss import evaluate  # noqa: E402  # after the skip
from regionloss.bounds import PRECISIONS, bounds  # noqa: E402
from regionloss.torch.eager import region_loss  # noqa: E402
from regionloss_spec import load_case, load_profile  # noqa: E402
from regionloss_spec.case import CASES  # noqa: E402

WORLD = 2


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(rank: int, port: int, profile_name: str, folder: str) -> None:
    """One process: the loss of its share of the images, through a layer whose gradient is averaged by DDP."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    batch = load_case(CASES / "ab-batch.json").batch
    mine = slice(0, 2) if rank == 0 else slice(2, 3)
    scale = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)  # predictions = outputs · weight, weight = 1
    torch.nn.init.ones_(scale.weight)
    model = DistributedDataParallel(scale)
    outputs = torch.from_numpy(batch.predictions[mine])
    predictions = model(outputs[..., None])[..., 0]
    result = region_loss(
        predictions,
        batch.truths[mine],
        batch.anchors,
        batch.classes,
        images_seen=batch.images_seen,
        profile=profile_name,
    )
    result.potential.backward()  # type: ignore[no-untyped-call]  # torch does not type it
    total = result.potential.detach().clone()
    dist.all_reduce(total)
    averaged = scale.weight.grad.item()
    if rank == 0:
        np.save(Path(folder) / "answer.npy", np.array([total.item(), averaged]))
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that tears them down in order


def _ask(profile_name: str, folder: Path) -> tuple[float, float]:
    torch.multiprocessing.spawn(_work, (_free_port(), profile_name, str(folder)), nprocs=WORLD)
    total, averaged = np.load(folder / "answer.npy")
    return float(total), float(averaged)


def _whole(profile_name: str) -> tuple[Any, float, float]:
    """The result on the whole batch, the derivative by the weight, and that of the two shards separately summed."""
    batch = load_case(CASES / "ab-batch.json").batch
    result = evaluate(batch, load_profile(profile_name))
    by_weight = result.gradient * batch.predictions
    return result, float(by_weight.sum()), float(by_weight[:2].sum())


def test_shards_of_a_summed_loss_add_up_and_averaging_halves_the_gradient(tmp_path: Path) -> None:
    total, averaged = _ask("darknet", tmp_path)
    result, by_weight, _ = _whole("darknet")
    limit = bounds(result, PRECISIONS["float64"])
    assert abs(total - result.potential) <= 2 * limit.potential
    assert averaged == pytest.approx(by_weight / WORLD, rel=1e-12)


def test_averaging_a_loss_per_image_weighs_unequal_shards_unequally(tmp_path: Path) -> None:
    total, averaged = _ask("lightnet", tmp_path)
    result, by_weight, first = _whole("lightnet")
    # The whole divides by 3 images; the shards divide by 2 and by 1, and are then averaged.
    expected = (first * 3 / 2 + (by_weight - first) * 3) / WORLD
    assert averaged == pytest.approx(expected, rel=1e-12)
    assert averaged != pytest.approx(by_weight, rel=1e-3)
    values = [term.value.sum(axis=(1, 2, 3)) for term in result.terms.values()]
    by_image = np.sum(values, axis=0)
    assert total == pytest.approx(by_image[:2].sum() / 2 + by_image[2:].sum(), rel=1e-12)
