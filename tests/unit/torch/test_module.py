"""The PyTorch loss as people call it: the forms of its input, its numbers, and what kind of module it is."""

from __future__ import annotations

import copy
import doctest
import os
import pickle
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from regionloss import evaluate  # noqa: E402 - only where PyTorch is installed
from regionloss.torch import PaddedTruths, RegionLoss, module, pad_truths, region_loss  # noqa: E402 - likewise
from regionloss_spec import Batch, load_profile  # noqa: E402 - likewise
from regionloss_spec.profile import ProfileError  # noqa: E402 - likewise
from unit.torch.small_batch import ANCHORS, CHANNELS, CLASSES, HOST_PATHS, LISTS, batch, gradient_of, network  # noqa: E402 - likewise


@pytest.mark.parametrize("name", ["RegionLoss", "region_loss"])
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    (example,) = (test for test in doctest.DocTestFinder(recurse=False).find(getattr(module, name), name))
    assert example.examples
    report = StringIO()
    assert doctest.DocTestRunner().run(example, out=report.write).failed == 0, report.getvalue()


@pytest.mark.parametrize("path", HOST_PATHS)
@pytest.mark.parametrize("seen", [12799, 12800])
def test_loss_terms_gradient_and_indicators_are_those_of_the_reference(path: Any, seen: int) -> None:
    t = network(torch.float64)
    output = RegionLoss(ANCHORS, CLASSES, path=path).details(t, LISTS, images_seen=seen)
    (gradient,) = torch.autograd.grad(output.loss, t)
    result = evaluate(batch(t, seen), load_profile("darknet"))
    assert result.term_values["prior"] == 0 if seen == 12800 else result.term_values["prior"] > 0
    assert {name: term.item() for name, term in output.terms.items()} == pytest.approx(result.term_values, rel=1e-13)
    assert output.loss.item() == pytest.approx(result.potential, rel=1e-13)
    assert sum(output.terms.values(), torch.zeros(())).item() == pytest.approx(output.loss.item(), rel=1e-14)
    np.testing.assert_allclose(gradient.numpy(), result.gradient, rtol=1e-12, atol=1e-15)
    for name in ("responsible", "ignored", "assigned_truth"):
        assert (getattr(output, name).numpy() == getattr(result.decisions, name)).all(), name
    assert output.responsible.sum() == 3
    assert output.path == path
    if path != "eager":  # the gradient of one alone is not written down, and must not seem to be
        assert not any(term.requires_grad for term in output.terms.values())


@pytest.mark.parametrize("path", HOST_PATHS)
def test_predictions_may_have_any_strides(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    t = network().detach()
    every_second = torch.zeros(3, 2 * CHANNELS, 3, 8)
    every_second[:, ::2, :, ::2] = t
    forms = {
        "channels last": t.contiguous(memory_format=torch.channels_last),
        "every second": every_second[:, ::2, :, ::2],
        "turned": t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        "one image three times": t[:1].expand(3, -1, -1, -1),
    }
    for name, form in forms.items():
        assert not form.is_contiguous()
        expected = gradient_of(loss, form.contiguous())
        assert torch.equal(gradient_of(loss, form), expected), name


def test_the_gradient_has_the_memory_format_of_the_predictions() -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        t = network().detach().contiguous(memory_format=memory_format)
        gradient = gradient_of(RegionLoss(ANCHORS, CLASSES, path="analytic"), t)
        assert gradient.is_contiguous(memory_format=memory_format)
        assert gradient.stride() == t.stride()


@pytest.mark.parametrize("path", HOST_PATHS)
def test_truths_may_be_padded_counted_or_ragged(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    t = network(torch.float64)
    arrays = [np.array(rows).reshape(-1, 5) for rows in LISTS]
    padded = pad_truths(LISTS, length=7)
    beyond = padded.rows.clone()
    for image, count in enumerate(padded.counts.tolist()):
        beyond[image, count:] = torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0])
    forms: dict[str, Any] = {
        "lists": LISTS,
        "arrays": arrays,
        "tensors": [torch.from_numpy(rows) for rows in arrays],
        "padded": padded.rows,
        "padded array": padded.rows.numpy(),
        "counted": padded,
        "counted, and more behind": PaddedTruths(beyond, padded.counts),
        "not contiguous": padded.rows.transpose(0, 1).contiguous().transpose(0, 1),
        "with a gradient of their own": padded.rows.clone().requires_grad_(),
    }
    expected = evaluate(batch(t, 0), load_profile("darknet")).potential
    for name, form in forms.items():
        assert loss(t, form, images_seen=0).item() == pytest.approx(expected, rel=1e-13), name


