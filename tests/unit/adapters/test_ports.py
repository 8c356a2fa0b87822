"""Adapters of public losses, compared with stand-ins, and with the real ones if they are available."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from regionloss import region_loss
from regionloss_adapters import Adapter, AdapterError, CannotAnswerError, Question, load_adapter
from regionloss_adapters.load import BUNDLED
from regionloss_adapters.ports import keras_yolo2, longcw, yad2k
from regionloss_adapters.ports.source import VARIABLES, Port, digest_of, load, name_source, stub
from regionloss_spec import load_cases, load_profile
from regionloss_suite.cli.main import main
from regionloss_suite.judging.judge import Judge
from regionloss_suite.judging.reproduce import Commands
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference
from unit.adapters import fake_ports

PORTS = [name for name in VARIABLES if name != "darknet"]
CASES = [case for case in load_cases() if case.id.startswith("hand-") and np.size(case.batch.predictions) < 4000]
#: What each is judged as, and on how many cases at least it has to answer.
PROFILES = {
    "lightnet": ("lightnet", 90), "marvis": ("marvis", 90), "andy-yun": ("andy-yun", 90), "uvipen": ("uvipen", 70),
    "samylee": ("samylee", 25), "yad2k": ("yad2k", 20),
}  # fmt: skip


def port_of(name: str) -> Port:
    port = importlib.import_module(BUNDLED[name][0]).PORT
    assert isinstance(port, Port)
    return port


def adapter_of(name: str, port: Port) -> Adapter:
    adapter = importlib.import_module(BUNDLED[name][0]).adapter(port)
    assert isinstance(adapter, Adapter)
    return adapter


@pytest.fixture
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """The adapter of the name that it is asked with, on its stand-in."""
    name: str = request.param
    for module in (port_of(name).framework, *port_of(name).needs):  # which its stand-in is written in
        pytest.importorskip(module)
    root = fake_ports.write(tmp_path / name, name)
    monkeypatch.setenv(VARIABLES[name], str(root))
    files = {file: digest_of(root / file) for file in port_of(name).files}
    return adapter_of(name, dataclasses.replace(port_of(name), files=files))


@pytest.mark.parametrize(("stand_in", "name"), [(name, name) for name in PROFILES], indirect=["stand_in"])
def test_a_right_loss_behind_the_interface_is_found_right(stand_in: Adapter, name: str) -> None:
    profile, least = PROFILES[name]
    assert stand_in.describe().profiles == (profile,)
    assert stand_in.describe().reduction == load_profile(profile).reduction
    judge = Judge(stand_in, CASES, profile)
    observations = [one for case in judge.cases for one in judge.observe(case)]
    assert judge.crashes == {}
    assert [one.case.id for one in observations if one.departs] == []
    assert len(observations) >= least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stand_in", "least"), [("zjykzj", 30), ("keras-yolo2", 14), ("longcw", 30)], indirect=["stand_in"]
)
def test_a_port_without_a_profile_of_its_own_is_judged_as_darknet(stand_in: Adapter, least: int) -> None:
    late = [case for case in CASES if case.batch.images_seen >= 12800 or case.expected.error is not None]
    judge = Judge(stand_in, late, "darknet")
    observations = [one for case in judge.cases for one in judge.observe(case)]
    reading_on = {"hand-x-zero-ends-the-list", "hand-truth-31"}  # it reads every row
    assert judge.crashes == {}
    assert {one.case.id for one in observations if one.departs} <= reading_on
    assert len(observations) >= least


@pytest.mark.parametrize(
    ("stand_in", "axis", "value"),
    [
        ("lightnet", "thresh", 0.25), ("lightnet", "prior_until", 3), ("lightnet", "no_object_weight", 3.0),
        ("marvis", "coord_weight", 3.0), ("marvis", "thresh", 0.25), ("marvis", "class_weight", 3.0),
        ("andy-yun", "thresh", 0.25),
        ("uvipen", "object_weight", 3.0), ("uvipen", "no_object_weight", 3.0), ("uvipen", "coord_weight", 3.0),
        ("samylee", "thresh", 0.25), ("samylee", "class_weight", 3.0), ("samylee", "object_weight", 3.0),
        ("keras-yolo2", "coord_weight", 3.0), ("keras-yolo2", "object_weight", 3.0),
        ("keras-yolo2", "no_object_weight", 3.0), ("keras-yolo2", "class_weight", 3.0),
        ("zjykzj", "thresh", 0.25), ("zjykzj", "no_object_weight", 3.0), ("zjykzj", "object_weight", 3.0),
        ("longcw", "thresh", 0.25),
    ],
    indirect=["stand_in"],
)  # fmt: skip
def test_each_option_reaches_the_loss(stand_in: Adapter, axis: str, value: float) -> None:
    own = load_profile(stand_in.describe().profiles[0])
    case = next(case for case in load_cases() if case.id == "pj-ignored-same-cell")
    batch = dataclasses.replace(case.batch, images_seen=5 if own.name != "darknet" else 12800)
    plain, changed = (
        stand_in.answer(Question(batch=batch, profile=profile)).gradient
        for profile in (own, own.replace(**{axis: value}))
    )
    assert plain is not None
    assert changed is not None
    assert not np.array_equal(plain, changed)
    wanted = region_loss(
        batch.predictions, batch.truths, batch.anchors, batch.classes, images_seen=batch.images_seen,
        profile=own.replace(**{axis: value}, reduction=stand_in.describe().reduction),
    ).gradient  # fmt: skip
    np.testing.assert_allclose(changed, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "text", "environment", "message"),
    [
        ("bbox", "def f(:", {}, "adapter 'longcw': Cython cannot translate .*bbox.pyx: (.|\n)*def f"),
        ("yolo", "def f():\n    pass\n", {"CC": "no-such-compiler"}, "yolo.pyx cannot be compiled: there is no C comp"),
    ],
)
def test_what_cython_or_its_compiler_refuse_is_said(
    file: str, text: str, environment: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "utils").mkdir()
    (tmp_path / f"utils/{file}.pyx").write_text(text, encoding="utf-8")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AdapterError, match=message):
        longcw._compiled(tmp_path, file)


def test_a_missing_cython_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "Cython" else find(name))
    with pytest.raises(AdapterError, match="adapter 'longcw' needs Cython, which is not installed"):
        adapter_of("longcw", port_of("longcw"))


@pytest.mark.parametrize("stand_in", ["samylee"], indirect=True)
def test_a_port_of_square_grids_is_not_asked_for_others(stand_in: Adapter) -> None:
    tall = next(case for case in CASES if case.id == "hand-tall-grid")
    with pytest.raises(CannotAnswerError, match="square grids only; this one has"):
        stand_in.answer(Question(batch=tall.batch, profile=load_profile("samylee")))


def test_the_grid_of_truths_is_filled_by_the_generator_of_the_port(tmp_path: Path) -> None:
    for file, text in fake_ports.FILES["keras-yolo2"].items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    generator = load(tmp_path, "preprocessing.py", beside=("utils",), stubs=stub("cv2", "imgaug")).BatchGenerator
    case = next(case for case in load_cases() if case.id == "pj-ignored-same-cell")  # 3 anchors, 3 classes
    question = Question(batch=case.batch, profile=case.profile)
    grid, boxes = keras_yolo2._filled(generator, [np.array([[1.25, 1.0, 2.25, 1.5, 2.0]])], question, 3, 3, 1)
    assert boxes.tolist() == [[[[[[1.75, 1.25, 1.0, 0.5]]]]]]
    assert np.argwhere(grid).tolist()[0][:3] == [0, 1, 1]
    assert grid[0, 1, 1].any(axis=1).sum() == 1
    assert grid[0, 1, 1].max(axis=0).tolist() == [1.75, 1.25, 1.0, 0.5, 1, 0, 0, 1]


def test_the_class_of_a_truth_is_a_number_where_it_was_a_slice() -> None:
    truths = yad2k.Truths(np.array([[0.5, 0.25, 0.125, 0.75, 3.0]]))
    (truth,) = truths
    assert truths.shape == (1, 5)
    assert truth[0:4].tolist() == [0.5, 0.25, 0.125, 0.75]
    assert np.array([*truth[0:4], truth[4:5]]).tolist() == [0.5, 0.25, 0.125, 0.75, 3.0]


@pytest.mark.parametrize("stand_in", ["andy-yun"], indirect=True)
def test_a_loss_that_ends_the_process_is_an_error(stand_in: Adapter) -> None:
    case = next(case for case in CASES if case.id == "hand-statistics")
    broken = np.full_like(case.batch.predictions, np.nan)
    with pytest.raises(RuntimeError, match=r"the port called sys\.exit"):
        stand_in.answer(Question(
            batch=dataclasses.replace(case.batch, predictions=broken), profile=load_profile("andy-yun")
        ))  # fmt: skip


@pytest.mark.parametrize("stand_in", ["marvis"], indirect=True)
def test_an_old_loss_leaves_pytorch_as_it_was(stand_in: Adapter, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    before = {name: getattr(torch.Tensor, name) for name in ("__add__", "__mul__", "__getitem__", "cuda")}
    case = next(case for case in CASES if case.id == "hand-statistics")
    stand_in.answer(Question(batch=case.batch, profile=load_profile("marvis")))
    assert {name: getattr(torch.Tensor, name) for name in before} == before
    assert "utils" not in sys.modules
    assert capsys.readouterr().out == ""
    assert (torch.ones(2, 1) + torch.ones(1, 2)).shape == (2, 2)


@pytest.mark.parametrize("name", PORTS)
def test_without_a_source_it_says_where_to_get_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = dataclasses.replace(port_of(name), framework="numpy", needs=(), package="")
    monkeypatch.delenv(VARIABLES[name], raising=False)
    with pytest.raises(AdapterError) as caught:
        adapter_of(name, port)
    assert str(caught.value) == (
        f"adapter {name!r} needs the source: git clone {port.upstream} && git checkout {port.commit[:7]}, and name the "
        f"checkout with --source PATH or in {VARIABLES[name]}"
    )


@pytest.mark.parametrize("name", PORTS)
def test_an_incomplete_or_another_version_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = dataclasses.replace(port_of(name), framework="numpy", needs=())
    monkeypatch.setenv(VARIABLES[name], str(tmp_path))
    file = tmp_path / next(iter(port.files))
    with pytest.raises(AdapterError, match="has no"):
        adapter_of(name, port)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("changed\n")
    with pytest.raises(AdapterError, match=f"is not the version of commit {port.commit[:7]}, which the adapter"):
        adapter_of(name, port)


def test_a_missing_framework_is_named() -> None:
    with pytest.raises(AdapterError, match="adapter 'yad2k' needs no_such_framework, which is not installed"):
        adapter_of("yad2k", dataclasses.replace(port_of("yad2k"), framework="no_such_framework"))


def test_each_says_where_it_is_from() -> None:
    for name in PORTS:
        port = port_of(name)
        assert port.name == name
        assert port.notes[0] == f"{port.upstream} at commit {port.commit[:7]}, licence {port.licence}."
        assert len(port.commit) == 40
        assert {len(digest) for digest in port.files.values()} == {64}


def test_line_ends_make_no_other_version(tmp_path: Path) -> None:
    (tmp_path / "unix").write_bytes(b"a\nb\n")
    (tmp_path / "dos").write_bytes(b"a\r\nb\r\n")
    assert digest_of(tmp_path / "unix") == digest_of(tmp_path / "dos")


def test_an_import_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("value = 7\n")
    (tmp_path / "loss.py").write_text("import beside\nvalue = beside.value\n")
    module = load(tmp_path, "loss.py", beside=("beside",))
    assert module.value == 7
    assert "beside" not in sys.modules
    assert str(tmp_path) not in sys.path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.py", "loss.py"]


def test_a_source_is_named_for_this_process_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES["uvipen"], "before")
    name_source("uvipen", tmp_path)
    assert os.environ[VARIABLES["uvipen"]] == str(tmp_path)
    with pytest.raises(AdapterError, match="adapter 'numpy' takes no source"):
        name_source("numpy", tmp_path)
    with pytest.raises(AdapterError, match="there is no source at"):
        name_source("uvipen", tmp_path / "missing")


@pytest.mark.parametrize("command", ["check", "identify"])
def test_the_command_line_takes_a_source(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(VARIABLES["lightnet"], "nowhere")
    assert main([command, "lightnet", "--source", str(tmp_path)]) == 2
    assert f"regionloss: adapter 'lightnet': {tmp_path} has no lightnet/" in capsys.readouterr().err
    assert main([command, "lightnet", "--source", str(tmp_path / "missing")]) == 2
    assert "there is no source at" in capsys.readouterr().err


def test_the_commands_of_a_report_repeat_the_source(tmp_path: Path) -> None:
    first = Difference(case="drawn", dtype="float32", quantity="to gradient", got=0.0, expected=1.0)
    verdict = Verdict(clause="noobj.value", level="MUST", verdict="deviating", cases=1, first=first)
    commands = Commands("lightnet", "lightnet", None, {"drawn": tmp_path / "drawn.json"}, ["drawn"], Path("a b"))
    shown = f"--profile lightnet --cases {tmp_path / 'drawn.json'}"
    assert commands.added(verdict).reproduce == f"regionloss check lightnet --source 'a b' {shown}"
    several = dataclasses.replace(commands, alone=())
    assert several.added(verdict).reproduce.startswith("REGIONLOSS_LIGHTNET='a b' python -m pytest ")


@pytest.mark.parametrize("name", [*PROFILES])
def test_the_real_loss_is_its_profile(name: str) -> None:
    if VARIABLES[name] not in os.environ or importlib.util.find_spec(port_of(name).framework) is None:
        pytest.skip(f"no checkout of {port_of(name).upstream} is named in {VARIABLES[name]}")
    cases = [case for case in load_cases() if case.id.startswith(("pj-", "ab-"))]
    if name == "samylee":  # it crashes on an image without truths
        cases = [case for case in cases if all(map(len, case.batch.truths))]
    judge = Judge(load_adapter(name), cases, name)
    observations = [one for case in judge.cases for one in judge.observe(case)]
    assert [one.case.id for one in observations if one.departs] == []
    assert len(observations) >= 5
