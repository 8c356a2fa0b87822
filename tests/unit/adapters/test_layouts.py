from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionloss_adapters import CannotAnswerError, layouts
from regionloss_adapters.layouts import NCHW, Layout
from regionloss_spec import Batch
from regionloss_spec.batch import Array

N, A, C, H, W = 2, 3, 4, 2, 5
E = 5 + C
ANCHORS = np.array([[1.0, 2.0], [2.0, 1.5], [0.75, 0.5]])
NAMED = {name: value for name, value in vars(layouts).items() if isinstance(value, Layout)}
#: Where each named layout has entry e of anchor a of cell (h, w) of image n.
PLACES: dict[str, Any] = {
    "NCHW": lambda n, a, e, h, w: (n, a * E + e, h, w),
    "NHWC": lambda n, a, e, h, w: (n, h, w, a * E + e),
    "NAHWE": lambda n, a, e, h, w: (n, a, h, w, e),
    "NHWAE": lambda n, a, e, h, w: (n, h, w, a, e),
    "NAEHW": lambda n, a, e, h, w: (n, a, e, h, w),
    "NAE_CELLS": lambda n, a, e, h, w: (n, a, e, h * W + w),
    "N_PREDICTORS_E": lambda n, a, e, h, w: (n, (h * W + w) * A + a, e),
    "CHANNEL_MAJOR": lambda n, a, e, h, w: (n, e * A + a, h, w),
}
CENTRES, SIZES = ("raw", "sigmoid", "cells", "fraction"), ("raw", "exp", "cells", "fraction")
KINDS: Any = itertools.product(CENTRES, SIZES, ("raw", "sigmoid"), ("raw", "softmax"))
ACTIVATED = [pytest.param(Layout(xy=xy, wh=wh, o=o, c=c), id=f"{xy}-{wh}-{o}-{c}") for xy, wh, o, c in KINDS]


def a_batch(seed: int = 0, tree: tuple[int, ...] | None = None) -> Batch:
    predictions = np.random.default_rng(seed).normal(size=(N, A * E, H, W))
    return Batch(predictions, (np.zeros((0, 5)),) * N, ANCHORS, C, 0, tree)


def test_every_named_layout_has_its_places_stated() -> None:
    assert set(NAMED) == set(PLACES)


@pytest.mark.parametrize("name", NAMED)
def test_named_layout_puts_every_number_where_its_name_says(name: str) -> None:
    batch = a_batch()
    numbers = NAMED[name].forward(batch)
    assert numbers.size == batch.predictions.size
    assert numbers.flags.c_contiguous
    for n, a, e, h, w in itertools.product(range(N), range(A), range(E), range(H), range(W)):
        assert numbers[PLACES[name](n, a, e, h, w)] == batch.predictions[n, a * E + e, h, w]


def test_channels_may_come_in_any_order() -> None:
    batch = a_batch()
    t = batch.predictions.reshape(N, A, E, H, W)
    class_first = NCHW.replace(channels="cxywho").forward(batch).reshape(t.shape)
    assert np.array_equal(class_first, t[:, :, [5, 6, 7, 8, 0, 1, 2, 3, 4]])
    objectness_first = Layout("n h w a e", channels="oyxhwc").forward(batch)
    assert np.array_equal(objectness_first, t.transpose(0, 3, 4, 1, 2)[..., [4, 1, 0, 3, 2, 5, 6, 7, 8]])


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(data=st.data())
def test_backward_undoes_any_order_exactly(data: st.DataObject) -> None:
    letters = data.draw(st.permutations("naehw"))
    start, length = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 5))
    axes = (
        " ".join(letters[:start])
        + f"({' '.join(letters[start : start + length])})"
        + " ".join(letters[start + length :])
    )
    layout = Layout(axes, channels="".join(data.draw(st.permutations("xywhoc"))))
    batch = a_batch()
    assert np.array_equal(layout.backward(layout.forward(batch), batch), batch.predictions)


