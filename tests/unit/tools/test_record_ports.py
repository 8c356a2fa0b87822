"""The command that records what other people's losses compute, on a stand-in, and the page that is made of it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from regionloss_adapters import load_adapter
from regionloss_adapters.ports import lightnet
from regionloss_adapters.ports.source import VARIABLES, digest_of
from regionloss_spec import load_clauses
from tools import record_ports
from unit.adapters import fake_ports

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "docs/hooks"))
from regionloss_docs import implementations as page  # noqa: E402 - the hooks of the site are no package of the project

RECORDS = sorted((ROOT / "docs/implementations").glob("*.json"))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for lightnet, whose prior is as heavy as darknet's."""
    pytest.importorskip("torch")
    root = fake_ports.write(tmp_path / "sources" / "lightnet", "lightnet")
    monkeypatch.setenv(VARIABLES["lightnet"], "restored by the test")
    files = {file: digest_of(root / file) for file in lightnet.PORT.files}
    monkeypatch.setattr(lightnet, "PORT", dataclasses.replace(lightnet.PORT, files=files))
    monkeypatch.setattr(lightnet.adapter, "__defaults__", (lightnet.PORT,))
    return tmp_path / "sources"


@pytest.mark.slow
@pytest.mark.usefixtures("small_cases")
def test_a_record_holds_verdicts_formula_and_commit(sources: Path, tmp_path: Path) -> None:
    command = ["--sources", str(sources), "--folder", str(tmp_path / "out"), "--only", "lightnet", "--batches", "5"]
    assert record_ports.main(command) == 0
    record = json.loads((tmp_path / "out" / "lightnet.json").read_text(encoding="utf-8"))
    assert record["commit"] == lightnet.PORT.commit
    assert record["identified"]["nearest"] == {"profile": "lightnet", "differences": 0}
    verification = record["identified"]["verification"]
    assert verification["edges"] > 100
    assert verification | {"first": "", "edges": 0} == {
        "batches": 5, "explained": 5, "beyond": 0, "left": {}, "beside": {}, "first": "", "edges": 0, "edges left": {}
    }  # fmt: skip
    own, usual = record["judged"]["lightnet"], record["judged"]["darknet"]
    assert own["departing"] == {}
    assert own["clauses"]["prior.weight"][0] == 0
    departing, answered, first = usual["clauses"]["prior.weight"]
    assert 0 < departing <= answered
    assert first in usual["departing"]
    assert "hand-prior-12799" in usual["departing"]
    assert "times as long as torch-eager" not in record


def test_without_a_checkout_it_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--sources", str(tmp_path), "--folder", str(tmp_path / "out")]
    assert record_ports.main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"· {one.name}" for one in record_ports.known()]
    assert f"· lightnet: no checkout; git clone {lightnet.PORT.upstream} {tmp_path / 'lightnet'}" in lines


def test_another_version_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES["zjykzj"], "restored by the test")
    (tmp_path / "YOLOv2" / "models").mkdir(parents=True)
    assert record_ports.main(["--sources", str(tmp_path), "--folder", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_ratio_is_of_two_times_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from regionloss_suite.bench import torch_interleave

    times = iter([0.5, 0.25] * torch_interleave.ROUNDS)
    monkeypatch.setattr(torch_interleave, "_seconds", lambda step: next(times))
    adapter: Any = load_adapter("torch-eager")
    comparison = torch_interleave.ratio(adapter)
    assert (comparison["ratio"], comparison["milliseconds"]) == (2.0, 500.0)


def test_the_records_are_of_this_spec_and_small() -> None:
    assert len(RECORDS) >= 9
    for file in RECORDS:
        record = json.loads(file.read_text(encoding="utf-8"))
        assert record["name"] == file.stem
        for judgement in record["judged"].values():
            assert set(judgement["clauses"]) <= set(load_clauses())
        assert file.stat().st_size < 100_000
        assert record["commit"] != "unknown"


@pytest.mark.slow
def test_the_page_shows_every_record() -> None:
    names = {file.stem for file in RECORDS}
    assert {record["name"] for record in page.records()} == names
    assert all(f"[{name}](implementations/{name}.json)" in page.summary() for name in names)
    assert all(f'"{name}"' in page.formulas() for name in names)
    assert all(f">{name}</th>" in page.axes() for name in names)


def test_the_page_says_which_edges_a_formula_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = (record for record in page.records() if record["name"] == "darknet-pjreddie")
    held = record["identified"]["verification"]
    assert list(held["edges left"]) == ["hand-zero-over-zero"]
    monkeypatch.setattr(page, "records", lambda: [record])
    assert f"| {held['edges'] - 1} of {held['edges']} |" in page.summary()
    line = "- on an edge: [`hand-zero-over-zero`](cases/hand-zero-over-zero.md): answered with a gradient that is not"
    assert line in page.formulas()
    assert "No profile expresses it" not in page.formulas()


def test_of_a_formula_that_explains_little_the_page_says_so_and_the_first_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (record,) = (record for record in page.records() if record["name"] == "longcw")
    monkeypatch.setattr(page, "records", lambda: [record])
    text = page.formulas()
    assert "    No profile expresses it in ignore, thresh, " in text
    assert "scalar" not in text.partition("No profile expresses it in ")[2].partition(":")[0]  # which is no axis
    left = record["identified"]["verification"]["left"]
    often = [int(line.rpartition("(in ")[2].split()[0]) for line in text.splitlines() if "- not explained: " in line]
    assert often == sorted(left.values(), reverse=True)[: page.SHOWN]
    assert f"- and {len(left) - page.SHOWN} outputs or states more" in text
    assert text.count("- on an edge: ") == page.SHOWN


def test_the_page_marks_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    lightnets = [record for record in page.records() if record["name"] == "lightnet"]
    monkeypatch.setattr(page, "records", lambda: lightnets)
    rows = page.axes().split("<tr>")
    prior = next(row for row in rows if "<code>prior_weight</code>" in row)
    assert '<td class="differs"><b>0.1</b></td>' in prior
    thresh = next(row for row in rows if "<code>thresh</code>" in row)
    assert "<td>0.6</td>" in thresh
    clauses = page.clauses()
    weight = next(row for row in clauses.split("<tr>") if "prior.weight" in row)
    assert 'class="differs"><a href="cases/' in weight
    tie = next(row for row in clauses.split("<tr>") if "assign.anchor-tie" in row)
    assert "<td>✓</td>" in tie
