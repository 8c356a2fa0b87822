"""darknet itself as an adapter: the user's own checkout, compiled locally and run in a child process.

This package contains no code of darknet. A thin shim is compiled with the user's C compiler against the user's headers,
together with the few sources that `forward_region_layer` needs, or with a library that contains them. It runs on the
CPU in float32, with one child process for each batch, so that a crash or an `exit()` of darknet ends only the
child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionloss_adapters.darknet.checkout import HOW_TO_GET, VARIABLE, Family, compiled, find_checkout
from regionloss_adapters.darknet.request import darknet_options, defined_truths, encode, repository, tree_file
from regionloss_adapters.protocol import AdapterError, Answer, CannotAnswerError, Description, Question
from regionloss_spec import Batch
from regionloss_spec.recording import gradient_from_delta

_FIGURES = 8
_STATISTICS = ("avg_iou", "avg_class", "avg_obj", "avg_no_obj", "avg_recall")


class DarknetFailedError(RuntimeError):
    """darknet crashed, hung, or returned an incomplete answer."""


class LiveDarknet:
    """The real `forward_region_layer` of a darknet checkout, or of a compiled libdarknet with its headers.

    The compiler is `cc` unless the environment variable `CC` names another; `CFLAGS` are passed on to it.

    Args:
        path: the checkout, or its libdarknet.so, .dylib or .a, with the headers beside it or in `include`.
        family: `pjreddie` or `alexeyab`, for a fork whose headers do not show it.
        timeout: seconds that one batch may take.

    Raises:
        AdapterError: there is no darknet at the path, or it cannot be compiled.
    """

    def __init__(self, path: str | Path, family: Family | None = None, timeout: float = 60.0) -> None:
        self.checkout = find_checkout(Path(path), family)
        self.timeout = timeout
        self._program = compiled(self.checkout)

    def describe(self) -> Description:
        """It returns what darknet computes or prints: no terms, no potential, no indicators, no errors."""
        checkout = self.checkout
        first = checkout.family == "pjreddie"
        answers = ("gradient", "printed cost", "statistics") if checkout.sources else ("gradient", "printed cost")
        notes = [
            f"runs a darknet of the family of {repository(checkout.family)}, content {checkout.digest[:12]}",
            "darknet is in the public domain by its own YOLO LICENSE; none of it is shipped here",
        ]
        if first:
            notes.append("l.delta lacks the logistic derivative, which darknet applies in its GPU backward pass only")
        return Description(
            f"darknet ({checkout.family})",
            profiles=("darknet",) if first else ("darknet-2016", "yolo9000"),
            answers=answers,
            dtypes=("float32",),
            notes=tuple(notes),
        )

    def answer(self, question: Question) -> Answer:
        """Run darknet on the batch, in a child process.

        Raises:
            CannotAnswerError: darknet has no option for the profile, or its behaviour on the batch is undefined.
            DarknetFailedError: it crashed, hung, or returned an incomplete answer.
        """
        batch, profile, family = question.batch, question.profile, self.checkout.family
        if question.dtype != "float32" or question.device != "cpu":
            raise CannotAnswerError(f"darknet runs in float32 on the CPU, not in {question.dtype}")
        if question.upstream != 1:
            raise CannotAnswerError("darknet's layer takes no upstream gradient")
        config, base = darknet_options(profile, family)
        truths = defined_truths(batch, profile, family)
        figures, delta, output = self._run(encode(batch, truths, config, profile, family), batch, base)
        shape = batch.predictions.shape
        background = bool(config["background"])
        return Answer(
            gradient=gradient_from_delta(
                delta.reshape(shape), batch, base, activated=output.reshape(shape), background=background
            ),
            printed_cost=float(figures[0]),
            statistics=_statistics(figures) if figures[1] else None,
        )

    def _run(
        self, request: bytes, batch: Batch, base: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The numbers, the delta and the output of one run."""
        with tempfile.TemporaryDirectory(prefix="regionloss-darknet-") as folder:
            here = Path(folder)
            (here / "request").write_bytes(request)
            command = [str(self._program), "request", "answer"]
            if base == "yolo9000":
                (here / "tree").write_text(tree_file(batch.tree or ()), encoding="ascii")
                command.append("tree")
            with (here / "errors").open("wb") as errors:
                try:
                    code = subprocess.run(
                        command,
                        cwd=here,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                        timeout=self.timeout,
                        check=False,
                    ).returncode
                except subprocess.TimeoutExpired:
                    raise DarknetFailedError(f"darknet did not answer within {self.timeout:g} s") from None
            if code:
                raise DarknetFailedError(f"darknet {_how_it_ended(code)}: {_tail(here / 'errors')}")
            answer = (here / "answer").read_bytes() if (here / "answer").is_file() else b""
        size = batch.predictions.size
        if len(answer) != 8 * _FIGURES + 2 * 4 * size:
            raise DarknetFailedError(f"darknet left {len(answer)} bytes, expected {8 * _FIGURES + 2 * 4 * size}")
        figures = np.frombuffer(answer, dtype=np.float64, count=_FIGURES)
        tensors = np.frombuffer(answer, dtype=np.float32, offset=8 * _FIGURES).astype(np.float64)
        return figures, tensors[:size], tensors[size:]


def adapter() -> LiveDarknet:
    """The darknet at the path in the environment variable `REGIONLOSS_DARKNET`.

    Raises:
        AdapterError: the variable is not set, there is no darknet at its path, or it cannot be compiled.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        raise AdapterError(f"{VARIABLE} names no darknet; {HOW_TO_GET}")
    return LiveDarknet(path)


def _statistics(figures: NDArray[np.float64]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in zip(_STATISTICS, figures[2:7], strict=True)}
    return {**numbers, "count": int(figures[7])}


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"exited with status {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _tail(file: Path) -> str:
    """The last lines of a child's output, however long it is."""
    with file.open("rb") as stream:
        stream.seek(max(file.stat().st_size - 500, 0))
        return stream.read().decode(errors="replace").strip()
