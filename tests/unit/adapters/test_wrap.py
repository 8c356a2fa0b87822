from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionloss import DomainError, evaluate, region_loss
from regionloss.bounds import PRECISIONS, bounds
from regionloss_adapters import (
    Adapter,
    Answer,
    CannotAnswerError,
    Description,
    Question,
    RefusedError,
    from_jax,
    from_keras,
    from_numpy,
    from_torch,
    layouts,
    truths,
)
from regionloss_adapters.layouts import NCHW, Layout
from regionloss_adapters.wrap.from_loss import MutatedInputError
from regionloss_spec import Batch, Profile, load_case, load_cases, load_profile
from regionloss_spec.batch import Array
from regionloss_spec.case import CASES
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.strategies import batches

DARKNET = load_profile("darknet")
ANCHORS = np.array([[1.0, 2.0], [2.0, 1.0]])
ROWS = (np.array([[0.5, 0.25, 0.25, 0.5, 1], [0.75, 0.75, 0.5, 0.125, 2]]), np.zeros((0, 5)))
SETTINGS = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def ask(dtype: str = "float32", profile: Profile = DARKNET, upstream: float = 1.0, seed: int = 0) -> Question:
    predictions = np.random.default_rng(seed).normal(size=(2, 16, 2, 4)).astype(np.float32).astype(np.float64)
    batch = Batch(predictions, ROWS, ANCHORS, 3, 0)
    return Question(batch=batch, profile=profile, dtype=dtype, upstream=upstream)


def check(answer: Answer, question: Question, scale: float = 1.0) -> None:
    """That an answer, times `scale`, is within the bounds of the reference."""
    result = evaluate(question.batch, question.profile)
    limits = bounds(result, PRECISIONS[question.dtype])
    gradient = result.gradient * question.upstream
    assert answer.gradient is not None
    assert answer.gradient.shape == gradient.shape
    assert (np.abs(scale * answer.gradient - gradient) <= abs(question.upstream) * limits.gradient).all()
    if answer.potential is not None:
        assert abs(scale * answer.potential - result.potential) <= limits.potential
    if answer.terms is not None:
        for name, value in result.term_values.items():
            assert abs(scale * answer.terms[name] - value) <= limits.terms[name]


def near_an_edge(batch: Batch) -> bool:
    """Whether a rounding could decide otherwise which predictor a truth has, or whether one is ignored."""
    result = evaluate(batch, DARKNET)
    return bool((np.abs(result.decisions.max_iou - DARKNET.thresh) < 1e-4).any())


# A loss in NumPy, through the reference: what is tried is the way there and back.


def numpy_loss(predictions: Array, rows: Any, question: Question) -> Any:
    batch = question.batch
    result = region_loss(
        predictions, rows, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=question.profile
    )
    return result.potential, result.gradient, result.term_values


ALL = ("gradient", "potential", "terms")


@pytest.mark.parametrize("upstream", [1.0, -0.25, 0.0])
def test_a_numpy_loss_answers_what_it_returns(upstream: float) -> None:
    adapter = from_numpy(numpy_loss, name="mine", answers=ALL, dtypes=("float64",), notes=("By hand.",))
    assert isinstance(adapter, Adapter)
    described = adapter.describe()
    assert (described.name, described.answers, described.dtypes) == ("mine", ALL, ("float64",))
    assert described.notes == ("By hand.",)
    check(adapter.answer(ask("float64", upstream=upstream)), ask("float64", upstream=upstream))


def test_a_numpy_loss_may_return_only_its_gradient_or_only_its_value() -> None:
    question = ask("float64")
    result = evaluate(question.batch, DARKNET)
    alone = from_numpy(lambda *given: numpy_loss(*given)[1], name="gradient", dtypes=("float64",)).answer(question)
    assert alone.gradient is not None
    assert np.array_equal(alone.gradient, result.gradient)
    assert (alone.potential, alone.terms) == (None, None)
    value = from_numpy(lambda *given: numpy_loss(*given)[0], name="value", answers=("potential",)).answer(question)
    assert (value.gradient, value.potential) == (None, result.potential)


