"""The PyTorch loss for training, with each of its paths as an adapter."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from regionloss.torch import Details, PaddedTruths, PathError, RegionLoss, pad_truths
from regionloss.torch.paths import Path
from regionloss_adapters.protocol import Answer, CannotAnswerError, Description, Question
from regionloss_adapters.timed import Timed
from regionloss_adapters.torch.eager import DEVICES, DTYPES, TorchEagerAdapter, answer_of, answering, predictions_of
from regionloss_adapters.torch.timed import leaf, rows_of, steps


class TorchAdapter:
    """`regionloss.torch.RegionLoss` with one of its paths or, with `auto`, the one that it selects."""

    path: Path | Literal["auto"] = "auto"
    devices: tuple[str, ...] = DEVICES

    def describe(self) -> Description:
        """It returns everything except printed cost and statistics, under the profiles that its path supports."""
        return Description(
            "torch" if self.path == "auto" else f"torch-{self.path}",
            profiles=("*",),
            answers=("potential", "terms", "gradient", "indicators", "errors", "repeated gradient"),
            dtypes=tuple(DTYPES),
            devices=self.devices,
            notes=(f"PyTorch {torch.__version__}", f"path {self.path}"),
        )

    def answer(self, question: Question) -> Answer:
        """Evaluate the loss with every check, and differentiate it with its own backward."""
        batch = question.batch
        with answering(question) as device:
            predictions = predictions_of(question, device)
            try:
                loss = self._loss(question, validate=True)
                if loss.path_for(predictions) == "eager":  # its answers show more than `Details` if truths collide
                    return TorchEagerAdapter().answer(question)
                rows = pad_truths(batch.truths, device=device)
                details = loss.details(predictions, rows, images_seen=batch.images_seen)
            except PathError as error:
                raise CannotAnswerError(str(error)) from error
            paying = _responsible(details)
            return answer_of(question, predictions, details.loss, details.terms, paying, details.ignored)

    def prepare(self, question: Question, *, slots: int | None = None, channels_last: bool = False) -> Timed:
        """The loss as used in training, without the checks that would synchronise.

        Raises:
            CannotAnswerError: its path does not support this.
        """
        batch = question.batch
        predictions = leaf(batch.predictions, question, channels_last=channels_last)
        truths: Tensor | PaddedTruths = rows_of(question, slots)
        if question.profile.truth_end != "x-zero":  # then rows alone do not show where a list ends
            counts = torch.tensor([len(table) for table in batch.truths], device=question.device)
            truths = PaddedTruths(rows_of(question, slots), counts)
        try:
            loss = self._loss(question, validate=False)
            return steps(lambda given: loss(given, truths, images_seen=batch.images_seen), predictions, question)
        except PathError as error:
            raise CannotAnswerError(str(error)) from error

    def _loss(self, question: Question, *, validate: bool) -> RegionLoss:
        batch = question.batch
        return RegionLoss(
            batch.anchors, batch.classes, profile=question.profile, tree=batch.tree, path=self.path, validate=validate
        )


class TorchAnalyticAdapter(TorchAdapter):
    """The analytic path."""

    path = "analytic"


class TorchCompiledAdapter(TorchAdapter):
    """The compiled path."""

    path = "compiled"
    devices = ("cpu",)


def _responsible(details: Details) -> tuple[tuple[int, ...], ...]:
    """(image, truth, anchor, row, column) of every truth whose box is paid."""
    places = details.responsible.nonzero().tolist()
    truths = details.assigned_truth[details.responsible].tolist()
    return tuple((n, truth, k, j, i) for (n, k, j, i), truth in zip(places, truths, strict=True))
