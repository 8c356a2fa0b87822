"""The path in C++: its results, its threads, its compiler, and the memory that it writes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the fast paths need PyTorch: pip install 'regionloss[torch]'")

from torch.autograd import Function  # noqa: E402 - only where PyTorch is installed

from regionloss import DomainError  # noqa: E402 - only where PyTorch is installed
from regionloss.torch import PaddedTruths, PathError, RegionLoss, paths  # noqa: E402 - likewise
from regionloss.torch.settings import Settings, settings_of  # noqa: E402 - likewise
from regionloss_adapters.torch.fast import TorchCompiledAdapter  # noqa: E402 - likewise
from regionloss_spec import Profile, load_profile  # noqa: E402 - likewise
from regionloss_suite.oracle.strategies import batches  # noqa: E402 - likewise
from unit.torch.test_analytic import ANCHORS, BAD_TRUTHS, CLASSES, FLAT, compare, network, truths, variants  # noqa: E402 - likewise

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX") or "c++") is None, reason="the path in C++ needs a compiler, and there is none"
)

ADAPTER = TorchCompiledAdapter()
DARKNET = load_profile("darknet")


@pytest.mark.slow
@pytest.mark.parametrize("profile", variants())
@settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_result_is_within_the_bound_of_the_reference(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))  # exact in float32, so both precisions get the same bits
    assume(sum(compare(batch, profile, dtype, ADAPTER) for dtype in ("float64", "float32")))


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    predictions, rows = network(7, 9, 13).float(), truths(7, 12)
    result, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result.append(loss_and_gradient(predictions, rows))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in result[1:]:
        assert torch.equal(loss, result[0][0])
        assert torch.equal(gradient, result[0][1])


@pytest.mark.parametrize("cells", [(1, 1), (8, 8), (5, 13), (13, 10)])
def test_every_element_of_a_plane_of_any_size_is_written(
    monkeypatch: pytest.MonkeyPatch, cells: tuple[int, int]
) -> None:
    predictions, rows = network(2, *cells), truths(2)
    expected, grad = loss_and_gradient(predictions, rows, path="analytic")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.use_deterministic_algorithms(True)  # memory that is not written is not a number then
        try:
            loss, gradient = loss_and_gradient(predictions.contiguous(memory_format=layout), rows)
        finally:
            torch.use_deterministic_algorithms(False)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, grad, rtol=1e-10, atol=1e-15)
        assert gradient.is_contiguous(memory_format=layout)


def test_predictions_may_have_any_strides() -> None:
    contiguous, rows = network(2, 3, 4), truths(2)
    expected, gradient = loss_and_gradient(contiguous, rows)
    every_second = torch.zeros(2, contiguous.shape[1], 3, 8, dtype=contiguous.dtype)[..., ::2]
    every_second.copy_(contiguous)
    rows_apart = torch.zeros(2, contiguous.shape[1], 5, 4, dtype=contiguous.dtype)[:, :, :3]
    rows_apart.copy_(contiguous)
    for other in (every_second, rows_apart):
        got, other_gradient = loss_and_gradient(other, rows)
        assert torch.equal(got, expected)
        assert torch.equal(other_gradient, gradient)
    once, alone = loss_and_gradient(contiguous[:1], rows[:1])
    thrice, gradients = loss_and_gradient(contiguous[:1].expand(3, -1, -1, -1), rows[:1].expand(3, -1, -1))
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=0)
    assert all(torch.equal(image, alone[0]) for image in gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_gradient_is_that_of_float32_rounded_once(dtype: Any) -> None:
    predictions, rows = network(2, 3, 4).to(dtype), truths(2)
    loss, gradient = loss_and_gradient(predictions, rows)
    expected, grad = loss_and_gradient(predictions.float(), rows)
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, grad.to(dtype))


def test_only_five_channels_of_other_predictors_are_read() -> None:
    predictions, rows = network(2, 3, 4), truths(2)
    loss, gradient = loss_and_gradient(predictions, rows)
    others = ~module().details(predictions, rows, images_seen=0).responsible
    poisoned = predictions.clone().view(2, len(ANCHORS), 5 + CLASSES, 3, 4)
    poisoned[:, :, 5:] = torch.where(others[:, :, None], torch.nan, poisoned[:, :, 5:])
    spoiled, grad = loss_and_gradient(poisoned.flatten(1, 2), rows)
    assert torch.equal(spoiled, loss)
    assert torch.equal(grad, gradient)


def test_rows_beyond_the_count_are_not_read() -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    counts = torch.tensor([0, 1, 3], dtype=torch.int32)
    cut = rows.clone()
    for image, count in enumerate(counts.tolist()):
        cut[image, count:] = 0
    rows[0, 0] = torch.nan  # is not read
    expected = module()(predictions, cut, images_seen=0)
    assert torch.equal(module()(predictions, PaddedTruths(rows, counts), images_seen=0), expected)


@pytest.mark.parametrize(("row", "clause"), BAD_TRUTHS)
def test_a_bad_truth_is_named(row: list[float], clause: str) -> None:
    predictions, rows = network(3, 3, 4), truths(3)
    rows[1, 1] = torch.tensor(row)
    with pytest.raises(DomainError, match=rf"^image 1, truth 1: .*\[{clause}\]$"):
        module()(predictions, rows, images_seen=0)


def test_the_operators_pass_opcheck() -> None:
    predictions, rows = network(2, 3, 4).float().requires_grad_(), truths(2)
    choices = (list(FLAT), list(settings_of(DARKNET)))
    arguments = (predictions, rows, None, None, 0, *choices, False)
    torch.library.opcheck(operators().compiled.default, arguments)
    result = operators().compiled(*arguments)
    state, predictor_of_truth, *kept = (tensor.detach() for tensor in result[2:])
    saved = (torch.ones(()), predictions.detach(), rows, state, predictor_of_truth, kept)
    torch.library.opcheck(operators().compiled_backward.default, (*saved, *choices))


def test_both_languages_have_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regionloss.c_compiler import build
    from regionloss.torch.cpp import operators as compiled

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    places = ", ".join(f"offsetof(Settings, {name})" for name in Settings._fields)
    source = f'{compiled._declarations()}#include <stddef.h>\nextern "C" {{ size_t places[] = {{{places}}}; }}'
    library = ctypes.CDLL(str(build("places", ["-shared", "-fPIC", "-x", "c++", "-"], language="C++", source=source)))
    expected = [8 * place for place in range(len(Settings._fields))]  # as they lie in a list of float64
    assert list((ctypes.c_size_t * len(expected)).in_dll(library, "places")) == expected


def test_settings_of_another_length_are_refused() -> None:
    predictions, rows = network(2, 3, 4), truths(2)
    chosen = list(settings_of(DARKNET))
    result = operators().compiled(predictions, rows, None, None, 0, list(FLAT), chosen, False)
    for wrong in (chosen[:-1], [*chosen, 0.0]):
        message = f"expected {len(chosen)} settings, got {len(wrong)}"
        with pytest.raises(ValueError, match=message):
            operators().compiled(predictions, rows, None, None, 0, list(FLAT), wrong, False)
        with pytest.raises(ValueError, match=message):
            operators().compiled_backward(
                torch.ones(()), predictions, rows, *result[2:4], list(result[4:]), list(FLAT), wrong
            )


def test_only_the_loss_is_differentiable_and_an_undefined_upstream_gives_no_gradient() -> None:
    predictions, rows = network(2, 3, 4).requires_grad_(), truths(2)
    result = operators().compiled(predictions, rows, None, None, 0, list(FLAT), list(settings_of(DARKNET)), False)
    assert [tensor.requires_grad for tensor in result] == [True] + 5 * [False]
    assert torch.autograd.grad(Silent.apply(result[0]), predictions, allow_unused=True) == (None,)  # type: ignore[no-untyped-call]  # PyTorch leaves it so


class Silent(Function):
    """Its argument, of which nobody asks for a gradient."""

    @staticmethod
    def forward(ctx: Any, value: Any) -> Any:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return None


def test_images_seen_as_a_tensor_ends_the_prior_at_its_limit() -> None:
    predictions, rows = network(2, 3, 4), truths(2)
    for seen in (0, 12799, 12800, 2**40):
        expected = RegionLoss(ANCHORS, CLASSES, path="eager")(predictions, rows, images_seen=seen)
        for form in (seen, torch.tensor(seen)):
            torch.testing.assert_close(module()(predictions, rows, images_seen=form), expected, rtol=1e-12, atol=0)


def test_it_runs_on_the_host_only() -> None:
    loss = module()
    with pytest.raises(PathError, match="the path 'compiled' runs on the host, and the predictions are on meta"):
        loss.path_for(torch.empty(0, device="meta"))


def test_it_is_compiled_once_and_again_when_anything_it_is_made_of_changes(
    compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regionloss.torch.cpp import operators as compiled

    libraries = {compiled._build()}
    before = compiler.read_text()
    assert compiled._build() in libraries
    assert compiler.read_text() == before

    def made_with(where: Any, name: str, value: Any) -> Path:
        with monkeypatch.context() as patched:
            patched.setattr(where, name, value)
            return compiled._build()

    libraries.add(made_with(torch, "__version__", "another"))
    libraries.add(made_with(torch.version, "git_version", "another"))
    libraries.add(made_with(torch, "compiled_with_cxx11_abi", lambda: not torch._C._GLIBCXX_USE_CXX11_ABI))
    libraries.add(made_with(compiled, "processor", lambda: "another"))
    sources = [path.name for path in compiled._SOURCE.parent.iterdir() if path.suffix in (".cpp", ".h")]
    assert {"operators.cpp", "forward.h", "backward.h"} < set(sources)
    for name in sources:
        libraries.add(made_with(compiled, "_SOURCE", copied(compiled._SOURCE, compiler.parent, name)))
    monkeypatch.setenv("CXXFLAGS", "-another")
    libraries.add(compiled._build())
    assert len(libraries) == 6 + len(sources)
    assert all(file.is_file() for file in libraries)


@pytest.mark.slow
def test_of_processes_that_start_together_only_one_compiles(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'from regionloss.c_compiler import build; print(build("nothing", ["-shared"], language="C++"))'
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("SECONDS", "2")
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    libraries = {child.communicate()[0] for child in children}
    assert len(libraries) == 1
    assert Path(libraries.pop().strip()).is_file()
    assert len(compiler.read_text().splitlines()) == 1


def copied(source: Path, folder: Path, changed: str) -> Path:
    """A copy of the sources in the folder, with one more line in the file `changed`."""
    for path in source.parent.iterdir():
        if path.suffix in (".cpp", ".h"):
            extra = "// another line\n" if path.name == changed else ""
            (folder / path.name).write_text(path.read_text(encoding="utf-8") + extra, encoding="utf-8")
    return folder / source.name


@pytest.mark.parametrize(
    ("lacking", "left"), [("", "-fopenmp"), ("-fopenmp", "-fopenmp-simd"), ("-fopenmp*", ""), ("*", None)]
)
def test_a_compiler_without_openmp_gets_fewer_options(
    compiler: Path, lacking: str, left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regionloss.c_compiler import CompilerError
    from regionloss.torch.cpp import operators as compiled

    monkeypatch.setenv("LACKING", lacking)
    if left is None:
        with pytest.raises(CompilerError, match="no such thing: -O3"):
            compiled._threading()
    else:
        assert compiled._threading() == tuple(left.split())


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a compiler was called with: one that makes empty files, refuses what LACKING names and takes SECONDS."""
    log, program = tmp_path / "log", tmp_path / "compiler"
    program.write_text(
        "#!/bin/sh\n"
        'for argument; do case "$argument" in $LACKING) echo "no such thing: $argument" >&2; exit 1;; esac; done\n'
        f'echo "$@" >> "{log}"\n'
        "sleep $SECONDS\n"
        'while [ "$1" != -o ]; do shift; done; : > "$2"\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.setenv("LACKING", "")
    monkeypatch.setenv("SECONDS", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


@pytest.mark.slow
def test_without_a_compiler_every_call_says_so() -> None:
    program = """
import torch
from regionloss.torch import PathError, RegionLoss
for _ in range(2):
    try:
        RegionLoss([[1.0, 1.0]], 1, path="compiled")(torch.zeros(1, 6, 1, 1), torch.zeros(1, 0, 5), images_seen=0)
    except PathError as error:
        print(error)
"""
    environment = {**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    message = (
        "the path 'compiled' cannot be compiled; path='analytic' needs no compiler: "
        "there is no C++ compiler 'no-such-compiler': install one, or name it in the environment variable CXX"
    )
    assert done.stdout.splitlines() == [message, message]


def test_an_error_of_the_compiler_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regionloss.torch.cpp import operators as compiled

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXXFLAGS", "-no-such-option")
    with pytest.raises(PathError, match=r"path='analytic' needs no compiler: (.|\n)*-no-such-option"):
        compiled._load()


def test_an_error_of_the_loader_is_quoted(compiler: Path) -> None:
    from regionloss.torch.cpp import operators as compiled

    with pytest.raises(PathError, match=r"path='analytic' needs no compiler: (.|\n)*file too short"):
        compiled._load()


def operators() -> Any:
    paths.load_path("compiled")
    return torch.ops.regionloss


def module(path: Any = "compiled") -> Any:
    return RegionLoss(ANCHORS, CLASSES, path=path)


def loss_and_gradient(predictions: Any, rows: Any, path: Any = "compiled") -> tuple[Any, Any]:
    predictions = predictions.detach().requires_grad_()
    loss = module(path)(predictions, rows, images_seen=0)
    return loss.detach(), torch.autograd.grad(loss, predictions)[0]
