"""What the tests of the Triton path share: the device of its kernels, batches, and memory that detects stray writes.

The kernels run on a CUDA device if there is one, else in Triton's interpreter. That is chosen for a whole process, when
Triton is first imported, so `test_triton_interpreted.py` starts one of its own for the tests that need it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from regionloss_adapters import Question
from regionloss_spec import Batch, Case, Profile, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.oracle.comparison import Comparison

torch = pytest.importorskip("torch", reason="the Triton path needs PyTorch: pip install 'regionloss[torch]'")
pytest.importorskip("triton", reason="the Triton path needs Triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip(
        "no CUDA device: test_triton_interpreted.py runs these in Triton's interpreter", allow_module_level=True
    )

from regionloss.torch.analytic import operators as analytic  # noqa: E402 - only where the kernels run
from regionloss.torch.ops import BackwardInputs, Forward, ForwardInputs  # noqa: E402 - likewise
from regionloss.torch.settings import settings_of  # noqa: E402 - likewise
from regionloss.torch.triton import operators as triton_path  # noqa: E402 - likewise
from regionloss_adapters.torch.triton import TorchTritonAdapter  # noqa: E402 - likewise

DEVICE = "cpu" if INTERPRETED else "cuda"
ADAPTER = TorchTritonAdapter()
DARKNET = load_profile("darknet")
ANCHORS = (1.0, 2.0, 2.0, 1.0, 1.25, 1.5)


def random_inputs(
    shape: tuple[int, int, int, int] = (2, 4, 2, 3),
    length: int = 3,
    *,
    profile: Profile = DARKNET,
    anchors: tuple[float, ...] = ANCHORS,
    seen: int = 0,
    seed: int = 0,
) -> ForwardInputs:
    """A random batch of N, C, H, W = `shape` with `length` truths in each image, many of them in the same cells."""
    images, classes, height, width = shape
    draw = torch.Generator().manual_seed(seed)
    predictions = torch.randn(images, len(anchors) // 2 * (5 + classes), height, width, generator=draw)
    rows = torch.rand(images, length, 5, generator=draw) * 0.9 + 0.05
    rows[:, :, 4] = torch.randint(classes, (images, length), generator=draw)
    rows[:, length // 2 :, :2] = rows[:, : length - length // 2, :2]
    return ForwardInputs(predictions.to(DEVICE), rows.to(DEVICE), None, None, seen, anchors, settings_of(profile))


def batch_of(inputs: ForwardInputs) -> Batch:
    """The same as the reference takes it."""
    _, channels, _, _ = inputs.predictions.shape
    count = len(inputs.anchors) // 2
    return Batch(
        inputs.predictions.double().cpu().numpy(),
        tuple(rows.double().cpu().numpy() for rows in inputs.rows),
        np.array(inputs.anchors).reshape(count, 2),
        channels // count - 5,
        inputs.seen,
    )


def map_tensors(inputs: ForwardInputs, function: Callable[[Any], Any]) -> ForwardInputs:
    """The same with a function applied to every tensor."""
    return ForwardInputs._make(function(value) if isinstance(value, torch.Tensor) else value for value in inputs)


def on_host(inputs: ForwardInputs) -> ForwardInputs:
    """The same on the host, for the analytic path."""
    return map_tensors(inputs, lambda tensor: tensor.cpu())


def forward(inputs: ForwardInputs) -> Forward:
    """The result of the kernels."""
    return triton_path.forward(inputs)


def backward(inputs: ForwardInputs, result: Forward, upstream: float = 1.0) -> Any:
    """The gradient that the kernels write."""
    up = torch.tensor(upstream, device=DEVICE)
    saved = BackwardInputs(up, inputs.predictions, inputs.rows, *result[2:], inputs.anchors, inputs.settings)
    return triton_path.backward(saved)


def analytic_forward(inputs: ForwardInputs) -> Forward:
    """The result of the analytic path, on the host."""
    return analytic.forward(on_host(inputs))


def same_decisions(inputs: ForwardInputs) -> Forward:
    """The result of the kernels, after a check of its decisions against the analytic path."""
    result, expected = forward(inputs), analytic_forward(inputs)
    assert torch.equal(result.predictor_of_truth.cpu(), expected.predictor_of_truth)
    assert torch.equal(result.state.cpu(), expected.state)
    return result


def conforms(batch: Batch, profile: Profile, dtype: str = "float32") -> None:
    """Compare loss, terms, gradient and indicators of a batch with the reference, as the suite does."""
    case = Case(id="drawn", title="", base=profile.name, profile=profile, batch=batch, expected=Expected())
    answer = ADAPTER.answer(Question(batch=batch, profile=profile, dtype=dtype, upstream=1.0))
    with np.errstate(all="ignore"):
        difference = Comparison(case, answer, dtype).difference(View("everything"))
    assert difference is None, str(difference)


class GuardedMemory:
    """Replaces `new_empty` and `empty_like`: their memory is NaN, with marks on both sides."""

    margin = 64

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole: list[Any] = []
        self._new_empty: Callable[..., Any] = torch.Tensor.new_empty

        def new_empty(tensor: Any, size: Any, *, dtype: Any = None, device: Any = None) -> Any:
            if size == 0:  # what the interpreter makes its views from
                return self._new_empty(tensor, size, dtype=dtype, device=device)
            shape = tuple(size)
            return self._guard(tensor, shape, torch.empty(shape, device="meta").stride(), dtype or tensor.dtype)

        def empty_like(tensor: Any) -> Any:
            like = torch.zeros_like(tensor, device="meta")
            return self._guard(tensor, tuple(like.shape), like.stride(), tensor.dtype)

        monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)
        monkeypatch.setattr(torch, "empty_like", empty_like)

    def _guard(self, tensor: Any, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
        count = int(np.prod(shape, dtype=np.int64))
        mark = float("nan") if dtype.is_floating_point else 0x5A
        whole = torch.full((count + 2 * self.margin,), mark, dtype=dtype, device=tensor.device)
        self.whole.append(whole)
        return whole.as_strided(shape, strides, self.margin)

    def untouched(self) -> bool:
        """Whether nothing was written outside the tensors."""
        edges = [edge for whole in self.whole for edge in (whole[: self.margin], whole[-self.margin :])]
        return all(bool(edge.isnan().all() if edge.is_floating_point() else (edge == 0x5A).all()) for edge in edges)