def test_a_loss_that_forgets_its_predictions_is_told_so() -> None:
    torch = pytest.importorskip("torch")
    constant = from_torch(lambda outputs, rows, question: torch.zeros(()), name="constant")
    with pytest.raises(ValueError, match="it did not depend on the predictions, and backward"):
        constant.answer(ask())


def test_what_is_not_declared_is_not_answered() -> None:
    answer = from_numpy(numpy_loss, name="modest").answer(ask())
    assert answer.gradient is not None
    assert (answer.potential, answer.terms) == (None, None)


@pytest.mark.parametrize(
    ("returned", "answers", "said"),
    [
        (0.5, ("gradient",), "returned no gradient"),
        (np.zeros((2, 16, 2, 4)), ("gradient", "potential"), "returned no scalar"),
        (np.zeros((2, 2, 4, 16)), ("gradient",), r"shape \[2, 2, 4, 16\], but the predictions had \[2, 16, 2, 4\]"),
        ((0.5, np.zeros((2, 16, 2, 4)), {"coord": 1.0}), ALL, "returned terms coord, expected no_object, prior"),
    ],
)
def test_an_answer_other_than_declared_is_an_error(returned: Any, answers: tuple[str, ...], said: str) -> None:
    adapter = from_numpy(lambda *_: returned, name="other", answers=answers)
    with pytest.raises(ValueError, match=said):
        adapter.answer(ask())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"answers": ("loss",)}, "answers has 'loss'; known are gradient, potential, terms"),
        ({"options": ("threshold",)}, "options has 'threshold'"),
        ({"dtypes": ("bfloat16",)}, "NumPy has no bfloat16"),
        ({"dtypes": ("float16",), "layout": Layout(o="sigmoid")}, "half formats"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_numpy(numpy_loss, name="wrong", **wrong)


def test_reduction_and_factor_are_declared_and_nothing_else() -> None:
    plain = from_numpy(numpy_loss, name="plain", answers=ALL)
    scaled = from_numpy(numpy_loss, name="scaled", answers=ALL, reduction="per-image", factor=0.5)
    assert (scaled.describe().reduction, scaled.describe().factor) == ("per-image", 0.5)
    one, other = plain.answer(ask()), scaled.answer(ask())
    assert np.array_equal(one.gradient, other.gradient)  # type: ignore[arg-type]  # a gradient was declared
    assert (one.potential, one.terms) == (other.potential, other.terms)


def test_a_case_with_options_that_the_port_lacks_is_not_asked() -> None:
    other = DARKNET.replace(thresh=0.5, collision="sum")
    for options, missing in (((), "thresh"), (("thresh",), "collision")):
        with pytest.raises(CannotAnswerError, match=f"it has no option {missing}"):
            from_numpy(numpy_loss, name="fixed", options=options).answer(ask(profile=other))
    for adapter in (
        from_numpy(numpy_loss, name="free", options=("thresh", "collision")),
        from_numpy(numpy_loss, name="any", profiles=("*",)),
    ):
        check(adapter.answer(ask("float64", profile=other)), ask("float64", profile=other))


def test_another_profile_as_such_is_asked_to_be_judged_as_that() -> None:
    for profile in (load_profile("marvis"), dataclasses.replace(load_profile("marvis"), name="of my own")):
        assert from_numpy(numpy_loss, name="mine").answer(ask(profile=profile)).gradient is not None


def test_supports_gives_the_reason_why_a_profile_is_not_asked() -> None:
    adapter = from_numpy(
        numpy_loss,
        name="without trees",
        profiles=("*",),
        supports=lambda profile: "it knows no tree" if profile.class_term == "tree" else None,
    )
    with pytest.raises(CannotAnswerError, match="it knows no tree"):
        adapter.answer(ask(profile=load_profile("yolo9000")))
    check(adapter.answer(ask("float64")), ask("float64"))


def test_declared_exceptions_are_refusals_with_their_place() -> None:
    question = ask()
    question.batch.truths[0][1, 2] = 2.0
    adapter = from_numpy(numpy_loss, name="strict", refuses=(DomainError,))
    try:
        assert adapter.describe().answers == ("gradient", "errors")
        with pytest.raises(RefusedError, match="w is 2") as refused:
            adapter.answer(question)
        assert (refused.value.image, refused.value.truth) == (0, 1)
        with pytest.raises(DomainError):
            from_numpy(numpy_loss, name="silent").answer(question)
    finally:
        question.batch.truths[0][1, 2] = 0.5


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_numpy_loss_is_given_the_format_that_is_asked_for(dtype: str) -> None:
    seen: list[Any] = []

    def loss(predictions: Array, rows: Any, question: Question) -> Array:
        seen.append((predictions.dtype.name, predictions.flags.writeable, rows[0].dtype.name))
        return np.zeros_like(predictions)

    from_numpy(loss, name="spy", dtypes=(dtype,)).answer(ask(dtype))
    assert seen == [(dtype, True, "float32" if dtype == "float16" else dtype)]


# Changes of the inputs.


def test_a_numpy_loss_that_changes_its_inputs_is_an_error_that_says_which() -> None:
    def activates(predictions: Array, rows: Any, question: Question) -> Array:
        predictions[1, 3, 0, 2] = 7.0
        return predictions

    def scales(predictions: Array, rows: Any, question: Question) -> Array:
        rows[0][1, :4] *= 4
        return predictions

    def drops(predictions: Array, rows: Any, question: Question) -> Array:
        rows.pop()
        return predictions

    for loss, said in (
        (activates, r"changed its predictions in place: at \[1, 3, 0, 2\], .* is 7.0 now"),
        (scales, r"changed its truths\[0\] in place: at \[1, 0\], 0.75 is 3.0 now"),
        (drops, "changed its truths in place: 2 parts are 1 now"),
    ):
        with pytest.raises(MutatedInputError, match=said):
            from_numpy(loss, name="rude").answer(ask())


def test_a_nan_that_stays_where_it_was_is_no_change() -> None:
    question = ask()
    question.batch.predictions[0, 0, 0, 0] = np.nan
    answer = from_numpy(lambda predictions, *_: np.ones_like(predictions), name="calm").answer(question)
    assert answer.gradient is not None


def test_a_torch_loss_that_changes_its_inputs_is_an_error_that_says_which() -> None:
    pytest.importorskip("torch")

    def activates(predictions: Any, rows: Any, question: Question) -> Any:
        return predictions.sigmoid_().sum()

    def scales(predictions: Any, rows: Any, question: Question) -> Any:
        rows[0][:, :4].mul_(4)
        return predictions.sum()

    with pytest.raises(MutatedInputError, match="predictions in place"):
        from_torch(activates, name="rude").answer(ask())
    with pytest.raises(MutatedInputError, match=r"truths\[0\] in place: at \[0, 0\], 0.5 is 2.0 now"):
        from_torch(scales, name="rude").answer(ask())


# The eager loss of this project, wrapped in every order.


def of_canonical(layout: Layout) -> Any:
    """A torch loss that takes predictions in some order of axes, through indices of its own."""

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        import torch

        from regionloss.torch.eager import region_loss as torch_loss

        batch = question.batch
        numbers = np.arange(float(batch.predictions.size)).reshape(batch.predictions.shape)
        where = layout.forward(dataclasses.replace(batch, predictions=numbers))
        place = torch.as_tensor(np.argsort(where.ravel()).reshape(numbers.shape))
        result = torch_loss(
            predictions.flatten()[place], rows, batch.anchors, batch.classes, images_seen=batch.images_seen
        )
        return result.potential, result.terms

    return loss


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name, value in vars(layouts).items() if isinstance(value, Layout)])
@pytest.mark.parametrize("channels", ["xywhoc", "cohwyx"])
def test_the_torch_loss_of_this_project_is_within_bounds_in_every_order(name: str, channels: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layout = getattr(layouts, name).replace(channels=channels)
    adapter = from_torch(of_canonical(layout), name="eager", layout=layout, answers=ALL, dtypes=(dtype,))
    question = ask(dtype, upstream=0.5)
    rounded = torch.tensor(question.batch.predictions).to(getattr(torch, dtype)).double().numpy()
    question = dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=rounded))
    check(adapter.answer(question), question)


