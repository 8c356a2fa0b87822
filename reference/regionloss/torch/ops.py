"""The fast paths as operators of PyTorch, so that `torch.compile`, CUDA graphs and `opcheck` can work with them.

Each path has two operators, `regionloss::<path>` and `regionloss::<path>_backward`, which `operators.py` in the folder
of the path registers when it is imported (`paths.load_path`). Both take the same arguments:

- predictions: `[N, A*(5+C), H, W]`, of any strides;
- rows: x, y, w, h (fractions of the image) and class, `[N, T, 5]`; counts: rows of each image, int64 `[N]`, or none;
- images_seen: t as a 0-d tensor, or none, and then `seen` is t. A tensor is read on its device, so that the prior ends
  at its limit in a captured graph too;
- anchors: widths and heights in turn, cells; settings: a `Settings`, as a list;
- validate: whether to refuse numbers outside the domain, which waits for the device. Without it, truths outside the
  domain are refused on the host, which need not wait, and make the loss NaN on a device.

Forward returns `Forward` as one flat tuple, of which only the loss is differentiable; backward returns the gradient.

`torch.compile` caches graphs on disk and identifies an operator by its name alone: once released, an operator whose
result changes needs a new name.
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
_SAVED = "Tensor predictions, Tensor rows, Tensor state, Tensor predictor_of_truth, Tensor[] kept"


#: The bits of the state of a predictor: which dense terms it pays, whether it is responsible for a truth, and whether
#: its image has a truth outside the domain.
NO_OBJECT, PRIOR, RESPONSIBLE, BAD = 1, 2, 4, 8


class ForwardInputs(NamedTuple):
    """What forward of a path takes: the arguments of its operator, but for `validate`."""

    predictions: Tensor
    rows: Tensor
    counts: Tensor | None
    images_seen: Tensor | None
    seen: int
    anchors: Sequence[float]
    settings: Settings


class BackwardInputs(NamedTuple):
    """What backward of a path takes: the 0-d upstream, what forward took that it needs, and what forward returned."""

    upstream: Tensor
    predictions: Tensor
    rows: Tensor
    state: Tensor
    predictor_of_truth: Tensor
    kept: Sequence[Tensor]
    anchors: Sequence[float]
    settings: Settings


class Forward(NamedTuple):
    """What forward returns, which is also what backward needs.

    Attributes:
        loss: the potential, 0-d; float32, or float64 for float64.
        terms: no_object, prior, coord, object, class, `[5]`; their sum is the loss.
        state: `NO_OBJECT`, `PRIOR`, `RESPONSIBLE` and `BAD` of every predictor, uint8 `[N, A, H, W]`.
        predictor_of_truth: index in `[A*H*W]` of the predictor that pays for each truth, int32 `[N, T]`, -1 for none.
        kept: what else backward of this path needs.
    """

    loss: Tensor
    terms: Tensor
    state: Tensor
    predictor_of_truth: Tensor
    kept: tuple[Tensor, ...]

    def flat(self) -> tuple[Tensor, ...]:
        """All of them, as the operator returns them."""
        return *self[:4], *self.kept


def declare(path: str, kept: Callable[[Tensor, Tensor, Sequence[float]], tuple[Tensor, ...]]) -> None:
    """Declare the two operators of a path with their fake kernels, but without the kernels that compute them.

    Args:
        path: the name of the operators.
        kept: makes the tensors that forward keeps, for predictions, rows and anchors; only their form is used.
    """

    def fake(predictions: Tensor, rows: Tensor, *others: Any) -> tuple[Tensor, ...]:
        anchors = others[3]  # after counts, images_seen and seen
        return *_fake_forward(predictions, rows, anchors), *kept(predictions, rows, anchors)

    example = fake(torch.empty(1, 6, 1, 1), torch.empty(1, 0, 5), None, None, 0, (1.0, 1.0))
    returns = ", ".join(["Tensor"] * len(example))
    _LIBRARY.define(f"{path}({_INPUTS}, {_CHOICES}, bool validate) -> ({returns})")  # type: ignore[no-untyped-call]
    _LIBRARY.define(f"{path}_backward(Tensor upstream, {_SAVED}, {_CHOICES}) -> Tensor")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"regionloss::{path}", fake)
    torch.library.register_fake(f"regionloss::{path}_backward", _fake_backward)


def define(
    path: str,
    forward: Callable[[ForwardInputs], Forward],
    backward: Callable[[BackwardInputs], Tensor],
    kept: Callable[[Tensor, Tensor, Sequence[float]], tuple[Tensor, ...]],
) -> None:
    """Register the two operators of a path that Python computes, and their derivative.

    Args:
        path: the name of the operators.
        forward: returns `Forward`.
        backward: returns the gradient.
        kept: as in `declare`.
    """

    def checked(*arguments: Any) -> tuple[Tensor, ...]:
        *others, settings, validate = arguments
        inputs = ForwardInputs._make((*others, Settings(*settings)))
        check(inputs, validate)
        return forward(inputs).flat()

    def unpacked(*arguments: Any) -> Tensor:
        *others, settings = arguments
        return backward(BackwardInputs._make((*others, Settings(*settings))))

    declare(path, kept)
    _LIBRARY.impl(path, checked, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(f"{path}_backward", unpacked, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    packet = torch.ops.regionloss
    differentiated = _differentiated(path, getattr(packet, path).default, getattr(packet, f"{path}_backward").default)
    _LIBRARY.impl(path, differentiated, "Autograd")  # type: ignore[no-untyped-call]  # PyTorch leaves it so


def _differentiated(path: str, forward: Any, backward: Any) -> Callable[..., Any]:
    """The operator `forward`, with the operator `backward` as its derivative.

    `torch.library.register_autograd` does the same, but the call then takes twice as long to start.
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
            if torch.is_grad_enabled():  # enabled in a backward with create_graph alone
                refuse_second(path)
            predictions, rows, state, predictor_of_truth, *kept = ctx.saved_tensors
            saved = (predictions, rows, state, predictor_of_truth, kept, ctx.anchors, ctx.settings)
            gradient = None if upstream is None else backward(upstream, *saved)
            return gradient, None, None, None, None, None, None, None

    def below(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return forward(*inputs)

    def differentiated(*inputs: Any) -> Any:
        needs_grad = torch.is_grad_enabled() and inputs[0].requires_grad
        return Differentiated.apply(*inputs) if needs_grad else below(*inputs)  # type: ignore[no-untyped-call]  # likewise

    return differentiated


def implement(name: str, schema: str, function: Callable[..., None]) -> None:
    """Register an operator through which a kernel in another language checks or refuses its inputs in Python."""
    _LIBRARY.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"regionloss::{name}", function)