@pytest.mark.parametrize("path", HOST_PATHS)
def test_images_seen_may_be_a_number_or_a_tensor(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    t = network()
    priors = []
    for seen in (12799, 12800):
        forms: list[Any] = [seen, np.int64(seen), float(seen), torch.tensor(seen), torch.tensor(seen).int()]
        result = [loss.details(t, LISTS, images_seen=form) for form in forms]
        assert all(torch.equal(one.loss, result[0].loss) for one in result)
        priors.append(result[0].terms["prior"].item())
    assert priors[0] > 0 == priors[1]


@pytest.mark.parametrize("path", HOST_PATHS)
def test_the_loss_is_computed_in_float32_or_better_and_the_gradient_rounded_once(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        t = network().detach().to(dtype)
        exact = t.to(torch.promote_types(dtype, torch.float32))
        expected = gradient_of(loss, exact).to(dtype)
        result = gradient_of(loss, t)
        assert (result.dtype, loss(t, LISTS, images_seen=0).dtype) == (dtype, exact.dtype)
        assert torch.equal(loss(t, LISTS, images_seen=0), loss(exact, LISTS, images_seen=0))
        assert torch.equal(result, expected)


@pytest.mark.parametrize("path", HOST_PATHS)
def test_batches_without_images_and_without_truths(path: Any) -> None:
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    none = torch.zeros(0, CHANNELS, 3, 4, requires_grad=True)
    value = loss(none, torch.zeros(0, 2, 5), images_seen=0)
    (gradient,) = torch.autograd.grad(value, none)
    assert (value.item(), gradient.shape) == (0, none.shape)
    t = network(torch.float64)
    empty = (np.zeros((0, 5)),) * 3
    expected = evaluate(Batch(t.detach().numpy(), empty, np.array(ANCHORS), CLASSES, 0), load_profile("darknet"))
    forms: list[Any] = [torch.zeros(3, 0, 5), torch.zeros(3, 2, 5), [[], [], []]]
    for truths in forms:
        assert loss(t, truths, images_seen=0).item() == pytest.approx(expected.potential, rel=1e-13)


def test_axes_are_set_by_keyword() -> None:
    t = network(torch.float64)
    options: dict[str, Any] = {"coord_weight": 0.25, "thresh": 0.1, "reduction": "per-image", "prior_until": 10}
    profile = load_profile("darknet").replace(**options)
    expected = evaluate(batch(t, 9), profile)
    for loss in (RegionLoss(ANCHORS, CLASSES, **options), RegionLoss(ANCHORS, CLASSES, profile=profile)):
        result = loss.details(t, LISTS, images_seen=9)
        assert result.loss.item() == pytest.approx(expected.potential, rel=1e-13)
        assert result.terms["prior"] > 0
        assert loss.details(t, LISTS, images_seen=10).terms["prior"] == 0
    with pytest.raises(ProfileError, match="unknown axis 'coord_scale'"):
        RegionLoss(ANCHORS, CLASSES, coord_scale=1.0)


def test_a_profile_in_a_file_is_read_each_time(tmp_path: Any) -> None:
    file = tmp_path / "mine.toml"
    values = []
    for weight in (1.0, 2.0):
        file.write_text(
            f'extends = "darknet"\nname = "mine"\ntitle = "mine"\nsource = "mine"\ncoord_weight = {weight}\n'
        )
        values.append(RegionLoss(ANCHORS, CLASSES, profile=str(file)).profile.coord_weight)
    assert values == [1.0, 2.0]


def test_the_functional_form_returns_the_same_as_the_module() -> None:
    t = network()
    options: dict[str, Any] = {"profile": "formula", "path": "analytic", "validate": True, "no_object_weight": 0.5}
    loss = RegionLoss(ANCHORS, CLASSES, **options)
    value = region_loss(t, LISTS, torch.tensor(ANCHORS), CLASSES, images_seen=3, **options)
    assert torch.equal(value, loss(t, LISTS, images_seen=3))
    result = region_loss(t, LISTS, ANCHORS, CLASSES, images_seen=3, details=True, **options)
    assert torch.equal(result.loss, value)
    assert result.path == "analytic"


def test_it_has_no_state_and_can_be_copied_and_pickled() -> None:
    loss = RegionLoss(ANCHORS, CLASSES, profile="formula", path="analytic", validate=True, thresh=0.3)
    assert dict(loss.state_dict()) == {}
    assert list(loss.parameters()) == list(loss.buffers()) == []
    loss.load_state_dict({})
    t = network()
    expected = gradient_of(loss, t)
    half: Any = copy.deepcopy(loss).half().to("meta")  # nothing of it is rounded, or moves
    for same in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), half):
        assert repr(same) == repr(loss)
        assert torch.equal(gradient_of(same, t), expected)
    assert repr(loss) == "RegionLoss(classes=3, anchors=2, profile='formula', path='analytic', validate=True)"


def test_a_used_loss_can_be_sent_to_another_process(tmp_path: Path) -> None:
    paths: Any = HOST_PATHS
    losses = [RegionLoss(ANCHORS, CLASSES, path=path) for path in paths]
    t, rows = network().detach(), pad_truths(LISTS).rows
    expected = [loss(t, rows, images_seen=0).item() for loss in losses]
    torch.save((losses, t, rows), tmp_path / "sent.pt")
    program = (
        "import sys, torch\n"
        "losses, t, rows = torch.load(sys.argv[1], weights_only=False)\n"
        "print(*(loss(t, rows, images_seen=0).item() for loss in losses))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "sent.pt")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert [float(value) for value in done.stdout.split()] == expected


@pytest.mark.parametrize("name", ["profile", "anchors", "classes"])
def test_anchors_classes_and_profile_are_read_only(name: str) -> None:
    loss = RegionLoss(ANCHORS, CLASSES)
    with pytest.raises(AttributeError):
        setattr(loss, name, getattr(loss, name))


@pytest.mark.parametrize("path", HOST_PATHS)
def test_truths_have_no_derivative(path: Any) -> None:
    rows = pad_truths(LISTS).rows.requires_grad_()
    loss = RegionLoss(ANCHORS, CLASSES, path=path)
    assert not loss(network().detach(), rows, images_seen=0).requires_grad
    loss(network(), rows, images_seen=0).backward()
    assert rows.grad is None
