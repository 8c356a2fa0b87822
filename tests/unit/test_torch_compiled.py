"""The path in C: what it adds to the answers of every path, namely threads, a compiler, and memory that it writes."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the fast paths need PyTorch: pip install 'regionloss[torch]'")

from regionloss import DomainError  # noqa: E402 - only where PyTorch is installed
from regionloss.torch import PaddedTruths, PathError, RegionLoss, paths  # noqa: E402 - likewise
from regionloss.torch.settings import Settings, settings_of  # noqa: E402 - likewise
from regionloss_adapters.torch_fast import TorchCompiledAdapter  # noqa: E402 - likewise
from regionloss_spec import Profile, load_profile  # noqa: E402 - likewise
from regionloss_suite.strategies import batches  # noqa: E402 - likewise
from unit.test_torch_analytic import ANCHORS, BAD_TRUTHS, CLASSES, FLAT, compare, network, truths, variants  # noqa: E402 - likewise

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CC") or "cc") is None, reason="the path in C needs a C compiler, and there is none"
)

ADAPTER = TorchCompiledAdapter()
DARKNET = load_profile("darknet")


@pytest.mark.parametrize("profile", variants())
@settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_answer_is_within_the_bound_of_the_reference(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))  # exact in float32, so both are asked about the very same bits
    assume(sum(compare(batch, profile, dtype, ADAPTER) for dtype in ("float64", "float32")))


def test_the_answer_does_not_depend_on_how_many_threads_there_are() -> None:
    predictions, rows = network(7, 9, 13).float(), truths(7, 12)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(loss_and_gradient(predictions, rows))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert torch.equal(gradient, found[0][1])


@pytest.mark.parametrize("cells", [(1, 1), (8, 8), (5, 13), (13, 10)])
def test_planes_of_any_size_are_written_whole(monkeypatch: pytest.MonkeyPatch, cells: tuple[int, int]) -> None:
    predictions, rows = network(2, *cells), truths(2)
    expected, slope = loss_and_gradient(predictions, rows, path="analytic")
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda like, **how: empty_like(like, **how).fill_(torch.nan))
    for layout in (torch.contiguous_format, torch.channels_last):
        loss, gradient = loss_and_gradient(predictions.contiguous(memory_format=layout), rows)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-15)
        assert gradient.is_contiguous(memory_format=layout)


def test_predictions_may_have_any_strides() -> None:
    contiguous, rows = network(2, 3, 4), truths(2)
    expected, slope = loss_and_gradient(contiguous, rows)
    every_second = torch.zeros(2, contiguous.shape[1], 3, 8, dtype=contiguous.dtype)[..., ::2]
    every_second.copy_(contiguous)
    rows_apart = torch.zeros(2, contiguous.shape[1], 5, 4, dtype=contiguous.dtype)[:, :, :3]
    rows_apart.copy_(contiguous)
    for other in (every_second, rows_apart):
        got, other_slope = loss_and_gradient(other, rows)
        assert torch.equal(got, expected)
        assert torch.equal(other_slope, slope)
    once, alone = loss_and_gradient(contiguous[:1], rows[:1])
    thrice, slopes = loss_and_gradient(contiguous[:1].expand(3, -1, -1, -1), rows[:1].expand(3, -1, -1))
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=0)
    assert all(torch.equal(image, alone[0]) for image in slopes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_gradient_is_that_of_float32_rounded_once(dtype: Any) -> None:
    predictions, rows = network(2, 3, 4).to(dtype), truths(2)
    loss, gradient = loss_and_gradient(predictions, rows)
    expected, slope = loss_and_gradient(predictions.float(), rows)
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, slope.to(dtype))


def test_only_five_channels_of_the_others_are_read() -> None:
    predictions, rows = network(2, 3, 4), truths(2)
    loss, gradient = loss_and_gradient(predictions, rows)
    others = ~module().details(predictions, rows, images_seen=0).responsible
    poisoned = predictions.clone().view(2, len(ANCHORS), 5 + CLASSES, 3, 4)
    poisoned[:, :, 5:] = torch.where(others[:, :, None], torch.nan, poisoned[:, :, 5:])
    spoiled, slope = loss_and_gradient(poisoned.flatten(1, 2), rows)
    assert torch.equal(spoiled, loss)
    assert torch.equal(slope, gradient)


def test_no_more_rows_are_read_than_are_counted() -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    counts = torch.tensor([0, 1, 3], dtype=torch.int32)
    cut = rows.clone()
    for image, count in enumerate(counts.tolist()):
        cut[image, count:] = 0
    rows[0, 0] = torch.nan  # is not looked at
    expected = module()(predictions, cut, images_seen=0)
    assert torch.equal(module()(predictions, PaddedTruths(rows, counts), images_seen=0), expected)


@pytest.mark.parametrize(("row", "clause"), BAD_TRUTHS)
def test_a_bad_truth_is_named(row: list[float], clause: str) -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    rows[1, 1] = torch.tensor(row)
    with pytest.raises(DomainError, match=rf"^image 1, truth 1: .*\[{clause}\]$"):
        module()(predictions, rows, images_seen=0)


def test_the_operators_are_what_they_say_they_are() -> None:
    predictions, rows = network(2, 3, 4).float().requires_grad_(), truths(2)
    choices = (list(FLAT), list(settings_of(DARKNET)))
    module()(predictions, rows, images_seen=0)  # which loads them
    arguments = (predictions, rows, None, None, 0, *choices, False)
    torch.library.opcheck(torch.ops.regionloss.compiled.default, arguments)
    found = torch.ops.regionloss.compiled(*arguments)
    state, owner, *kept = (tensor.detach() for tensor in found[2:])
    saved = (torch.ones(()), predictions.detach(), rows, state, owner, kept)
    torch.library.opcheck(torch.ops.regionloss.compiled_backward.default, (*saved, *choices))


def test_both_languages_have_the_same_declarations(tmp_path: Path) -> None:
    from regionloss.c_compiler import build
    from regionloss.torch import compiled

    of_call = ", ".join(f"offsetof(Call, {name})" for name in compiled._CALL)
    of_settings = ", ".join(f"offsetof(Settings, {name})" for name in Settings._fields)
    source = f"{compiled._declarations()}#include <stddef.h>\nsize_t places[] = {{{of_call}, {of_settings}}};"
    library = ctypes.CDLL(str(build("offsets", ["-shared", "-fPIC", "-x", "c", "-"], source=source)))
    kinds = [(compiled._Call, compiled._CALL), (compiled._Settings, Settings._fields)]
    expected = [getattr(kind, name).offset for kind, names in kinds for name in names]
    assert list((ctypes.c_size_t * len(expected)).in_dll(library, "places")) == expected


def test_it_runs_on_the_host_alone() -> None:
    loss = module()
    with pytest.raises(PathError, match="the path 'compiled' runs on the host, and the predictions are on meta"):
        loss.path_for(torch.empty(0, device="meta"))


def test_it_is_compiled_once_and_for_each_compiler_anew(tmp_path: Path, fresh: Any) -> None:
    folder = tmp_path / "regionloss"
    module()(network(1, 3, 4), truths(1), images_seen=0)
    (kept,) = folder.iterdir()
    made = kept.stat().st_mtime_ns
    fresh._library.cache_clear()
    module()(network(1, 3, 4), truths(1), images_seen=0)
    assert [file.stat().st_mtime_ns for file in folder.iterdir()] == [made]


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, fresh: Any) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    message = r"path='analytic' needs no compiler: there is no C compiler 'no-such-compiler': install one"
    with pytest.raises(PathError, match=message):
        module()(network(1, 3, 4), truths(1), images_seen=0)


def test_what_the_compiler_refuses_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch, fresh: Any) -> None:
    monkeypatch.setenv("CFLAGS", "-no-such-option")
    with pytest.raises(PathError, match="-no-such-option"):
        module()(network(1, 3, 4), truths(1), images_seen=0)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the path with nothing compiled yet, and an empty folder."""
    from regionloss.torch import compiled

    paths.load_path("compiled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled._library.cache_clear()
    yield compiled
    compiled._library.cache_clear()


def module(path: Any = "compiled") -> Any:
    return RegionLoss(ANCHORS, CLASSES, path=path)


def loss_and_gradient(predictions: Any, rows: Any, path: Any = "compiled") -> tuple[Any, Any]:
    predictions = predictions.detach().requires_grad_()
    loss = module(path)(predictions, rows, images_seen=0)
    return loss.detach(), torch.autograd.grad(loss, predictions)[0]
