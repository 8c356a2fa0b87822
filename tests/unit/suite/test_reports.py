"""The report in its other forms: right for who reads them, and safe whatever an adapter says."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from regionloss import evaluate
from regionloss_spec import load_cases
from regionloss_spec.case import CASES, load_case
from regionloss_suite.cli.main import main
from regionloss_suite.judging.report import CONFORMING, REGRESSED, Report
from regionloss_suite.judging.reproduce import Commands
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.reports import badge, diff, html, junit, maps, markdown
from regionloss_suite.reports.annotations import render as annotate
from regionloss_suite.reports.load import StoredReportError, read_report
from regionloss_suite.reports.pictures import DIFFERENCES, exponent, shade
from regionloss_suite.reports.wording import sentence, set_in_html

HOSTILE = "x<script>alert('1')</script>]]>&amp;\n::error::100%,\r\x1b[2J\x00`|*\u202e\ud800 onload=\"x\" <img src=//e>"
CASE = "pj-ignored-same-cell"


def departure(**changed: object) -> Difference:
    place = {"image": 0, "row": 1, "column": 1, "anchor": 0}
    said = {"case": CASE, "dtype": "float32", "quantity": "ty gradient", "got": 1.0, "expected": 1.82, "bound": 3e-7}
    return Difference(**{**said, **place, **changed})  # type: ignore[arg-type]


def small() -> Report:
    """One of each: conforming, deviating with a follower, expected, not answerable, a SHOULD that deviates."""
    return Report(
        "mine:Loss",
        "darknet",
        2,
        [
            Verdict(clause="decode.centre", level="MUST", verdict="conforming", cases=2),
            Verdict(clause="assign.cell", level="MUST", verdict="deviating", cases=1, follows="coord.small-box-weight"),
            Verdict(
                clause="prior.weight", level="MUST", verdict="expected", cases=1, first=departure(), reason="known"
            ),
            Verdict(
                clause="coord.small-box-weight",
                level="MUST",
                verdict="deviating",
                cases=1,
                first=departure(),
                looks_like="profile darknet-2016",
            ),
            Verdict(clause="scale.potential", level="MUST", verdict="not-answerable", reason="no potential"),
            Verdict(clause="statistics.class", level="SHOULD", verdict="deviating", cases=1, first=departure()),
        ],
        notes=("Answers only its gradient.",),
        version="1.2.3",
    )


def hostile() -> Report:
    """A report every foreign word of which is hostile."""
    first = departure(case=HOSTILE, dtype=HOSTILE, quantity=HOSTILE, got=HOSTILE, expected=HOSTILE)
    return Report(
        HOSTILE,
        HOSTILE,
        1,
        [
            Verdict(
                clause=clause,
                level=level,
                verdict=found,
                first=first,
                looks_like=HOSTILE,
                reason=HOSTILE,
                follows=HOSTILE,
            )
            for clause, level, found in (
                ("decode.size", "MUST", "deviating"),
                (HOSTILE, "SHOULD", "deviating"),
                ("prior.weight", "MUST", "expected"),
                ("scale.potential", "MUST", "not-answerable"),
            )
        ],
        crashes={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
        stale=(HOSTILE,),
        version=HOSTILE,
    )


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_terminal_shows_failures_and_what_could_not_be_judged_and_the_rest_on_request() -> None:
    def clauses(lines: list[str]) -> list[str]:
        return [line.split()[1] for line in lines if line[:1] in ("✓", "✗", "↳", "!", "·")]

    report = small()
    shown, every = clauses(report.lines(colour=False)), clauses(report.lines(every=True, colour=False))
    kinds = {verdict.clause: verdict.verdict for verdict in report.verdicts}
    assert [kinds[clause] for clause in shown] == ["expected", "not-answerable", "deviating", "deviating"]
    assert every[: len(kinds)] == list(kinds)


def test_verdicts_are_folded_under_what_they_follow_on_the_terminal() -> None:
    lines = small().lines(every=True, colour=False)
    said = "image 0, cell (1, 1), anchor 0 · ty gradient 1.000, expected 1.820 ± 3e-7 · looks like profile darknet-2016"
    at = lines.index(f"✗ coord.small-box-weight deviates · {said}")
    assert lines[at + 1 : at + 3] == [f"  first seen: case {CASE}, in float32", "  1 clause follows from it"]
    assert any(line.startswith("↳ assign.cell ") and line.endswith("follows coord.small-box-weight") for line in lines)
    assert not any(line.startswith("✗ assign.cell deviates") for line in lines)
    assert "note: Answers only its gradient." in lines
    assert lines[-1] == (
        "mine:Loss (profile darknet): not conforming · "
        "6 clauses: 1 conforming, 3 deviating, 1 expected, 1 not-answerable · 2 cases"
    )


def test_an_adapter_cannot_steer_the_terminal_or_begin_a_workflow_command() -> None:
    text = "\n".join(hostile().lines(colour=False))
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ud800]", text)
    assert not re.search(r"^\s*::", text, re.MULTILINE)


def test_a_stored_report_comes_back_as_it_was(tmp_path: Path) -> None:
    before = hostile()
    before.verdicts.append(
        Verdict(
            clause="decode.centre",
            level="MUST",
            verdict="deviating",
            properties=("padding",),
            first=departure(got=float("-inf"), bound=float("inf")),
        )
    )
    before.write_json(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no report: $"),
        ('{"adapter": "x"}', "no report: $: 'profile' is a required property"),
        (json.dumps(small().to_json() | {"cases": "2"}), "no report: $.cases: '2' is not of type 'integer'"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(StoredReportError, match=re.escape(message)):
        read_report(tmp_path / "report.json")


def test_junit_has_one_test_for_each_clause_with_its_id_and_level() -> None:
    suite = ElementTree.fromstring(junit.render(small())).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "0",
        "skipped": "4",
    }
    case = next(one for one in suite.iter("testcase") if one.get("name") == "coord.small-box-weight")
    told = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert told == {"clause": "coord.small-box-weight", "level": "MUST", "verdict": "deviating", "cases": "1"}
    failure = case.find("failure")
    assert failure is not None
    assert "ty gradient 1.000, expected 1.820 ± 3e-7 · looks like" in (failure.get("message") or "")
    assert sentence("coord.small-box-weight") in (failure.text or "")
    skipped = {one.get("name"): one.find("skipped") for one in suite.iter("testcase")}
    assert skipped["decode.centre"] is None
    why = skipped["scale.potential"]
    assert why is not None
    assert why.get("message") == "not-answerable: no potential"
    follower = skipped["assign.cell"]
    assert follower is not None
    assert (follower.get("message") or "").startswith("follows from coord.small-box-weight · assign.cell deviates")


def test_junit_fails_a_must_that_only_follows_from_what_does_not_decide() -> None:
    report = small()
    report.verdicts = [
        Verdict(clause="statistics.class", level="SHOULD", verdict="deviating", first=departure()),
        Verdict(clause="decode.size", level="MUST", verdict="deviating", first=departure(), follows="statistics.class"),
    ]
    suite = ElementTree.fromstring(junit.render(report)).find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"got": 1.0, "expected": 1.0 + 2e-6}, "ty gradient 1.000000, expected 1.000002 ± 3e-7"),
        ({"got": float("nan")}, "ty gradient nan, expected 1.820 ± 3e-7"),
        ({"got": 0.25, "expected": 0.0, "bound": 0.0}, "ty gradient 0.2500, expected 0 exactly"),
        ({"bound": 9.7e-8}, "ty gradient 1.000, expected 1.820 ± 1e-7"),
        ({"bound": float("inf")}, "ty gradient 1.000, expected 1.820 ± inf"),
        (
            {"quantity": "error", "got": "an answer", "expected": "a refusal", "bound": None},
            "an answer, expected a refusal",
        ),
    ],
)
def test_a_departure_is_told_with_as_many_digits_as_it_needs(changed: dict[str, object], said: str) -> None:
    verdict = Verdict(clause="decode.size", level="MUST", verdict="deviating", first=departure(**changed))
    assert verdict.sentence == f"decode.size deviates · image 0, cell (1, 1), anchor 0 · {said}"


def test_commands_end_a_failure_and_survive_storage(tmp_path: Path) -> None:
    report = small()
    commands = {"reproduce": "regionloss check mine:Loss --cases x", "explain": "regionloss explain x"}
    report.verdicts[3] = dataclasses.replace(report.verdicts[3], **commands)  # type: ignore[arg-type]
    lines = report.lines(colour=False)
    assert "  reproduce: regionloss check mine:Loss --cases x" in lines
    assert "  explain: regionloss explain x" in lines
    report.write_json(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    for text in (junit.render(report), html.render(report), markdown.render(report), "".join(annotate(report))):
        assert "regionloss check mine:Loss --cases x" in text


def test_junit_stays_xml_whatever_an_adapter_says() -> None:
    suite = ElementTree.fromstring(junit.render(hostile()).encode("utf-8")).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "6"
    told = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert "<script>alert('1')</script>]]>&amp;\n::error::100%" in (told["adapter"] or "")
    assert next(suite.iter("error")).get("type") == "crashed"


def test_annotations_are_one_line_each_and_decode_to_what_was_said() -> None:
    lines = annotate(hostile())
    assert len(lines) == 4
    for line in lines:
        command, title, message = re.fullmatch(r"::(error|warning) title=([^:,\r\n]*)::([^\r\n]*)", line).groups()  # type: ignore[union-attr]
        assert command in ("error", "warning")
        assert re.fullmatch(r"(?:[^%]|%(?:25|0A|0D|3A|2C))*", title + message)
        assert "\x1b" not in line
    assert "%0A%3A%3Aerror%3A%3A100%25%2C%0D" in lines[0]


def test_annotations_leave_out_what_only_follows_and_weigh_by_level() -> None:
    lines = annotate(small())
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert lines[0].endswith(f"looks like profile darknet-2016%0Afirst seen: case {CASE}%0Afollowed by assign.cell")


def test_the_markdown_summary_fits_a_screen_and_quotes_the_clause() -> None:
    assert markdown.render(small()) == (
        "### ❌ `mine:Loss` as `darknet`: not conforming\n"
        "\n"
        "6 clauses: 1 conforming, 3 deviating, 1 expected, 1 not-answerable; 2 cases; regionloss `1.2.3`\n"
        "\n"
        "| clause | what it requires | what was found |\n"
        "| --- | --- | --- |\n"
        f"| ✗ `coord.small-box-weight` MUST | {sentence('coord.small-box-weight')} | `{departure()}`"
        "<br>looks like `profile darknet-2016`<br>1 more follows from it |\n"
        f"| ✗ `statistics.class` SHOULD | {sentence('statistics.class')} | `{departure()}` |\n"
    )
    many = small()
    many.verdicts = [small().verdicts[3]] * 30
    for number, verdict in enumerate(many.verdicts):
        many.verdicts[number] = Verdict(**{**vars(verdict), "clause": f"clause.{number}"})
    assert "… and 22 clauses deviate" in markdown.render(many)
    assert len(markdown.render(many).splitlines()) < 20


def test_markdown_keeps_foreign_words_inside_code_spans() -> None:
    text = markdown.render(hostile())
    for line in text.splitlines():
        outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert "script" not in outside
        assert "::" not in outside
    assert markdown.code("a`b|c") == r"``a`b\|c``"
    assert markdown.code("`a`") == "`` `a` ``"


def test_the_badge_says_what_was_found() -> None:
    red = json.loads(badge.render(small()))
    assert red == {
        "schemaVersion": 1,
        "label": "YOLOv2 loss, darknet",
        "message": "not conforming, 1 expected to deviate",
        "color": "red",
        "isError": True,
    }
    good = small()
    good.verdicts = [good.verdicts[0]]
    assert json.loads(badge.render(good))["color"] == "brightgreen"
    good.verdicts.append(small().verdicts[2])
    assert json.loads(badge.render(good))["color"] == "yellowgreen"


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
    for name, said in (("coord", "coordinates"), ("object", "objectness"), ("class", "class")):
        paid = case.expected.terms[name]
        assert f"The {said} term of anchor 0: largest {paid:.2g} in cell (0, 0)" in labels
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
    said = set_in_html(r"The `p` of $\lambda_{\mathrm{class}}\,e^{t_w} \ge 2^{-53}$ & <b>")
    assert said == (
        "The <code>p</code> of <i>λ<sub>class</sub> e<sup>t<sub>w</sub></sup> ≥ 2<sup>−53</sup></i> &amp; &lt;b&gt;"
    )


def changed(clause: str, found: str, level: str = "MUST") -> Report:
    return Report("mine", "darknet", 1, [Verdict(clause=clause, level=level, verdict=found)] if found else [])


@pytest.mark.parametrize(
    ("before", "after", "kind", "code"),
    [
        ("conforming", "deviating", "newly deviating", REGRESSED),
        ("conforming", "not-answerable", "no longer answerable", REGRESSED),
        ("conforming", "expected", "newly deviating, as expected", CONFORMING),
        ("conforming", "", "no longer judged", CONFORMING),
        ("deviating", "conforming", "fixed", CONFORMING),
        ("deviating", "expected", "expected from now on", CONFORMING),
        ("deviating", "not-answerable", "no longer answerable", CONFORMING),
        ("expected", "conforming", "fixed", CONFORMING),
        ("expected", "deviating", "no longer expected", CONFORMING),
        ("not-answerable", "conforming", "newly answerable", CONFORMING),
        ("not-answerable", "deviating", "newly answerable, deviating", CONFORMING),
        ("", "deviating", "newly judged, deviating", CONFORMING),
        ("", "conforming", "newly judged", CONFORMING),
        ("", "not-answerable", "newly judged, not answerable", CONFORMING),
    ],
)
def test_a_change_has_a_name_and_a_regression_an_exit_code(before: str, after: str, kind: str, code: int) -> None:
    changes = diff.compare(changed("decode.size", before), changed("decode.size", after))
    assert [change.kind for change in changes] == [kind]
    assert diff.exit_code(changes) == code


def test_a_should_that_breaks_is_shown_and_does_not_decide() -> None:
    changes = diff.compare(
        changed("statistics.obj", "conforming", "SHOULD"), changed("statistics.obj", "deviating", "SHOULD")
    )
    assert [change.kind for change in changes] == ["newly deviating"]
    assert diff.exit_code(changes) == CONFORMING


def test_a_diff_names_regressions_first_and_sums_up() -> None:
    old, new = small(), small()
    new.verdicts[0] = Verdict(clause="decode.centre", level="MUST", verdict="conforming")
    new.verdicts[3] = Verdict(clause="coord.small-box-weight", level="MUST", verdict="conforming")
    new.verdicts[4] = Verdict(clause="scale.potential", level="MUST", verdict="conforming")
    new.verdicts.append(Verdict(clause="iou.zero-area", level="MUST", verdict="deviating", first=departure()))
    old.verdicts.append(Verdict(clause="iou.zero-area", level="MUST", verdict="conforming"))
    lines = diff.lines(old, new, colour=False)
    assert lines[1].split() == ["✗", "iou.zero-area", "MUST", "newly", "deviating"]
    assert lines[2].strip() == str(departure())
    assert lines[-1] == "1 regression, 3 changes"
    assert diff.lines(old, old, colour=False)[-1] == "no regression, 0 changes"


ADAPTERS = """
import dataclasses
import numpy as np
from regionloss_adapters import Answer, Description
from regionloss_adapters.numpy_reference import NumpyAdapter

