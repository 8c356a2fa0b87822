"""The fast paths as operators of PyTorch, so that `torch.compile`, CUDA graphs and `opcheck` know what they are.

Each path has two operators, `regionloss::<path>` and `regionloss::<path>_backward`; both take the same arguments:

- predictions: `[N, A*(5+C), H, W]`, of any strides;
- rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`; counts: rows of each image, int64 `[N]`, or none;
- images_seen: t as a 0-d tensor, or none, and then `seen` is t. A tensor is read on its device, so that a captured
  graph switches at the limit of the prior;
- anchors: widths and heights in turn, cells; settings: a `Settings`, as a list;
- validate: whether numbers outside the domain are refused at the price of waiting for the device. Without it, bad
  truths are refused on the host, where nothing is waited for, and make the loss not a number elsewhere.

Forward answers `Forward` in one flat tuple, of which the loss alone is differentiable; backward the gradient.

`torch.compile` keeps graphs on the disk and knows an operator by its name alone: once released, one that is to answer
something else needs another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from regionloss.domain import check_images_seen
from regionloss.torch.checks import check_everything
from regionloss.torch.settings import PathError, Settings

_LIBRARY = torch.library.Library("regionloss", "DEF")  # type: ignore[no-untyped-call]  # PyTorch leaves it so

_INPUTS = "Tensor predictions, Tensor rows, Tensor? counts, Tensor? images_seen, SymInt seen"
_CHOICES = "float[] anchors, float[] settings"
_SAVED = "Tensor predictions, Tensor rows, Tensor state, Tensor owner, Tensor[] kept"


#: The bits of the state of a predictor: which dense terms it pays, whether it is responsible for a truth, and whether
#: its image has a truth outside the domain.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8


class Forward(NamedTuple):
    """What forward answers, and what backward needs of it.

    Attributes:
        loss: the potential, 0-d; float32, or float64 for float64.
        terms: no_object, prior, coord, object, class, `[5]`, whose sum the loss is.
        state: `NO_OBJECT`, `PRIOR`, `RESPONSIBLE` and `BAD` of every predictor, uint8 `[N, A, H, W]`.
        owner: index in `[A*H*W]` of the predictor that pays for the truth of a slot, int32 `[N, T]`, -1 for none.
        kept: what else backward of this path wants.
    """

    loss: Tensor
    terms: Tensor
    state: Tensor
    owner: Tensor
    kept: tuple[Tensor, ...]

    def flat(self) -> tuple[Tensor, ...]:
        """All of them, as the operator answers them."""
        return *self[:4], *self.kept


def declare(path: str, kept: Callable[[Tensor, Tensor, Sequence[float]], tuple[Tensor, ...]]) -> None:
    """Register the two operators of a path without what computes them, but with what they answer to fake tensors.

    Args:
        path: the name of the operators.
        kept: what forward keeps for predictions, rows and anchors, as tensors of which only the form is looked at.
    """

    def fake(predictions: Tensor, rows: Tensor, *others: Any) -> tuple[Tensor, ...]:
        anchors = others[3]  # behind counts, images_seen and seen
        return *_fake_forward(predictions, rows, anchors), *kept(predictions, rows, anchors)

    some = fake(torch.empty(1, 6, 1, 1), torch.empty(1, 0, 5), None, None, 0, (1.0, 1.0))
    answers = ", ".join(["Tensor"] * len(some))
    _LIBRARY.define(f"{path}({_INPUTS}, {_CHOICES}, bool validate) -> ({answers})")  # type: ignore[no-untyped-call]
    _LIBRARY.define(f"{path}_backward(Tensor upstream, {_SAVED}, {_CHOICES}) -> Tensor")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"regionloss::{path}", fake)
    torch.library.register_fake(f"regionloss::{path}_backward", _fake_backward)


def define(
    path: str,
    forward: Callable[..., Forward],
    backward: Callable[..., Tensor],
    kept: Callable[[Tensor, Tensor, Sequence[float]], tuple[Tensor, ...]],
) -> None:
    """Register the two operators of a path that is computed from Python, and how they are differentiated.

    Args:
        path: the name of the operators.
        forward: answers `Forward`.
        backward: answers the gradient.
        kept: as `declare` takes it.
    """

    def checked(
        predictions: Tensor,
        rows: Tensor,
        counts: Tensor | None,
        images_seen: Tensor | None,
        seen: int,
        anchors: list[float],
        settings: list[float],
        validate: bool,
    ) -> tuple[Tensor, ...]:
        chosen = Settings(*settings)
        check(predictions, rows, counts, images_seen, anchors, chosen, validate)
        return forward(predictions, rows, counts, images_seen, seen, anchors, chosen).flat()

    def unpacked(
        upstream: Tensor,
        predictions: Tensor,
        rows: Tensor,
        state: Tensor,
        owner: Tensor,
        kept: list[Tensor],
        anchors: list[float],
        settings: list[float],
    ) -> Tensor:
        return backward(upstream, predictions, rows, state, owner, kept, anchors, Settings(*settings))

    declare(path, kept)
    _LIBRARY.impl(path, checked, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(f"{path}_backward", unpacked, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    packet = torch.ops.regionloss
    differentiated = _differentiated(path, getattr(packet, path).default, getattr(packet, f"{path}_backward").default)
    _LIBRARY.impl(path, differentiated, "Autograd")  # type: ignore[no-untyped-call]  # PyTorch leaves it so


def _differentiated(path: str, forward: Any, backward: Any) -> Callable[..., Any]:
    """The operator `forward` with its gradient, the operator `backward`.

    What `torch.library.register_autograd` makes of the same takes twice as long to start.
    """

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = below(*inputs)
            predictions, rows, *_, anchors, settings, _ = inputs
            _, terms, *saved = output
            ctx.save_for_backward(predictions, rows, *saved)
            ctx.mark_non_differentiable(terms, *saved)
            ctx.set_materialize_grads(False)
            ctx.anchors, ctx.settings = anchors, settings
            return output

        @staticmethod
        def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
            if torch.is_grad_enabled():  # which it is in a backward with create_graph alone
                refuse_second(path)
            predictions, rows, state, owner, *kept = ctx.saved_tensors
            saved = (predictions, rows, state, owner, kept, ctx.anchors, ctx.settings)
            gradient = None if upstream is None else backward(upstream, *saved)
            return gradient, None, None, None, None, None, None, None

    def below(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return forward(*inputs)

    def differentiated(*inputs: Any) -> Any:
        wanted = torch.is_grad_enabled() and inputs[0].requires_grad
        return Differentiated.apply(*inputs) if wanted else below(*inputs)  # type: ignore[no-untyped-call]  # likewise

    return differentiated


def implement(name: str, schema: str, function: Callable[..., None]) -> None:
    """Register an operator that a kernel in another language calls to have something checked or refused."""
    _LIBRARY.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"regionloss::{name}", function)


def check(
    predictions: Tensor,
    rows: Tensor,
    counts: Tensor | None,
    images_seen: Tensor | None,
    anchors: Sequence[float],
    settings: Settings,
    validate: bool,
) -> None:
    """What the operators look at before they compute.

    Raises:
        DomainError: numbers outside the domain.
    """
    if images_seen is not None and (validate or images_seen.device.type == "cpu"):
        check_images_seen(int(images_seen))
    if validate:
        check_everything(predictions, rows, counts, anchors, settings)


def refuse_second(path: str) -> NoReturn:
    """Refuse a derivative of the gradient.

    Raises:
        PathError: always.
    """
    raise PathError(f"the path {path!r} has no derivative of its gradient; path='eager' has (create_graph=True)")


def _fake_forward(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor, ...]:
    images, _, height, width = predictions.shape
    numbers = torch.promote_types(predictions.dtype, torch.float32)
    return (
        predictions.new_empty((), dtype=numbers),
        predictions.new_empty((5,), dtype=numbers),
        predictions.new_empty((images, len(anchors) // 2, height, width), dtype=torch.uint8),
        predictions.new_empty(rows.shape[:2], dtype=torch.int32),
    )


def slopes_kept(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Room for the slopes of the loss without those of what came before it, where forward keeps them for backward.

    Returns:
        What the slopes of the dense terms are made of, `[5, N, A, H, W]`: σ(tx), σ(ty), tw, th and σ(to), or ½, ½, 0, 0
        and 0 where the predictor does not pay the term, for which it has no slope. And the slopes of the other terms
        with respect to the outputs of the predictor that answers for a truth, `[N, T, 5+C]`, zero where none does.
    """
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    numbers = torch.promote_types(predictions.dtype, torch.float32)
    return (
        predictions.new_empty((5, images, count, height, width), dtype=numbers),
        predictions.new_empty((*rows.shape[:2], channels // count), dtype=numbers),
    )


def _fake_backward(upstream: Tensor, predictions: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(predictions)


def is_early(images_seen: Tensor | None, seen: int, settings: Settings) -> Tensor | bool:
    """1{t < 12800}: a bool where the host knows t, else 0-d on the device (`prior.limit`)."""
    if images_seen is None:
        return seen < settings.prior_until
    early = images_seen < settings.prior_until
    return bool(early) if early.device.type == "cpu" else early
