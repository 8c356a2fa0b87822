"""Mistakes of the prior term (spec chapter 6)."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from regionloss.boxes import sigmoid, sigmoid_grad
from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_H, T_O, T_W, T_X, T_Y
from regionloss_adapters import Answer, Question
from regionloss_suite.mutants.mutant import Mutant, right
from regionloss_suite.mutants.tools import Answering, Given, Terms, as_if, asked, decided, needs, paid


def _counted_by_calls() -> Answering:
    """A counter inside the loss that counts batches."""
    calls = itertools.count(1)

    def answer(question: Question) -> Answer:
        answer = right(question)
        until = question.profile.prior_until
        images_seen = next(calls) if question.batch.images_seen >= until else question.batch.images_seen
        return (
            answer
            if images_seen >= until
            else right(
                dataclasses.replace(question, batch=dataclasses.replace(question.batch, images_seen=images_seen))
            )
        )

    return answer


def _sizes_decoded(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The decoded size compared with the anchor, in cells, instead of the raw outputs."""
    term, who = terms["prior"], np.nonzero(decisions.prior)
    q, weight = given.profile.squared_factor, given.profile.prior_weight
    for channel in (T_W, T_H):
        raw = given.t[:, :, channel][who]
        anchor = given.anchors[who[1], channel - T_W]
        needs(bool((raw < 300).all()), "sizes that do not overflow")
        term.pay_squared(who, channel, q, -weight, raw, 1.0)
        term.pay_squared(who, channel, q, weight, anchor * (np.exp(raw) - 1), anchor * np.exp(raw))


def _to_the_corner(terms: Terms, given: Given, decisions: Decisions) -> None:
    term, who = terms["prior"], np.nonzero(decisions.prior)
    q, weight = given.profile.squared_factor, given.profile.prior_weight
    for channel in (T_X, T_Y):
        raw = given.t[:, :, channel][who]
        term.pay_squared(who, channel, q, -weight, sigmoid(raw) - 0.5, sigmoid_grad(raw))
        term.pay_squared(who, channel, q, weight, sigmoid(raw), sigmoid_grad(raw))


def _ten_more(terms: Terms, given: Given, decisions: Decisions) -> None:
    if decisions.prior.any():
        terms["prior"].value[tuple(np.argwhere(decisions.prior)[0])] += 10.0


def _without_slope(terms: Terms, given: Given, decisions: Decisions) -> None:
    for channel in (T_X, T_Y):
        terms["prior"].gradient[:, :, channel] = -terms["prior"].delta[:, :, channel]


def _slope_on_sizes(terms: Terms, given: Given, decisions: Decisions) -> None:
    for channel in (T_W, T_H):
        terms["prior"].gradient[:, :, channel] *= sigmoid_grad(given.t[:, :, channel])


