"""Mistakes of weights, factors, reduction and of the three scalars (spec chapter 10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss.decisions import Decisions
from regionloss.terms import CLASSES, T_O, Term
from regionloss_adapters import Answer, Question
from regionloss_suite.mutants.mutant import Mutant
from regionloss_suite.mutants.tools import Answering, Given, Terms, as_if, multiplied, needs, paid, read, spoilt

SQUARED = ("no_object", "prior", "coord", "object")


def _times(factor: Callable[[Given], float]) -> Answering:
    """Loss, terms and gradient multiplied by a factor."""
    return spoilt(lambda answer, question: multiplied(answer, factor(read(question))))


def _images(given: Given) -> int:
    return max(len(given.t), 1)


def _truths(given: Given) -> int:
    return max(sum(len(rows) for rows in given.truths), 1)


def _filled(given: Given) -> int:
    return max(sum(len(rows) > 0 for rows in given.truths), 1)


def _divided(term: Term, count: int) -> None:
    for array in (term.value, term.gradient, term.delta):
        array /= max(count, 1)


def _by_own_count(terms: Terms, given: Given, decisions: Decisions) -> None:
    _divided(terms["no_object"], int(decisions.no_object.sum()))


def _by_shared_count(terms: Terms, given: Given, decisions: Decisions) -> None:
    _divided(terms["no_object"], int(decisions.responsible.sum()))


def _means(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Every term divided by the number of predictors that pay it."""
    for name, who in (("no_object", decisions.no_object), ("prior", decisions.prior)):
        _divided(terms[name], int(who.sum()))
    for name in ("coord", "object", "class"):
        _divided(terms[name], int(decisions.responsible.sum()))


def _score_by_images(answer: Answer, question: Question) -> Answer:
    """The loss is divided by the number of images, but its gradient is not."""
    return dataclasses.replace(multiplied(answer, 1 / max(len(question.batch.truths), 1)), gradient=answer.gradient)


