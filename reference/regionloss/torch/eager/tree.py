"""The class tree, on tensors (spec chapter 17)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def log_probability_of_path(z: Tensor, label: int, tree: tuple[int, ...]) -> Tensor:
    """Logarithm of the absolute probability of a class, for class outputs `[..., C]` (`tree.path`), `[...]`."""
    total = torch.zeros_like(z[..., 0])
    for node in path_to_root(label, tree):
        start, end = group_of(node, tree)
        total = total + F.log_softmax(z[..., start:end], dim=-1)[..., node - start]
    return total


def path_to_root(label: int, tree: tuple[int, ...]) -> list[int]:
    """A class and its ancestors, from the class up."""
    return [] if label < 0 else [label, *path_to_root(tree[label], tree)]


def group_of(node: int, tree: tuple[int, ...]) -> tuple[int, int]:
    """First class and end of the sibling group of a class (`tree.groups`)."""
    start, end = node, node + 1
    while start > 0 and tree[start - 1] == tree[node]:
        start -= 1
    while end < len(tree) and tree[end] == tree[node]:
        end += 1
    return start, end
