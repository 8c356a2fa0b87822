"""The class term in each of its forms, for one predictor (spec chapters 9 and 13)."""

from __future__ import annotations

import numpy as np

from regionloss.boxes import sigmoid
from regionloss_spec import Profile
from regionloss_spec.batch import Array

Tree = tuple[int, ...]


def groups_of(tree: Tree) -> list[slice]:
    """Sibling groups: maximal runs of consecutive classes with one parent (`tree.groups`)."""
    starts = [node for node in range(len(tree)) if node == 0 or tree[node] != tree[node - 1]]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(tree)], strict=True)]


def group_of(node: int, tree: Tree) -> slice:
    """The sibling group of a class."""
    start, end = node, node + 1
    while start > 0 and tree[start - 1] == tree[node]:
        start -= 1
    while end < len(tree) and tree[end] == tree[node]:
        end += 1
    return slice(start, end)


def path_to_root(label: int, tree: Tree) -> list[int]:
    """The class and its ancestors, from the class up (`tree.path`)."""
    path = []
    while label >= 0:
        path.append(label)
        label = tree[label]
    return path


def true_nodes(labels: list[int], tree: Tree) -> list[tuple[slice, int]]:
    """The groups on the paths of some classes, each with the class in it that is true.

    In a group on the paths of several classes, it is that of the last one (`tree.collision`).
    """
    node_of_group = {group_of(node, tree).start: node for label in labels for node in path_to_root(label, tree)}
    return [(group_of(node, tree), node) for _, node in sorted(node_of_group.items())]


def logsumexp(z: Array) -> Array:
    """Ln Σ e^z over the first axis, finite for every finite input."""
    top = z.max(axis=0)
    return np.asarray(top + np.log(np.exp(z - top).sum(axis=0)))


def log_softmax(z: Array) -> Array:
    """Ln softmax over the first axis, finite for every finite input (`class.large-logits`, `numerics.log-of-zero`)."""
    top = z.max(axis=0)
    return np.asarray((z - top) - np.log(np.exp(z - top).sum(axis=0)))


def softmax(z: Array, tree: Tree | None = None) -> Array:
    """Softmax over the first axis, or over each sibling group of it (`decode.class-probabilities`)."""
    if tree is None:
        return np.exp(log_softmax(z))
    return np.concatenate([np.exp(log_softmax(z[group])) for group in groups_of(tree)])


def class_probabilities(z: Array, t_o: Array, profile: Profile, tree: Tree | None) -> Array:
    """What darknet stores as class outputs, over the first axis; `t_o` joins the softmax as background class."""
    if profile.class_term == "squared-linear":
        return z
    if profile.class_term == "logistic":
        return sigmoid(z)
    if profile.class_term == "tree":
        return softmax(z, tree)
    if profile.objectness == "background":
        return softmax(np.concatenate([t_o[None], z]))[1:]
    return softmax(z)


def class_term(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> tuple[float, Array, Array]:
    """The class term of one predictor.

    Args:
        z: class outputs, `[C]`.
        t_o: objectness output, a scalar; read only where it joins the softmax (`object.background`).
        labels: the true classes in the order of the truths; one unless the profile accumulates them.
        weight: λ_class.
        profile: the choices of the loss.
        tree: parents of the classes, for a class tree.

    Returns:
        value, its gradient `[C]` with respect to `z`, and darknet's delta `[C]`.
    """
    p = class_probabilities(z, np.asarray(t_o), profile, tree)
    if profile.class_term == "tree":
        return _tree_term(z, p, labels, weight, tree or ())
    target = np.zeros(len(z))
    target[labels] = 1.0
    residual = p - target
    if profile.class_term in ("squared-linear", "squared-error"):
        value = profile.squared_factor * weight * float((residual**2).sum())
        grad = 2 * profile.squared_factor * weight * residual
        # `class.squared-linear`; `class.squared-error` goes through the softmax: dp_c/dz_k = p_c (δ_ck - p_k).
        gradient = grad if profile.class_term == "squared-linear" else p * (grad - (grad * p).sum())
        return value, gradient, -gradient
    if profile.class_term == "logistic":  # `class.logistic`
        value = weight * float((np.logaddexp(0.0, z) - target * z).sum())
        return value, weight * residual, -weight * residual
    label = labels[-1]
    log_p = log_softmax(np.concatenate([[t_o], z]))[1:] if profile.objectness == "background" else log_softmax(z)
    if profile.class_term == "focal":  # `class.focal`
        p_t = p[label]
        modulation = 0.5 * (1 - p_t) * (1 - p_t - 2 * p_t * log_p[label])
        return (
            -0.5 * weight * float((1 - p_t) ** 2 * log_p[label]),
            weight * modulation * residual,
            -weight * modulation * residual,
        )
    # With one class all of it is 0 exactly: `class.cross-entropy`, `class.gradient`, `class.one-class`.
    return -weight * float(log_p[label]), weight * residual, -weight * residual


def _tree_term(z: Array, p: Array, labels: list[int], weight: float, tree: Tree) -> tuple[float, Array, Array]:
    """Cross-entropy in every group on the paths of the classes; the others stay 0 (`tree.off-path`)."""
    value = 0.0
    gradient = np.zeros(len(z))
    for group, node in true_nodes(labels, tree):
        value -= weight * float(log_softmax(z[group])[node - group.start])
        gradient[group] = weight * p[group]
        gradient[node] = weight * (p[node] - 1)
    return value, gradient, -gradient
