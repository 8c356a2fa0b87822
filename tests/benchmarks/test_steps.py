"""The losses of the project under pytest-benchmark alone: `python -m pytest tests/benchmarks --benchmark-enable`.

The ordinary run of the tests calls each step once and times nothing. For ratios there is `regionloss bench`, where the
losses take turns.
"""

from __future__ import annotations

from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from regionloss_adapters import Timed
from regionloss_suite.bench.candidates import candidate
from regionloss_suite.bench.gate import BatchCheck
from regionloss_suite.bench.measure import Gate
from regionloss_suite.bench.setting import Setting

# PyTorch's compiler warns of its own parts when it is first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SETTING = Setting(images=2)
GATE = Gate("cpu")


@cache
def admitted(name: str) -> Timed:
    """The steps of a loss, which has passed the numerics in this process."""
    batch = SETTING.draw()
    timed, _, _ = GATE.admit(candidate(name), SETTING, batch, BatchCheck(SETTING, batch))
    return timed


@pytest.mark.parametrize("step", ["forward", "backward", "both", "no_grad"])
@pytest.mark.parametrize("name", ["torch-analytic", "torch-compiled", "torch-eager", "materialised", "python-loop"])
def test_step(name: str, step: str, benchmark: BenchmarkFixture) -> None:
    timed = admitted(name)
    benchmark.group = step
    if step == "backward":
        # pytest-benchmark leaves its types out here
        result = benchmark.pedantic(  # type: ignore[no-untyped-call]
            timed.backward, setup=lambda: ((timed.forward(),), {}), rounds=20, warmup_rounds=1
        )
    else:
        result = benchmark(getattr(timed, step))
    assert result.shape == (SETTING.draw().predictions.shape if step in ("backward", "both") else ())
