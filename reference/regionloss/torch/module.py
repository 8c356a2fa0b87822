"""The YOLOv2 loss for training: one call for every path.

The fast paths are operators of PyTorch: `torch.ops.regionloss.<path>` is registered by `analytic/operators.py`,
`cpp/operators.py` or `triton/operators.py`, which `paths.load_path` imports. `ops.py` says what they take and return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.autograd import forward_ad

from regionloss.domain import check_classes, read_anchors
from regionloss.torch import eager
from regionloss.torch.checks import check_counter, check_counts, check_shapes
from regionloss.torch.ops import NO_OBJECT, RESPONSIBLE
from regionloss.torch.paths import Path, check_path, choose_path
from regionloss.torch.settings import PathError, refusal, settings_of
from regionloss.torch.truths import PaddedTruths, pad_truths
from regionloss_spec import Profile, load_profile

#: What the loss takes as truths: padded `[N, T, 5]`, `pad_truths` of ragged lists, or those lists.
TruthsLike = Tensor | PaddedTruths | Sequence[Tensor | ArrayLike]


@dataclass(frozen=True, eq=False)
class Details:
    """The loss of a batch with its terms and indicators, on the device of the predictions.

    Attributes:
        loss: the scalar to call `backward()` on, 0-d (`scale.potential`).
        terms: no_object, prior, coord, object, class; 0-d each, and their sum is the loss. They are meant for logging:
            only path `eager` can differentiate one of them alone.
        responsible: 1^truth, bool `[N, A, H, W]`.
        ignored: predictors that MaxIOU silences, bool `[N, A, H, W]`.
        assigned_truth: index of the truth that a predictor is responsible for, -1 for none, int64 `[N, A, H, W]`.
        path: the path that computed the loss.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    responsible: Tensor
    ignored: Tensor
    assigned_truth: Tensor
    path: Path


