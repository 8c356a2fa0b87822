"""The report as an HTML page, and the maps of a case."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_spec import load_cases
from regionloss_spec.case import CASES, load_case
from regionloss_suite.cli.main import main
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.reports import html, maps
from regionloss_suite.reports.pictures import DIFFERENCES, exponent, shade
from regionloss_suite.reports.wording import set_in_html
from unit.suite.reports.made_up import (
    CASE,
    Page,
    departure,
    hostile,
    small,
)


@pytest.mark.parametrize("made", [small, hostile])
def test_the_page_loads_and_runs_nothing(made: object) -> None:
    text = html.render(made())  # type: ignore[operator]
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not {"src", "srcset", "style", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", re.sub(r"https?://\S+", "", text) if made is hostile else text)
    policy = page.all("meta")[1]["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_page_shows_foreign_words_as_words() -> None:
    page = Page(html.render(hostile()))
    assert "x<script>alert('1')</script>]]>&amp;\\n::error::100%" in page.text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page.text)


def test_the_page_links_lead_somewhere_and_no_id_stands_twice() -> None:
    page = Page(html.render(small()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(one["href"] or "").removeprefix("#") for one in page.all("a")]
    assert {"case-0", "assign.cell", "coord.small-box-weight"} <= set(links)
    assert set(links) <= set(ids)


def test_the_page_draws_the_failing_case_with_words_for_each_picture() -> None:
    case = load_case(CASES / f"{CASE}.json")
    anchors = len(case.batch.anchors)
    pictures = Page(html.render(small())).all("svg")
    labels = [picture["aria-label"] or "" for picture in pictures]
    assert [label.split(" ")[0] for label in labels].count("States") == anchors
    assert "1 responsible at (1, 1)" in labels[0]
    assert any("1 ignored at" in label for label in labels)

    answered = evaluate(case.batch, case.profile).gradient.copy()
    answered[0, 1, 1, 1] += 0.5
    drawn = html.render(small(), {CASE: (case, answered)})
    differences = drawn[drawn.index("<h4>Difference of the gradients") :]
    symbols = re.findall(r'<g class="d-\d"><title>([^<]*)</title><rect[^>]*/><text[^>]*>([^<]*)<', differences)
    # A recording differs from the reference by the rounding of float32 everywhere, which is not worth a number.
    assert [(title, symbol) for title, symbol in symbols if symbol not in ("", "·")] == [("cell (1, 1): 0.5", "−1")]
    page = Page(drawn)
    labels = [picture["aria-label"] or "" for picture in page.all("svg")]
    kinds = Counter(label.split(" of anchor")[0] for label in labels)
    assert set(kinds) >= {"States", "The no-object term", "The coordinates term", "Gradient"}
    assert set(kinds.values()) == {anchors}
    framed = [one for one in page.all("rect") if one.get("class") == "first"]
    assert len(framed) == len(kinds), "one in each kind of picture"
    assert "Difference of the gradients of anchor 0: largest 0.5 in cell (1, 1)" in labels
    assert "ty, anchor 0, cell (1, 1)" in page.text
    assert "anchor 0 wins" in page.text


def test_the_maps_show_what_each_predictor_pays() -> None:
    case = load_case(CASES / "hand-small-box-weight-1.json")  # one predictor is responsible, in cell (0, 0)
    assert case.expected.terms is not None
    drawn = maps.page_of(case)
    labels = [picture["aria-label"] for picture in Page(drawn).all("svg")]
    for name, words in (("coord", "coordinates"), ("object", "objectness"), ("class", "class")):
        paid = case.expected.terms[name]
        assert f"The {words} term of anchor 0: largest {paid:.2g} in cell (0, 0)" in labels
    assert f"The no-object term of anchor 0: largest {case.expected.terms['no_object']:.2g} in cell (0, 1)" in labels
    assert case.expected.gradient is not None
    largest = np.abs(case.expected.gradient).max()
    assert any(label.startswith(f"Gradient of anchor 0: largest {largest:.2g} in") for label in map(str, labels))
    assert "<p>Nobody pays for: prior.</p>" in drawn


def test_a_case_that_is_refused_has_no_maps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "hand-error-centre-in-pixels", "--html", "x.html"]) == 0
    assert "nothing to draw, and x.html is not written" in capsys.readouterr().out
    assert not (folder / "x.html").exists()
    assert main(["explain", "hand-cell-border", "--html", "y.html"]) == 0
    text = (folder / "y.html").read_text(encoding="utf-8")
    assert Page(text).all("svg")
    assert "Derivation" in text
    assert main(["explain", "hand-cell-border", "--html", "no/such/folder.html"]) == 2


def test_an_empty_batch_has_no_maps() -> None:
    assert "empty or too large" in maps.page_of(load_case(CASES / "hand-empty-batch.json"))


def test_the_page_takes_a_gradient_that_is_no_number() -> None:
    case = load_case(CASES / f"{CASE}.json")
    text = html.render(small(), {CASE: (case, np.full(case.batch.predictions.shape, np.nan))})
    assert ">∞</text>" in text


@pytest.mark.parametrize("number", range(0, len(list(CASES.glob("*.json"))), 9))
def test_the_page_is_drawn_for_every_kind_of_case(number: int) -> None:
    case = load_cases()[number] if number == 0 else load_case(sorted(CASES.glob("*.json"))[number])
    report = small()
    report.verdicts = [Verdict(clause="decode.size", level="MUST", verdict="deviating", first=departure(case=case.id))]
    assert Page(html.render(report, {case.id: (case, case.expected.gradient)})).text


@pytest.mark.parametrize(
    ("value", "shown", "dark"),
    [(0.0, "", 0), (3e-12, "−12", 1), (1e-9, "−9", 2), (0.02, "−2", 5), (7.0, "0", 6), (np.inf, "∞", 6)],
)
def test_a_difference_has_a_power_of_ten_and_a_shade(value: float, shown: str, dark: int) -> None:
    assert (exponent(value), shade(value, DIFFERENCES)) == (shown, dark)


def test_formulas_are_set_without_a_script() -> None:
    html = set_in_html(r"The `p` of $\lambda_{\mathrm{class}}\,e^{t_w} \ge 2^{-53}$ & <b>")
    assert html == (
        "The <code>p</code> of <i>λ<sub>class</sub> e<sup>t<sub>w</sub></sup> ≥ 2<sup>−53</sup></i> &amp; &lt;b&gt;"
    )
