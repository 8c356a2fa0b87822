"""The class term in each of its forms, on tensors (spec chapters 9 and 13)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regionloss.classes import true_nodes
from regionloss.torch.eager.decisions import Decisions
from regionloss_spec import Profile

T_O, CLASSES = 4, 5


def class_term(t: Tensor, decisions: Decisions, profile: Profile, tree: tuple[int, ...] | None) -> Tensor:
    """λ_class times the class term of every predictor that pays one (`class.only-responsible`), 0-d."""
    payers = decisions.class_payers
    index = torch.tensor([predictor for predictor, _, _ in payers], dtype=torch.long, device=t.device).reshape(-1, 4)
    n, k, j, i = index.unbind(dim=1)
    outputs = t[n, k, T_O:, j, i]  # [P, 1+C]
    labels = [classes for _, classes, _ in payers]
    weight = t.new_tensor([weight for _, _, weight in payers])
    if profile.class_term == "tree":
        return _tree_term(outputs[:, 1:], labels, weight, tree or ())
    return _flat_term(outputs[:, 0].detach(), outputs[:, 1:], labels, weight, profile)


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
    """Cross-entropy in the groups on the paths of the true classes."""
    total = z[:0].sum()
    for payer, classes in enumerate(labels):
        for group, node in true_nodes(classes, tree):
            total = total - weight[payer] * F.log_softmax(z[payer, group], dim=0)[node - group.start]
    return total
