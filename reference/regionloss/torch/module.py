"""The YOLOv2 loss for training: one call, whichever path computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
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

Truths = Tensor | PaddedTruths | Sequence[Tensor | ArrayLike]


@dataclass(frozen=True, eq=False)
class Details:
    """The loss of a batch and what led to it, on the device of the predictions.

    Attributes:
        loss: the scalar to call `backward()` on, 0-d (`scale.potential`).
        terms: no_object, prior, coord, object, class; 0-d each, and their sum is the loss. They are there to be
            logged: only path `eager` can differentiate one alone.
        responsible: 1^truth, bool `[N, A, H, W]`.
        ignored: predictors that MaxIOU silences, bool `[N, A, H, W]`.
        assigned_truth: the truth that a predictor answers for, by its index, -1 for none, int64 `[N, A, H, W]`.
        path: which path computed it.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    responsible: Tensor
    ignored: Tensor
    assigned_truth: Tensor
    path: Path


class RegionLoss(nn.Module):
    """The YOLOv2 ("region") loss of a batch of predictions.

    It holds no parameter, no buffer and no state: t, the images seen so far, is an argument of every call.

    Args:
        anchors: `[A, 2]`, widths and heights in cells (`notation.anchor-units`).
        classes: C.
        profile: the choices that the formula leaves open, or the name of a shipped profile.
        tree: the parent of each class, -1 at a root, for a profile with a class tree.
        path: `auto`, or the path that is to compute it, see `regionloss.torch.PATHS`.
        validate: whether every number is checked at the price of waiting for the device. Without it, bad truths raise
            where they are on the CPU, and make the loss not a number where they are not; predictions that are not
            finite are let through by the fast paths, and refused by `eager`.
        axes: axes of the profile to be set otherwise, such as `coord_weight` or `thresh`.

    Raises:
        DomainError: anchors or classes outside the domain.
        PathError: no such path, or one that does not express the profile.
        ProfileError: no such profile or axis, or a value that an axis does not take.

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
        chosen = _profile(profile) if isinstance(profile, str) else profile
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
        # What only depends on what never changes: to find it out for every batch takes as long as a small batch does.
        self._paths: dict[Any, Path] = {}
        expressed = refusal(self._profile) is None
        self._choices = [list(self._anchors), list(settings_of(self._profile))] if expressed else None

    def __getstate__(self) -> dict[str, Any]:
        """Without the paths that were chosen: in another process they are not loaded yet."""
        return {**self.__dict__, "_paths": {}}

    @property
    def anchors(self) -> tuple[float, ...]:
        """Widths and heights in turn, cells."""
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
        """What `print` shows of it."""
        return (
            f"classes={self.classes}, anchors={len(self.anchors) // 2}, profile={self.profile.name!r}, "
            f"path={self.path!r}, validate={self.validate}"
        )

    def path_for(self, predictions: Tensor) -> Path:
        """The path that computes the loss of such predictions; only their device and type are looked at.

        Raises:
            PathError: the path that was asked for cannot.
        """
        if torch.compiler.is_compiling():  # what is compiled would be compiled again, once there is another key
            return choose_path(self.path, predictions, self.profile)
        asked = self.path, predictions.device.type, predictions.dtype
        if asked not in self._paths:
            self._paths[asked] = choose_path(self.path, predictions, self.profile)
        return self._paths[asked]

    def forward(self, predictions: Tensor, truths: Truths, *, images_seen: int | Tensor) -> Tensor:
        """The loss, 0-d: float32, or float64 for float64 (`numerics.accumulation`).

        Args:
            predictions: raw network outputs `[N, A*(5+C), H, W]`, of any strides (`notation.channel-order`).
            truths: x, y, w, h (fractions of the image) and class: padded `[N, T, 5]`, `pad_truths` of ragged lists, or
                those lists (`notation.truth-units`, `truths.terminator`).
            images_seen: t, images seen by the run when this batch is judged (`prior.images-seen`); as a 0-d tensor on
                the device it can change inside a captured graph.

        Raises:
            DomainError: an input outside the domain; the message names image, truth and clause.
            PathError: the path that was asked for cannot compute this, or `torch.func` differentiates it.
            TypeError: predictions or truths that are not of floating point.
        """
        _refuse_transforms(predictions)
        path = self.path_for(predictions)
        if path == "eager":
            return self._eager(predictions, truths, images_seen).potential
        return self._fast(path, predictions, *_padded(truths, predictions), images_seen)[0]

    def details(self, predictions: Tensor, truths: Truths, *, images_seen: int | Tensor) -> Details:
        """The loss with its terms, its indicators and the path that computed it; arguments and errors of `forward`."""
        _refuse_transforms(predictions)
        path = self.path_for(predictions)
        if path == "eager":
            found = self._eager(predictions, truths, images_seen)
            return Details(found.potential, found.terms, found.responsible, found.ignored, found.assigned_truth, path)
        rows, counts = _padded(truths, predictions)
        loss, terms, state, owner, *_ = self._fast(path, predictions, rows, counts, images_seen)
        responsible = (state & RESPONSIBLE) > 0
        quiet = (state & NO_OBJECT) == 0
        return Details(
            loss=loss,
            terms=dict(zip(("no_object", "prior", "coord", "object", "class"), terms.unbind(), strict=True)),
            responsible=responsible,
            ignored=quiet & ~responsible,
            assigned_truth=_assigned_truth(owner, state),
            path=path,
        )

    def _fast(
        self, path: Path, predictions: Tensor, rows: Tensor, counts: Tensor | None, images_seen: int | Tensor
    ) -> tuple[Tensor, ...]:
        check_shapes(predictions, rows, counts, self._anchors, self._classes)
        check_counter(images_seen, predictions)
        seen, as_tensor = (0, images_seen) if isinstance(images_seen, Tensor) else (int(images_seen), None)
        operator = getattr(torch.ops.regionloss, path)
        if not torch.compiler.is_compiling() and _has_tangent(predictions):
            raise PathError(f"the path {path!r} has no derivative in forward mode; path='eager' has")
        assert self._choices is not None  # of a profile that the path does not express, `path_for` has said so
        found: tuple[Tensor, ...] = operator(predictions, rows, counts, as_tensor, seen, *self._choices, self.validate)
        return found

    def _eager(self, predictions: Tensor, truths: Truths, images_seen: int | Tensor) -> eager.EagerResult:
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
    truths: Truths,
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
    truths: Truths,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int | Tensor,
    details: Literal[True],
    **options: Any,
) -> Details: ...


def region_loss(
    predictions: Tensor,
    truths: Truths,
    anchors: Tensor | ArrayLike,
    classes: int,
    *,
    images_seen: int | Tensor,
    details: bool = False,
    **options: Any,
) -> Tensor | Details:
    """The YOLOv2 ("region") loss of a batch: `RegionLoss` without the module, whose options it takes.

    With `details`, the terms, the indicators and the path come with it.
    """
    loss = RegionLoss(anchors, classes, **options)
    if details:
        return loss.details(predictions, truths, images_seen=images_seen)
    value: Tensor = loss(predictions, truths, images_seen=images_seen)
    return value


@cache
def _shipped(name: str) -> Profile:
    return load_profile(name)


def _profile(name: str) -> Profile:
    """The profile by a name. A shipped one is read once: to read it for every batch would take longer than the loss."""
    return load_profile(name) if name.endswith(".toml") else _shipped(name)


def _refuse_transforms(predictions: Tensor) -> None:
    """Refuse predictions that `torch.func` differentiates.

    Its tensors hide the numbers by which eager decides, and the gradients that are written down are not of its kind.

    Raises:
        PathError: they are such.
    """
    if not torch.compiler.is_compiling() and torch._C._functorch.is_gradtrackingtensor(predictions):
        raise PathError(
            "no path is differentiated by torch.func (grad, vjp, jvp, jacrev, hessian); torch.autograd differentiates "
            "each of them, and path='eager' twice and in forward mode (torch.autograd.forward_ad)"
        )


def _has_tangent(predictions: Tensor) -> bool:
    """Whether they are differentiated in forward mode: an operator without a rule for it answers none, silently."""
    return forward_ad.unpack_dual(predictions).tangent is not None  # type: ignore[no-untyped-call]  # PyTorch leaves it so


def _padded(truths: Truths, predictions: Tensor) -> tuple[Tensor, Tensor | None]:
    """The truths as rows `[N, T, 5]` and, where they do not follow from the rows, counts `[N]`."""
    if isinstance(truths, PaddedTruths):
        return truths.rows, truths.counts
    if isinstance(truths, Tensor):
        return truths, None
    return pad_truths(truths, device=predictions.device)


def _assigned_truth(owner: Tensor, state: Tensor) -> Tensor:
    """The index of the truth that each predictor answers for, `[N, A, H, W]`, from the owners `[N, T]`."""
    images, length = owner.shape
    found = torch.full((images, state[0].numel() + 1 if images else 1), -1, dtype=torch.int64, device=owner.device)
    place = torch.arange(length, device=owner.device).expand(images, length)
    found.scatter_(1, owner.long() + 1, place)  # those of nobody land in a place of their own
    return found[:, 1:].reshape(state.shape)