def _factor_on_classes(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The factor q multiplies the class term as well."""
    needs(given.profile.class_term not in ("squared-error", "squared-linear"), "a class term without q")
    for array in (terms["class"].value, terms["class"].gradient, terms["class"].delta):
        array *= given.profile.squared_factor


def _factor_only_in_gradient(terms: Terms, given: Given, decisions: Decisions) -> None:
    needs(given.profile.objectness == "logistic" and given.profile.squared_factor > 0, "squared residuals")
    for name in SQUARED:
        terms[name].value[:] /= given.profile.squared_factor


def _two_of_the_derivative(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The 2 of the derivative is missing: q·λ·r instead of 2q·λ·r."""
    needs(given.profile.objectness == "logistic", "squared residuals")
    for name in SQUARED:
        terms[name].gradient[:, :, :CLASSES] /= 2
        terms[name].delta[:, :, :CLASSES] /= 2


def _cost_as_loss(answer: Answer, question: Question) -> Answer:
    needs(question.profile.printed_cost != "potential", "a printed cost that is not the loss")
    return dataclasses.replace(answer, potential=answer.printed_cost)


def _without_classes(answer: Answer, question: Question) -> Answer:
    assert answer.potential is not None
    assert answer.terms is not None
    return dataclasses.replace(answer, potential=answer.potential - answer.terms["class"])


def _cost_by_images(answer: Answer, question: Question) -> Answer:
    assert answer.printed_cost is not None
    return dataclasses.replace(answer, printed_cost=answer.printed_cost / max(len(question.batch.truths), 1))


def _cost_without_objectness_of_background(terms: Terms, given: Given, decisions: Decisions) -> None:
    """The printed cost counts only the responsible predictors."""
    needs(given.profile.printed_cost == "residuals", "a cost made of residuals")
    terms["no_object"].delta[:, :, T_O] = 0.0


def _rooted_cost(answer: Answer, question: Question) -> Answer:
    assert answer.printed_cost is not None
    return dataclasses.replace(answer, printed_cost=float(np.sqrt(answer.printed_cost)))


MUTANTS: list[Mutant] = [
    Mutant(
        id="coordinate-weight-squared",
        clause="scale.coord-weight",
        title="λ_coord multiplies the residuals and so is squared",
        after="andy-yun/pytorch-0.4-yolov3",
        answer=as_if(coord_weight=lambda profile: profile.coord_weight**2),
    ),
    Mutant(
        id="coordinate-weight-of-v1",
        clause="scale.coord-weight",
        title="λ_coord is the 5 of YOLOv1",
        after="marvis/pytorch-yolo2#37",
        answer=as_if(coord_weight=5.0),
    ),
    Mutant(
        id="objectness-weight-squared",
        clause="scale.object-weight",
        title="λ_obj multiplies the residuals and so is squared, 25",
        after="andy-yun/pytorch-0.4-yolov3",
        answer=as_if(object_weight=lambda profile: profile.object_weight**2),
    ),
    Mutant(
        id="objectness-weight-rooted",
        clause="scale.object-weight",
        title="the root of λ_obj is taken twice, so the weight is its square root",
        after="marvis/pytorch-yolo2#164",
        answer=as_if(object_weight=lambda profile: profile.object_weight**0.5),
    ),
    Mutant(
        id="no-object-weight-twice",
        clause="scale.no-object-weight",
        title="λ_noobj is applied twice",
        answer=as_if(no_object_weight=lambda profile: profile.no_object_weight**2),
    ),
    Mutant(
        id="no-object-weight-of-v1",
        clause="scale.no-object-weight",
        title="λ_noobj is the ½ of YOLOv1",
        after="marvis/pytorch-yolo2#37",
        answer=as_if(no_object_weight=0.5),
    ),
    Mutant(
        id="no-object-by-its-count",
        clause="scale.no-object-weight",
        title="the no-object term is divided by the number of predictors that pay it",
        after="experiencor/keras-yolo2",
        answer=paid(_by_own_count),
    ),
    Mutant(
        id="no-object-by-a-shared-count",
        clause="scale.no-object-weight",
        title="the no-object term is divided by the number of responsible predictors",
        answer=paid(_by_shared_count),
    ),
    Mutant(
        id="class-weight-left-out",
        clause="scale.class-weight",
        title="λ_class is left out",
        answer=as_if(class_weight=1.0),
    ),
    Mutant(
        id="class-weight-doubled",
        clause="scale.class-weight",
        title="the class term counts twice",
        after="uvipen/Yolo-v2-pytorch",
        answer=as_if(class_weight=lambda profile: 2 * profile.class_weight),
    ),
    Mutant(
        id="class-term-halved",
        clause="scale.squared-factor",
        title="the factor ½ of the squares multiplies the class term as well",
        answer=paid(_factor_on_classes),
    ),
    Mutant(
        id="squares-not-halved",
        clause="scale.squared-factor",
        title="the squares have the factor 1, and their gradient the 2 of the derivative",
        after="uvipen/Yolo-v2-pytorch",
        answer=as_if(squared_factor=lambda profile: 0.5 if profile.squared_factor == 1 else 1.0),
    ),
    Mutant(
        id="squares-halved-in-gradient-only",
        clause="scale.squared-factor",
        title="the values lack the factor of the squares that the gradient has",
        answer=paid(_factor_only_in_gradient),
    ),
    Mutant(
        id="derivative-without-two",
        clause="scale.squared-factor",
        title="the 2 of the derivative of a square is missing",
        profile="formula",
        answer=paid(_two_of_the_derivative),
    ),
    Mutant(
        id="mean-over-images",
        clause="scale.sum",
        title="the loss is divided by the number of images",
        after="eavise-kul/lightnet",
        answer=as_if(reduction="per-image"),
    ),
    Mutant(
        id="mean-over-truths",
        clause="scale.sum",
        title="the loss is divided by the number of truths",
        after="longcw/yolo2-pytorch#67",
        answer=_times(lambda given: 1 / _truths(given)),
    ),
    Mutant(
        id="mean-over-half-the-batch",
        clause="scale.sum",
        title="the loss is divided by half the number of images",
        after="experiencor/keras-yolo2#349",
        answer=_times(lambda given: 2 / _images(given)),
    ),
    Mutant(
        id="means-of-terms",
        clause="scale.sum",
        title="every term is divided by the number of predictors that pay it",
        after="experiencor/keras-yolo2",
        answer=paid(_means),
    ),
    Mutant(
        id="score-by-images",
        clause="scale.sum",
        title="the loss is divided by the number of images, but its gradient is not",
        after="deeplearning4j Yolo2OutputLayer",
        answer=spoilt(_score_by_images),
    ),
    Mutant(
        id="times-workers",
        clause="scale.sum",
        title="the loss is multiplied by the number of workers, here 4",
        after="ultralytics/yolov5#8301",
        answer=_times(lambda given: 4.0),
    ),
    Mutant(
        id="sum-for-mean",
        clause="scale.per-image",
        title="the loss is not divided by the number of images although it should be",
        options={"reduction": "per-image"},
        answer=as_if(reduction="sum"),
    ),
    Mutant(
        id="mean-over-filled-images",
        clause="scale.per-image",
        title="the loss is divided by the number of images with a truth",
        options={"reduction": "per-image"},
        answer=_times(lambda given: _images(given) / _filled(given)),
    ),
    Mutant(
        id="printed-cost-as-loss",
        clause="scale.potential",
        title="the sum of the squared deltas is returned as the loss",
        after="AlexeyAB/darknet#821 and #1695",
        answer=spoilt(_cost_as_loss),
    ),
    Mutant(
        id="loss-without-classes",
        clause="scale.potential",
        title="the class term is missing in the loss but not in the gradient",
        answer=spoilt(_without_classes),
    ),
    Mutant(
        id="cost-of-gradient",
        clause="scale.printed-cost",
        title="the printed cost uses the gradient instead of residuals",
        after="AlexeyAB/darknet",
        answer=as_if(printed_cost="gradient"),
    ),
    Mutant(
        id="cost-of-residuals",
        clause="scale.printed-cost",
        title="the printed cost uses residuals instead of the gradient",
        after="pjreddie/darknet",
        profile="darknet-2016",
        answer=as_if(printed_cost="residuals"),
    ),
    Mutant(
        id="cost-is-the-loss",
        clause="scale.printed-cost",
        title="the loss is printed instead of the sum of the squared deltas",
        answer=as_if(printed_cost="potential"),
    ),
    Mutant(
        id="cost-by-images",
        clause="scale.printed-cost",
        title="the printed cost is divided by the number of images",
        options={"reduction": "per-image"},
        answer=spoilt(_cost_by_images),
    ),
    Mutant(
        id="cost-is-a-length",
        clause="scale.printed-cost",
        title="the printed cost is the length of the delta instead of its square",
        answer=spoilt(_rooted_cost),
    ),
    Mutant(
        id="cost-without-background",
        clause="scale.printed-cost",
        title="the printed cost leaves out the predictors without an object",
        answer=paid(_cost_without_objectness_of_background),
    ),
]
