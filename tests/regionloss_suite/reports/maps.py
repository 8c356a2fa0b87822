"""The answer of a conforming loss to an image, as HTML: the indicators, each term and the gradient over the grid."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np

from regionloss import Result, evaluate
from regionloss_spec import Case
from regionloss_spec.clause import TERMS
from regionloss_suite.judging.report import printable
from regionloss_suite.reports.explain import WORDS, explain
from regionloss_suite.reports.page import page, safe
from regionloss_suite.reports.pictures import (
    AMOUNTS,
    MOST_CELLS,
    STATES,
    Place,
    exponent,
    indicator_pictures,
    value_pictures,
)

#: With more cells than this, maps of several images would make the page too long.
_LARGE = 100


def page_of(case: Case) -> str:
    """A complete HTML file about one case: the text of `explain`, and the maps of its images.

    Raises:
        DomainError: the input of the case lies outside the domain.
    """
    derivation = escape("\n".join(printable(line) for line in explain(case)))
    head = [f"<h1>{safe(case.id)}</h1>", f"<p>{safe(case.title)}</p>"]
    return page(case.id, [*head, *maps_of(case), f'<h2>Derivation</h2><pre tabindex="0">{derivation}</pre>'])


def maps_of(case: Case) -> list[str]:
    """The maps of every image of a case, or of the first one alone if the grid is large.

    Raises:
        DomainError: the input of the case lies outside the domain.
    """
    result = evaluate(case.batch, case.profile)
    images, _, _, height, width = result.t.shape
    shown = range(images if height * width <= _LARGE else min(images, 1))
    drawn = [line for image in shown if drawable(result, image) for line in maps(case, result, Place(image))]
    return drawn or ["<p>Its grid is empty or too large for a picture.</p>"]


def drawable(result: Result, image: int) -> bool:
    """Whether the image exists, with a grid that is neither empty nor too large for a picture."""
    images, anchors, _, height, width = result.t.shape
    return bool(image < images and anchors > 0 and 0 < height * width <= MOST_CELLS)


def maps(case: Case, result: Result, place: Place) -> list[str]:
    """The HTML of a `drawable` image.

    Args:
        case: the question to the loss.
        result: the answer of a conforming loss.
        place: the image, and the predictor to frame.
    """
    t, until = case.batch.images_seen, case.profile.prior_until
    prior = f"1{{t &lt; {until}}} is {'on' if t < until else 'off'}: t&nbsp;=&nbsp;{t}"
    gradient = np.abs(result.gradient.reshape(result.t.shape)[place.image]).max(axis=1)
    return [
        f"<h4>Indicators, image {place.image}</h4>",
        f"<p>What a conforming loss decides, for each anchor in each cell. {prior}.</p>",
        _states_legend(result, place),
        row(indicator_pictures(result, place)),
        f"<h4>Terms and gradient, image {place.image}</h4>",
        "<p>What each predictor pays for each term, with its weight and before the reduction, and the largest |∂L/∂t| "
        "of its channels; the number in a cell is its power of ten.</p>",
        shades_legend(AMOUNTS),
        *_terms(result, place),
        "<details><summary>Gradient</summary>",
        row(value_pictures(result, gradient, "Gradient", place, limits=AMOUNTS)),
        "</details>",
    ]


def row(pictures: list[str]) -> str:
    """Pictures side by side."""
    return f'<div class="pictures">{"".join(pictures)}</div>'


def shades_legend(limits: Sequence[float]) -> str:
    """The legend of the shades of a map."""
    texts = [f"10<sup>{exponent(limit)}</sup>" if limit != 1 else "1" for limit in limits]
    names = ["none", f"below {texts[0]}"]
    names += [f"{low} to {high}" for low, high in pairwise(texts)]
    names.append(f"{texts[-1]} or more")
    items = [f'<li><span class="swatch d-{shade}"></span>{name}' for shade, name in enumerate(names)]
    return f'<ul class="map-legend">{"".join(items)}</ul>'


def _terms(result: Result, place: Place) -> list[str]:
    lines, nothing = [], []
    for name in TERMS:
        paid = result.terms[name].value[place.image]
        if not paid.any():
            nothing.append(WORDS[name])
            continue
        lines += [
            f"<details><summary>The {WORDS[name]} term, {paid.sum():.6g}</summary>",
            row(value_pictures(result, np.abs(paid), f"The {WORDS[name]} term", place, limits=AMOUNTS)),
            "</details>",
        ]
    return [*lines, *([f"<p>Nobody pays for: {', '.join(nothing)}.</p>"] if nothing else [])]


def _states_legend(result: Result, place: Place) -> str:
    silent = bool(result.decisions.class_only[place.image])
    items = [
        f'<li><span class="swatch s-{state}">{symbol}</span>{state}: {meaning}'
        for state, (symbol, meaning) in STATES.items()
        if (state == "silent") == silent
    ]
    items.append('<li><span class="swatch truth"></span>a truth')
    if place.row is not None:
        items.append('<li><span class="swatch first"></span>first departure')
    return f'<ul class="map-legend">{"".join(items)}</ul>'