def test_a_torch_loss_may_return_terms_alone_or_the_scalar_alone() -> None:
    pytest.importorskip("torch")
    pair = of_canonical(NCHW)
    for loss in (lambda *given: pair(*given)[0], lambda *given: pair(*given)[1]):
        adapter = from_torch(loss, name="eager", answers=("gradient", "potential"))
        check(adapter.answer(ask()), ask())


def test_a_torch_loss_without_a_way_to_the_predictions_has_a_zero_gradient() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(1, requires_grad=True)
    answer = from_torch(lambda *_: weight.sum(), name="deaf").answer(ask())
    assert answer.gradient is not None
    assert not answer.gradient.any()
    assert weight.grad is None


def test_what_is_no_scalar_tensor_is_an_error() -> None:
    pytest.importorskip("torch")
    for loss, said in (
        (lambda predictions, *_: predictions.sum(dim=(1, 2, 3)), r"tensor of shape \[2\]"),
        (lambda predictions, *_: predictions.sum().item(), "returned float"),
    ):
        with pytest.raises(TypeError, match=said):
            from_torch(loss, name="wrong").answer(ask())


# A port in a foreign style: NHWC, boxes by their corners in pixels, the mean over images.

SIDE = 416


def foreign_loss(outputs: Any, boxes: Any, anchors: Any, seen: int) -> Any:
    """`outputs` `[N, H, W, A*(5+C)]`, raw; `boxes` for each image `[T, 5]` of class, x1, y1, x2, y2 in pixels."""
    import torch

    anchors = torch.as_tensor(np.asarray(anchors), dtype=outputs.dtype)
    entries = outputs.unflatten(3, (len(anchors), -1))  # [N, H, W, A, 5+C]
    t = entries.permute(0, 3, 4, 1, 2)
    corners = [image.double() / SIDE for image in boxes]
    rows = [
        torch.stack([(b[:, 1] + b[:, 3]) / 2, (b[:, 2] + b[:, 4]) / 2, b[:, 3] - b[:, 1], b[:, 4] - b[:, 2]], 1)
        for b in corners
    ]
    labels = [[round(label) for label in image[:, 0].tolist()] for image in boxes]
    p = t[:, :, 5:].log_softmax(dim=2)
    total = summed(t[:, :, :2].sigmoid(), t[:, :, 2:4], t[:, :, 4].sigmoid(), p, rows, labels, anchors, seen)
    return total / max(len(outputs), 1)


