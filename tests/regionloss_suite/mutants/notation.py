"""Mistakes of layout, units and decoding (spec chapters 2 and 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from unittest import mock

import numpy as np

from regionloss.boxes import decode, sigmoid
from regionloss.classes import log_softmax
from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_O, Term, no_object_term, object_term
from regionloss_adapters import Answer, Question
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched, right
from regionloss_suite.mutants.tools import Given, Terms, as_if, asked, inside, needs, paid, read, reading, with_decode


def _shared_objectness(question: Question) -> Answer:
    given = read(question)
    images, anchors, channels, height, width = shape = given.t.shape
    t = given.t.copy()
    t[:, :, T_O] = t[:, :1, T_O]
    batch = dataclasses.replace(question.batch, predictions=t.reshape(images, anchors * channels, height, width))
    answer = right(dataclasses.replace(question, batch=batch))
    assert answer.gradient is not None
    gradient = answer.gradient.reshape(shape).copy()
    gradient[:, 0, T_O] = gradient[:, :, T_O].sum(axis=1)
    gradient[:, 1:, T_O] = 0.0
    return dataclasses.replace(answer, gradient=gradient.reshape(answer.gradient.shape))


def _channels_read_as(places: Callable[[int, int], Array]) -> Callable[[Question], Answer]:
    """Channels of another layout: `places(A, 5+C)` says where channel `[A, 5+C]` is read."""

    def answer(question: Question) -> Answer:
        _, anchors, channels, _, _ = read(question).t.shape
        order = places(anchors, channels).ravel()
        predictions = np.asarray(question.batch.predictions)[:, order]
        answer = right(
            dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=predictions))
        )
        assert answer.gradient is not None
        gradient = np.empty_like(answer.gradient)
        gradient[:, order] = answer.gradient
        return dataclasses.replace(answer, gradient=gradient)

    return answer


def _anchors_innermost(anchors: int, channels: int) -> Array:
    return np.arange(anchors * channels).reshape(channels, anchors).T


def _objectness_first(anchors: int, channels: int) -> Array:
    order = [1, 2, 3, 4, 0, *range(5, channels)]
    return np.arange(anchors * channels).reshape(anchors, channels)[:, order]


def _classes_first(anchors: int, channels: int) -> Array:
    """MXNet: the classes of all anchors, then the boxes of all anchors."""
    classes = channels - 5
    of_class = np.arange(anchors * classes).reshape(anchors, classes)
    of_box = anchors * classes + np.arange(anchors * 5).reshape(anchors, 5)
    return np.concatenate([of_box, of_class], axis=1)


def _grid_misshapen(question: Question) -> Answer:
    given = read(question)
    images, anchors, channels, height, width = given.t.shape
    predictions = given.t.reshape(images, anchors * channels, width, height)
    answer = right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, predictions=predictions)))
    assert answer.gradient is not None

    def unfold(places: tuple[tuple[int, ...], ...] | None) -> tuple[tuple[int, ...], ...]:
        flat = ((place[:-2], place[-2] * height + place[-1]) for place in places or ())
        return tuple((*before, cell // width, cell % width) for before, cell in flat)

    return dataclasses.replace(
        answer,
        gradient=answer.gradient.reshape(images, anchors * channels, height, width),
        responsible=unfold(answer.responsible),
        ignored=unfold(answer.ignored),
    )


def _decode_by_the_other_side(t: Array, anchors: Array) -> Array:
    _, _, height, width = t.shape
    return np.asarray(decode(t, anchors) * np.reshape([width / height, height / width] * 2, (4, 1, 1, 1)))


def _decode_raw_centre(t: Array, anchors: Array) -> Array:
    boxes = decode(t, anchors)
    _, _, height, width = t.shape
    boxes[0] += (t[:, 0] - sigmoid(t[:, 0])) / width
    boxes[1] += (t[:, 1] - sigmoid(t[:, 1])) / height
    return boxes


def _decode_linspace(t: Array, anchors: Array) -> Array:
    boxes = decode(t, anchors)
    _, _, height, width = t.shape
    boxes[0] += np.linspace(0, 1, width) - np.arange(width) / width
    boxes[1] += (np.linspace(0, 1, height) - np.arange(height) / height)[:, None]
    return boxes


def _decode_square(t: Array, anchors: Array) -> Array:
    t = t.copy()
    t[:, 3] = t[:, 2]
    return decode(t, anchors)


def _decode_without_exponential(t: Array, anchors: Array) -> Array:
    t = t.copy()
    t[:, 2:4] = np.log(np.maximum(1 + t[:, 2:4], 1e-3))
    return decode(t, anchors)


def _corners_as_centres(table: Array, image: int, given: Given) -> Array:
    table[:, :2] = inside(table[:, :2] + table[:, 2:4] / 2)
    return table


def _corners(table: Array, image: int, given: Given) -> Array:
    first, second = table[:, :2].copy(), table[:, 2:4].copy()
    table[:, :2] = inside((first + second) / 2)
    table[:, 2:4] = np.maximum(np.abs(second - first), 1e-3)
    return table


def _transposed(table: Array, image: int, given: Given) -> Array:
    return table[:, [1, 0, 3, 2, 4]]


def _linear_objectness(terms: Terms, given: Given, decisions: Decisions) -> Terms:
    profile = given.profile
    needs(profile.objectness == "logistic", "an objectness of its own")
    needs(profile.object_target_gradient == "constant", "a constant target")
    with (
        mock.patch("regionloss.terms.sigmoid", np.asarray),
        mock.patch("regionloss.terms.sigmoid_grad", np.ones_like),
    ):
        no_object = no_object_term(given.t, decisions, profile)
        objects = object_term(given.t, given.truths, given.anchors, decisions, profile)
    return {**terms, "no_object": no_object, "object": objects}


def _softmax_over(gather: Callable[[Array, int], list[tuple[int, int]]]) -> Callable[[Question], Answer]:
    """A cross-entropy over more channels than the classes of one predictor."""

    def change(terms: Terms, given: Given, decisions: Decisions) -> Terms:
        profile = given.profile
        needs(profile.class_term == "cross-entropy" and profile.objectness == "logistic", "a softmax of classes")
        term = Term.zero(given.t)
        for match in decisions.matches:
            if not match.pays_class:
                continue
            n, k, j, i = match.predictor
            places = gather(given.t, k)
            logits = np.array([given.t[n, anchor, channel, j, i] for anchor, channel in places])
            true = places.index((k, CLASSES + int(given.row(match)[4])))
            log_p = log_softmax(logits)
            term.value[match.predictor] -= profile.class_weight * float(log_p[true])
            for place, ((anchor, channel), log_one) in enumerate(zip(places, log_p, strict=True)):
                slope = profile.class_weight * (float(np.exp(log_one)) - (place == true))
                term.gradient[n, anchor, channel, j, i] += slope
                term.delta[n, anchor, channel, j, i] -= slope
        return {**terms, "class": term}

    return paid(change)


def _all_channels(t: Array, anchor: int) -> list[tuple[int, int]]:
    return [(anchor, channel) for channel in range(t.shape[2])]


def _all_anchors(t: Array, anchor: int) -> list[tuple[int, int]]:
    return [(k, channel) for k in range(t.shape[1]) for channel in range(CLASSES, t.shape[2])]


MUTANTS: list[Mutant] = [
    Mutant(
        id="shared-objectness",
        clause="notation.predictor",
        title="all anchors of a cell share the objectness of the first",
        answer=_shared_objectness,
    ),
    Mutant(
        id="anchors-innermost",
        clause="notation.channel-order",
        title="the channels are read with the anchors innermost, [5 + C, A] instead of [A, 5 + C]",
        answer=_channels_read_as(_anchors_innermost),
    ),
    Mutant(
        id="objectness-first",
        clause="notation.channel-order",
        title="the objectness is read before the box, in the order to, tx, ty, tw, th",
        answer=_channels_read_as(_objectness_first),
    ),
    Mutant(
        id="classes-first",
        clause="notation.channel-order",
        title="the classes of all anchors are read before the boxes of all anchors",
        after="MXNet _contrib_Yolo2Output",
        answer=_channels_read_as(_classes_first),
    ),
    Mutant(
        id="grid-width-for-height",
        clause="notation.grid-axes",
        title="W and H are swapped when the grid is reshaped, so cells move on a grid that is not square",
        after="allanzelener/YAD2K#51 and #86",
        answer=_grid_misshapen,
    ),
    Mutant(
        id="decoded-by-the-other-side",
        clause="notation.grid-axes",
        title="the decoded box is divided by H across and by W down",
        after="experiencor/keras-yolo2#244",
        answer=patched(**with_decode(_decode_by_the_other_side)),
    ),
    Mutant(
        id="anchors-as-fractions",
        clause="notation.anchor-units",
        title="the anchors are used as fractions of the image",
        after="experiencor/keras-yolo2#87",
        answer=asked(
            lambda batch, given: dataclasses.replace(batch, anchors=given.anchors * np.array(given.t.shape[:2:-1]))
        ),
    ),
    Mutant(
        id="anchors-in-pixels",
        clause="notation.anchor-units",
        title="the anchors are treated as pixels and divided by the stride of 32",
        after="AlexeyAB/darknet#733",
        answer=asked(lambda batch, given: dataclasses.replace(batch, anchors=given.anchors / 32)),
    ),
    Mutant(
        id="corner-for-centre",
        clause="notation.truth-units",
        title="x and y of a truth are read as its upper left corner",
        answer=reading(_corners_as_centres),
    ),
    Mutant(
        id="corners-for-sizes",
        clause="notation.truth-units",
        title="a truth is read as its left, upper, right and lower edge",
        answer=reading(_corners),
    ),
    Mutant(
        id="truth-transposed",
        clause="notation.truth-units",
        title="x and y, w and h of a truth are swapped",
        answer=reading(_transposed),
    ),
    Mutant(
        id="raw-centre",
        clause="decode.centre",
        title="the centre is decoded without the logistic function",
        answer=patched(**with_decode(_decode_raw_centre)),
    ),
    Mutant(
        id="offsets-over-w-minus-one",
        clause="decode.centre",
        title="the offsets of the cells are k/(W - 1) instead of k/W, evenly from 0 to 1",
        answer=patched(**with_decode(_decode_linspace)),
    ),
    Mutant(
        id="height-from-tw",
        clause="decode.size",
        title="width and height are both decoded from tw",
        answer=patched(**with_decode(_decode_square)),
    ),
    Mutant(
        id="size-without-exponential",
        clause="decode.size",
        title="the anchor is multiplied by 1 + t instead of e^t",
        answer=patched(**with_decode(_decode_without_exponential)),
    ),
    Mutant(
        id="objectness-in-softmax",
        clause="decode.objectness",
        title="the objectness joins the softmax of the classes",
        after="background=1 of pjreddie/darknet",
        answer=as_if(objectness="background"),
    ),
    Mutant(
        id="objectness-linear",
        clause="decode.objectness",
        title="the objectness is the raw output, as in YOLOv1",
        answer=paid(_linear_objectness),
    ),
    Mutant(
        id="softmax-over-all-channels",
        clause="decode.class-probabilities",
        title="the softmax of the classes runs over all 5 + C channels of the predictor",
        answer=_softmax_over(_all_channels),
    ),
    Mutant(
        id="softmax-over-all-anchors",
        clause="decode.class-probabilities",
        title="the softmax of the classes runs over the classes of all anchors of the cell",
        answer=_softmax_over(_all_anchors),
    ),
]