class RegionLoss(nn.Module):
    """The YOLOv2 ("region") loss of a batch of predictions.

    It has no parameters, no buffers and no state: t, the number of images seen so far, is an argument of every call.

    Args:
        anchors: `[A, 2]`, widths and heights in cells (`notation.anchor-units`).
        classes: C.
        profile: the choices that the formula leaves open, or the name of a shipped profile.
        tree: the parent of each class, -1 at a root, for a profile with a class tree.
        path: `auto`, or one of `regionloss.torch.PATHS`.
        validate: whether to check every number, which waits for the device. Without it, truths outside the domain raise
            on the CPU and make the loss NaN on a device; predictions that are not finite raise with path `eager` and
            are not noticed by the fast paths.
        axes: axes of the profile to replace, such as `coord_weight` or `thresh`.

    Raises:
        DomainError: anchors or classes outside the domain.
        PathError: an unknown path, or one that does not express the profile.
        ProfileError: an unknown profile or axis, or a value that an axis does not take.

    Example:
        A 2×2 grid with two anchors and three classes. One truth, of class 1 (its fifth number), lies in the bottom
        right cell:

        >>> import torch
        >>> from regionloss.torch import RegionLoss, pad_truths
        >>> loss = RegionLoss(anchors=[[0.5, 0.5], [1.5, 1.5]], classes=3)
        >>> predictions = torch.zeros(1, 2 * (5 + 3), 2, 2, requires_grad=True)
        >>> truths = pad_truths([[[0.75, 0.75, 0.7, 0.7, 1]]])
        >>> value = loss(predictions, truths, images_seen=20000)
        >>> value.backward()
        >>> details = loss.details(predictions, truths, images_seen=20000)
        >>> details.responsible.nonzero().tolist()  # image 0, anchor 1, row 1, column 1
        [[0, 1, 1, 1]]

    Source: darknet `src/region_layer.c`, `forward_region_layer`.
    """

    def __init__(
        self,
        anchors: Tensor | ArrayLike,
        classes: int,
        *,
        profile: Profile | str = "darknet",
        tree: Sequence[int] | None = None,
        path: Path | Literal["auto"] = "auto",
        validate: bool = False,
        **axes: Any,
    ) -> None:
        super().__init__()
        chosen = load_profile(profile) if isinstance(profile, str) else profile
        sizes = read_anchors(anchors.detach().cpu().numpy() if isinstance(anchors, Tensor) else anchors)
        check_classes(classes)
        self._profile = chosen.replace(**axes) if axes else chosen
        check_path(path, self._profile)
        #: Numbers, not a buffer: `half()` would round them, and the kernels take them as constants.
        self._anchors: tuple[float, ...] = tuple(sizes.ravel().tolist())
        self._classes = int(classes)
        self.tree = None if tree is None else tuple(int(parent) for parent in tree)
        self.path = path
        self.validate = validate
        # Computed once: to do this for every batch would take as long as the loss of a small batch.
        self._paths: dict[Any, Path] = {}
        expressed = refusal(self._profile) is None
        self._choices = [list(self._anchors), list(settings_of(self._profile))] if expressed else None

    def __getstate__(self) -> dict[str, Any]:
        """Without the chosen paths: another process has not loaded them."""
        return {**self.__dict__, "_paths": {}}

    @property
    def anchors(self) -> tuple[float, ...]:
        """Widths and heights in turn, cells, `2*A` numbers."""
        return self._anchors

    @property
    def classes(self) -> int:
        """C."""
        return self._classes

    @property
    def profile(self) -> Profile:
        """The choices that the formula leaves open."""
        return self._profile

    def extra_repr(self) -> str:
        """What `print` shows."""
        return (
            f"classes={self.classes}, anchors={len(self.anchors) // 2}, profile={self.profile.name!r}, "
            f"path={self.path!r}, validate={self.validate}"
        )

    def path_for(self, predictions: Tensor) -> Path:
        """The path that computes the loss of such predictions; only their device and type are used.

        Raises:
            PathError: `path` cannot compute them.
        """
        if torch.compiler.is_compiling():  # a new key in `_paths` would make torch.compile compile again
            return choose_path(self.path, predictions, self.profile)
        key = self.path, predictions.device.type, predictions.dtype
        if key not in self._paths:
            self._paths[key] = choose_path(self.path, predictions, self.profile)
        return self._paths[key]

    def forward(self, predictions: Tensor, truths: TruthsLike, *, images_seen: int | Tensor) -> Tensor:
        """The loss, 0-d: float32, or float64 for float64 (`numerics.accumulation`).

        Args:
            predictions: raw network outputs `[N, A*(5+C), H, W]`, of any strides (`notation.channel-order`).
            truths: x, y, w, h (fractions of the image) and class: padded `[N, T, 5]`, `pad_truths` of ragged lists, or
                those lists (`notation.truth-units`, `truths.terminator`).
            images_seen: t, images seen by the training before this batch (`prior.images-seen`). As a 0-d tensor on the
                device it can change inside a captured graph.

        Raises:
            DomainError: an input outside the domain; the message names image, truth and clause.
            PathError: `path` cannot compute this, or `torch.func` differentiates it.
            TypeError: predictions or truths that are not of floating point.
        """
        _refuse_transforms(predictions)
        path = self.path_for(predictions)
        if path == "eager":
            return self._eager(predictions, truths, images_seen).potential
        return self._fast(path, predictions, *_padded(truths, predictions), images_seen)[0]

    def details(self, predictions: Tensor, truths: TruthsLike, *, images_seen: int | Tensor) -> Details:
        """The loss with its terms, its indicators and its path; arguments and errors are those of `forward`."""
        _refuse_transforms(predictions)
        path = self.path_for(predictions)
        if path == "eager":
            result = self._eager(predictions, truths, images_seen)
            return Details(
                result.potential, result.terms, result.responsible, result.ignored, result.assigned_truth, path
            )
        rows, counts = _padded(truths, predictions)
        loss, terms, state, predictor_of_truth, *_ = self._fast(path, predictions, rows, counts, images_seen)
        responsible = (state & RESPONSIBLE) > 0
        return Details(
            loss=loss,
            terms=dict(zip(("no_object", "prior", "coord", "object", "class"), terms.unbind(), strict=True)),
            responsible=responsible,
            ignored=((state & NO_OBJECT) == 0) & ~responsible,
            assigned_truth=_assigned_truth(predictor_of_truth, state),
            path=path,
        )

    def _fast(
        self, path: Path, predictions: Tensor, rows: Tensor, counts: Tensor | None, images_seen: int | Tensor
    ) -> tuple[Tensor, ...]:
        check_shapes(predictions, rows, counts, self._anchors, self._classes)
        check_counter(images_seen, predictions)
        seen, as_tensor = (0, images_seen) if isinstance(images_seen, Tensor) else (int(images_seen), None)
        operator = getattr(torch.ops.regionloss, path)  # registered by operators.py in the folder of the path
        if not torch.compiler.is_compiling() and _has_tangent(predictions):
            raise PathError(f"the path {path!r} has no derivative in forward mode; path='eager' has")
        assert self._choices is not None  # `path_for` has refused a profile that the path does not express
        result: tuple[Tensor, ...] = operator(predictions, rows, counts, as_tensor, seen, *self._choices, self.validate)
        return result

    def _eager(self, predictions: Tensor, truths: TruthsLike, images_seen: int | Tensor) -> eager.EagerResult:
        check_counter(images_seen, predictions)
        lists: Any = truths
        if isinstance(truths, PaddedTruths):
            check_shapes(predictions, *truths, self.anchors, self.classes)
            check_counts(*truths)
            lists = [rows[:count] for rows, count in zip(truths.rows, truths.counts.tolist(), strict=True)]
        return eager.region_loss(
            predictions,
            lists,
            torch.tensor(self.anchors, dtype=torch.float64).view(-1, 2),
            self.classes,
            images_seen=int(images_seen),
            profile=self.profile,
            tree=self.tree,
        )