def overlap(boxes: Any, box: Any) -> Any:
    """IoU of `[4, ...]` with `[4]`, centres and sizes."""
    import torch

    right = torch.minimum(boxes[:2] + boxes[2:] / 2, (box[:2] + box[2:] / 2).reshape(2, *[1] * (boxes.ndim - 1)))
    left = torch.maximum(boxes[:2] - boxes[2:] / 2, (box[:2] - box[2:] / 2).reshape(2, *[1] * (boxes.ndim - 1)))
    shared = (right - left).clamp(min=0).prod(0)
    union = boxes[2:].prod(0) + box[2:].prod() - shared
    return torch.where(torch.isfinite(union) & (union > 0), shared / union, torch.zeros_like(union))


def summed(xy: Any, wh: Any, o: Any, log_p: Any, rows: Any, labels: Any, anchors: Any, seen: int) -> Any:
    """darknet's loss; σ(tx, ty) and tw, th `[N, A, 2, H, W]`, σ(to) `[N, A, H, W]`, ln p `[N, A, C, H, W]`."""
    import torch

    _, _, _, height, width = xy.shape
    grid = torch.tensor([width, height], dtype=xy.dtype)
    offset = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))
    total = 0.0 * (xy[:0].sum() + o[:0].sum())
    for n, truth_rows in enumerate(rows):
        with torch.no_grad():
            centres = (xy[n] + offset) / grid[:, None, None]
            sizes = wh[n].exp() * anchors[:, :, None, None] / grid[:, None, None]
            decoded = torch.cat([centres, sizes], dim=1).movedim(1, 0)  # [4, A, H, W]
        quiet = torch.zeros_like(o[n], dtype=torch.bool)
        owner: dict[Any, int] = {}
        for m, row in enumerate(truth_rows[:30]):
            quiet |= overlap(decoded, row.to(xy)) > 0.6
            shapes = torch.cat([torch.zeros(2, len(anchors)).double(), (anchors.double() / grid.double()).T])
            shape = torch.cat([torch.zeros(2).double(), row[2:]])
            i, j = (math.floor(float(row[axis]) * cells) for axis, cells in ((0, width), (1, height)))
            owner[int(overlap(shapes, shape).argmax()), j, i] = m
        free = torch.ones_like(quiet)
        for (k, j, i), m in owner.items():
            row = truth_rows[m]
            free[k, j, i] = False
            place = (row[:2] * grid.double() - offset[:, j, i]).to(xy)
            size = (row[2:] * grid.double() / anchors[k].double()).log().to(xy)
            squares = (xy[n, k, :, j, i] - place) ** 2 + (wh[n, k, :, j, i] - size) ** 2
            iou = overlap(decoded[:, k, j, i], row.to(xy))
            total = total + 0.5 * float(2 - row[2] * row[3]) * squares.sum() + 2.5 * (iou - o[n, k, j, i]) ** 2
            total = total - log_p[n, k, labels[n][m], j, i]
        total = total + 0.5 * (o[n][free & ~quiet] ** 2).sum()
        if seen < 12800:
            early = free[:, None].expand(-1, 2, -1, -1)
            total = total + 0.005 * (((xy[n] - 0.5)[early] ** 2).sum() + (wh[n][early] ** 2).sum())
    return total


