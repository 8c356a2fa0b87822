"""Which path computes the PyTorch loss: the one that fits, the one that is named, or none, with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loss for training needs PyTorch: pip install 'regionloss[torch]'")

from regionloss import evaluate  # noqa: E402 - only where PyTorch is installed
from regionloss.torch import PATHS, PathError, RegionLoss, paths  # noqa: E402 - likewise
from regionloss_spec import Profile, load_profile, profile_names  # noqa: E402 - likewise
from regionloss_spec.profile import AXES, axis_values  # noqa: E402 - likewise
from unit.torch.small_batch import ANCHORS, CLASSES, LISTS, batch, network  # noqa: E402 - likewise


def test_the_path_follows_device_type_and_profile() -> None:
    darknet, other = load_profile("darknet"), load_profile("yolo9000")
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paths, "load_path", lambda path: None)
        patched.setattr(paths, "_has_triton", lambda: True)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            on_gpu.dtype = dtype
            assert paths.choose_path("auto", on_gpu, darknet) == "triton"
            assert paths.choose_path("triton", on_gpu, darknet) == "triton"
            assert paths.choose_path("auto", torch.zeros(0, dtype=dtype), darknet) == "analytic"
            assert paths.choose_path("auto", on_gpu, other) == "eager"
        on_gpu.dtype = torch.float64
        assert paths.choose_path("auto", on_gpu, darknet) == "analytic"
        with pytest.raises(PathError, match=r"'triton' does not take torch\.float64; path='analytic' does"):
            paths.choose_path("triton", on_gpu, darknet)
        patched.setattr(paths, "_interprets_triton", lambda: False)
        with pytest.raises(PathError, match="predictions on cpu only with TRITON_INTERPRET=1"):
            paths.choose_path("triton", torch.zeros(0), darknet)


def test_without_triton_a_gpu_takes_the_analytic_path_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    monkeypatch.setattr(paths, "_TRITON_INSTALLED", False)
    with pytest.warns(UserWarning, match="Triton is not installed: the loss takes path 'analytic' on CUDA"):
        assert paths.choose_path("auto", on_gpu, load_profile("darknet")) == "analytic"

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name="triton")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(PathError, match="the path 'triton' needs triton, which is not installed"):
        paths.choose_path("triton", on_gpu, load_profile("darknet"))


def variants() -> list[Any]:
    """Every shipped profile, and darknet's with every value that a discrete axis takes."""
    darknet, tree = load_profile("darknet"), load_profile("yolo9000")
    result = [pytest.param(load_profile(name), id=name) for name in profile_names()]
    for axis in AXES:
        for value in axis_values(axis):
            base = tree if value in ("tree", "accumulate") else darknet
            if getattr(base, axis) != value:
                result.append(pytest.param(base.replace(**{axis: value}), id=f"{axis}={value}"))
    return result


@pytest.mark.parametrize("profile", variants())
def test_every_profile_has_a_path_and_the_other_paths_refuse_it(profile: Profile) -> None:
    tree = (-1, 0, 0) if profile.class_term == "tree" else None
    t = network(torch.float64)
    result = RegionLoss(ANCHORS, CLASSES, profile=profile, tree=tree).details(t, LISTS, images_seen=0)
    assert result.loss.item() == pytest.approx(evaluate(batch(t, 0, tree), profile).potential, rel=1e-12)
    for path in (path for path in PATHS if path != "eager"):
        if result.path == "analytic":
            assert RegionLoss(ANCHORS, CLASSES, profile=profile, path=path).path == path
            continue
        assert result.path == "eager"
        with pytest.raises(
            PathError, match=rf"'{path}' does not express this loss: .* has \w+ = '.*; path='eager' does"
        ):
            RegionLoss(ANCHORS, CLASSES, profile=profile, path=path, tree=tree)


def test_the_fast_paths_express_all_shipped_profiles_but_the_one_with_a_tree() -> None:
    t = network()
    result = {name: RegionLoss(ANCHORS, CLASSES, profile=name).path_for(t) for name in profile_names()}
    assert {name for name, path in result.items() if path == "eager"} == {"yolo9000"}


def test_an_unknown_path_is_refused_at_construction() -> None:
    wrong: Any = "fastest"
    message = "unknown path 'fastest'; expected one of auto, eager, analytic, compiled, triton"
    with pytest.raises(PathError, match=message):
        RegionLoss(ANCHORS, CLASSES, path=wrong)
    loss = RegionLoss(ANCHORS, CLASSES)
    loss.path = wrong
    with pytest.raises(PathError, match=message):
        loss(network(), LISTS, images_seen=0)


def test_what_is_constant_when_compiled_is_marked_as_pytorch_marks_it() -> None:
    def by_pytorch() -> int:
        return 0

    def by_us() -> int:
        return 0

    torch.compiler.assume_constant_result(by_pytorch)
    assert vars(paths._constant_when_compiled(by_us)) == vars(by_pytorch) != {}


@pytest.mark.slow
def test_importing_the_loss_does_not_import_the_compiler_of_pytorch() -> None:
    code = "import sys, torch; before = 'torch._dynamo' in sys.modules; import regionloss.torch; "
    code += "print(before or 'torch._dynamo' not in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "True"
