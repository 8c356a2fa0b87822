"""The losses of this project pass the whole suite, as a user runs it: every golden case and every property."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from regionloss_suite.cli.main import main

COMPILER = shutil.which(os.environ.get("CXX") or "c++")


@pytest.mark.slow
@pytest.mark.parametrize("batches", [pytest.param("16", id="whole", marks=pytest.mark.sweep), "2"])
@pytest.mark.parametrize("name", ["numpy", "torch", "torch-eager", "torch-compiled"])
def test_a_bundled_adapter_conforms_in_full(
    name: str, batches: str, capsys: pytest.CaptureFixture[str], suite_options: Callable[..., None]
) -> None:
    if name != "numpy":
        pytest.importorskip("torch", reason="the losses in PyTorch need it: pip install 'regionloss[torch]'")
    if name == "torch-compiled" and COMPILER is None:
        pytest.skip("the path in C++ needs a compiler, and there is none")
    suite_options("--regionloss-examples", batches)
    code = main(["check", name, "--jobs", "1"])
    printed = capsys.readouterr().out.strip().splitlines()
    assert code == 0, "\n".join(printed)
    assert printed[-1].startswith(f"{name} (profile any): conforming · "), printed[-1]
    assert " deviating" not in printed[-1]
    assert " properties" in printed[-1]
