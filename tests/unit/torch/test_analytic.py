from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from regionloss import evaluate
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters import Question
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.profile import AXES, axis_values
from regionloss_suite.oracle.alternatives import unsettled
from regionloss_suite.oracle.strategies import batches

torch = pytest.importorskip("torch", reason="the fast paths need PyTorch: pip install 'regionloss[torch]'")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - likewise

from regionloss import DomainError  # noqa: E402 - keeps the imports of the package together
from regionloss.torch import RegionLoss, assignment, ops  # noqa: E402 - likewise
from regionloss.torch.analytic import dense  # noqa: E402 - likewise
from regionloss.torch.analytic import operators as analytic  # noqa: E402 - likewise
from regionloss.torch.ops import BackwardInputs, ForwardInputs  # noqa: E402 - likewise
from regionloss.torch.settings import EXPRESSED, settings_of  # noqa: E402 - likewise
from regionloss_adapters.torch.fast import TorchAnalyticAdapter  # noqa: E402 - likewise
from unit.torch.fake_device import take_branches_of_a_device  # noqa: E402 - likewise

ADAPTER = TorchAnalyticAdapter()
DARKNET = load_profile("darknet")
ANCHORS = ((1.0, 2.0), (2.0, 1.0), (3.0, 3.0))
FLAT = tuple(size for anchor in ANCHORS for size in anchor)
CLASSES = 4


def variants() -> list[Any]:
    """Every value of every axis that the fast paths express, numeric ones too, and axes that meet each other."""
    changes: list[dict[str, Any]] = [{}]
    for axis in AXES:
        for value in EXPRESSED.get(axis, axis_values(axis)):
            if getattr(DARKNET, axis) != value and axis != "printed_cost":
                changes.append({axis: value})
    changes += [
        {"thresh": 0.25, "coord_weight": 0.3, "object_weight": 2.5, "no_object_weight": 0.7, "class_weight": 1.7},
        {"thresh": 0.0, "ignore": "at-or-above"},
        {"prior_until": 0, "prior_weight": 0.3},
        {"prior_until": 100, "prior_weight": 0.3, "squared_factor": 1.0},
        {"max_truths": 2},
        {"truth_end": "none", "max_truths": 3},
        {"no_object_applies": "every-predictor", "prior_applies": "every-predictor", "object_target": "one"},
        {"collision": "first", "reduction": "per-image", "class_term": "squared-error", "class_weight": 0.4},
    ]
    return [pytest.param(DARKNET.replace(**axes), id=" ".join(f"{k}={v}" for k, v in axes.items())) for axes in changes]


