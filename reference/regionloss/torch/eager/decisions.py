"""The decisions of the NumPy reference, as tensors (spec chapters 4 to 6).

They are discrete and held constant, so there is nothing in them to differentiate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from regionloss.decisions import Match, decide
from regionloss.terms import class_payers
from regionloss_spec import Profile

#: (image, anchor, row, column) of a predictor, an index into `[N, A, H, W]`.
Predictor = tuple[int, int, int, int]


@dataclass(frozen=True)
class TruthLists:
    """The truths of a batch and its anchors, float64 on the host: what depends on these alone is computed exactly.

    Attributes:
        rows: x, y, w, h and class of the truths that are read, `[T, 5]` for each image.
        anchors: `[A, 2]`, cells.
    """

    rows: list[Tensor]
    anchors: Tensor

    def of(self, indices: Sequence[tuple[int, int]]) -> Tensor:
        """The rows of some (image, truth), `[M, 5]`."""
        return torch.cat([torch.zeros(0, 5, dtype=torch.float64)] + [self.rows[n][truth][None] for n, truth in indices])


@dataclass(frozen=True, eq=False)
class Decisions:
    """What is held constant when the loss is differentiated (`constant.assignment`, `constant.max-iou`).

    Attributes:
        max_iou: largest IoU of each decoded box with any truth of its image, `[N, A, H, W]`.
        best_truth: the first truth that reaches it, -1 where no truth overlaps, `[N, A, H, W]`.
        matches: every truth that was read, in order.
        class_payers: the predictors that pay a class term, each with its true classes and the weight of its term.
        responsible, no_object, prior, ignored: indicators, bool `[N, A, H, W]`.
        assigned_truth: the truth that a predictor is responsible for, -1 for none, `[N, A, H, W]`.
    """

    max_iou: Tensor
    best_truth: Tensor
    matches: tuple[Match, ...]
    class_payers: list[tuple[Predictor, list[int], float]]
    responsible: Tensor
    no_object: Tensor
    prior: Tensor
    ignored: Tensor
    assigned_truth: Tensor


def decide_on_host(
    t: NDArray[Any],
    rows: list[NDArray[Any]],
    anchors: NDArray[Any],
    images_seen: int,
    profile: Profile,
    tree: tuple[int, ...] | None,
    device: torch.device,
) -> Decisions:
    """Take every decision with the NumPy reference, and put the result on a device.

    Args:
        t: raw predictions `[N, A, 5+C, H, W]` in the type of the arithmetic.
        rows: the truths that are read, `[T, 5]` for each image.
        anchors: `[A, 2]`, cells.
        images_seen: t of 1{t < 12800}.
        profile: the choices of the loss.
        tree: parents of the classes, for a class tree.
        device: that of the predictions.
    """
    decisions = decide(t, rows, anchors, images_seen, profile, tree)

    def put(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Decisions(
        max_iou=put(decisions.max_iou),
        best_truth=put(decisions.best_truth),
        matches=decisions.matches,
        class_payers=class_payers(t, rows, decisions, profile),
        responsible=put(decisions.responsible),
        no_object=put(decisions.no_object),
        prior=put(decisions.prior),
        ignored=put(decisions.ignored),
        assigned_truth=put(decisions.assigned_truth),
    )
