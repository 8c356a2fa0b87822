"""The YOLOv2 loss, to be read with the spec beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from regionloss.boxes import decode
from regionloss.decisions import Decisions, decide
from regionloss.domain import read_inputs
from regionloss.statistics import Statistics, printed_cost, statistics
from regionloss.terms import Term, class_term_of_all, coord_term, no_object_term, object_term, prior_term
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.batch import Array

Tree = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """The loss of a batch and everything that led to it. All arrays are float64.

    Attributes:
        t: raw predictions, `[N, A, 5+C, H, W]`: N·A·H·W predictors, each judged alone (`notation.predictor`).
        truths: the rows that were read, `[T, 5]` for each image.
        anchors: `[A, 2]`, cells.
        profile: the choices of the loss.
        tree: parents of the classes, for a class tree.
        decisions: assignment, MaxIOU and indicators, held constant by the gradient.
        terms: no_object, prior, coord, object, class, by name; before the reduction.
    """

    t: Array
    truths: list[Array]
    anchors: Array
    profile: Profile
    tree: Tree | None
    decisions: Decisions
    terms: dict[str, Term]

    @property
    def scale(self) -> float:
        """What the reduction multiplies every term by (`scale.sum`, `scale.per-image`, `domain.empty-batch`)."""
        return 1.0 if self.profile.reduction == "sum" else 1.0 / max(len(self.t), 1)

    @cached_property
    def term_values(self) -> dict[str, float]:
        """The five terms; their sum is the potential."""
        return {name: self.scale * float(term.value.sum()) for name, term in self.terms.items()}

    @property
    def potential(self) -> float:
        """The scalar whose gradient is `gradient`, the decisions held constant (`scale.potential`)."""
        return sum(self.term_values.values())

    @cached_property
    def gradient(self) -> Array:
        """Gradient of the potential with respect to the raw predictions, `[N, A*(5+C), H, W]`."""
        images, anchors, channels, height, width = self.t.shape
        total = self.scale * sum(term.gradient for term in self.terms.values())
        return np.asarray(total).reshape(images, anchors * channels, height, width)

    @cached_property
    def boxes(self) -> Array:
        """Decoded boxes, fractions of the image, `[N, 4, A, H, W]`."""
        return np.array([decode(t, self.anchors) for t in self.t])

    @cached_property
    def printed_cost(self) -> float:
        """What the loss reports during training; darknet's is not the potential (`scale.printed-cost`)."""
        return self.potential if self.profile.printed_cost == "potential" else printed_cost(self.delta)

    @cached_property
    def delta(self) -> Array:
        """What the printed cost is the sum of squares of, `[N, A, 5+C, H, W]` (`scale.printed-cost`)."""
        after = self.profile.printed_cost == "gradient"
        return np.asarray(sum(term.gradient if after else term.delta for term in self.terms.values()))

    @cached_property
    def statistics(self) -> Statistics:
        """The numbers of darknet's statistics line."""
        return statistics(self.t, self.truths, self.decisions, self.profile, self.tree)


def region_loss(
    predictions: ArrayLike,
    truths: Sequence[ArrayLike],
    anchors: ArrayLike,
    classes: int,
    *,
    images_seen: int,
    profile: Profile | str = "darknet",
    tree: Sequence[int] | None = None,
) -> Result:
    """The YOLOv2 ("region") loss with its terms, its gradient and every decision behind them.

    Args:
        predictions: raw network outputs, `[N, A*(5+C), H, W]` (`notation.channel-order`).
        truths: for each image an array `[T, 5]` of x, y, w, h (fractions of the image) and class; a padded
            `[N, T, 5]` array is such a sequence (`notation.truth-units`, `truths.terminator`).
        anchors: `[A, 2]`, widths and heights in cells (`notation.anchor-units`).
        classes: C.
        images_seen: t, images seen by the run when this batch is judged (`prior.images-seen`).
        profile: the choices that the formula leaves open, or the name of a shipped profile.
        tree: the parent of each class, -1 at a root, for a profile with a class tree.

    Raises:
        DomainError: an input outside the domain; the message names image, truth and clause.
        ProfileError: no such profile.

    Source: darknet `src/region_layer.c`, `forward_region_layer`.

    Example:
        One image with one cell, one anchor, one class, and a truth that fills it. All outputs are 0, so the box is the
        truth, the objectness is σ(0) = ½ and its target is the IoU, 1: ½·5·(½ - 1)² = 0.625.

        >>> import numpy as np
        >>> predictions = np.zeros((1, 6, 1, 1))
        >>> result = region_loss(predictions, [[[0.5, 0.5, 1, 1, 0]]], [[1, 1]], classes=1, images_seen=12800)
        >>> result.potential
        0.625
        >>> result.gradient[0, :, 0, 0].tolist()  # tx, ty, tw, th, to, class 0
        [0.0, 0.0, 0.0, 0.0, -0.625, 0.0]
        >>> bool(result.decisions.responsible[0, 0, 0, 0])
        True
    """
    if isinstance(profile, str):
        profile = load_profile(profile)
    t, rows, sizes = read_inputs(predictions, truths, anchors, classes, images_seen, profile, tree)
    parents = None if tree is None else tuple(tree)
    decisions = decide(t, rows, sizes, images_seen, profile, parents)
    with np.errstate(over="ignore", invalid="ignore"):  # a box may be larger than any number
        terms = pay_terms(t, rows, sizes, decisions, profile, parents)
    return Result(t, rows, sizes, profile, parents, decisions, terms)


def pay_terms(
    t: Array, truths: list[Array], anchors: Array, decisions: Decisions, profile: Profile, tree: Tree | None
) -> dict[str, Term]:
    """The five terms for predictions `[N, A, 5+C, H, W]`, with every decision given."""
    return {
        "no_object": no_object_term(t, decisions, profile),
        "prior": prior_term(t, decisions, profile),
        "coord": coord_term(t, truths, anchors, decisions, profile),
        "object": object_term(t, truths, anchors, decisions, profile),
        "class": class_term_of_all(t, truths, decisions, profile, tree),
    }


def evaluate(batch: Batch, profile: Profile) -> Result:
    """`region_loss` of a batch."""
    return region_loss(
        batch.predictions,
        batch.truths,
        batch.anchors,
        batch.classes,
        images_seen=batch.images_seen,
        profile=profile,
        tree=batch.tree,
    )