@pytest.fixture
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the branches of a device on which to look at a number would be to wait."""
    take_branches_of_a_device(monkeypatch)


@pytest.mark.parametrize("profile", variants())
@settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_result_is_within_the_bound_of_the_reference(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))  # exact in float32, so both precisions get the same bits
    assume(sum(compare(batch, profile, dtype) for dtype in ("float64", "float32")))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_half_precision_gradient_is_rounded_once(dtype: str, data: st.DataObject) -> None:
    batch = data.draw(batches(DARKNET))
    rounded = torch.from_numpy(batch.predictions).to(getattr(torch, dtype)).double().numpy()
    batch = Batch(rounded, batch.truths, batch.anchors, batch.classes, batch.images_seen)
    assume(compare(batch, DARKNET, dtype))


@pytest.mark.usefixtures("as_on_a_device")
@pytest.mark.parametrize("profile", variants())
@settings(max_examples=5, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_branches_for_a_device_return_the_same(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))
    assume(sum(compare(batch, profile, dtype) for dtype in ("float64", "float32")))


@pytest.mark.parametrize("many", [1, 40, 100])
def test_the_result_does_not_depend_on_how_many_pairs_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    predictions, rows = network(5, 3, 4), truths(5)
    expected = loss_and_gradient(predictions, rows)
    monkeypatch.setattr(dense, "PAIRS", many)
    got = loss_and_gradient(predictions, rows)
    torch.testing.assert_close(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


def test_predictions_may_have_any_strides() -> None:
    contiguous, rows = network(2, 3, 4), truths(2)
    expected, gradient = loss_and_gradient(contiguous, rows)
    by_channel_last = contiguous.to(memory_format=torch.channels_last)
    every_second = torch.zeros(2, contiguous.shape[1], 3, 8, dtype=contiguous.dtype)[..., ::2]
    every_second.copy_(contiguous)
    for other in (by_channel_last, every_second):
        assert not other.is_contiguous()
        got, other_gradient = loss_and_gradient(other, rows)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-12, atol=0)
        assert other_gradient.stride() == torch.empty_like(other).stride()


def test_one_image_may_be_expanded_to_several() -> None:
    predictions, rows = network(1, 3, 4), truths(1)
    _, grad = loss_and_gradient(predictions, rows)
    result = forward(predictions.expand(3, -1, -1, -1), rows.expand(3, -1, -1))
    gradient = backward(result, predictions.expand(3, -1, -1, -1), rows.expand(3, -1, -1))
    # The last numbers of a list are not rounded as those before them, which fill a vector.
    torch.testing.assert_close(gradient, grad.expand(3, -1, -1, -1), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_has_the_type_and_layout_of_the_predictions(dtype: Any, layout: Any) -> None:
    predictions = network(2, 3, 4).to(dtype).contiguous(memory_format=layout)
    loss, gradient = loss_and_gradient(predictions, truths(2))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (gradient.dtype, gradient.stride()) == (dtype, predictions.stride())


def test_the_gradient_is_multiplied_by_the_upstream_before_it_is_rounded() -> None:
    predictions, rows = network(2, 3, 4).half(), truths(2)
    result = forward(predictions, rows)
    exact = backward(result, predictions.float(), rows).double()
    scaled = backward(result, predictions, rows, 4096.0).double()
    in_range = exact.abs() * 4096 < 60000
    torch.testing.assert_close(scaled[in_range], exact[in_range] * 4096, rtol=2.0**-10, atol=2.0**-24)


def test_backward_may_run_twice() -> None:
    predictions = network(2, 3, 4).requires_grad_()
    loss = module()(predictions, truths(2), images_seen=0)
    (first,) = torch.autograd.grad(loss, predictions, retain_graph=True)
    (second,) = torch.autograd.grad(loss, predictions, 3 * torch.ones_like(loss))
    torch.testing.assert_close(second, 3 * first, rtol=1e-12, atol=0)


@pytest.mark.parametrize("winner", ["last", "first"])
@pytest.mark.parametrize("device", [False, True])
def test_collisions_are_resolved_the_same_way_every_time(
    monkeypatch: pytest.MonkeyPatch, winner: str, device: bool
) -> None:
    if device:
        take_branches_of_a_device(monkeypatch)
    predictions = network(2, 3, 4)
    rows = torch.zeros(2, 30, 5, dtype=torch.float64)
    rows[:, :, :4] = torch.tensor([0.4, 0.4, 0.2, 0.3])  # all of them choose one predictor
    rows[:, :, 4] = torch.arange(30) % CLASSES
    expected = 29 if winner == "last" else 0
    for _ in range(5):
        result = forward(predictions, rows, collision=winner)
        assert [(image >= 0).nonzero().tolist() for image in result.predictor_of_truth] == [[[expected]]] * 2
        alone, gradient = loss_and_gradient(predictions, rows[:, expected : expected + 1])
        torch.testing.assert_close(result.loss, alone, rtol=1e-12, atol=0)
        torch.testing.assert_close(backward(result, predictions, rows, collision=winner), gradient, rtol=1e-12, atol=0)


def test_rows_beyond_the_count_are_not_read() -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    counts = torch.tensor([0, 1, 3])
    cut = rows.clone()
    for image, count in enumerate(counts.tolist()):
        cut[image, count:] = 0
    rows[0, 0] = torch.nan  # is not read
    result = forward(predictions, rows, counts)
    expected = forward(predictions, cut)
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(result.predictor_of_truth, expected.predictor_of_truth)


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("applies", ["not-responsible", "every-predictor"])
def test_images_seen_may_be_a_tensor(monkeypatch: pytest.MonkeyPatch, device: bool, applies: str) -> None:
    if device:
        take_branches_of_a_device(monkeypatch)
    predictions, rows = network(2, 3, 4), truths(2)
    for seen, early in ((12799, True), (12800, False)):
        expected = forward(predictions, rows, seen=seen, prior_applies=applies)
        result = forward(predictions, rows, images_seen=torch.tensor(seen), prior_applies=applies)
        assert all(torch.equal(one, other) for one, other in zip(result.flat(), expected.flat(), strict=True))
        assert bool((result.state & ops.PRIOR).any()) == early
    loss = module()
    for seen in (12799, 12800):
        assert torch.equal(
            loss(predictions, rows, images_seen=torch.tensor(seen)), loss(predictions, rows, images_seen=seen)
        )


def test_a_truth_without_a_predictor_has_no_gradient() -> None:
    rows = torch.zeros(1, 4, 5, dtype=torch.float64)
    rows[0, :3] = torch.tensor([[0.4, 0.4, 0.9, 0.9, 1], [0.4, 0.4, 0.9, 0.9, 2], [0.9, 0.9, 0.9, 0.9, 0]])
    result = forward(torch.zeros(1, 3 * (5 + CLASSES), 3, 4, dtype=torch.float64), rows)
    assert (result.predictor_of_truth >= 0).tolist() == [[False, True, True, False]]
    assert result.kept[1].any(dim=2).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("no_object", ["not-responsible", "every-predictor"])
@pytest.mark.parametrize("prior", ["not-responsible", "every-predictor"])
def test_the_state_of_a_responsible_predictor_holds_the_dense_terms_that_it_pays(
    monkeypatch: pytest.MonkeyPatch, device: bool, no_object: str, prior: str
) -> None:
    if device:
        take_branches_of_a_device(monkeypatch)
    rows = torch.tensor([[[0.4, 0.4, 0.1, 0.1, 1]]], dtype=torch.float64)  # far smaller than any box
    predictions = torch.zeros(1, 3 * (5 + CLASSES), 3, 4, dtype=torch.float64)
    state = forward(predictions, rows, no_object_applies=no_object, prior_applies=prior).state.flatten()
    others = ops.NO_OBJECT | ops.PRIOR
    expected = ops.RESPONSIBLE | (no_object == "every-predictor") * ops.NO_OBJECT
    expected |= (prior == "every-predictor") * ops.PRIOR
    assert sorted(state.tolist()) == sorted([others] * (len(state) - 1) + [expected])


#: Rows that are no truths, and the clauses that say so.
BAD_TRUTHS = [
    ([0.3, 1.0, 0.1, 0.1, 0], "domain.centre"),
    ([-0.1, 0.5, 0.1, 0.1, 0], "domain.centre"),
    ([0.3, 0.5, 0.0, 0.1, 0], "domain.size"),
    ([0.3, 0.5, 0.1, 1.5, 0], "domain.size"),
    ([0.3, 0.5, 0.1, 0.1, CLASSES], "domain.class"),
    ([0.3, 0.5, 0.1, 0.1, 0.5], "domain.class"),
    ([0.3, float("nan"), 0.1, 0.1, 0], "domain.truths-finite"),
    ([float("inf"), 0.5, 0.1, 0.1, 0], "domain.truths-finite"),
]


@pytest.mark.parametrize(("row", "clause"), BAD_TRUTHS)
def test_a_bad_truth_is_named_on_the_host_and_makes_the_loss_nan_on_a_device(
    monkeypatch: pytest.MonkeyPatch, row: list[float], clause: str
) -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    rows[1, 1] = torch.tensor(row)
    with pytest.raises(DomainError, match=rf"^image 1, truth 1: .*\[{clause}\]$"):
        forward(predictions, rows)
    take_branches_of_a_device(monkeypatch)
    result = forward(predictions, rows)
    gradient = backward(result, predictions, rows)
    assert result.loss.isnan()
    assert [bool((bits >= ops.BAD).all()) for bits in result.state] == [False, True, False]
    assert [bool(image.isnan().any()) for image in gradient] == [False, True, False]
    assert result.predictor_of_truth[1, 1] == -1


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves it so
    """Records the size in bytes of the largest tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in answer if isinstance(answer, (tuple, list)) else [answer]:
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.untyped_storage().nbytes())
        return answer