def check(inputs: ForwardInputs, validate: bool) -> None:
    """Check the inputs of an operator before it computes.

    Raises:
        DomainError: numbers outside the domain.
    """
    images_seen = inputs.images_seen
    if images_seen is not None and (validate or images_seen.device.type == "cpu"):
        check_images_seen(int(images_seen))
    if validate:
        check_everything(inputs.predictions, inputs.rows, inputs.counts, inputs.anchors, inputs.settings)


def refuse_second(path: str) -> NoReturn:
    """Refuse a derivative of the gradient.

    Raises:
        PathError: always.
    """
    raise PathError(f"the path {path!r} has no derivative of its gradient; path='eager' has (create_graph=True)")


def _fake_forward(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor, ...]:
    images, _, height, width = predictions.shape
    dtype = torch.promote_types(predictions.dtype, torch.float32)
    return (
        predictions.new_empty((), dtype=dtype),
        predictions.new_empty((5,), dtype=dtype),
        predictions.new_empty((images, len(anchors) // 2, height, width), dtype=torch.uint8),
        predictions.new_empty(rows.shape[:2], dtype=torch.int32),
    )


def kept_tensors(predictions: Tensor, rows: Tensor, anchors: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Uninitialised tensors for what forward keeps for backward: all of the gradient but the upstream factor.

    Returns:
        `active`, from which the gradient of the dense terms follows, `[5, N, A, H, W]`: σ(tx), σ(ty), tw, th and σ(to),
        or ½, ½, 0, 0 and 0 where the predictor does not pay the term, for which the gradient is 0. And `truth_grads`,
        the gradient of the other terms with respect to the outputs of the predictor of each truth, `[N, T, 5+C]`,
        0 for a truth without one.
    """
    images, channels, height, width = predictions.shape
    count = len(anchors) // 2
    dtype = torch.promote_types(predictions.dtype, torch.float32)
    return (
        predictions.new_empty((5, images, count, height, width), dtype=dtype),
        predictions.new_empty((*rows.shape[:2], channels // count), dtype=dtype),
    )


def _fake_backward(upstream: Tensor, predictions: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(predictions)