@overload
def region_loss(
    predictions: Tensor,
    truths: TruthsLike,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int | Tensor,
    details: Literal[False] = False,
    **options: Any,
) -> Tensor: ...


@overload
def region_loss(
    predictions: Tensor,
    truths: TruthsLike,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int | Tensor,
    details: Literal[True],
    **options: Any,
) -> Details: ...


def region_loss(
    predictions: Tensor,
    truths: TruthsLike,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int | Tensor,
    details: bool = False,
    **options: Any,
) -> Tensor | Details:
    """The YOLOv2 ("region") loss of a batch: `RegionLoss` as a function.

    Args:
        predictions: raw network outputs `[N, A*(5+C), H, W]`, as in `RegionLoss.forward`.
        truths: padded, or a list for each image, as in `RegionLoss.forward`.
        anchors: `[A, 2]`, widths and heights in cells.
        classes: C.
        images_seen: t, images seen by the training before this batch.
        details: whether to return `Details`, with the terms, the indicators and the path.
        **options: profile, tree, path, validate and axes of the profile, as in `RegionLoss`.

    Returns:
        The loss, 0-d: float32, or float64 for float64 (`numerics.accumulation`).

    Raises:
        DomainError, PathError, ProfileError, TypeError: those of `RegionLoss` and its `forward`.

    Example:
        Without truths, each of the eight predictors of a 2×2 grid with two anchors pays ½·σ(0)²:

        >>> import torch
        >>> from regionloss.torch import region_loss
        >>> predictions = torch.zeros(1, 2 * (5 + 3), 2, 2)
        >>> anchors = [[0.5, 0.5], [1.5, 1.5]]
        >>> result = region_loss(predictions, [[]], anchors, 3, images_seen=20000, details=True)
        >>> result.loss
        tensor(1.)
        >>> result.terms["no_object"]
        tensor(1.)
    """
    loss = RegionLoss(anchors, classes, **options)
    if details:
        return loss.details(predictions, truths, images_seen=images_seen)
    value: Tensor = loss(predictions, truths, images_seen=images_seen)
    return value


def _refuse_transforms(predictions: Tensor) -> None:
    """Refuse predictions that `torch.func` differentiates.

    Its wrapped tensors hide the numbers by which eager decides, and the fast paths register no rule for it.

    Raises:
        PathError: `torch.func` differentiates them.
    """
    if not torch.compiler.is_compiling() and torch._C._functorch.is_gradtrackingtensor(predictions):
        raise PathError(
            "no path is differentiated by torch.func (grad, vjp, jvp, jacrev, hessian); torch.autograd differentiates "
            "each of them, and path='eager' twice and in forward mode (torch.autograd.forward_ad)"
        )


def _has_tangent(predictions: Tensor) -> bool:
    """Whether forward mode differentiates them: an operator without a rule for it would silently drop the tangent."""
    return forward_ad.unpack_dual(predictions).tangent is not None  # type: ignore[no-untyped-call]  # PyTorch leaves it so


def _padded(truths: TruthsLike, predictions: Tensor) -> tuple[Tensor, Tensor | None]:
    """The truths as rows `[N, T, 5]`, and their counts `[N]` unless the rows alone tell where each list ends."""
    if isinstance(truths, PaddedTruths):
        return truths.rows, truths.counts
    if isinstance(truths, Tensor):
        return truths, None
    return pad_truths(truths, device=predictions.device)


def _assigned_truth(predictor_of_truth: Tensor, state: Tensor) -> Tensor:
    """The index of the truth that each predictor is responsible for, `[N, A, H, W]`; the inverse of `[N, T]`."""
    images, length = predictor_of_truth.shape
    device = predictor_of_truth.device
    # One column more, the first, for the truths without a predictor.
    truth = torch.full((images, state[0].numel() + 1 if images else 1), -1, dtype=torch.int64, device=device)
    truth.scatter_(1, predictor_of_truth.long() + 1, torch.arange(length, device=device).expand(images, length))
    return truth[:, 1:].reshape(state.shape)
