"""The differential search separates every two profiles, by an input that is small and a clause that is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss_adapters import AdapterError
from regionloss_spec import Batch, load_profile, profile_names
from regionloss_suite.cli.main import main
from regionloss_suite.differential import Search, SearchError, subject_of
from regionloss_suite.differential.disagreement import disagreement
from regionloss_suite.differential.shrink import smaller
from regionloss_suite.judging.find_cases import find_case

PAIRS = list(combinations(sorted(profile_names()), 2))

ADAPTERS = """
import dataclasses

from regionloss_adapters.numpy_reference import NumpyAdapter


class Unweighted(NumpyAdapter):
    def answer(self, question):
        profile = question.profile.replace(small_box_exponent=0)
        return super().answer(dataclasses.replace(question, profile=profile))


class Fragile(NumpyAdapter):
    def answer(self, question):
        if len(question.batch.truths) > 1:
            raise ZeroDivisionError("two images")
        return super().answer(question)


class Noisy(NumpyAdapter):
    def answer(self, question):
        said = super().answer(question)
        return dataclasses.replace(said, gradient=said.gradient * (1 + 2.0**-52))
"""


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "losses.py").write_text(ADAPTERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "losses", raising=False)


@pytest.mark.slow
@pytest.mark.sample(every=5)
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_two_profiles_are_separated_by_one_cell(one: str, other: str, tmp_path: Path) -> None:
    search = Search(f"numpy@{one}", f"numpy@{other}", tmp_path / "found")
    while not search.progress.finds:
        search.run(0)
        assert len(search.progress.rounds) < 20
    find = search.progress.finds[0]
    case = find_case(tmp_path / "found" / f"{find.case}.json")
    assert case.batch.predictions.shape[2:] == (1, 1)
    assert len(case.batch.anchors) == 1
    assert sum(map(len, case.batch.truths)) <= 1
    named = [axis for axis in load_profile(one).differences(load_profile(other)) if f"{axis}: " in find.why]
    assert named, "the axes that make the difference are named"
    assert find.clause


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other", "clause", "axis"),
    [
        ("darknet", "darknet-2016", "coord.small-box-weight", "small_box_exponent: 1 against 0"),
        ("darknet", "lightnet", "truths.terminator", "truth_end: x-zero against none"),
        ("lightnet", "mxnet", "scale.per-image", "reduction: per-image against sum"),
    ],
)
def test_a_longer_search_finds_each_difference_alone(
    one: str, other: str, clause: str, axis: str, tmp_path: Path
) -> None:
    search = Search(f"numpy@{one}", f"numpy@{other}", tmp_path / "found")
    while clause not in {find.clause for find in search.progress.finds}:
        search.run(0)
        assert len(search.progress.rounds) < 60
    assert next(find.why for find in search.progress.finds if find.clause == clause) == axis


def test_a_loss_that_departs_is_told_by_what_it_looks_like(tmp_path: Path) -> None:
    search = Search("numpy@darknet", "losses:Unweighted@darknet", tmp_path / "found")
    while not search.progress.finds:
        search.run(0)
    find = search.progress.finds[0]
    assert find.clause == "coord.small-box-weight"
    assert "losses:Unweighted@darknet looks like" in find.why


@pytest.mark.slow
def test_the_last_digit_is_no_disagreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["compare", "numpy@darknet", "losses:Noisy@darknet", "--seconds", "3", "--out", "found"])
    assert code == 0
    assert "show no disagreement so far" in capsys.readouterr().out


def test_what_is_found_can_be_explained_and_is_known_the_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "numpy@darknet", "numpy@yad2k", "--seconds", "0", "--out", "found"]
    assert main(command) == 1
    first = json.loads(Path("found/search.json").read_text(encoding="utf-8"))
    assert "explain: regionloss explain found/find-1.json" in capsys.readouterr().out
    assert main(["explain", "found/find-1.json"]) == 0
    assert "numpy@darknet and numpy@yad2k disagree: " in capsys.readouterr().out
    # A folder of an earlier version, which called the symptoms signs, is resumed too.
    earlier = {**first, "finds": [{**find, "signs": find["symptoms"]} for find in first["finds"]]}
    for find in earlier["finds"]:
        del find["symptoms"]
    Path("found/search.json").write_text(json.dumps(earlier), encoding="utf-8")
    assert main(command) == 1
    second = json.loads(Path("found/search.json").read_text(encoding="utf-8"))
    assert second["rounds"] == [0, 1]
    assert second["finds"][: len(first["finds"])] == first["finds"]
    assert len({tuple(find["symptoms"]) for find in second["finds"]}) == len(second["finds"])


def test_an_interruption_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from regionloss_suite.differential import search

    done = search.round_of

    def interrupted(*arguments: Any) -> Any:
        if arguments[3] == 2:
            raise KeyboardInterrupt
        return done(*arguments)

    monkeypatch.setattr(search, "round_of", interrupted)
    assert main(["compare", "numpy@darknet", "numpy@formula", "--seconds", "60", "--out", "found"]) == 1
    said = capsys.readouterr()
    assert "repeat the command to resume" in said.err
    assert "disagree in" in said.out
    stored = json.loads(Path("found/search.json").read_text(encoding="utf-8"))
    assert stored["rounds"] == [0, 1]
    assert [find["case"] for find in stored["finds"]] == [path.stem for path in sorted(Path("found").glob("find-*"))]
    monkeypatch.setattr(search, "round_of", done)
    assert main(["compare", "numpy@darknet", "numpy@formula", "--seconds", "0", "--out", "found"]) == 1
    assert json.loads(Path("found/search.json").read_text(encoding="utf-8"))["rounds"] == [0, 1, 2]


@pytest.mark.slow
def test_several_processes_find_too(tmp_path: Path) -> None:
    search = Search("numpy@darknet", "numpy@darknet-2016", tmp_path / "found")
    search.run(1, jobs=2)
    assert len(search.progress.rounds) == len(set(search.progress.rounds)) > 1
    assert search.progress.finds
    known: set[str] = set()
    for find in search.progress.finds:
        assert not set(find.symptoms) <= known, "each says something new"
        known |= set(find.symptoms)


@pytest.mark.slow
def test_a_crash_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "numpy@darknet", "losses:Fragile@darknet", "--seconds", "12", "--out", "found"]) == 3
    said = capsys.readouterr().out
    assert "losses:Fragile@darknet crashed: ZeroDivisionError: two images; numpy@darknet answers" in said
    assert "2 images" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["numpy", "nobody"], "no adapter 'nobody'"),
        (["numpy@nobody", "numpy"], "no adapter 'numpy@nobody'"),
        (["numpy", "numpy@absent.toml"], "absent.toml"),
        (["numpy", "numpy", "--profile", "nobody"], "no profile 'nobody'"),
        (["numpy", "numpy", "--jobs", "0"], "--jobs must be at least 1"),
        (["numpy", "numpy", "--out", "losses.py"], "losses.py"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments, "--seconds", "0"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_the_folder_of_another_search_is_left_alone(tmp_path: Path) -> None:
    Search("numpy@darknet", "numpy@formula", tmp_path / "found").run(0)
    with pytest.raises(SearchError, match=r"found holds a search of numpy@darknet and numpy@formula .* another folder"):
        Search("numpy@darknet", "numpy@yad2k", tmp_path / "found")
    (tmp_path / "found/search.json").write_text("{", encoding="utf-8")
    with pytest.raises(SearchError, match=r"search\.json cannot be read"):
        Search("numpy@darknet", "numpy@formula", tmp_path / "found")


def test_a_profile_stands_behind_the_last_at() -> None:
    assert subject_of("numpy@formula").profile.name == "formula"
    assert subject_of("numpy", "yad2k").profile.name == "yad2k"
    assert subject_of("numpy@formula", "yad2k").profile.name == "formula"
    assert subject_of("numpy").profile.name == "darknet"
    with pytest.raises(AdapterError, match="no-such-program"):
        subject_of("cmd:no-such-program a@b.py").adapter.describe()


def test_knife_edges_and_refusals_of_both_are_no_disagreement() -> None:
    one, other = subject_of("numpy@darknet"), subject_of("numpy@darknet-2016")
    rows = np.array([[0.5, 0.5, 0.5, 0.5, 0.0]])
    batch = Batch(np.zeros((1, 6, 1, 1)), (rows,), np.array([[1.0, 1.0]]), 1, 12800)
    assert disagreement(one, other, batch, "float64") is not None
    outside = np.array([[1.5, 0.5, 0.5, 0.5, 0.0]])
    refused = Batch(np.zeros((1, 6, 1, 1)), (outside,), np.array([[1.0, 1.0]]), 1, 12800)
    assert disagreement(one, other, refused, "float64") is None


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        (lambda batch: True, ((1, 6, 1, 1), 0, 0)),
        (lambda batch: sum(map(len, batch.truths)) >= 2, ((1, 6, 2, 2), 2, 0)),  # in two rows and two columns
        (lambda batch: np.count_nonzero(batch.predictions) >= 1, ((1, 6, 1, 1), 0, 1)),
        (lambda batch: batch.predictions.shape[3] >= 2, ((1, 6, 1, 2), 0, 0)),
        (lambda batch: len(batch.truths) >= 2 and len(batch.anchors) >= 2, ((2, 12, 1, 1), 0, 0)),
    ],
)
def test_a_batch_is_made_as_small_as_it_can_be(
    holds: Callable[[Batch], bool], expected: tuple[tuple[int, ...], int, int]
) -> None:
    draw = np.random.default_rng(0)
    rows = np.array([[0.3, 0.6, 0.2, 0.1, 2.0], [0.7, 0.2, 0.4, 0.3, 0.0]])
    batch = Batch(draw.normal(size=(3, 16, 3, 2)), (rows, rows[:0], rows), np.array([[1.0, 2.0], [2.0, 1.0]]), 3, 0)
    found = smaller(batch, holds)
    assert holds(found)
    size = found.predictions.shape, sum(map(len, found.truths)), int(np.count_nonzero(found.predictions))
    assert size == expected