def test_forward_allocates_nothing_as_large_as_predictors_times_truths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "PAIRS", 512)
    predictions, most, peak = network(4, 6, 7), {}, {}
    for length in (4, 64):
        rows = truths(4, length)
        rows[..., 2:4] = 0.9  # so that every predictor is near enough to be compared
        forward(predictions, rows)  # what is kept for the grid is no part of it
        tracemalloc.start()  # which knows of the memory of NumPy, but not of that of PyTorch
        with Largest() as tensors:
            result = forward(predictions, rows)
            backward(result, predictions, rows)
        peak[length] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        most[length] = tensors.most
    assert most == dict.fromkeys(most, predictions.untyped_storage().nbytes())
    assert peak[64] < len(ANCHORS) * 4 * 6 * 7 * 64 * predictions.element_size(), peak


def test_only_five_channels_of_other_predictors_are_read() -> None:
    predictions, rows = network(2, 3, 4), truths(2)
    loss, gradient = loss_and_gradient(predictions, rows)
    result = forward(predictions, rows)
    others = (result.state & ops.RESPONSIBLE) == 0
    assert others.any()
    assert not others.all()
    poisoned = predictions.clone()
    by_anchor = analytic.by_anchor(poisoned, FLAT)
    by_anchor[:, :, 5:] = torch.where(others[:, :, None], torch.nan, by_anchor[:, :, 5:])
    for as_on_a_device in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if as_on_a_device:
                take_branches_of_a_device(patch)
            spoiled, grad = loss_and_gradient(poisoned, rows)
        torch.testing.assert_close(spoiled, loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(grad, gradient, rtol=1e-12, atol=0)
        assert (analytic.by_anchor(grad, FLAT)[:, :, 5:].movedim(2, -1)[others] == 0).all()


def test_nothing_waits_for_a_device(request: pytest.FixtureRequest) -> None:
    # Tensors without numbers, which raise when one is read. The cache is cleared, so that no other test gets them.
    assignment.grid_of.cache_clear()
    request.addfinalizer(assignment.grid_of.cache_clear)
    predictions = torch.empty(2, len(ANCHORS) * (5 + CLASSES), 3, 4, device="meta")
    rows, upstream = torch.empty(2, 6, 5, device="meta"), torch.ones((), device="meta")
    seen = torch.empty((), dtype=torch.int64, device="meta")
    for profile in (DARKNET, load_profile("formula"), DARKNET.replace(class_term="squared-error")):
        chosen = settings_of(profile)
        for counts in (None, torch.empty(2, dtype=torch.int64, device="meta")):
            result = analytic.forward(ForwardInputs(predictions, rows, counts, seen, 0, FLAT, chosen))
            saved = BackwardInputs(upstream, predictions, rows, *result[2:], FLAT, chosen)
            gradient = analytic.backward(saved)
            assert (gradient.device, gradient.shape) == (predictions.device, predictions.shape)
    for look in (
        lambda: result.loss.item(),
        lambda: bool(result.loss > 0),
        lambda: result.predictor_of_truth.nonzero(),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            look()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "images", "dtype"),
    [
        ("contiguous", 0, torch.float32),
        ("contiguous", 1, torch.bfloat16),
        ("contiguous", 2, torch.float64),
        ("channels last", 1, torch.float64),
        ("channels last", 2, torch.float16),
        ("every second", 2, torch.float32),
    ],
)
def test_the_operators_pass_opcheck(form: str, images: int, dtype: Any) -> None:
    whole = network(images, 6, 8).to(dtype)
    predictions = whole[:, :, ::2, ::2]
    if form != "every second":
        layout = torch.channels_last if form == "channels last" else torch.contiguous_format
        predictions = predictions.contiguous(memory_format=layout)
    rows, counts = truths(images), torch.arange(images) + 1
    choices = (list(FLAT), list(settings_of(DARKNET)))
    for form_of_t in ((counts, torch.tensor(0), 0), (None, None, 12800)):
        arguments = (predictions.clone().requires_grad_(), rows, *form_of_t, *choices, True)
        torch.library.opcheck(torch.ops.regionloss.analytic.default, arguments)
        loss, _, state, predictor_of_truth, *kept = torch.ops.regionloss.analytic(*arguments)
        saved = (predictions, rows, state, predictor_of_truth, [tensor.detach() for tensor in kept])
        upstream = torch.ones((), dtype=loss.dtype)
        torch.library.opcheck(torch.ops.regionloss.analytic_backward.default, (upstream, *saved, *choices))


