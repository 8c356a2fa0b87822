"""Mistakes with a framework: what is detached, hooked, reshaped, activated or averaged by it. They need PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meta.unlisted.mistake import BOTH, SCALAR, TERMS, Mistake
from regionloss_adapters import from_torch
from regionloss_adapters.protocol import Question
from regionloss_spec import AXES, Profile
from regionloss_suite.mutants.tools import Answering

if TYPE_CHECKING:  # the list of mistakes can be read without PyTorch
    from torch import Tensor

    from regionloss.torch.eager.decisions import Decisions, TruthLists

T_X, T_Y, T_W, T_H, T_O, CLASSES = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True, eq=False)
class Given:
    """What the eager loss is made of: predictions `[N, A, 5+C, H, W]`, truths and decisions."""

    t: Tensor
    truths: TruthLists
    decisions: Decisions
    profile: Profile
    tree: tuple[int, ...] | None


def _given(predictions: Tensor, truths: list[Tensor], question: Question) -> Given:
    import torch

    from regionloss.domain import read_inputs
    from regionloss.torch.eager.decisions import TruthLists, decide_on_host

    batch, profile = question.batch, question.profile
    tree = None if batch.tree is None else tuple(batch.tree)
    checked, rows, anchors = read_inputs(
        predictions.detach().double().numpy(),
        [table.numpy() for table in truths],
        batch.anchors,
        batch.classes,
        batch.images_seen,
        profile,
        tree,
    )
    t = predictions.reshape(checked.shape)
    decisions = decide_on_host(t.detach().numpy(), rows, anchors, batch.images_seen, profile, tree, t.device)
    lists = TruthLists([torch.from_numpy(table) for table in rows], torch.from_numpy(anchors))
    return Given(t, lists, decisions, profile, tree)


def _pay(given: Given, **of_term: Tensor) -> dict[str, Tensor]:
    """The five terms; a term can have predictions of its own."""
    from regionloss.torch.eager.loss import pay_terms

    terms = pay_terms(given.t, given.truths, given.decisions, given.profile, given.tree)
    for name, t in of_term.items():
        terms[name] = pay_terms(t, given.truths, given.decisions, given.profile, given.tree)[name]
    return terms


def _loss(pay: Callable[[Given], dict[str, Tensor]]) -> Callable[[], Answering]:
    """A differentiable loss that returns its terms."""
    return _wrapped(lambda predictions, truths, question: pay(_given(predictions, truths, question)))


def _hooked(change: Callable[[Tensor, Question], Tensor]) -> Callable[[], Answering]:
    """The right loss, with a hook on the gradient of its predictions."""

    def loss(predictions: Tensor, truths: list[Tensor], question: Question) -> Any:
        hook: Any = predictions.register_hook
        hook(lambda gradient: change(gradient, question) if gradient.numel() else gradient)
        return _pay(_given(predictions, truths, question))

    return _wrapped(loss)


def _prepared(change: Callable[[Tensor, Question], Tensor]) -> Callable[[], Answering]:
    """The right loss of changed predictions `[N, A*(5+C), H, W]`."""
    return _wrapped(lambda predictions, truths, question: _pay(_given(change(predictions, question), truths, question)))


def _wrapped(loss: Callable[[Tensor, list[Tensor], Question], Any]) -> Callable[[], Answering]:
    """`loss` as an adapter; a reduction of the profile is done by the terms."""

    def begin() -> Answering:
        return from_torch(
            loss,
            name="mistake",
            profiles=("*",),
            options=tuple(AXES),
            answers=("gradient", "potential", "terms"),
            dtypes=("float64", "float32"),
        ).answer

    return begin


def _detached(t: Tensor, channels: slice) -> Tensor:
    """The same numbers, some channels without a gradient."""
    import torch

    parts = [t[:, :, : channels.start], t[:, :, channels].detach()]
    if channels.stop is not None:
        parts.append(t[:, :, channels.stop :])
    return torch.cat(parts, dim=2)


def _scaled_gradient(by: float, *names: str) -> Callable[[Given], dict[str, Tensor]]:
    """Terms with right values, of which some have their gradient multiplied."""

    def pay(given: Given) -> dict[str, Tensor]:
        terms = _pay(given)
        return {name: by * term + (1 - by) * term.detach() if name in names else term for name, term in terms.items()}

    return pay


def _activated(t: Tensor, channels: tuple[int, ...]) -> Tensor:
    import torch

    parts = t.unbind(dim=2)
    return torch.stack([torch.sigmoid(part) if c in channels else part for c, part in enumerate(parts)], dim=2)


def _activated_first(*channels: int) -> Callable[[], Answering]:
    """Some channels activated before everything, the decisions included."""

    def change(predictions: Tensor, question: Question) -> Tensor:
        n, _, height, width = predictions.shape
        shape = (n, len(question.batch.anchors), CLASSES + question.batch.classes, height, width)
        return _activated(predictions.reshape(shape), channels).reshape(predictions.shape)

    return _prepared(change)


def _prediction_detached(given: Given) -> dict[str, Tensor]:
    """The objectness is detached, and its target is not."""
    flowing = replace(given, profile=given.profile.replace(object_target_gradient="flows"))
    terms = _pay(given)
    return {**terms, "object": _pay(flowing, object=_detached(given.t, slice(T_O, CLASSES)))["object"]}


def _flows_into(channels: slice) -> Callable[[Given], dict[str, Tensor]]:
    """The target of the objectness is differentiated, except for some channels."""

    def pay(given: Given) -> dict[str, Tensor]:
        flowing = replace(given, profile=given.profile.replace(object_target_gradient="flows"))
        return {**_pay(given), "object": _pay(flowing, object=_detached(given.t, channels))["object"]}

    return pay


def _paying(given: Given) -> int:
    return max(sum(match.pays_box for match in given.decisions.matches), 1)


def _averaged(name: str, each: int) -> Callable[[Given], dict[str, Tensor]]:
    """One term by a function of the framework that takes the mean over its elements, `each` of them for a truth."""

    def pay(given: Given) -> dict[str, Tensor]:
        terms = _pay(given)
        return {**terms, name: terms[name] / (each * _paying(given))}

    return pay


def _clamped_sizes(given: Given) -> dict[str, Tensor]:
    """tw and th are clamped at ±0.5 before they are compared, and the gradient dies outside."""
    import torch

    sizes = given.t[:, :, T_W : T_H + 1].clamp(-0.5, 0.5)
    return _pay(given, coord=torch.cat([given.t[:, :, :T_W], sizes, given.t[:, :, T_O:]], dim=2))


def _coupled(channel: int | None) -> Callable[[Tensor, Question], Tensor]:
    """A tenth of the mean over the images takes the place of a tenth of the output."""

    def change(predictions: Tensor, question: Question) -> Tensor:
        if not len(predictions):
            return predictions
        mixed = 0.9 * predictions + 0.1 * predictions.mean(dim=0, keepdim=True)
        if channel is None:
            return mixed
        import torch

        channels = CLASSES + question.batch.classes
        own = torch.arange(predictions.shape[1]) % channels == channel
        return torch.where(own[None, :, None, None], mixed, predictions)

    return change


def _transposed(gradient: Tensor, question: Question) -> Tensor:
    """Rows and columns of the gradient exchanged; on a grid that is not square, its memory read in the other order."""
    return gradient.transpose(2, 3).contiguous().reshape(gradient.shape)


def _channels_reshaped(gradient: Tensor, question: Question) -> Tensor:
    """The channels of the gradient as `[5+C, A]`."""
    n, _, height, width = gradient.shape
    anchors = len(question.batch.anchors)
    return gradient.reshape(n, anchors, -1, height, width).transpose(1, 2).reshape(gradient.shape)


def _norm_clipped(gradient: Tensor, question: Question) -> Tensor:
    norm = gradient.norm()
    return gradient / norm if norm > 1 else gradient


def _of_anchors_shared(gradient: Tensor, question: Question) -> Tensor:
    """All anchors of a cell get the mean of their gradients, as from an expanded tensor."""
    n, _, height, width = gradient.shape
    split = gradient.reshape(n, len(question.batch.anchors), -1, height, width)
    return split.mean(dim=1, keepdim=True).expand_as(split).reshape(gradient.shape)


def _straight_through(given: Given) -> dict[str, Tensor]:
    """The objectness of responsible predictors is rounded to 0 or 1, and the gradient passes the rounding."""
    import torch

    b = torch.sigmoid(given.t[:, :, T_O])
    rounded = torch.logit((b + (b.round() - b).detach()).clamp(1e-6, 1 - 1e-6))
    parts = [given.t[:, :, :T_O], rounded[:, :, None], given.t[:, :, CLASSES:]]
    return _pay(given, object=torch.cat(parts, dim=2))


def _mistake(
    id: str,
    title: str,
    begin: Callable[[], Answering],
    right: tuple[str, ...],
    family: tuple[str, ...] = (),
    answers: tuple[str, ...] = TERMS,
    dtype: str = "float64",
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind="framework",
        title=title,
        right=right,
        family=family,
        answers=answers,
        dtype=dtype,
        profile=profile,
        begin=begin,
    )


MISTAKES = [
    _mistake(
        "sizes-detached",
        "tw and th are detached in the coordinate term, which keeps its value",
        _loss(lambda given: _pay(given, coord=_detached(given.t, slice(T_W, T_O)))),
        ("coord.size-gradient",),
    ),
    _mistake(
        "centres-detached",
        "tx and ty are detached in the coordinate term, which keeps its value",
        _loss(lambda given: _pay(given, coord=_detached(given.t, slice(T_X, T_W)))),
        ("coord.centre-gradient",),
        answers=BOTH,
        dtype="float32",
    ),
    _mistake(
        "classes-detached",
        "the class outputs are detached, and the class term keeps its value",
        _loss(lambda given: _pay(given, **{"class": _detached(given.t, slice(CLASSES, None))})),
        ("class.gradient",),
        answers=BOTH,
    ),
    _mistake(
        "background-detached",
        "the no-object term is detached and keeps its value",
        _loss(_scaled_gradient(0.0, "no_object")),
        ("noobj.gradient",),
        ("scale.no-object-weight",),
        dtype="float32",
    ),
    _mistake(
        "prior-detached",
        "the prior is detached and keeps its value",
        _loss(_scaled_gradient(0.0, "prior")),
        ("prior.gradient",),
        ("prior.limit", "prior.weight"),
        BOTH,
    ),
    _mistake(
        "objectness-detached-for-its-target",
        "in the objectness term the output is detached, and the IoU is not",
        _loss(_prediction_detached),
        ("object.gradient", "object.target-constant"),
    ),
    _mistake(
        "target-flows-into-sizes",
        "the target of the objectness is differentiated for tw and th",
        _loss(_flows_into(slice(T_X, T_W))),
        ("object.target-constant",),
        (),
        BOTH,
    ),
    _mistake(
        "target-flows-into-centres",
        "the target of the objectness is differentiated for tx and ty",
        _loss(_flows_into(slice(T_W, T_O))),
        ("object.target-constant",),
    ),
    _mistake(
        "object-gradient-twice",
        "the objectness term is differentiated twice into the same gradient",
        _loss(_scaled_gradient(2.0, "object")),
        ("object.gradient",),
        ("scale.object-weight", "scale.squared-factor"),
    ),
    _mistake(
        "coord-gradient-twice",
        "the coordinate term is differentiated twice into the same gradient",
        _loss(_scaled_gradient(2.0, "coord")),
        ("coord.centre-gradient", "coord.size-gradient"),
        ("scale.coord-weight", "scale.squared-factor"),
        BOTH,
    ),
    _mistake(
        "class-gradient-twice",
        "the class term is differentiated twice into the same gradient",
        _loss(_scaled_gradient(2.0, "class")),
        ("class.gradient",),
        ("scale.class-weight",),
        dtype="float32",
    ),
    _mistake(
        "no-object-gradient-negated",
        "the gradient of the no-object term has the wrong sign",
        _loss(_scaled_gradient(-1.0, "no_object")),
        ("noobj.gradient",),
        (),
        BOTH,
    ),
    _mistake(
        "gradient-clipped",
        "a hook clips every element of the gradient to ±0.1",
        _hooked(lambda gradient, question: gradient.clamp(-0.1, 0.1)),
        ("scale.potential",),
        ("numerics.bound", "object.gradient", "class.gradient", "coord.size-gradient", "coord.centre-gradient"),
    ),
    _mistake(
        "gradient-of-norm-one",
        "the whole gradient is divided by its norm where that is above 1",
        _hooked(_norm_clipped),
        ("scale.sum", "scale.potential"),
        (),
        BOTH,
    ),
    _mistake(
        "gradient-transposed",
        "rows and columns of the gradient are exchanged",
        _hooked(_transposed),
        ("notation.grid-axes",),
        ("notation.predictor", "notation.channel-order"),
    ),
    _mistake(
        "gradient-upside-down",
        "the rows of the gradient are in the opposite order",
        _hooked(lambda gradient, question: gradient.flip(2)),
        ("notation.grid-axes", "notation.predictor"),
        ("notation.channel-order",),
        BOTH,
    ),
    _mistake(
        "gradient-channels-reshaped",
        "the channels of the gradient are in the order [5 + C, A]",
        _hooked(_channels_reshaped),
        ("notation.channel-order",),
        ("notation.predictor",),
        dtype="float32",
    ),
    _mistake(
        "gradient-shared-by-anchors",
        "all anchors of a cell get the mean of their gradients",
        _hooked(_of_anchors_shared),
        ("notation.predictor", "table.other-anchors"),
        ("table.structural-zeros",),
    ),
    _mistake(
        "gradient-of-the-mean",
        "the gradient is divided by the number of predictors, the loss is not",
        _hooked(lambda gradient, question: gradient * (CLASSES + question.batch.classes) / gradient.numel()),
        ("scale.sum",),
        ("scale.potential",),
        BOTH,
    ),
    _mistake(
        "activated-before-the-loss",
        "tx, ty and to are activated before the loss, which activates them again",
        _activated_first(T_X, T_Y, T_O),
        ("decode.centre", "decode.objectness"),
    ),
    _mistake(
        "objectness-activated-twice",
        "the objectness is activated twice",
        _activated_first(T_O),
        ("decode.objectness",),
        (),
        SCALAR,
    ),
    _mistake(
        "centre-activated-twice",
        "tx and ty are activated twice, in the decoded box and in the terms",
        _activated_first(T_X, T_Y),
        ("decode.centre",),
        ("coord.centre-target",),
        BOTH,
    ),
    _mistake(
        "centre-target-activated-twice",
        "tx and ty are activated twice in the coordinate term alone",
        _loss(lambda given: _pay(given, coord=_activated(given.t, (T_X, T_Y)))),
        ("coord.centre-target",),
        ("coord.centre-gradient",),
        dtype="float32",
    ),
    _mistake(
        "images-coupled",
        "a tenth of every output is the mean over the images of the batch",
        _prepared(_coupled(None)),
        ("notation.predictor", "scale.sum"),
        ("noobj.same-image",),
    ),
    _mistake(
        "objectness-of-images-coupled",
        "a tenth of the objectness output is the mean over the images of the batch",
        _prepared(_coupled(T_O)),
        ("notation.predictor", "scale.sum"),
        ("decode.objectness", "noobj.same-image"),
        BOTH,
    ),
    _mistake(
        "class-mean",
        "the cross-entropy of the framework takes the mean over the responsible predictors",
        _loss(_averaged("class", 1)),
        ("scale.class-weight", "class.cross-entropy", "scale.sum"),
        ("class.gradient",),
    ),
    _mistake(
        "coord-mean",
        "the squared error of the framework takes the mean over the coordinates of all truths",
        _loss(_averaged("coord", 4)),
        ("scale.coord-weight", "coord.value", "scale.sum"),
        (),
        BOTH,
    ),
    _mistake(
        "sizes-clamped",
        "tw and th are clamped at ±0.5 before they are compared, so that the gradient dies outside",
        _loss(_clamped_sizes),
        ("coord.size-target", "coord.size-gradient"),
    ),
    _mistake(
        "objectness-rounded",
        "the objectness of responsible predictors is rounded to 0 or 1, and the gradient passes the rounding",
        _loss(_straight_through),
        ("object.value",),
        ("object.gradient", "decode.objectness"),
    ),
    _mistake(
        "gradient-by-images",
        "the gradient is divided by the number of images once more",
        _hooked(lambda gradient, question: gradient / max(len(gradient), 1)),
        ("scale.per-image",),
        ("scale.potential",),
        BOTH,
        profile="lightnet",
    ),
]
