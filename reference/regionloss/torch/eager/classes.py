"""The class term in each of its forms, on tensors (spec chapters 09 and 17)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regionloss.torch.eager.decisions import Decisions, Predictor, Truths
from regionloss.torch.eager.tree import group_of, path_to_root
from regionloss_spec import Profile

T_O, CLASSES = 4, 5


def class_term(
    t: Tensor, truths: Truths, decisions: Decisions, profile: Profile, tree: tuple[int, ...] | None
) -> Tensor:
    """λ_class times the class term of every predictor that answers for a class (`class.only-responsible`), 0-d."""
    payers: list[tuple[Predictor, list[int]]] = []
    accumulated: dict[Predictor, list[int]] = {}
    for match in decisions.matches:
        if match.pays_class and profile.class_collision == "accumulate":
            accumulated.setdefault(match.predictor, []).append(match.label)
        elif match.pays_class:
            payers.append((match.predictor, [match.label]))
    payers += accumulated.items()
    weight = t.new_full((len(payers),), profile.class_weight)
    if profile.ignored_class != "none":
        ignored, their_weight = _ignored(t, truths, decisions, profile)
        payers += ignored
        weight = torch.cat([weight, their_weight])
    where = torch.tensor([who for who, _ in payers], dtype=torch.long, device=t.device).reshape(-1, 4)
    n, k, j, i = where.unbind(dim=1)
    outputs = t[n, k, T_O:, j, i]  # [P, 1+C]
    labels = [classes for _, classes in payers]
    if profile.class_term == "tree":
        return _tree_term(outputs[:, 1:], labels, weight, tree or ())
    return _flat_term(outputs[:, 0].detach(), outputs[:, 1:], labels, weight, profile)


def _ignored(
    t: Tensor, truths: Truths, decisions: Decisions, profile: Profile
) -> tuple[list[tuple[Predictor, list[int]]], Tensor]:
    """Ignored predictors with the class of the truth that they overlap best, and their weights `[P]`."""
    # At a threshold of 0 a predictor can be ignored that overlaps no truth, and then there is no class.
    places = torch.nonzero(decisions.ignored & (decisions.best_truth >= 0))
    n, k, j, i = places.unbind(dim=1)
    payers: list[tuple[Predictor, list[int]]] = []
    for place, truth in zip(places.tolist(), decisions.best_truth[n, k, j, i].tolist(), strict=True):
        payers.append(((place[0], place[1], place[2], place[3]), [int(truths.rows[place[0]][truth, 4])]))
    weight = t.new_full((len(payers),), profile.class_weight)
    if profile.ignored_class == "by-objectness":
        weight = weight * torch.sigmoid(t[n, k, T_O, j, i].detach())
    return payers, weight


def _flat_term(t_o: Tensor, z: Tensor, labels: list[list[int]], weight: Tensor, profile: Profile) -> Tensor:
    """The class term without a tree, of class outputs `z` `[P, C]` and `t_o` `[P]`, which gets no gradient."""
    target = torch.zeros_like(z)
    for payer, classes in enumerate(labels):
        target[payer, classes] = 1
    if profile.class_term == "logistic":
        # ln(1 + e^z) - target·z is -ln σ of z where the class is true and of -z where it is not.
        return -(weight[:, None] * F.logsigmoid((2 * target - 1) * z)).sum()
    if profile.class_term == "squared-linear":
        residual = z - target
        return (profile.squared_factor * weight[:, None] * residual * residual).sum()
    joined = profile.objectness == "background"  # t_o as one more class of the softmax
    log_p = F.log_softmax(torch.cat([t_o[:, None], z], dim=1), dim=1)[:, 1:] if joined else F.log_softmax(z, dim=1)
    if profile.class_term == "squared-error":
        residual = torch.exp(log_p) - target
        return (profile.squared_factor * weight[:, None] * residual * residual).sum()
    log_p_true = log_p[target.bool()]  # [P]: one true class each
    if profile.class_term == "focal":
        return -(0.5 * weight * torch.expm1(log_p_true) ** 2 * log_p_true).sum()
    return -(weight * log_p_true).sum()


def _tree_term(z: Tensor, labels: list[list[int]], weight: Tensor, tree: tuple[int, ...]) -> Tensor:
    """Cross-entropy in the groups on the path; a later truth takes over those of its own path (`tree.collision`)."""
    total = z[:0].sum()
    for payer, classes in enumerate(labels):
        target: dict[tuple[int, int], int] = {}
        for label in classes:
            for node in path_to_root(label, tree):
                target[group_of(node, tree)] = node
        for (start, end), node in target.items():
            total = total - weight[payer] * F.log_softmax(z[payer, start:end], dim=0)[node - start]
    return total
