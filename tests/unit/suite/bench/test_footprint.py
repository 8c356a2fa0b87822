"""What a loss takes besides time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from regionloss_suite.bench.summary import terminal
from regionloss_suite.bench.torch_footprint import footprint, launches_of, peak_of
from regionloss_suite.bench.torch_machine import keep_memory
from unit.suite.bench.made_up import TIMES, results


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its allocator is another")
def test_memory_that_was_freed_is_used_again() -> None:
    """In a process of its own: how glibc was told to work, it is never told to forget."""
    code = (
        "import torch, resource\n"
        "from regionloss_suite.bench.torch_machine import keep_memory\n"
        "assert keep_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(): return [torch.ones(1 << 20) for _ in range(30)]\n"  # 120 MB in pieces of 4
        "for _ in range(5): work()\n"  # until every piece has found its place
        "before = faults(); work(); print(faults() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # of 30720 pages


def test_an_allocator_that_cannot_be_set_has_its_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_memory() is False
    times = results(TIMES)
    times.about["memory kept"] = False
    assert "  The allocator has its default settings." in terminal(times)


def test_the_peak_of_memory_by_hand() -> None:
    moves = [(3, -40), (1, 100), (2, 50), (4, 20)]  # in order: 100, 150, 110, 130
    events = [
        {"name": "[memory]", "ts": at, "args": {"Bytes": count, "Device Type": 0, "Device Id": -1}}
        for at, count in moves
    ]
    on_device = {"name": "[memory]", "ts": 2, "args": {"Bytes": 10**6, "Device Type": 1, "Device Id": 0}}
    assert peak_of([*events, on_device, {"name": "aten::add", "ts": 0}]) == 150


def test_kernels_copies_and_fills_are_launches() -> None:
    kinds = ["kernel", "kernel", "gpu_memcpy", "gpu_memset", "cuda_runtime", "cpu_op", "gpu_user_annotation"]
    assert launches_of([{"cat": kind, "name": "x"} for kind in kinds] + [{"name": "no kind"}]) == 4


def test_memory_above_the_gradient_is_what_is_held_besides() -> None:
    def both() -> torch.Tensor:
        held = torch.zeros(3000)
        return torch.zeros(1000) + held[:1000]

    peak = footprint(both, 4000, "cpu")
    assert peak.memory is not None
    assert 12000 + 4000 <= peak.memory < 12000 + 4000 + 100  # a few bytes for numbers
    assert footprint(both, 4000, "cpu", heavy=True).memory is None
