"""The losses of this project pass the whole suite, as a user runs it: every golden case and every property."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from regionloss_suite.cli.main import main

NAMES = ("numpy", "torch", "torch-eager", "torch-compiled")
COMPILER = shutil.which(os.environ.get("CXX") or "c++")


#: What `make test` tries of a loss: darknet alone, on two batches for a property. The reference is tried on more by
#: `test_properties_bite.py`, and every value of every axis by the tests of the losses themselves.
PART = ("-k", "darknet-float", "--regionloss-examples", "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, (), id=name, marks=pytest.mark.sweep) for name in NAMES),
        *(pytest.param(name, PART, id=f"{name}-in-part") for name in NAMES if name != "numpy"),
    ],
)
def test_a_bundled_adapter_conforms_in_full(
    name: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str], suite_options: Callable[..., None]
) -> None:
    if name != "numpy":
        pytest.importorskip("torch", reason="the losses in PyTorch need it: pip install 'regionloss[torch]'")
    if name == "torch-compiled" and COMPILER is None:
        pytest.skip("the path in C++ needs a compiler, and there is none")
    suite_options(*options)
    code = main(["check", name, "--jobs", "1"])
    printed = capsys.readouterr().out.strip().splitlines()
    assert code == 0, "\n".join(printed)
    assert printed[-1].startswith(f"{name} (profile any): conforming · "), printed[-1]
    assert " deviating" not in printed[-1]
    assert " properties" in printed[-1]
