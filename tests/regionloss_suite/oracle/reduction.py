"""Undo a declared reduction of an answer, visibly (`scale.framework-mean`)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss_adapters import Answer, Description


def multiplied_out(answer: Answer, description: Description, images: int, paid: int, *, divided: str = "sum") -> Answer:
    """An answer without the reduction and the factor that the adapter declares.

    Args:
        answer: the adapter's answer.
        description: `per-image` is multiplied by `images`, `per-object` by `paid`; `factor` is divided out.
        images: number of images of the batch.
        paid: number of its truths whose box is paid.
        divided: the reduction of the profile; if the adapter declares the same one, it is kept.
    """
    divisor = {"sum": 1, "per-image": max(images, 1), "per-object": max(paid, 1)}[description.reduction]
    divisor = 1 if description.reduction == divided else divisor
    scale = divisor / description.factor
    if scale == 1.0:
        return answer
    return dataclasses.replace(
        answer,
        gradient=None if answer.gradient is None else np.asarray(answer.gradient, dtype=np.float64) * scale,
        curvature=None if answer.curvature is None else np.asarray(answer.curvature, dtype=np.float64) * scale,
        potential=None if answer.potential is None else answer.potential * scale,
        terms=None if answer.terms is None else {name: value * scale for name, value in answer.terms.items()},
    )