def compare(batch: Batch, profile: Profile, dtype: str, adapter: Any = ADAPTER) -> bool:
    """Hold a path against the reference; False, and nothing compared, where the batch is on a knife edge."""
    with np.errstate(all="ignore"):
        result = evaluate(batch, profile)
        limits = bounds(result, PRECISIONS[dtype])
        if unsettled(result, limits, PRECISIONS[dtype]) or (result.decisions.max_iou == profile.thresh).any():
            return False
    answer = adapter.answer(Question(batch=batch, profile=profile, dtype=dtype))
    responsible, ignored = indicators(result.decisions)
    assert (sorted(answer.responsible or ()), sorted(answer.ignored or ())) == (sorted(responsible), sorted(ignored))
    assert answer.gradient is not None
    assert close(answer.gradient, result.gradient, limits.gradient, dtype).all()
    summed_in = "float64" if dtype == "float64" else "float32"
    for name, expected in result.term_values.items():
        assert close((answer.terms or {})[name], expected, limits.terms[name], summed_in), name
    assert close(answer.potential, result.potential, limits.potential, summed_in)
    return True


def close(got: Any, expected: Any, bound: Any, dtype: str) -> Any:
    """Within the bound, or beyond the format: then it may be infinite or flushed to zero (`numerics.bound`)."""
    limits = torch.finfo(getattr(torch, dtype))
    with np.errstate(all="ignore"):
        too_large = (np.abs(expected) > limits.max) & (got == np.sign(expected) * np.inf)
        too_small = (np.abs(expected) < limits.tiny) & (got == 0)
        return (np.abs(got - expected) <= bound) | too_large | too_small


