"""Losses that are off by a little everywhere."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from meta.unlisted.mistake import BOTH, EVERYTHING, SCALAR, TERMS, Mistake, always
from regionloss.boxes import decode, iou, sigmoid
from regionloss.terms import T_H, T_W, T_X, T_Y
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import patched, right
from regionloss_suite.mutants.tools import Answering, Given, asked, inside, read, reading, spoilt, with_decode, with_iou


def _each_number(change: Callable[[Array], Array]) -> Answering:
    """Gradient, potential and terms changed number by number."""

    def spoil(answer: Answer, question: Question) -> Answer:
        assert answer.gradient is not None
        assert answer.potential is not None
        assert answer.terms is not None
        with np.errstate(all="ignore"):
            return dataclasses.replace(
                answer,
                gradient=change(answer.gradient),
                potential=float(change(np.array(answer.potential))),
                terms={name: float(change(np.array(value))) for name, value in answer.terms.items()},
            )

    return spoilt(spoil)


def _digits(count: int) -> Callable[[Array], Array]:
    """Numbers as text with some significant digits."""
    return lambda values: np.array([float(f"{value:.{count}g}") for value in values.ravel()]).reshape(values.shape)


def _gradient(change: Callable[[Array, Question], Array]) -> Answering:
    def spoil(answer: Answer, question: Question) -> Answer:
        assert answer.gradient is not None
        with np.errstate(all="ignore"):
            return dataclasses.replace(answer, gradient=change(answer.gradient, question))

    return spoilt(spoil)


def _in_bytes(gradient: Array, question: Question) -> Array:
    """127 steps on either side."""
    step = np.abs(gradient).max(initial=0.0) / 127
    return np.round(gradient / step) * step if step else gradient


def _scaled_in_half(gradient: Array, question: Question) -> Array:
    """Divided by 1024 in half precision, and multiplied again."""
    return (gradient / 1024).astype(np.float16).astype(np.float64) * 1024


def _noisy(gradient: Array, question: Question) -> Array:
    """The same noise for the same batch."""
    seed = zlib.crc32(np.ascontiguousarray(question.batch.predictions).tobytes())
    return np.asarray(gradient * (1 + 1e-4 * np.random.default_rng(seed).standard_normal(gradient.shape)))


def _fresh_noise() -> Answering:
    draw = np.random.default_rng(0)

    def answer(question: Question) -> Answer:
        said = right(question)
        assert said.gradient is not None
        noise = 1e-4 * draw.standard_normal(said.gradient.shape)
        return dataclasses.replace(said, gradient=said.gradient + noise * (said.gradient != 0))

    return answer


def _regularised(value: Callable[[Array], Array], slope: Callable[[Array], Array], channels: Any) -> Answering:
    """A penalty on some outputs `[N, A, channels, H, W]`, in the scalar and in the gradient, but in no term."""

    def answer(question: Question) -> Answer:
        t = read(question).t
        said = right(question)
        assert said.gradient is not None
        assert said.potential is not None
        gradient = said.gradient.reshape(t.shape).copy()
        gradient[:, :, channels] += question.upstream * slope(t[:, :, channels])
        return dataclasses.replace(
            said,
            gradient=gradient.reshape(said.gradient.shape),
            potential=said.potential + float(value(t[:, :, channels]).sum()),
        )

    return answer


def _half_truths(table: Array, image: int, given: Given) -> Array:
    table[:, :4] = table[:, :4].astype(np.float16)
    table[:, :2] = inside(table[:, :2])
    table[:, 2:4] = np.maximum(table[:, 2:4], 2.0**-24)
    return table


def _jittered(table: Array, image: int, given: Given) -> Array:
    """Every box moved by up to a thousandth, as by an augmentation that was left on."""
    draw = np.random.default_rng(image)
    table[:, :4] *= 1 + 1e-3 * draw.uniform(-1, 1, (len(table), 4))
    table[:, :2] = inside(table[:, :2])
    table[:, 2:4] = np.minimum(table[:, 2:4], 1.0)
    return table


_PLACES = np.linspace(-16, 16, 1025)


def _from_a_table(t: Array) -> Array:
    """σ between entries of a table with steps of 1/32."""
    return np.asarray(np.interp(t, _PLACES, sigmoid(_PLACES)))


def _cheap_exponential(t: Array, anchors: Array) -> Array:
    """e^t as (1 + t/4096)^4096."""
    boxes = decode(t, anchors)
    _, _, height, width = t.shape
    with np.errstate(all="ignore"):
        cheap = np.maximum(1 + t[:, 2:4] / 4096, 0.0) ** 4096
    boxes[2] = cheap[:, 0] * anchors[:, 0, None, None] / width
    boxes[3] = cheap[:, 1] * anchors[:, 1, None, None] / height
    return boxes


def _half_iou(boxes: Array, truth: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(iou(boxes, truth)).astype(np.float16).astype(np.float64)


def _half_sigmoid(t: Array) -> Array:
    return np.asarray(sigmoid(t)).astype(np.float16).astype(np.float64)


def _everywhere_sigmoid(piece: Callable[[Array], Array]) -> Answering:
    return patched(boxes__sigmoid=piece, terms__sigmoid=piece, classes__sigmoid=piece)


BOUND = ("numerics.bound", "numerics.float64")
SINGLE = ("numerics.bound", "numerics.float32")


def _mistake(
    id: str,
    title: str,
    answer: Answering,
    clauses: tuple[str, ...] = BOUND,
    family: tuple[str, ...] = (),
    answers: tuple[str, ...] = EVERYTHING,
    begin: Callable[[], Answering] | None = None,
    dtype: str = "float64",
    profile: str = "darknet",
) -> Mistake:
    return Mistake(
        id=id,
        kind="everywhere",
        title=title,
        right=clauses,
        family=family,
        profile=profile,
        answers=answers,
        dtype=dtype,
        begin=begin or always(answer),
    )


MISTAKES = [
    _mistake(
        "six-digits", "every number passes through text with six digits", _each_number(_digits(6)), profile="uvipen"
    ),
    _mistake(
        "three-decimals",
        "every number of the answer is rounded to three decimals",
        _each_number(lambda values: np.round(values, 3)),
        SINGLE,
        answers=BOTH,
        dtype="float32",
    ),
    _mistake(
        "gradient-in-bytes",
        "the gradient is sent in 127 steps of its largest element",
        _gradient(_in_bytes),
        SINGLE,
        dtype="float32",
    ),
    _mistake(
        "gradient-scaled-in-half",
        "the gradient is divided by 1024 in half precision and multiplied again",
        _gradient(_scaled_in_half),
        (*BOUND, "numerics.underflow"),
        ("numerics.float16",),
        BOTH,
    ),
    _mistake(
        "predictions-in-half",
        "the predictions are rounded to half precision first",
        asked(
            lambda batch, given: dataclasses.replace(
                batch,
                predictions=np.clip(batch.predictions, -65504, 65504).astype(np.float16).astype(np.float64),
            )
        ),
        family=("numerics.float16",),
    ),
    _mistake(
        "truths-in-half",
        "the boxes of the truths are rounded to half precision",
        reading(_half_truths),
        (*BOUND, "notation.truth-units"),
        ("coord.centre-target", "coord.size-target", "numerics.float16"),
    ),
    _mistake(
        "anchors-in-half",
        "the anchors are rounded to half precision",
        asked(lambda batch, given: dataclasses.replace(batch, anchors=given.anchors.astype(np.float16).astype(float))),
        (*BOUND, "notation.anchor-units"),
        ("coord.size-target", "decode.size"),
    ),
    _mistake(
        "iou-in-half",
        "every IoU is rounded to half precision",
        patched(**with_iou(_half_iou)),
        (*BOUND, "iou.definition"),
        ("object.iou-target",),
        BOTH,
    ),
    _mistake(
        "logistic-in-half",
        "the logistic function is rounded to half precision",
        _everywhere_sigmoid(_half_sigmoid),
        (*BOUND, "decode.objectness", "decode.centre"),
        answers=TERMS,
    ),
    _mistake(
        "logistic-from-a-table",
        "the logistic function is interpolated in a table",
        _everywhere_sigmoid(_from_a_table),
        (*BOUND, "decode.objectness", "decode.centre"),
        ("numerics.underflow",),
    ),
    _mistake(
        "cheap-exponential",
        "the exponential of sizes is a power of 1 + t/4096",
        patched(**with_decode(_cheap_exponential)),
        (*BOUND, "decode.size"),
        answers=BOTH,
    ),
    _mistake(
        "gradient-with-noise",
        "the gradient has noise of 1e-4, the same for the same batch",
        _gradient(_noisy),
        profile="darknet-2016",
    ),
    _mistake(
        "gradient-with-fresh-noise",
        "the gradient has noise of 1e-4, another in each call",
        right,
        ("numerics.repeatability", *BOUND),
        begin=_fresh_noise,
        answers=BOTH,
    ),
    _mistake(
        "boxes-jittered",
        "every truth is moved by up to a thousandth, as by augmentation",
        reading(_jittered),
        ("notation.truth-units", "numerics.bound", "domain.no-repair"),
        ("coord.centre-target", "coord.size-target", "numerics.float64"),
    ),
    _mistake(
        "outputs-shrunk-by-size",
        "0.001 times the absolute value of every output is added to the loss",
        _regularised(lambda t: 1e-3 * np.abs(t), lambda t: 1e-3 * np.sign(t), slice(None)),
        ("table.structural-zeros", "scale.potential"),
        answers=BOTH,
    ),
    _mistake(
        "box-outputs-decay",
        "0.0005 times the square of tx, ty, tw and th is added to the loss",
        _regularised(lambda t: 5e-4 * t**2, lambda t: 1e-3 * t, [T_X, T_Y, T_W, T_H]),
        ("table.structural-zeros", "scale.potential"),
        ("constant.max-iou", "prior.limit", "coord.only-responsible"),
    ),
    _mistake(
        "decay-in-the-scalar-only",
        "0.0005 times the square of every output is added to the scalar",
        _regularised(lambda t: 5e-4 * t**2, lambda t: 0 * t, slice(None)),
        ("scale.potential",),
        (),
        SCALAR,
    ),
]
