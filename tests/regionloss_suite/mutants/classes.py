"""Mistakes of what the class term is, and of its numerics (spec chapters 9 and 12)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regionloss.boxes import sigmoid, sigmoid_grad
from regionloss.classes import Tree, class_term, softmax
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched
from regionloss_suite.mutants.tools import Answering, as_if, needs, softmax_only

Paid = tuple[float, Array, Array]
#: The signature of `regionloss.classes.class_term`.
Paying = Callable[[Array, Array, list[int], float, Profile, Tree | None], Paid]


def _instead(pay: Paying) -> Answering:
    return patched(terms__class_term=pay)


def _log_of_rounded(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """The logarithm of p + 1e-6 in the value."""
    value, gradient, delta = class_term(z, t_o, labels, weight, profile, tree)
    if profile.class_term == "logistic":
        b, target = sigmoid(z), np.isin(np.arange(len(z)), labels)
        return -weight * float(np.log(np.where(target, b, 1 - b) + 1e-6).sum()), gradient, delta
    if profile.class_term == "tree":
        # Of every group that pays, the target node is the one with a negative gradient.
        p = softmax(z, tree)
        return -weight * float(np.log(p[gradient < 0] + 1e-6).sum()), gradient, delta
    needs(profile.class_term in ("cross-entropy", "focal") and profile.objectness == "logistic", "a logarithm")
    p_t = softmax(z)[labels[-1]]
    by = 0.5 * (1 - p_t) ** 2 if profile.class_term == "focal" else 1.0
    return -weight * float(by * np.log(p_t + 1e-6)) if value else 0.0, gradient, delta


def _value_of_square(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """The squared error as the value of a gradient that is the cross-entropy's."""
    softmax_only(profile)
    _, gradient, delta = class_term(z, t_o, labels, weight, profile, tree)
    return profile.squared_factor * weight * float(((gradient / weight) ** 2).sum()) if weight else 0.0, gradient, delta


def _softmax_twice(z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None) -> Paid:
    """Probabilities passed to a function that expects logits."""
    softmax_only(profile)
    p = softmax(z)
    value, slope, _ = class_term(p, t_o, labels, weight, profile, tree)
    gradient = p * (slope - (slope * p).sum())
    return value, gradient, -gradient


