"""The code that the kernels of the Triton path become, compiled for GPUs without one."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="the Triton path needs PyTorch: pip install 'regionloss[torch]'")
triton = pytest.importorskip("triton", reason="the Triton path needs Triton")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("in the interpreter nothing is compiled", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402 - only where Triton compiles
from triton.runtime import driver  # noqa: E402 - likewise
from triton.runtime.jit import JITFunction  # noqa: E402 - likewise

from regionloss.torch import RegionLoss  # noqa: E402 - likewise
from regionloss.torch.ops import BackwardInputs, ForwardInputs  # noqa: E402 - likewise
from regionloss.torch.settings import settings_of  # noqa: E402 - likewise
from regionloss.torch.triton import operators as triton_path  # noqa: E402 - likewise
from regionloss_spec import load_profile  # noqa: E402 - likewise

pytestmark = pytest.mark.slow  # together they take more than twenty seconds

#: Registers that a thread may take, by kernel. A multiprocessor has 65536: with 96 of them, 21 of the programs of one
#: warp that forward has are alive there at a time; with 72, 7 of the programs of four warps that backward has.
LIMITS = {"forward_kernel": 96, "backward_kernel": 72, "reduction_kernel": 64}

VOC_ANCHORS = (1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071)


class Code(NamedTuple):
    """One compiled kernel."""

    kernel: str
    registers: int
    stack: int
    fused: bool
    layouts: str
    assembly: str


class Elsewhere:
    """A driver of a GPU that is not here: enough to compile for it."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    run = tmp_path_factory.getbasetemp()
    shared = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run  # by the workers of a run, by nothing else
    monkeypatch.setenv("TRITON_CACHE_DIR", str(shared / "triton"))
    before = driver._active
    yield
    driver.set_active(before)


def compiled(capability: int, dtype: Any, layout: Any, *, everything: bool = False) -> list[Code]:
    """The kernels that a step of training would launch, with the arguments that it would launch them with."""
    kernels: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernels.append(run(self, *arguments, grid=grid, warmup=True, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", Elsewhere(capability))
        patch.setattr(JITFunction, "run", compile_only)
        patch.setattr(triton_path, "_check", lambda *tensors: None)
        predictions = torch.zeros(4, 425, 19, 19, dtype=dtype).to(memory_format=layout)
        rows = torch.zeros(4, 50, 5, dtype=torch.float64 if everything else torch.float32)
        counts = torch.zeros(4, dtype=torch.int64) if everything else None
        seen = torch.tensor(0) if everything else None
        settings = settings_of(load_profile("darknet"))
        result = triton_path.forward(ForwardInputs(predictions, rows, counts, seen, 0, VOC_ANCHORS, settings))
        saved = BackwardInputs(result.loss, predictions, rows, *result[2:], VOC_ANCHORS, settings)
        triton_path.backward(saved)
    return [read_code(kernel) for kernel in kernels]


def read_code(kernel: Any) -> Code:
    """What the compiler says about a kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        message = subprocess.run([cuobjdump(), "-res-usage", file.name], capture_output=True, text=True, check=True)
    usage = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", message.stdout + message.stderr)
    assert usage is not None, message
    registers, stack, local = map(int, usage.groups())
    about = kernel.metadata
    return Code(about.name, registers, stack + local, about.enable_fp_fusion, kernel.asm["ttgir"], kernel.asm["ptx"])


@cache
def cuobjdump() -> str:
    """The one that comes with Triton."""
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump")


LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.sample(every=5)  # both capabilities, layouts and sizes of a number
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_spills_and_enough_programs_fit(capability: int, dtype: str, layout: str) -> None:
    codes = compiled(capability, DTYPES[dtype], LAYOUTS[layout])
    assert [code.kernel for code in codes] == ["forward_kernel", "reduction_kernel", "backward_kernel"]  # 3 launches
    for code in codes:
        assert code.stack == 0, code[:3]
        assert code.registers <= LIMITS[code.kernel], code[:3]


@pytest.mark.parametrize("capability", [80, 90])
def test_rare_arguments_spill_few_registers(capability: int) -> None:
    for code in compiled(capability, torch.float32, torch.contiguous_format, everything=True):
        assert code.stack <= 8, code[:3]  # two registers, which rows in float64 cost with some compilers
        assert code.registers <= LIMITS[code.kernel], code[:3]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("layout", "threads"), [("contiguous", "[1, 32]"), ("channels-last", "[32, 1]")])
def test_the_threads_of_a_warp_write_neighbouring_addresses(dtype: str, layout: str, threads: str) -> None:
    # [CHANNELS, BLOCK]: along the cells where those are neighbours in memory, else along the channels.
    backward = compiled(90, DTYPES[dtype], LAYOUTS[layout])[2]
    store = re.search(r"tt\.store .* : tensor<\d+x\d+x!tt\.ptr<\w+>, (#\w+)>", backward.layouts)
    assert store is not None
    written_by = re.search(
        rf"^{store[1]} = .*sizePerThread = \[1, 1\], threadsPerWarp = (\[\d+, \d+\])", backward.layouts, re.M
    )
    assert written_by is not None
    assert written_by[1] == threads


def test_products_and_sums_are_not_fused() -> None:
    # A fused product and sum would move a tie, an approximate quotient would lose digits; atomics have no fixed order.
    for code in compiled(80, torch.float32, torch.contiguous_format, everything=True):
        assert not code.fused
        assert "atom." not in code.assembly
        assert "red.global" not in code.assembly
        assert "div.full" not in code.assembly
        assert "div.approx" not in code.assembly


def test_a_host_without_the_interpreter_is_refused() -> None:
    loss = RegionLoss([[1.0, 1.0]], 1, path="triton")
    with pytest.raises(ValueError, match="takes predictions on cpu only with TRITON_INTERPRET=1"):
        loss(torch.zeros(1, 6, 1, 1), torch.zeros(1, 1, 5), images_seen=0)
