"""The loss under torch.distributed: what two processes compute together, and what averaging does to each reduction."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from regionloss import Result, evaluate  # noqa: E402  # after the skip
from regionloss.bounds import PRECISIONS, bounds  # noqa: E402
from regionloss.torch.eager import region_loss  # noqa: E402
from regionloss_spec import Batch, load_case, load_profile  # noqa: E402
from regionloss_spec.case import CASES  # noqa: E402

pytestmark = pytest.mark.slow  # together they take long: processes, compilers or whole runs

WORLD = 2
DARKNET = load_profile("darknet")
#: Which images of the batch each process gets. They hold no object, one, and three of which two are paid.
SPLITS = {
    "equal": ([0, 1], [2, 0]),
    "unequal": ([0, 1], [2]),
    "without objects": ([0], [1, 2]),
}
#: What a process divides its own sum by; the last two ask the others for their counts and divide by the mean of all.
KINDS = ("sum", "factor", "per-image", "per-object", "images of all", "objects of all")
FACTOR = 2.5


def _images(chosen: list[int]) -> Batch:
    batch = load_case(CASES / "ab-batch.json").batch
    truths = tuple(batch.truths[image] for image in chosen)
    return Batch(batch.predictions[chosen], truths, batch.anchors, batch.classes, batch.images_seen)


def _work(rank: int, port: int, folder: str) -> None:
    """One process: the loss of its share of the images, through a layer whose gradient is averaged by DDP."""
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    averages = {}
    for split, shards in SPLITS.items():
        for kind in KINDS:
            averages[f"{kind}, {split}"] = _averaged(_images(shards[rank]), kind)
    if rank == 0:
        (Path(folder) / "averages.json").write_text(json.dumps(averages), encoding="utf-8")
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that tears them down in order


def _averaged(batch: Batch, kind: str) -> tuple[float, float]:
    """The loss summed over the processes, and its derivative by a weight, averaged over them."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    scale = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)  # predictions = outputs · weight, weight = 1
    torch.nn.init.ones_(scale.weight)
    model = DistributedDataParallel(scale)  # averages for as long as it is kept
    result = region_loss(
        model(torch.from_numpy(batch.predictions)[..., None])[..., 0],
        batch.truths,
        batch.anchors,
        batch.classes,
        images_seen=batch.images_seen,
        profile=DARKNET.replace(reduction="per-image") if kind == "per-image" else DARKNET,
    )
    objects = sum(match.pays_box for match in result.matches)
    counts = torch.tensor([len(batch.truths), objects], dtype=torch.float64)
    dist.all_reduce(counts)
    images_of_all, objects_of_all = (counts / WORLD).tolist()
    divisors = {
        "factor": 1 / FACTOR,
        "per-object": max(objects, 1),
        "images of all": images_of_all,
        "objects of all": objects_of_all,
    }
    loss = result.potential / divisors.get(kind, 1.0)
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    return total.item(), scale.weight.grad.item()


@pytest.fixture(scope="module")
def averages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By kind and split: the sum of the losses, and the averaged derivative."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    torch.multiprocessing.spawn(_work, (port, str(folder)), nprocs=WORLD)
    return json.loads((folder / "averages.json").read_text(encoding="utf-8"))


def _whole(split: str) -> tuple[Result, float, int, int]:
    """The reference for all images in one batch: the result, its derivative, the number of images and of objects."""
    batch = _images([image for shard in SPLITS[split] for image in shard])
    result = evaluate(batch, DARKNET)
    objects = sum(match.pays_box for match in result.decisions.matches)
    return result, float((result.gradient * batch.predictions).sum()), len(batch.truths), objects


def _by_shard(split: str) -> list[tuple[float, int, int]]:
    """The derivative of each shard alone, its images and its objects, from the reference."""
    shards = []
    for shard in SPLITS[split]:
        batch = _images(shard)
        result = evaluate(batch, DARKNET)
        objects = sum(match.pays_box for match in result.decisions.matches)
        shards.append((float((result.gradient * batch.predictions).sum()), len(shard), objects))
    return shards


every_split = pytest.mark.parametrize("split", SPLITS)


@every_split
def test_the_sum_over_shards_is_the_loss_of_the_whole(averages: Any, split: str) -> None:
    total, _ = averages[f"sum, {split}"]
    result, derivative, _, _ = _whole(split)
    assert abs(total - result.potential) <= 2 * bounds(result, PRECISIONS["float64"]).potential
    assert sum(shard for shard, _, _ in _by_shard(split)) == pytest.approx(derivative, rel=1e-12)


@every_split
def test_averaging_divides_a_sum_by_the_workers_and_nothing_else(averages: Any, split: str) -> None:
    _, derivative, _, _ = _whole(split)
    assert averages[f"sum, {split}"][1] == pytest.approx(derivative / WORLD, rel=1e-12)


@every_split
def test_a_factor_passes_through_the_average(averages: Any, split: str) -> None:
    _, derivative, _, _ = _whole(split)
    assert averages[f"factor, {split}"][1] == pytest.approx(FACTOR * derivative / WORLD, rel=1e-12)


def test_averaging_a_mean_over_images_is_the_mean_of_the_whole_where_shards_are_equal(averages: Any) -> None:
    _, derivative, images, _ = _whole("equal")
    assert averages["per-image, equal"][1] == pytest.approx(derivative / images, rel=1e-12)


def test_averaging_a_mean_over_images_weighs_the_images_of_a_small_shard_more(averages: Any) -> None:
    _, derivative, images, _ = _whole("unequal")
    two, one = (shard for shard, _, _ in _by_shard("unequal"))
    # An image of the first shard weighs 1/4, that of the second 1/2; in the whole each weighs 1/3.
    assert averages["per-image, unequal"][1] == pytest.approx(two / 4 + one / 2, rel=1e-12)
    assert averages["per-image, unequal"][1] != pytest.approx(derivative / images, rel=1e-2)


@pytest.mark.parametrize(
    ("split", "weights"),
    # One object against two; none, which divides by 1, against three.
    [("equal", (1 / 2, 1 / 4)), ("unequal", (1 / 2, 1 / 4)), ("without objects", (1 / 2, 1 / 6))],
)
def test_averaging_a_mean_over_objects_is_that_of_the_whole_for_no_split(
    averages: Any, split: str, weights: tuple[float, float]
) -> None:
    _, derivative, _, objects = _whole(split)
    shards = [shard for shard, _, _ in _by_shard(split)]
    assert averages[f"per-object, {split}"][1] == pytest.approx(np.dot(weights, shards), rel=1e-12)
    assert averages[f"per-object, {split}"][1] != pytest.approx(derivative / objects, rel=1e-2)


@every_split
def test_dividing_by_the_mean_count_of_all_workers_is_the_mean_of_the_whole(averages: Any, split: str) -> None:
    _, derivative, images, objects = _whole(split)
    assert averages[f"images of all, {split}"][1] == pytest.approx(derivative / images, rel=1e-12)
    assert averages[f"objects of all, {split}"][1] == pytest.approx(derivative / objects, rel=1e-12)