class Right:
    def describe(self):
        return Description("right", answers=("gradient",), dtypes=("float32",), notes=("A port.",))

    def answer(self, question):
        return Answer(gradient=NumpyAdapter().answer(question).gradient.astype(np.float32))

class NoSmallBoxWeight(Right):
    def answer(self, question):
        return super().answer(dataclasses.replace(question, profile=question.profile.replace(small_box_exponent=0)))
"""
FORMS = ("--json", "r.json", "--junit", "r.xml", "--html", "r.html", "--markdown", "r.md", "--badge", "r.svg.json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with adapters and one case, to run commands in."""
    (tmp_path / "ported.py").write_text(ADAPTERS)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / f"{CASE}.json").write_bytes((CASES / f"{CASE}.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ported", raising=False)
    return tmp_path


def check(adapter: str, *options: str) -> int:
    return main(["check", f"ported:{adapter}", "--cases", "cases", *options])


def test_check_writes_every_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("NoSmallBoxWeight", *FORMS, "--github") == 1
    said = capsys.readouterr().out
    assert (
        "::error title=ported%3ANoSmallBoxWeight%3A coord.small-box-weight (MUST)::coord.small-box-weight deviates"
        in said
    )
    assert "note: A port." in said
    assert ElementTree.parse(folder / "r.xml").find("testsuite") is not None
    assert "coord.small-box-weight" in (folder / "r.md").read_text(encoding="utf-8")
    assert json.loads((folder / "r.svg.json").read_text(encoding="utf-8"))["color"] == "red"
    page = Page((folder / "r.html").read_text(encoding="utf-8"))
    anchors = len(load_case(CASES / f"{CASE}.json").batch.anchors)
    labels = [one["aria-label"] or "" for one in page.all("svg")]
    answered = [label for label in labels if label.startswith("Difference of the gradients")]
    assert len(answered) == anchors, "what was answered is drawn too"


def test_a_regression_has_an_exit_code_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("Right", "--json", "right.json") == 0
    assert check("NoSmallBoxWeight", "--json", "wrong.json", "--against", "right.json") == 4
    assert "newly deviating" in capsys.readouterr().out
    assert check("NoSmallBoxWeight", "--against", "wrong.json") == 1
    assert check("Right", "--against", "wrong.json") == 0
    assert main(["report", "right.json", "wrong.json"]) == 4
    assert main(["report", "wrong.json", "right.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("no regression")


def test_expected_deviations_come_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "expected.toml").write_text('["coord.small-box-weight"]\nreason = "trained without it"\n')
    assert check("NoSmallBoxWeight", "--expect", "expected.toml", "--json", "r.json") == 0
    assert "trained without it" in capsys.readouterr().out
    assert check("Right", "--expect", "expected.toml", "--json", "r.json") == 1
    assert "no longer deviates" in capsys.readouterr().out
    assert len(json.loads((folder / "r.json").read_text(encoding="utf-8"))["stale"]) == 1


def test_a_stored_report_is_shown_as_it_was_and_in_other_forms(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("NoSmallBoxWeight", *FORMS)
    shown = capsys.readouterr().out
    first = {name: (folder / name).read_bytes() for name in ("r.xml", "r.md", "r.svg.json")}
    assert main(["report", "r.json", *FORMS[2:]]) == 0
    assert capsys.readouterr().out == shown
    assert {name: (folder / name).read_bytes() for name in first} == first
    anchors = len(load_case(CASES / f"{CASE}.json").batch.anchors)
    labels = [one["aria-label"] or "" for one in Page((folder / "r.html").read_text(encoding="utf-8")).all("svg")]
    assert [label.startswith("States") for label in labels].count(True) == anchors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "numpy", "--expect", "absent.toml"], "absent.toml: No such file"),
        (["check", "numpy", "--against", "absent.json"], "absent.json: No such file"),
        (["report", "ported.py"], "ported.py: not JSON"),
        (["check", "numpy", "--cases", "cases", "--html", "absent/r.html"], "cannot write absent/r.html"),
    ],
)
def test_wrong_usage_is_one_sentence(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_loss_like_nothing_known_is_sent_to_identify() -> None:
    commands = Commands("mine:adapter", "darknet")
    unlike = Verdict(clause="coord.value", level="MUST", verdict="deviating", first=departure())
    like = dataclasses.replace(unlike, looks_like="the weight of small boxes is left out")
    follower = dataclasses.replace(unlike, clause="scale.sum", follows="coord.value")
    assert commands.advice([like, follower], ["gradient"]) == ()
    assert commands.advice([dataclasses.replace(unlike, verdict="expected")], ["gradient"]) == ()
    (said,) = commands.advice([like, unlike, follower], ["potential", "gradient"])
    assert "`regionloss identify mine:adapter --profile darknet`" in said
    assert commands.advice([unlike], ["potential"]) == (said,)
    assert commands.advice([unlike], ["indicators"]) == ()  # nothing to measure by
    assert Commands(None).advice([unlike], ["gradient"]) == ()


def test_a_crash_that_no_verdict_leads_to_can_be_shown_again() -> None:
    crash, other = "hand-empty-batch", "hand-overflowed-box"
    error = Difference(case=crash, dtype="float32", quantity="error", got="crashed", expected="an answer")
    leading = Verdict(clause="domain.empty-batch", level="MUST", verdict="deviating", first=error, reproduce="this")
    commands = Commands("mine:adapter", "darknet")
    again = f"`regionloss check mine:adapter --profile darknet --cases {other}` shows the crash on {other} again."
    assert commands.crashed([crash, other], [leading]) == (again,)
    assert commands.crashed([crash], [leading]) == ()
    assert commands.crashed(["a drawn batch that was not kept"], []) == ()
    assert Commands(None).crashed([other], []) == ()
