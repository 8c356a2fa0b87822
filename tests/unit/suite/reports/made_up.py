"""Reports that were made up: a small one, and one whose adapter tries to break out of every form."""

from __future__ import annotations

from html.parser import HTMLParser

from regionloss_suite.cli.main import main
from regionloss_suite.judging.report import Report
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference

HOSTILE = "x<script>alert('1')</script>]]>&amp;\n::error::100%,\r\x1b[2J\x00`|*\u202e\ud800 onload=\"x\" <img src=//e>"


CASE = "pj-ignored-same-cell"


def departure(**changed: object) -> Difference:
    place = {"image": 0, "row": 1, "column": 1, "anchor": 0}
    numbers = {"case": CASE, "dtype": "float32", "quantity": "ty gradient", "got": 1.0, "expected": 1.82, "bound": 3e-7}
    return Difference(**{**numbers, **place, **changed})  # type: ignore[arg-type]


def small() -> Report:
    """One of each: conforming, deviating with one hidden behind it, expected, not answerable, a deviating SHOULD."""
    return Report(
        "mine:Loss",
        "darknet",
        2,
        [
            Verdict(clause="decode.centre", level="MUST", verdict="conforming", cases=2),
            Verdict(
                clause="assign.cell",
                level="MUST",
                verdict="hidden",
                cases=1,
                follows="coord.small-box-weight",
                reason="cannot be told behind coord.small-box-weight",
            ),
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
                verdict=verdict,
                first=first,
                looks_like=HOSTILE,
                reason=HOSTILE,
                follows=HOSTILE,
            )
            for clause, level, verdict in (
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


def changed(clause: str, found: str, level: str = "MUST") -> Report:
    return Report("mine", "darknet", 1, [Verdict(clause=clause, level=level, verdict=found)] if found else [])


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


def check(adapter: str, *options: str) -> int:
    return main(["check", f"ported:{adapter}", "--cases", "cases", *options])
