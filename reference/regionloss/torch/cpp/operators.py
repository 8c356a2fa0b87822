"""The operators of the path `compiled`, for the host: compiled when they are first needed, and cached.

operators.cpp is what PyTorch calls, forward and backward, without Python in between; the headers are the kernels, which
know nothing of PyTorch. The path takes predictions of any strides and truths of any shape, and computes the half types
in float32. Images are spread over as many threads as PyTorch has; the result does not depend on how many that are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from regionloss.c_compiler import CompilerError, build, processor
from regionloss.torch.checks import check_truths
from regionloss.torch.ops import ForwardInputs, check, declare, implement, kept_tensors, refuse_second
from regionloss.torch.settings import PathError, Settings

#: Includes every header beside it.
_SOURCE = Path(__file__).with_suffix(".cpp")

#: Vector code needs functions that set no errno and trap nothing. Fused products and sums could break a tie.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC", "-shared")

#: In the order of preference. Without the first there is one thread; without the second, loops are slower too.
_THREADING = (("-fopenmp",), ("-fopenmp-simd",), ())

_FROM_STDIN = ("-x", "c++", "-")


def _load() -> None:
    """Register the kernels of the operators.

    Raises:
        PathError: they do not compile, or the library does not load into this PyTorch.
    """
    try:
        torch.ops.load_library(_build())  # type: ignore[no-untyped-call]  # PyTorch leaves it so
    except (CompilerError, OSError) as error:
        why = f"{error}\n{error.__cause__}" if error.__cause__ else error  # PyTorch puts the reason there
        raise PathError(f"the path 'compiled' cannot be compiled; path='analytic' needs no compiler: {why}") from None


def _build() -> Path:
    """The compiled library. Its file name depends on all sources and on PyTorch, whose ABI differs between versions."""
    installed = Path(torch.__file__).parent
    headers = installed / "include"
    arguments = [
        *("-std=c++20", *_FLAGS, *_threading(), f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"),
        *("-iquote", str(_SOURCE.parent), f"-I{headers}", f"-I{headers / 'torch/csrc/api/include'}", *_FROM_STDIN),
        *(f"-L{installed / 'lib'}", f"-Wl,-rpath,{installed / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"),
    ]
    texts = [header.read_text(encoding="utf-8") for header in sorted(_SOURCE.parent.glob("*.h"))]
    made_of = [*texts, torch.__version__, str(torch.version.git_version), processor()]
    source = f'{_declarations()}#line 1 "{_SOURCE.name}"\n{_SOURCE.read_text(encoding="utf-8")}'
    return build("region-loss", arguments, language="C++", source=source, made_of=made_of)


def _threading() -> tuple[str, ...]:
    """The first of `_THREADING` that the compiler accepts, tried on an empty source because that is quick."""
    first_error: CompilerError | None = None
    for threading in _THREADING:
        try:
            build("threads", [*_FLAGS, *threading, *_FROM_STDIN], language="C++", source="int nothing;\n")
        except CompilerError as error:
            first_error = first_error or error
        else:
            return threading
    assert first_error is not None
    raise first_error


def _declarations() -> str:
    """`Settings` in C++, generated from its fields in Python so that the two languages cannot disagree."""
    fields = "".join(f"    double {name};\n" for name in Settings._fields)
    return f"struct Settings {{\n{fields}}};\n"


def _check(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    anchors: Sequence[float],
    settings: Sequence[float],
    validate: bool,
) -> None:
    """`regionloss.torch.ops.check`, and without `validate` the truths, since a kernel has found a bad one."""
    chosen = Settings(*settings)
    check(ForwardInputs(predictions, rows, counts, images_seen, 0, anchors, chosen), validate)
    if not validate:
        check_truths(rows, counts, anchors, 2 * predictions.shape[1] // len(anchors) - 5, chosen)


_load()
declare("compiled", kept_tensors)
implement(
    "compiled_check",
    "(Tensor predictions, Tensor rows, Tensor? counts, Tensor? images_seen, float[] anchors, float[] settings, "
    "bool validate) -> ()",
    _check,
)
implement("compiled_refuse", "() -> ()", lambda: refuse_second("compiled"))
