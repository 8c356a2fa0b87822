"""The path for the host in C++: forward in one pass over the predictions, backward in one over the gradient.

It is compiled when it is first needed and kept (`regionloss.c_compiler`): `kernels.h` is what computes, and
`operators.cpp` what PyTorch calls, forward and backward, without Python in between. It takes predictions of any strides
and truths of any shape; the half types are computed in float32. Images are shared out among as many threads as PyTorch
has, and the answer does not depend on how many that are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from regionloss.c_compiler import CompilerError, build, processor
from regionloss.torch.checks import check_truths
from regionloss.torch.ops import check, declare, implement, refuse_second, slopes_kept
from regionloss.torch.settings import PathError, Settings

_SOURCE = Path(__file__).with_suffix(".cpp")

#: For vectors, nobody looks at errno or at traps; products are not fused with sums, which could move a tie.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC", "-shared")

#: Of some compilers the first is not to be had, and then there is one thread; without the second it is slower.
_THREADING = (("-fopenmp",), ("-fopenmp-simd",), ())

_FROM_STDIN = ("-x", "c++", "-")


def _load() -> None:
    """Register what computes the operators.

    Raises:
        PathError: it cannot be compiled, or what was compiled does not fit this PyTorch.
    """
    try:
        torch.ops.load_library(_build())  # type: ignore[no-untyped-call]  # PyTorch leaves it so
    except (CompilerError, OSError) as error:
        why = f"{error}\n{error.__cause__}" if error.__cause__ else error  # which PyTorch puts there
        raise PathError(f"the path 'compiled' cannot be compiled, path='analytic' needs no compiler: {why}") from None


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
    """Those of `_THREADING` that the compiler has; to find out by compiling the path would take thrice as long."""
    why_not: CompilerError | None = None
    for threading in _THREADING:
        try:
            build("threads", [*_FLAGS, *threading, *_FROM_STDIN], language="C++", source="int nothing;\n")
        except CompilerError as error:
            why_not = why_not or error
        else:
            return threading
    assert why_not is not None
    raise why_not


def _declarations() -> str:
    """`Settings` with the very fields that it has in Python, so that the two languages cannot disagree about them."""
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
    """What `regionloss.torch.ops.check` looks at and, without `validate`, the truths that a kernel did not like."""
    chosen = Settings(*settings)
    check(predictions, rows, counts, images_seen, anchors, chosen, validate)
    if not validate:
        check_truths(rows, counts, anchors, 2 * predictions.shape[1] // len(anchors) - 5, chosen)


_load()
declare("compiled", slopes_kept)
implement(
    "compiled_check",
    "(Tensor predictions, Tensor rows, Tensor? counts, Tensor? images_seen, float[] anchors, float[] settings, "
    "bool validate) -> ()",
    _check,
)
implement("compiled_refuse", "() -> ()", lambda: refuse_second("compiled"))
