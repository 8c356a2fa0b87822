"""The YOLOv2 loss in plain PyTorch: autograd of its potential is the gradient of the spec.

What the spec holds constant is detached. The predictors that pay a term are gathered by index: to multiply by a mask
would turn an overflow into `0·inf`. What is never gathered has a gradient of exactly 0 (`table.structural-zeros`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from regionloss.decisions import Match
from regionloss.domain import read_inputs
from regionloss.torch.eager.classes import class_term
from regionloss.torch.eager.decisions import Decisions, TruthLists, decide_on_host
from regionloss.torch.eager.terms import coord_term, no_object_term, object_term, prior_term
from regionloss_spec import Profile, load_profile


@dataclass(frozen=True, eq=False)
class EagerResult:
    """The loss of a batch and the decisions behind it, on the device of the predictions.

    Attributes:
        potential: the scalar to call `backward()` on, 0-d; float32, or float64 for float64 (`numerics.accumulation`).
        terms: no_object, prior, coord, object, class; 0-d each, and their sum is the potential.
        responsible: 1^truth, bool `[N, A, H, W]`.
        no_object: 1{MaxIOU < Thresh} as the profile reads it, bool `[N, A, H, W]`.
        prior: 1{t < 12800} as the profile reads it, bool `[N, A, H, W]`.
        ignored: predictors that MaxIOU silences, bool `[N, A, H, W]`.
        assigned_truth: the truth that a predictor is responsible for, the last of several, -1 for none, `[N, A, H, W]`.
        max_iou: largest IoU of each decoded box with any truth of its image, `[N, A, H, W]`.
        matches: every truth that is read, in order, with its predictor and the terms that it pays for the truth.
    """

    potential: Tensor
    terms: dict[str, Tensor]
    responsible: Tensor
    no_object: Tensor
    prior: Tensor
    ignored: Tensor
    assigned_truth: Tensor
    max_iou: Tensor
    matches: tuple[Match, ...]


def region_loss(
    predictions: Tensor,
    truths: Sequence[Tensor | ArrayLike] | Tensor,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int,
    profile: Profile | str = "darknet",
    tree: Sequence[int] | None = None,
) -> EagerResult:
    """The YOLOv2 ("region") loss of a batch, differentiable with respect to the predictions.

    float64 and float32 are computed in their own type, float16 and bfloat16 in float32, and their gradient is rounded
    once (`numerics.float16`). A gradient of the gradient exists wherever the loss is smooth.

    Args:
        predictions: raw network outputs, floating point `[N, A*(5+C), H, W]`, of any strides and on any device
            (`notation.channel-order`).
        truths: for each image a tensor or array `[T, 5]` of x, y, w, h (fractions of the image) and class, or all of
            them in one padded tensor `[N, T, 5]` (`notation.truth-units`, `truths.terminator`).
        anchors: `[A, 2]`, widths and heights in cells (`notation.anchor-units`).
        classes: C.
        images_seen: t, images seen by the training before this batch (`prior.images-seen`).
        profile: the choices that the formula leaves open, or the name of a shipped profile.
        tree: the parent of each class, -1 at a root, for a profile with a class tree.

    Raises:
        DomainError: an input outside the domain; the message names image, truth and clause.
        ProfileError: no such profile.
        TypeError: predictions that are not of floating point.

    Source: darknet `src/region_layer.c`, `forward_region_layer`.
    """
    if isinstance(profile, str):
        profile = load_profile(profile)
    if not predictions.is_floating_point():
        raise TypeError(f"predictions are {predictions.dtype}, expected float64, float32, float16 or bfloat16")
    parents = None if tree is None else tuple(int(parent) for parent in tree)
    checked, rows, sizes = read_inputs(
        _on_host(predictions),
        [_on_host(table) for table in truths],
        _on_host(anchors),
        classes,
        images_seen,
        profile,
        parents,
    )
    computed_in = torch.promote_types(predictions.dtype, torch.float32)
    t = predictions.to(computed_in).reshape(checked.shape)  # [N, A, 5+C, H, W]
    exact = checked if computed_in == torch.float64 else checked.astype(np.float32)  # no digit of them is lost
    decisions = decide_on_host(exact, rows, sizes, images_seen, profile, parents, t.device)
    lists = TruthLists([torch.from_numpy(table) for table in rows], torch.from_numpy(sizes))
    terms = pay_terms(t, lists, decisions, profile, parents)
    return EagerResult(
        potential=torch.stack(list(terms.values())).sum(),
        terms=terms,
        responsible=decisions.responsible,
        no_object=decisions.no_object,
        prior=decisions.prior,
        ignored=decisions.ignored,
        assigned_truth=decisions.assigned_truth,
        max_iou=decisions.max_iou,
        matches=decisions.matches,
    )


def pay_terms(
    t: Tensor, truths: TruthLists, decisions: Decisions, profile: Profile, tree: tuple[int, ...] | None
) -> dict[str, Tensor]:
    """The five terms, 0-d each, of predictions `[N, A, 5+C, H, W]` with every decision given."""
    terms = {
        "no_object": no_object_term(t, decisions, profile),
        "prior": prior_term(t, decisions, profile),
        "coord": coord_term(t, truths, decisions, profile),
        "object": object_term(t, truths, decisions, profile),
        "class": class_term(t, decisions, profile, tree),
    }
    if profile.reduction == "per-image":
        return {name: term / max(len(t), 1) for name, term in terms.items()}
    return terms


def _on_host(values: Any) -> Any:
    """A tensor as a float64 array outside the graph; anything else unchanged."""
    return values.detach().to("cpu", torch.float64).numpy() if isinstance(values, Tensor) else values
