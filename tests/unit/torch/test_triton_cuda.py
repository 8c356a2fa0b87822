"""What only a CUDA device can tell of the Triton path: launches, waiting, memory, graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: nothing is launched, and nothing can be waited for", allow_module_level=True)

from regionloss.torch import PaddedTruths, RegionLoss
from unit.torch.on_triton import INTERPRETED

if INTERPRETED:
    pytest.skip("in the interpreter nothing is launched", allow_module_level=True)

VOC_ANCHORS = [[1.3221, 1.73145], [3.19275, 4.00944], [5.05587, 8.09892], [9.47112, 4.84053], [11.2364, 10.0071]]
CLASSES = 80


class Step:
    """A step of training without its network: a batch on the device, the loss, and the gradient.

    Args:
        images: N.
        cells: H and W.
        dtype: of the predictions.
    """

    def __init__(self, images: int = 64, cells: int = 19, dtype: torch.dtype = torch.float32) -> None:
        draw = torch.Generator().manual_seed(0)
        rows = torch.rand(images, 50, 5, generator=draw) * 0.9 + 0.05
        rows[:, :, 4] = torch.randint(CLASSES, (images, 50), generator=draw)
        rows[:, 8:] = 0
        self.loss = RegionLoss(VOC_ANCHORS, CLASSES, path="triton")
        shape = (images, len(VOC_ANCHORS) * (5 + CLASSES), cells, cells)
        self.predictions = torch.randn(shape, generator=draw).to("cuda", dtype).requires_grad_()
        self.truths = PaddedTruths(rows.to("cuda"), torch.full((images,), 8, device="cuda"))
        self.images_seen = torch.tensor(0, device="cuda")
        self.upstream = torch.tensor(1.0, device="cuda")

    def __call__(self) -> tuple[Any, Any]:
        """The loss and the gradient."""
        loss = self.loss(self.predictions, self.truths, images_seen=self.images_seen)
        (gradient,) = torch.autograd.grad(loss, self.predictions, self.upstream)
        return loss.detach(), gradient


def test_a_step_is_three_launches() -> None:
    step = Step(4)
    step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    launched = [event.name for event in profile.events() if str(event.device_type).endswith("CUDA")]
    assert launched == ["forward_kernel", "reduction_kernel", "backward_kernel"]


@contextmanager
def waiting_raises() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_waits_for_nothing() -> None:
    step = Step(4)
    step()
    with waiting_raises():
        step()
        with pytest.raises(RuntimeError, match="synchroniz"):
            step.upstream.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_step_needs_little_more_memory_than_its_gradient(dtype: torch.dtype) -> None:
    step = Step(dtype=dtype)
    step()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _, gradient = step()
    above = torch.cuda.max_memory_allocated() - before - gradient.nbytes
    in_float32 = gradient.numel() * 4
    assert above <= 0.01 * in_float32


def captured(step: Callable[[], tuple[Any, Any]]) -> tuple[Any, tuple[Any, Any]]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = step()
    return graph, answer


def test_a_captured_graph_reads_its_inputs_and_ends_the_prior() -> None:
    step = Step(4)
    graph, (loss, gradient) = captured(step)
    losses = []
    for seen, seed in ((0, 1), (12799, 1), (12800, 1), (12800, 2)):
        torch.manual_seed(seed)
        with torch.no_grad():
            step.predictions.normal_()
        step.images_seen.fill_(seen)
        graph.replay()
        expected = step()
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
        losses.append(loss.item())
    assert losses[0] == losses[1] > losses[2] != losses[3]


def test_a_compiled_step_is_one_graph_with_the_same_result() -> None:
    step = Step(4)
    compiled = torch.compile(step.loss, fullgraph=True)
    loss = compiled(step.predictions, step.truths, images_seen=step.images_seen)
    (gradient,) = torch.autograd.grad(loss, step.predictions, step.upstream)
    expected = step()
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient, expected[1])


def test_a_tensor_of_more_than_two_billion_numbers() -> None:
    images, cells = 1200, 68
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("the device has less than 12 GiB free")
    step = Step(2, cells, torch.float16)
    loss, gradient = step()
    few, rows, counts = step.predictions, *step.truths
    step.predictions = torch.zeros((images, *few.shape[1:]), dtype=few.dtype, device="cuda")
    step.predictions[-2:] = few.detach()
    assert step.predictions.numel() > 2**31
    step.predictions.requires_grad_()
    step.truths = PaddedTruths(rows.repeat(images // 2, 1, 1), counts.repeat(images // 2))
    _, whole = step()
    assert torch.equal(whole[-2:], gradient)
    assert loss.isfinite()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one device")
def test_the_kernels_run_on_the_device_of_the_tensors() -> None:
    step = Step(4)
    expected = step()
    step.predictions = step.predictions.detach().to("cuda:1").requires_grad_()
    step.truths = PaddedTruths(*(tensor.to("cuda:1") for tensor in step.truths))
    step.images_seen, step.upstream = step.images_seen.to("cuda:1"), step.upstream.to("cuda:1")
    for one, other in zip(step(), expected, strict=True):
        assert torch.equal(one.cpu(), other.cpu())