def _slope_of_softmax(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """Softmax minus one-hot multiplied by the softmax derivative again."""
    softmax_only(profile)
    value, slope, delta = class_term(z, t_o, labels, weight, profile, tree)
    p = softmax(z)
    return value, p * (slope - (slope * p).sum()), delta


def _naive(z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None) -> Paid:
    """Exponentials of the unshifted logits in single precision, which overflow from 89 on."""
    softmax_only(profile)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        raised = np.where(z > 88.7, np.inf, np.exp(np.minimum(z, 88.7)))
        if np.isfinite(raised).all() and raised.sum() > 0:
            return class_term(z, t_o, labels, weight, profile, tree)
        p = raised / raised.sum()
        target = np.zeros(len(z))
        target[labels] = 1.0
        return -weight * float(np.log(p[labels[-1]])), weight * (p - target), -weight * (p - target)


def _clipped_logits(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    return class_term(np.clip(z, -50, 50), t_o, labels, weight, profile, tree)


def _one_class_logistic(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    softmax = profile.class_term in ("cross-entropy", "squared-error", "focal") and profile.objectness == "logistic"
    return class_term(
        z, t_o, labels, weight, profile.replace(class_term="logistic") if softmax and len(z) == 1 else profile, tree
    )


def _one_class_silent(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    return class_term(z, t_o, labels, 0.0 if len(z) == 1 else weight, profile, tree)


def _focal_without_alpha(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    needs(profile.class_term == "focal", "a focal class term")
    return class_term(z, t_o, labels, 2 * weight, profile, tree)


def _logistic_squared(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> Paid:
    """A squared error of logistic outputs, with their derivative."""
    needs(profile.class_term == "logistic", "logistic classes")
    target = np.zeros(len(z))
    target[labels] = 1.0
    residual = sigmoid(z) - target
    q = profile.squared_factor
    slope = 2 * q * weight * residual
    return q * weight * float((residual**2).sum()), slope * sigmoid_grad(z), -slope


MUTANTS: list[Mutant] = [
    Mutant(
        id="class-squared-error",
        clause="class.cross-entropy",
        title="the class term is a squared error through the softmax",
        after="longcw/yolo2-pytorch#31, AlexeyAB/darknet#450",
        answer=as_if(class_term="squared-error"),
    ),
    Mutant(
        id="class-value-squared",
        clause="class.cross-entropy",
        title="the value is a squared error, the gradient that of the cross-entropy",
        answer=_instead(_value_of_square),
    ),
    Mutant(
        id="class-logistic",
        clause="class.cross-entropy",
        title="each class is an independent output with binary cross-entropy",
        after="YOLOv3",
        answer=as_if(class_term="logistic"),
    ),
    Mutant(
        id="class-slope-of-softmax",
        clause="class.gradient",
        title="softmax minus one-hot is multiplied by the derivative of the softmax again",
        answer=_instead(_slope_of_softmax),
    ),
    Mutant(
        id="softmax-twice",
        clause="class.gradient",
        title="probabilities are passed to a function that expects logits, so the softmax is applied twice",
        answer=_instead(_softmax_twice),
    ),
    Mutant(
        id="softmax-overflows",
        clause="class.large-logits",
        title="the softmax does not subtract the largest logit, and overflows in single precision",
        after="allanzelener/YAD2K#124",
        answer=_instead(_naive),
    ),
    Mutant(
        id="class-logits-clipped",
        clause="class.large-logits",
        title="class outputs are clipped to ±50",
        answer=_instead(_clipped_logits),
    ),
    Mutant(
        id="one-class-logistic",
        clause="class.one-class",
        title="a single class is a logistic output with target 1",
        answer=_instead(_one_class_logistic),
    ),
    Mutant(
        id="one-class-silent",
        clause="class.one-class",
        title="a single class pays nothing, although it is not a softmax",
        options={"class_term": "logistic"},
        answer=_instead(_one_class_silent),
    ),
    Mutant(
        id="cross-entropy-for-square",
        clause="class.squared-error",
        title="the class term is a cross-entropy instead of a squared error",
        profile="formula",
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="softmax-for-linear",
        clause="class.squared-linear",
        title="the squared error is taken after a softmax instead of on raw outputs",
        profile="darknet-2016",
        options={"class_term": "squared-linear"},
        answer=as_if(class_term="squared-error"),
    ),
    Mutant(
        id="softmax-for-logistic",
        clause="class.logistic",
        title="the classes share a softmax instead of being independent outputs",
        options={"class_term": "logistic", "class_collision": "replace"},
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="logistic-squared",
        clause="class.logistic",
        title="logistic classes pay a squared error instead of a binary cross-entropy",
        options={"class_term": "logistic"},
        answer=_instead(_logistic_squared),
    ),
    Mutant(
        id="cross-entropy-for-focal",
        clause="class.focal",
        title="a class that is already right has its full weight",
        profile="darknet-2016",
        options={"class_term": "focal"},
        answer=as_if(class_term="cross-entropy"),
    ),
    Mutant(
        id="focal-without-alpha",
        clause="class.focal",
        title="the factor ½ of the focal loss is missing",
        profile="darknet-2016",
        options={"class_term": "focal"},
        answer=_instead(_focal_without_alpha),
    ),
    Mutant(
        id="log-of-rounded-probability",
        clause="numerics.log-of-zero",
        title="a small number is added inside the logarithm of the probability",
        after="allanzelener/YAD2K#124",
        answer=_instead(_log_of_rounded),
    ),
]
