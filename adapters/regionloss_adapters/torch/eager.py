"""The eager PyTorch loss as an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionloss import DomainError
from regionloss.torch.eager import EagerResult, region_loss
from regionloss_adapters.protocol import DERIVATIVES, Answer, Description, Question, RefusedError
from regionloss_adapters.timed import Timed
from regionloss_adapters.torch.derivatives import derivatives, on_device
from regionloss_adapters.torch.timed import leaf, rows_of, steps

#: The suite's formats as PyTorch dtypes.
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

#: The devices on which PyTorch losses can run.
DEVICES = ("cpu", "cuda", "cuda tf32") if torch.cuda.is_available() else ("cpu",)


@contextmanager
def answering(question: Question) -> Iterator[torch.device]:
    """The device to answer a question on, with one thread, and with what the loss refuses as a refusal.

    The suite's batches are tiny, and waking a thread pool would take longer.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with on_device(question.device) as device:
            yield device
    except DomainError as error:
        raise RefusedError(str(error), error.image, error.truth) from error
    finally:
        torch.set_num_threads(threads)


def predictions_of(question: Question, device: torch.device) -> Tensor:
    """The predictions of a question on a device, a leaf that requires a gradient."""
    exact = torch.from_numpy(np.array(question.batch.predictions, dtype=np.float64))
    return exact.to(DTYPES[question.dtype]).to(device).requires_grad_()


def answer_of(
    question: Question,
    predictions: Tensor,
    potential: Tensor,
    terms: Mapping[str, Tensor],
    responsible: tuple[tuple[int, ...], ...],
    ignored: Tensor,
) -> Answer:
    """The result of a PyTorch loss, with its derivatives, as an answer.

    Args:
        question: with the options for the derivatives.
        predictions: the leaf to differentiate with respect to.
        potential: the loss, one number.
        terms: by name.
        responsible: (image, truth, anchor, row, column) of every truth whose box is paid.
        ignored: bool `[N, A, H, W]`.
    """
    gradient, curvature = derivatives(potential, predictions, question)
    return Answer(
        gradient=gradient.cpu().double().numpy(),
        curvature=None if curvature is None else curvature.cpu().double().numpy(),
        potential=potential.item(),
        terms={name: term.item() for name, term in terms.items()},
        responsible=responsible,
        ignored=tuple((n, k, j, i) for n, k, j, i in ignored.nonzero().tolist()),
    )


class TorchEagerAdapter:
    """`regionloss.torch.eager.region_loss`, differentiated by autograd."""

    def describe(self) -> Description:
        """It returns everything except printed cost and statistics, under any profile and in every format."""
        return Description(
            "torch-eager",
            profiles=("*",),
            answers=("potential", "terms", "gradient", "indicators", "errors", *DERIVATIVES),
            dtypes=tuple(DTYPES),
            devices=DEVICES,
            notes=(f"PyTorch {torch.__version__}",),
        )

    def answer(self, question: Question) -> Answer:
        """Evaluate the loss and let autograd differentiate it."""
        with answering(question) as device:
            predictions = predictions_of(question, device)
            result = _evaluate(question, predictions, question.batch.truths)
            paying = _responsible(result)
            return answer_of(question, predictions, result.potential, result.terms, paying, result.ignored)

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        """The loss with its truths in tensors, padded if zeros end a list."""
        batch = question.batch
        rows = rows_of(question, slots)
        truths: Tensor | list[Tensor] = rows
        if question.profile.truth_end != "x-zero":
            truths = [table[: len(given)] for table, given in zip(rows, batch.truths, strict=True)]
        predictions = leaf(batch.predictions, question, channels_last=channels_last)
        return steps(lambda given: _evaluate(question, given, truths).potential, predictions, question)


def _evaluate(question: Question, predictions: Tensor, truths: Any) -> EagerResult:
    """The loss of the batch of a question, with predictions and truths in tensors of one's own."""
    batch = question.batch
    return region_loss(
        predictions,
        truths,
        batch.anchors,
        batch.classes,
        images_seen=batch.images_seen,
        profile=question.profile,
        tree=batch.tree,
    )


def _responsible(result: EagerResult) -> tuple[tuple[int, ...], ...]:
    """(image, truth, anchor, row, column) of every truth whose box is paid."""
    paying = [match for match in result.matches if match.pays_box]
    return tuple((match.predictor[0], match.truth, *match.predictor[1:]) for match in paying)
