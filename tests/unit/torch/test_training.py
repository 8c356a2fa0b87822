"""The PyTorch loss in a training loop: mixed precision, compilation, backward in all its forms, operators."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from torch import nn  # noqa: E402 - only where PyTorch is installed
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402 - likewise

from regionloss import DomainError  # noqa: E402 - likewise
from regionloss.torch import PathError, RegionLoss, pad_truths  # noqa: E402 - likewise
from unit.torch.small_batch import HOST_PATHS  # noqa: E402 - likewise

pytestmark = pytest.mark.slow  # together they take long: processes, compilers or whole runs

ANCHORS = [[1.0, 2.0], [2.0, 1.0]]
CLASSES = 3
CHANNELS = 2 * (5 + CLASSES)
LISTS = [
    [[0.4, 0.4, 0.2, 0.6, 1], [0.45, 0.4, 0.2, 0.5, 2], [0.9, 0.1, 0.5, 0.2, 0]],
    [[0.1, 0.8, 0.6, 0.3, 2]],
]


@pytest.fixture
def _compiler() -> Iterator[None]:
    """Nothing compiled is left over from another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Network(nn.Module):
    """A convolution and the loss of what it predicts, as one module."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, CHANNELS, 1)
        self.loss = RegionLoss(ANCHORS, CLASSES, **options)

    def forward(self, pictures: Any, truths: Any, images_seen: Any) -> Any:
        return self.loss(self.head(pictures), truths, images_seen=images_seen)


def pictures() -> Any:
    return torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))


def rows() -> Any:
    return pad_truths(LISTS).rows.float()


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_the_arithmetic_of_the_loss(path: Any, dtype: Any) -> None:
    model: Any = Network(path=path)
    with torch.autocast("cpu", dtype=dtype):
        predictions = model.head(pictures())
        inside = model.loss(predictions, rows(), images_seen=0)
    outside = model.loss(predictions.detach().float(), rows(), images_seen=0)
    assert (predictions.dtype, inside.dtype) == (dtype, torch.float32)
    assert torch.equal(inside, outside)
    (gradient,) = torch.autograd.grad(inside, predictions, retain_graph=True)
    inside.backward()
    assert gradient.dtype == dtype
    assert model.head.weight.grad.dtype == torch.float32
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("path", HOST_PATHS)
def test_a_gradient_scaler_saves_what_float16_would_flush_to_zero(path: Any) -> None:
    tiny = 2.0**-22  # the weight of every term
    weights: dict[str, Any] = {f"{term}_weight": tiny for term in ("coord", "object", "no_object", "class", "prior")}
    loss = RegionLoss(ANCHORS, CLASSES, path=path, **weights)
    t = torch.randn(2, CHANNELS, 3, 4, generator=torch.Generator().manual_seed(2)).half()
    expected = gradient_of(loss, t.double())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaled = gradient_of(loss, t, upstream=scaler.scale(torch.ones(()))).double() / 2**16
    payers = expected.abs() > tiny * 1e-3  # what a float16 holds after the scaling, in its full precision
    assert payers.sum() > 100
    torch.testing.assert_close(scaled[payers], expected[payers], rtol=2.0**-10, atol=0)
    lost = gradient_of(loss, t)[payers] == 0
    assert lost.sum() > 50  # or there was nothing to be saved


def test_a_step_with_a_gradient_scaler_is_the_step_without_and_a_bad_one_is_skipped() -> None:
    def trained(enabled: bool, factor: float = 1.0) -> Any:
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=enabled)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(pictures(), rows(), 0)
        scaler.scale(loss * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), scaler.get_scale()

    before = torch.cat([parameter.detach().flatten() for parameter in Network().parameters()])
    plain, _ = trained(enabled=False)
    scaled, _ = trained(enabled=True)
    assert not torch.equal(plain, before)
    assert torch.equal(scaled, plain)  # a power of two changes no digit
    skipped, scale = trained(enabled=True, factor=float("inf"))
    assert torch.equal(skipped, before)
    assert scale == 512


@pytest.mark.parametrize("path", HOST_PATHS)
def test_backward_may_run_twice_and_is_linear_in_the_upstream(path: Any) -> None:
    t = Network().head(pictures()).detach().requires_grad_()
    loss = RegionLoss(ANCHORS, CLASSES, path=path)(t, rows(), images_seen=0)
    (first,) = torch.autograd.grad(loss, t, retain_graph=True)
    (second,) = torch.autograd.grad(-4 * loss, t, retain_graph=True)
    loss.backward()
    loss_again = RegionLoss(ANCHORS, CLASSES, path=path)(t, rows(), images_seen=0)
    loss_again.backward()
    assert torch.equal(second, -4 * first)
    assert torch.equal(t.grad, 2 * first)


def test_eager_can_be_differentiated_twice() -> None:
    t = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(t.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    # With a target of one: an overlap as target is a constant to the derivative, but not to a difference.
    loss = RegionLoss(ANCHORS, CLASSES, path="eager", object_target="one")

    def first(values: Any) -> Any:
        values = values.requires_grad_()
        return values, torch.autograd.grad(loss(values, LISTS, images_seen=0), values, create_graph=True)[0]

    values, gradient = first(t.clone())
    (second,) = torch.autograd.grad((gradient * direction).sum(), values)
    step = 1e-6
    difference = (first(t + step * direction)[1] - first(t - step * direction)[1]).detach() / (2 * step)
    torch.testing.assert_close(second, difference, rtol=1e-6, atol=1e-8)
    assert (second != 0).sum() > 50


@pytest.mark.parametrize("path", [path for path in HOST_PATHS if path != "eager"])
def test_the_fast_paths_refuse_to_be_differentiated_twice(path: Any) -> None:
    t = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for form in (t.clone().requires_grad_(), t.clone().requires_grad_() * 1):
        fast = RegionLoss(ANCHORS, CLASSES, path=path)(form, LISTS, images_seen=0)
        message = rf"the path '{path}' has no derivative of its gradient; path='eager' has"
        with pytest.raises(PathError, match=message):
            torch.autograd.grad(fast + form.sum() ** 2, form, create_graph=True)
        (once,) = torch.autograd.grad(fast, form)
        assert not once.requires_grad


def test_terms_can_be_logged_on_every_path_and_differentiated_on_eager() -> None:
    t = Network().head(pictures()).detach().double().requires_grad_()
    eager = RegionLoss(ANCHORS, CLASSES, path="eager").details(t, LISTS, images_seen=0)
    of_terms = [torch.autograd.grad(term, t, retain_graph=True)[0] for term in eager.terms.values()]
    (whole,) = torch.autograd.grad(eager.loss, t)
    torch.testing.assert_close(sum(of_terms), whole, rtol=1e-12, atol=1e-14)
    assert all((part != 0).any() for part in of_terms)
    fast = RegionLoss(ANCHORS, CLASSES, path="analytic").details(t, LISTS, images_seen=0)
    for name, term in fast.terms.items():
        assert not term.requires_grad
        torch.testing.assert_close(term, eager.terms[name].detach(), rtol=1e-12, atol=0)
        with pytest.raises(RuntimeError, match="does not require grad"):
            term.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it so


@pytest.mark.parametrize("path", HOST_PATHS)
def test_no_graph_is_recorded_without_grad(path: Any) -> None:
    model = Network(path=path)
    expected = model(pictures(), rows(), 0)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            value = model(pictures(), rows(), 0)
        assert not value.requires_grad
        assert torch.equal(value, expected)


def test_a_model_in_channels_last_trains_as_one_in_the_ordinary_format() -> None:
    gradients: list[Any] = []
    weights = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model: Any = Network()
        model = model.double().to(memory_format=memory_format)
        predictions = model.head(pictures().double().contiguous(memory_format=memory_format))
        predictions.register_hook(gradients.append)
        model.loss(predictions, rows(), images_seen=0).backward()
        assert predictions.is_contiguous(memory_format=memory_format)
        assert gradients[-1].is_contiguous(memory_format=memory_format)
        weights.append(model.head.weight.grad)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("validate", [False, True])
def test_a_model_with_the_loss_compiles_into_one_graph(validate: bool) -> None:
    model: Any = Network(validate=validate)
    model(pictures(), rows(), 0).backward()
    expected = model.head.weight.grad.clone()
    model.zero_grad()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    forms: list[Any] = [rows(), pad_truths(LISTS), [torch.tensor(image) for image in LISTS]]
    for form in forms:
        model.zero_grad()
        value = compiled(pictures(), form, 0)
        value.backward()
        torch.testing.assert_close(value, model(pictures(), rows(), 0))
        torch.testing.assert_close(model.head.weight.grad, expected)
    bad = rows()
    bad[1, 0, 2] = 2.0
    with pytest.raises(DomainError, match=r"image 1, truth 0: w is 2\.0"):
        compiled(pictures(), bad, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize(("as_tensor", "graphs"), [(True, 1), (False, 2)])  # a number is a constant until it changes
def test_images_seen_may_change_without_recompilation(as_tensor: bool, graphs: int) -> None:
    model = Network()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for seen in (64, 128, 6400, 12799, 12800, 20000):
        form = torch.tensor(seen) if as_tensor else seen
        assert torch.equal(compiled(pictures(), rows(), form), model(pictures(), rows(), seen))
    assert counter.frame_count == graphs


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
def test_details_compile_as_well() -> None:
    loss = RegionLoss(ANCHORS, CLASSES)
    t = Network().head(pictures()).detach()
    compiled = torch.compile(loss.details, fullgraph=True, backend="aot_eager")
    result, expected = compiled(t, rows(), images_seen=0), loss.details(t, rows(), images_seen=0)
    assert torch.equal(result.loss, expected.loss)
    assert result.path == "analytic"
    for name in ("responsible", "ignored", "assigned_truth"):
        assert torch.equal(getattr(result, name), getattr(expected, name))
    assert {name: term.item() for name, term in result.terms.items()} == {
        name: term.item() for name, term in expected.terms.items()
    }


@pytest.mark.slow
@pytest.mark.usefixtures("_compiler")
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize(
    ("path", "backend"),
    [  # Inductor sees of either path an operator; it spends seconds on the rest of the graph
        ("analytic", "inductor"),
        ("compiled", "aot_eager"),
        pytest.param("compiled", "inductor", marks=pytest.mark.sweep),
    ],
)
def test_each_path_compiles(path: Any, backend: str) -> None:
    model = Network(path=path)
    reference = Network(path="eager")
    reference(pictures(), rows(), 0).backward()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    # A graph from the cache on disk may be of a former version of the operator, of which it only knows the name.
    with torch._inductor.config.patch(force_disable_caches=True):
        value = compiled(pictures(), rows(), torch.tensor(0))
        value.backward()
    torch.testing.assert_close(value, reference(pictures(), rows(), 0))
    torch.testing.assert_close(model.head.weight.grad, reference.head.weight.grad)


@pytest.mark.slow
def test_a_model_with_the_loss_can_be_exported() -> None:
    model = Network()
    exported = torch.export.export(model, (pictures(), rows(), torch.tensor(0))).module()
    for seen in (0, 12800):
        expected = model(pictures(), rows(), seen)
        assert torch.equal(exported(pictures(), rows(), torch.tensor(seen)), expected)


def gradient_of(loss: Any, t: Any, upstream: Any = None) -> Any:
    t = t.detach().requires_grad_()
    value = loss(t, LISTS, images_seen=0)
    (gradient,) = torch.autograd.grad(value, t, None if upstream is None else upstream.to(value))
    return gradient