def make_foreign() -> Adapter:
    return from_torch(
        lambda outputs, boxes, question: foreign_loss(
            outputs, boxes, question.batch.anchors, question.batch.images_seen
        ),
        name="foreign",
        layout=layouts.NHWC,
        truths=truths.Ragged(columns="class x1 y1 x2 y2", unit="pixels", image_size=(SIDE, SIDE), dtype="float64"),
        reduction="per-image",
        answers=("gradient", "potential"),
        dtypes=("float64", "float32"),
    )


@SETTINGS
@given(data=st.data())
def test_a_port_in_a_foreign_style_is_within_bounds_once_its_mean_is_multiplied_out(data: st.DataObject) -> None:
    pytest.importorskip("torch")
    batch = data.draw(batches(DARKNET))
    for dtype in ("float64", "float32"):
        question = Question(batch=batch, profile=DARKNET, dtype=dtype)
        try:
            answer = make_foreign().answer(question)
        except CannotAnswerError:
            continue
        if not near_an_edge(batch):
            check(answer, question, scale=len(batch.predictions))


class MultipliedOut:
    """An adapter whose declared division by the number of images is taken back."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def describe(self) -> Description:
        return dataclasses.replace(self.adapter.describe(), reduction="sum")

    def answer(self, question: Question) -> Answer:
        answer, images = self.adapter.answer(question), len(question.batch.predictions)
        assert answer.gradient is not None
        assert answer.potential is not None
        return dataclasses.replace(answer, gradient=images * answer.gradient, potential=images * answer.potential)


def test_a_port_in_a_foreign_style_conforms_to_every_clause_that_it_can_be_asked() -> None:
    pytest.importorskip("torch")
    judge = Judge(MultipliedOut(make_foreign()), load_cases())
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert [verdict for verdict in verdicts if verdict.verdict == "deviating"] == []
    assert Counter(verdict.verdict for verdict in verdicts)["conforming"] > 70
    assert all(load_case(CASES / f"{case}.json").expected.error is not None for case in judge.crashes)


def test_a_port_in_a_foreign_style_is_found_out_where_it_is_taken_for_another() -> None:
    pytest.importorskip("torch")
    judge = Judge(MultipliedOut(make_foreign()), load_cases(), profile="darknet-2016")
    deviating = {clause.id for clause in judge.clauses if judge.verdict(clause).verdict == "deviating"}
    assert "coord.constant-weight" in deviating


# Predictions that are activated already.

GIVEN = [
    Layout("n a e h w", xy="sigmoid", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="cells", wh="exp", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="fraction", wh="cells", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="fraction", wh="fraction", o="sigmoid"),
]


def of_activated(layout: Layout) -> Any:
    """The loss above for a port whose predictions are activated; what it wants raw, it takes back itself."""

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        import torch

        batch = question.batch
        xy, wh, o, c = predictions.split([2, 2, 1, batch.classes], dim=2)
        height, width = predictions.shape[3:]
        anchors = torch.as_tensor(batch.anchors).to(predictions)
        grid = torch.tensor([width, height])[:, None, None].to(predictions)
        offset = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))
        xy = {"sigmoid": xy, "cells": xy - offset, "fraction": xy * grid - offset}[layout.xy]
        unit = anchors[:, :, None, None] / (grid if layout.wh == "fraction" else 1)
        if layout.wh != "raw":
            wh = (wh if layout.wh == "exp" else wh / unit).log()
        log_p = c.log() if layout.c == "softmax" else c.log_softmax(dim=2)
        labels = [image[:, 4].int().tolist() for image in rows]
        boxes = [image[:, :4].double() for image in rows]
        return summed(xy, wh, o[:, :, 0], log_p, boxes, labels, anchors, batch.images_seen)

    return loss


@pytest.mark.parametrize("layout", GIVEN, ids=lambda layout: "-".join(layout.activated.values()))
@SETTINGS
@given(data=st.data())
def test_a_port_of_activated_predictions_is_within_bounds(layout: Layout, data: st.DataObject) -> None:
    pytest.importorskip("torch")
    batch = data.draw(batches(DARKNET))
    for dtype in ("float64", "float32"):
        adapter = from_torch(
            of_activated(layout), name="activated", layout=layout, answers=("gradient", "potential"), dtypes=(dtype,)
        )
        question = Question(batch=batch, profile=DARKNET, dtype=dtype, upstream=2.0)
        try:
            answer = adapter.answer(question)
        except CannotAnswerError:
            continue
        if not near_an_edge(batch):
            check(answer, question)


def test_the_report_says_what_the_adapter_activated() -> None:
    described = from_numpy(numpy_loss, name="activated", layout=GIVEN[0], truths=truths.Dense()).describe()
    assert described.notes[0] == (
        "The adapter applied sigmoid of xy, sigmoid of o, softmax of c and their chain rule, in float64."
    )
    assert "assignment" in described.notes[1]


# JAX and TensorFlow: a loss whose decisions are the reference's, so that what is tried is the way there and back.


def decided(question: Question) -> tuple[Array, Array, Array]:
    """Weight and target of every entry `[N, A, 5+C, H, W]`, and of the class term 1 where a class is paid."""
    batch = question.batch
    result = evaluate(batch, DARKNET)
    weight, target = np.zeros(result.t.shape), np.zeros(result.t.shape)
    paid = np.zeros_like(weight[:, :, 5:])
    height, width = result.t.shape[3:]
    weight[:, :, :4] = 0.01 * result.decisions.prior[:, :, None]
    target[:, :, :2] = 0.5
    weight[:, :, 4] = result.decisions.no_object
    for match in result.decisions.matches:
        n, k, j, i = match.predictor
        x, y, w, h, label = result.truths[n][match.truth]
        weight[n, k, :5, j, i] = [*[2 - w * h] * 4, 5]
        sizes = np.log([w * width, h * height] / batch.anchors[k])
        target[n, k, :5, j, i] = [x * width - i, y * height - j, *sizes, match.iou]
        paid[n, k, int(label), j, i] = 1
    return weight, target, paid


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("upstream", [1.0, -2.0])
def test_a_jax_loss_is_within_bounds(dtype: str, upstream: float) -> None:
    jax = pytest.importorskip("jax")

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        assert isinstance(rows, jax.Array)
        assert rows.shape == (2, 4, 5)
        assert str(predictions.dtype) == dtype
        wide = predictions.dtype if dtype == "float64" else "float32"
        weight, target, paid = (jax.numpy.asarray(array, dtype=wide) for array in decided(question))
        t = predictions.astype(wide).reshape(2, 2, 4, 2, 8).transpose(0, 3, 4, 1, 2)  # [N, A, 5+C, H, W]
        b = jax.numpy.concatenate([jax.nn.sigmoid(t[:, :, :2]), t[:, :, 2:4], jax.nn.sigmoid(t[:, :, 4:])], axis=2)
        squares = 0.5 * (weight * (b - target) ** 2)
        terms = {"squares": squares[:, :, :5].sum(), "class": -(paid * jax.nn.log_softmax(t[:, :, 5:], axis=2)).sum()}
        return terms["squares"] + terms["class"], terms

    question = rounded(ask(dtype, upstream=upstream))
    for either in (loss, jax.jit(loss, static_argnums=2)):
        adapter = from_jax(
            either,
            name="jax",
            layout=layouts.NHWC,
            truths=truths.Padded(capacity=4, fill=-1, columns="class x1 y1 x2 y2", unit="pixels"),
            answers=("gradient", "potential"),
            dtypes=(dtype,),
        )
        check(adapter.answer(question), question)


def rounded(question: Question) -> Question:
    """The question with predictions that its format holds exactly."""
    exact = question.batch.predictions
    if question.dtype == "bfloat16":
        exact = (exact.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    return dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=exact))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("upstream", [1.0, -2.0])
def test_a_tensorflow_loss_is_within_bounds(dtype: str, upstream: float) -> None:
    tf = pytest.importorskip("tensorflow")

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        flat, counts = rows
        assert flat.shape == (2, 2, 5)
        assert counts.numpy().tolist() == [2, 0]
        assert predictions.dtype.name == dtype
        wide = "float64" if dtype == "float64" else "float32"
        weight, target, paid = (tf.constant(array, dtype=wide) for array in decided(question))
        t = tf.transpose(tf.reshape(tf.cast(predictions, wide), (2, 2, 4, 2, 8)), (0, 3, 4, 1, 2))
        b = tf.concat([tf.sigmoid(t[:, :, :2]), t[:, :, 2:4], tf.sigmoid(t[:, :, 4:])], axis=2)
        squares = 0.5 * (weight * (b - target) ** 2)
        classes = paid * tf.nn.log_softmax(t[:, :, 5:], axis=2)
        return {"squares": tf.reduce_sum(squares[:, :, :5]), "class": -tf.reduce_sum(classes)}

    adapter = from_keras(
        loss,
        name="keras",
        layout=layouts.NHWC,
        truths=truths.Counted(unit="cells"),
        answers=("gradient", "potential"),
        dtypes=(dtype,),
    )
    question = rounded(ask(dtype, upstream=upstream))
    check(adapter.answer(question), question)


def test_a_tensorflow_loss_without_a_way_to_the_predictions_has_a_zero_gradient() -> None:
    tf = pytest.importorskip("tensorflow")
    answer = from_keras(lambda *_: tf.constant(1.0), name="deaf").answer(ask())
    assert answer.gradient is not None
    assert not answer.gradient.any()