def _objectness_too(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    raw = given.t[:, :, T_O][who]
    q, weight = given.profile.squared_factor, given.profile.prior_weight
    terms["prior"].pay_squared(who, T_O, q, weight, sigmoid(raw) - 0.5, sigmoid_grad(raw))


def _classes_too(terms: Terms, given: Given, decisions: Decisions) -> None:
    who = np.nonzero(decisions.prior)
    q, weight = given.profile.squared_factor, given.profile.prior_weight
    for channel in range(CLASSES, given.t.shape[2]):
        terms["prior"].pay_squared(who, channel, q, weight, given.t[:, :, channel][who], 1.0)


def _weight_of_coordinates(question: Question) -> Answer:
    profile = question.profile
    return as_if(prior_weight=profile.prior_weight * profile.coord_weight)(question)


def _not_for_ignored(decisions: Decisions, given: Given) -> Decisions:
    return dataclasses.replace(decisions, prior=decisions.prior & ~decisions.ignored)


def _not_for_empty(decisions: Decisions, given: Given) -> Decisions:
    filled = np.array([len(rows) > 0 for rows in given.truths], dtype=bool)
    return dataclasses.replace(decisions, prior=decisions.prior & filled[:, None, None, None])


MUTANTS: list[Mutant] = [
    Mutant(
        id="prior-of-decoded-sizes",
        clause="prior.value",
        title="the prior compares decoded sizes with the anchor instead of the raw outputs with 0",
        answer=paid(_sizes_decoded),
    ),
    Mutant(
        id="warm-up-adds-ten",
        clause="prior.value",
        title="10 is added to the loss while the prior is paid",
        after="experiencor/keras-yolo2",
        answer=paid(_ten_more),
    ),
    Mutant(
        id="prior-at-the-corner",
        clause="prior.gradient",
        title="the prior pulls the centre to the corner of the cell",
        answer=paid(_to_the_corner),
    ),
    Mutant(
        id="prior-without-slope",
        clause="prior.gradient",
        title="the derivative of the logistic function is missing in the gradient of the prior",
        answer=paid(_without_slope),
    ),
    Mutant(
        id="prior-slope-on-sizes",
        clause="prior.gradient",
        title="the gradient of the prior on tw and th contains a derivative of the logistic function",
        answer=paid(_slope_on_sizes),
    ),
    Mutant(
        id="prior-weight-one",
        clause="prior.weight",
        title="the prior has the weight 1",
        after="marvis/pytorch-yolo2",
        answer=as_if(prior_weight=1.0),
    ),
    Mutant(
        id="prior-weight-rooted",
        clause="prior.weight",
        title="the prior has the square root of its weight",
        after="eavise-kul/lightnet",
        answer=as_if(prior_weight=lambda profile: profile.prior_weight**0.5),
    ),
    Mutant(
        id="prior-weight-squared",
        clause="prior.weight",
        title="the prior has the square of its weight",
        after="andy-yun/pytorch-0.4-yolov3",
        answer=as_if(prior_weight=lambda profile: profile.prior_weight**2),
    ),
    Mutant(
        id="prior-weight-of-coordinates",
        clause="prior.weight",
        title="the prior is multiplied by the weight of the coordinates as well",
        answer=_weight_of_coordinates,
    ),
    Mutant(
        id="prior-of-objectness",
        clause="prior.coordinates-only",
        title="the prior also pulls the objectness towards one half",
        answer=paid(_objectness_too),
    ),
    Mutant(
        id="prior-of-classes",
        clause="prior.coordinates-only",
        title="the prior also pulls the class outputs towards 0",
        answer=paid(_classes_too),
    ),
    Mutant(
        id="prior-at-the-limit",
        clause="prior.limit",
        title="the prior is still paid at the limit",
        answer=as_if(prior_until=lambda profile: profile.prior_until + 1 if profile.prior_until else 0),
    ),
    Mutant(
        id="prior-until-5000",
        clause="prior.limit",
        title="the prior ends at 5000 images",
        after="leetenki/YOLOv2",
        answer=as_if(prior_until=5000),
    ),
    Mutant(
        id="no-prior",
        clause="prior.limit",
        title="there is no prior",
        after="uvipen/Yolo-v2-pytorch",
        answer=as_if(prior_until=0),
    ),
    Mutant(
        id="counter-created-anew",
        clause="prior.limit",
        title="the counter is created anew in each call, and the prior never ends",
        after="experiencor/keras-yolo2#198",
        answer=asked(lambda batch, given: dataclasses.replace(batch, images_seen=len(given.t))),
    ),
    Mutant(
        id="counter-of-calls",
        clause="prior.limit",
        title="the loss counts its own calls instead of the images seen in training",
        after="experiencor/keras-yolo2",
        answer=_counted_by_calls(),
    ),
    Mutant(
        id="batch-counted-twice",
        clause="prior.images-seen",
        title="the images of the batch are counted again inside the loss",
        answer=asked(lambda batch, given: dataclasses.replace(batch, images_seen=batch.images_seen + len(given.t))),
    ),
    Mutant(
        id="prior-on-top-of-truth",
        clause="prior.not-responsible",
        title="the prior is added on top of the truth at responsible predictors",
        answer=as_if(prior_applies="every-predictor"),
    ),
    Mutant(
        id="prior-of-responsible-left-out",
        clause="prior.every-predictor",
        title="a responsible predictor pays no prior although it should",
        profile="formula",
        answer=as_if(prior_applies="not-responsible"),
    ),
    Mutant(
        id="prior-not-for-ignored",
        clause="prior.ignored-too",
        title="an ignored predictor pays no prior",
        answer=decided(_not_for_ignored),
    ),
    Mutant(
        id="prior-not-for-empty-images",
        clause="prior.value",
        title="an image without truths pays no prior",
        answer=decided(_not_for_empty),
    ),
]