def network(images: int, height: int, width: int) -> Any:
    """Predictions, float64, always the same."""
    shape = (images, len(ANCHORS) * (5 + CLASSES), height, width)
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


def truths(images: int, length: int = 4) -> Any:
    """Rows, float64 `[N, T, 5]`, the last of which is empty; some share a cell."""
    draw = np.random.default_rng(1)
    rows = draw.uniform(0.05, 0.95, size=(images, length, 5))
    rows[:, 1::2, :2] = rows[:, 0 : length - length % 2 : 2, :2]
    rows[:, :, 4] = draw.integers(0, CLASSES, size=(images, length))
    rows[:, -1] = 0
    return torch.from_numpy(rows)


def module(**axes: Any) -> Any:
    return RegionLoss(ANCHORS, CLASSES, path="analytic", **axes)


def forward(
    predictions: Any, rows: Any, counts: Any = None, *, images_seen: Any = None, seen: int = 0, **axes: Any
) -> Any:
    chosen = settings_of(DARKNET.replace(**axes))
    return analytic.forward(ForwardInputs(predictions, rows, counts, images_seen, seen, FLAT, chosen))


def backward(result: Any, predictions: Any, rows: Any, upstream: float = 1.0, **axes: Any) -> Any:
    chosen = settings_of(DARKNET.replace(**axes))
    returned = result.state, result.predictor_of_truth, result.kept
    return analytic.backward(BackwardInputs(torch.tensor(upstream), predictions, rows, *returned, FLAT, chosen))


def loss_and_gradient(predictions: Any, rows: Any) -> tuple[Any, Any]:
    result = forward(predictions, rows)
    return result.loss, backward(result, predictions, rows)