def test_what_is_given_shares_nothing_with_the_batch() -> None:
    for layout in NAMED.values():
        batch = a_batch()
        kept = batch.predictions.copy()
        layout.forward(batch)[...] = 0
        assert np.array_equal(batch.predictions, kept)


def test_activated_channels_are_what_the_formula_says() -> None:
    batch = a_batch()
    t = batch.predictions.reshape(N, A, E, H, W)
    column, row = np.arange(W), np.arange(H)[:, None]
    logistic = 1 / (1 + np.exp(-t))
    softmax = np.exp(t[:, :, 5:]) / np.exp(t[:, :, 5:]).sum(axis=2, keepdims=True)

    def of(**kinds: Any) -> Array:
        return Layout("n a e h w", **kinds).forward(batch)

    for got, expected in (
        (of(xy="sigmoid")[:, :, :2], logistic[:, :, :2]),
        (of(xy="cells")[:, :, 0], column + logistic[:, :, 0]),
        (of(xy="fraction")[:, :, 1], (row + logistic[:, :, 1]) / H),
        (of(wh="exp")[:, :, 2:4], np.exp(t[:, :, 2:4])),
        (of(wh="cells")[:, :, 3], ANCHORS[:, 1, None, None] * np.exp(t[:, :, 3])),
        (of(wh="fraction")[:, :, 2], ANCHORS[:, 0, None, None] * np.exp(t[:, :, 2]) / W),
        (of(o="sigmoid")[:, :, 4], logistic[:, :, 4]),
        (of(c="softmax")[:, :, 5:], softmax),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert np.array_equal(of(xy="sigmoid", wh="exp", o="sigmoid")[:, :, 5:], t[:, :, 5:])


@pytest.mark.parametrize("activated", ACTIVATED)
@pytest.mark.parametrize("axes", ["n (a e) h w", "n h w a e", "n (h w a) e"])
def test_chain_rule_holds_against_finite_differences(activated: Layout, axes: str) -> None:
    layout = activated.replace(axes=axes, channels="oyxwhc")
    batch = a_batch(1)
    direction = np.random.default_rng(2).normal(size=batch.predictions.shape)
    numbers = layout.forward(batch)
    linear, curved = np.random.default_rng(3).normal(size=(2, *numbers.shape))

    def loss(step: float) -> float:
        moved = layout.forward(Batch(batch.predictions + step * direction, batch.truths, ANCHORS, C, 0))
        return float((linear * moved + 0.5 * curved * moved**2).sum())

    gradient = layout.backward(linear + curved * numbers, batch)
    assert gradient.shape == batch.predictions.shape
    step = 1e-3  # the fourth-order difference has an error of step⁴ here, and of 1e-16/step from rounding
    slope = (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layout", ACTIVATED)
def test_chain_rule_is_that_of_autograd_in_every_element(layout: Layout) -> None:
    torch = pytest.importorskip("torch")
    batch = a_batch(4)
    raw = torch.tensor(batch.predictions, requires_grad=True)
    t = raw.reshape(N, A, E, H, W)
    xy, wh, o, c = t[:, :, :2], t[:, :, 2:4], t[:, :, 4:5], t[:, :, 5:]
    anchors = torch.tensor(ANCHORS)[:, :, None, None]
    grid = torch.tensor([W, H], dtype=torch.float64)[:, None, None]
    offset = torch.stack(torch.meshgrid(torch.arange(W), torch.arange(H), indexing="xy"))
    parts = [
        {
            "raw": xy,
            "sigmoid": xy.sigmoid(),
            "cells": offset + xy.sigmoid(),
            "fraction": (offset + xy.sigmoid()) / grid,
        },
        {"raw": wh, "exp": wh.exp(), "cells": anchors * wh.exp(), "fraction": anchors * wh.exp() / grid},
        {"raw": o, "sigmoid": o.sigmoid()},
        {"raw": c, "softmax": c.softmax(dim=2)},
    ]
    chosen = zip(parts, (layout.xy, layout.wh, layout.o, layout.c), strict=True)
    activated = torch.cat([kinds[kind] for kinds, kind in chosen], dim=2).reshape(N, A * E, H, W)
    upstream = torch.tensor(np.random.default_rng(5).normal(size=activated.shape))
    (expected,) = torch.autograd.grad(activated, raw, upstream)
    np.testing.assert_allclose(layout.forward(batch), activated.detach().numpy(), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(layout.backward(upstream.numpy(), batch), expected.numpy(), rtol=1e-12, atol=1e-14)


def test_a_zero_gradient_stays_exactly_zero_through_every_activation() -> None:
    batch = a_batch()
    batch.predictions[0] = 300 * np.sign(batch.predictions[0])
    layout = Layout(xy="fraction", wh="raw", o="sigmoid", c="softmax")
    assert not layout.backward(np.zeros(batch.predictions.shape), batch).any()


@pytest.mark.parametrize(("dtype", "logit"), [("float32", 100.0), ("float64", 800.0)])
def test_a_size_or_probability_that_the_format_does_not_hold_is_not_asked(dtype: str, logit: float) -> None:
    for kind in ({"wh": "exp"}, {"wh": "cells"}, {"c": "softmax"}):
        for sign in (1, -1):
            batch = a_batch()
            channel = E + (2 if "wh" in kind else 6)
            batch.predictions[1, channel, 1, 2] = sign * logit
            with pytest.raises(CannotAnswerError, match=rf"image 1, cell \(1, 2\), anchor 1: .* {dtype} does not"):
                Layout(**kind).forward(batch, dtype)  # type: ignore[arg-type]  # the values are the right words


def test_saturated_centres_and_objectness_are_asked_all_the_same() -> None:
    batch = a_batch()
    batch.predictions[:, ::E] = 1000.0
    batch.predictions[:, 4::E] = -1000.0
    numbers = Layout("n a e h w", xy="sigmoid", o="sigmoid").forward(batch, "float32")
    assert (numbers[:, :, 0] == 1).all()
    assert (numbers[:, :, 4] == 0).all()


def test_a_softmax_over_all_classes_is_not_asked_about_a_tree() -> None:
    with pytest.raises(CannotAnswerError, match="tree"):
        Layout(c="softmax").forward(a_batch(tree=(-1, -1, 0, 0)))


def test_only_the_canonical_layout_takes_channels_that_do_not_fit() -> None:
    batch = Batch(np.zeros((1, 7, 2, 2)), (), ANCHORS, C, 0)
    assert NCHW.forward(batch).shape == (1, 7, 2, 2)
    with pytest.raises(CannotAnswerError, match=r"shape \[1, 7, 2, 2\].* 3 anchors and 4 classes"):
        layouts.NHWC.forward(batch)


def test_a_batch_without_images_has_a_layout() -> None:
    empty = Batch(np.zeros((0, A * E, H, W)), (), ANCHORS, C, 0)
    for layout in NAMED.values():
        assert layout.backward(layout.forward(empty), empty).shape == empty.predictions.shape


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"axes": "n h w a"}, "'n h w a'"),
        ({"axes": "n (h w) (a e) c"}, "expected each of n, a, e, h, w once"),
        ({"axes": "n (a e h w"}, "once"),
        ({"axes": "n a e) h w"}, "once"),
        ({"axes": "n ((a e) h) w"}, "once"),
        ({"axes": "n n a e h w"}, "once"),
        ({"channels": "xywhc"}, "'xywhc'"),
        ({"xy": "tanh"}, "xy is 'tanh', expected one of raw, sigmoid, cells, fraction"),
        ({"c": "sigmoid"}, "c is 'sigmoid', expected one of raw, softmax"),
    ],
)
def test_a_layout_that_does_not_exist_is_refused_when_it_is_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        Layout(**wrong)
