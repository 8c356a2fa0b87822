"""The README shows what the commands print, and its adapter is the example that is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regionloss_spec.case import CASES, load_case
from regionloss_suite import check_loss
from regionloss_suite.reports.explain import explain

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, start: str) -> str:
    """The code block of a language that begins with a text."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return next(text for text in blocks if text.startswith(start))


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 120


def test_the_explanation_is_what_explain_prints() -> None:
    shown = block("text", "image 0").splitlines()
    printed = explain(load_case(CASES / "pj-ignored-same-cell.json"))
    begin = printed.index(shown[0])
    assert shown == [line for line in printed[begin:] if line in shown][: len(shown)]
    assert len(shown) == 12


@pytest.mark.slow
def test_its_line_of_check_is_what_check_prints() -> None:
    pytest.importorskip("torch")
    (line,) = re.findall(r"`(torch \(profile any\): .*?)`", README)
    assert check_loss("torch", golden=True).summary(colour=False) == line


def test_its_adapter_is_the_tested_example() -> None:
    example = (ROOT / "docs/examples/mine_torch.py").read_text(encoding="utf-8")
    assert block("python", "# mine.py").removeprefix("# mine.py\n") == example
