"""What the pages show as code runs: each adapter on a port that has the conventions it declares, each command."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss import DomainError, region_loss
from regionloss.terms import T_O
from regionloss_adapters import Adapter, load_adapter
from regionloss_docs.commands import lines
from regionloss_spec import Case, load_case, load_profile
from regionloss_spec.case import CASES
from regionloss_suite.cli.main import main
from regionloss_suite.judging.judge import Judge
from regionloss_suite.run import judge_for

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGE = (DOCS / "write-an-adapter.md").read_text(encoding="utf-8")

CHOSEN = [
    load_case(CASES / f"{name}.json")
    for name in ("hand-weights", "hand-prior-12799", "hand-tall-grid", "hand-small-box-weight-1", "pj-batch")
]
CHOSEN = [case for case in CHOSEN if case.profile == load_profile("darknet")]
EMPTY = load_case(CASES / "hand-no-truths.json")

Port = dict[str, Any]


def torch_port() -> Port:
    """NHWC, rows of class and corners in pixels of a 416 × 416 image, a mean over images."""
    torch = pytest.importorskip("torch")
    loss_of = importlib.import_module("regionloss.torch").region_loss

    def mean_loss(outputs: Any, boxes: Any, anchors: Any, images_seen: int) -> Any:
        rows = []
        for box in boxes:
            label, left, top, right, bottom = (box[:, at : at + 1].double() for at in range(5))
            centre = [(left + right) / 832, (top + bottom) / 832]
            rows.append(torch.cat([*centre, (right - left) / 416, (bottom - top) / 416, label], 1))
        t = outputs.permute(0, 3, 1, 2)
        classes = t.shape[1] // len(anchors) - 5
        return loss_of(t, rows, anchors, classes, images_seen=images_seen) / len(t)

    return {"mean_loss": mean_loss}


def numpy_port() -> Port:
    """`[N, A, 5+C, H, W]`, truths padded to 50 rows, which end at x = 0."""

    class InputError(ValueError):
        image: int | None = None
        truth: int | None = None

    def loss_and_gradient(outputs: Any, boxes: Any, anchors: Any, images_seen: int, *, thresh: float) -> Any:
        assert boxes.shape[1:] == (50, 5)
        t = outputs.reshape(len(outputs), -1, *outputs.shape[3:])
        profile = load_profile("darknet").replace(thresh=thresh)
        try:
            result = region_loss(t, boxes, anchors, outputs.shape[2] - 5, images_seen=images_seen, profile=profile)
        except DomainError as error:
            raise InputError(str(error)) from error
        return result.potential, result.gradient.reshape(outputs.shape)

    return {"InputError": InputError, "loss_and_gradient": loss_and_gradient}


def plain_port() -> Port:
    """The gradient alone."""

    def grad_of_loss(predictions: Any, truths: Any, anchors: Any, images_seen: int) -> Any:
        classes = predictions.shape[1] // len(anchors) - 5
        return region_loss(predictions, truths, anchors, classes, images_seen=images_seen).gradient

    return {"grad_of_loss": grad_of_loss}


def jax_port() -> Port:
    """The loss of a batch without truths, which is all that the empty case needs."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")

    def terms_of(outputs: Any, boxes: Any, anchors: Any, images_seen: int) -> Any:
        no_object = 0.5 * (jax.nn.sigmoid(outputs[..., T_O]) ** 2).sum() / len(outputs)
        return {"no_object": no_object, **dict.fromkeys(("prior", "coord", "object", "class"), 0.0 * no_object)}

    return {"terms_of": terms_of}


def keras_port() -> Port:
    """The same with TensorFlow, and a grid of truths that says that there is none."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow, which Keras needs here, is not installed")

    def yolo_loss(y_true: Any, y_pred: Any) -> Any:
        assert y_true.shape[:4] == y_pred.shape[:4]
        return 0.5 * tf.reduce_sum(tf.sigmoid(y_pred[..., T_O]) ** 2)

    return {"yolo_loss": yolo_loss}


PORTS: dict[str, tuple[Callable[[], Port], list[Case]]] = {
    "mine_torch": (torch_port, CHOSEN),
    "mine_numpy": (numpy_port, CHOSEN),
    "mine_bare": (plain_port, CHOSEN),
    "mine_jax": (jax_port, [EMPTY]),
    "mine_keras": (keras_port, [EMPTY]),
}


@pytest.fixture
def adapter_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Port], Adapter]:
    """The adapter of a snippet, with a port in the place of `my_port`."""

    def imported(name: str, port: Port) -> Adapter:
        module = types.ModuleType("my_port")
        vars(module).update(port)
        monkeypatch.setitem(sys.modules, "my_port", module)
        spec = importlib.util.spec_from_file_location("mine", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        mine = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(mine)
        assert isinstance(mine.adapter, Adapter)
        return mine.adapter

    return imported


def deviating(judge: Judge) -> dict[str, str]:
    """The clauses that a judge finds unmet, with the first difference; at least one other must have been met."""
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert judge.fault is None
    assert not judge.crashes
    assert any(verdict.verdict == "conforming" for verdict in verdicts)
    return {verdict.clause: str(verdict.first) for verdict in verdicts if verdict.verdict == "deviating"}


@pytest.mark.parametrize("name", PORTS)
def test_a_snippet_judges_a_port_of_its_conventions(name: str, adapter_of: Callable[[str, Port], Adapter]) -> None:
    port, cases = PORTS[name]
    assert deviating(judge_for(adapter_of(name, port()), None, cases)) == {}


@pytest.mark.parametrize("name", ["mine_torch", "mine_numpy", "mine_bare"])
def test_a_snippet_shows_what_is_wrong_with_a_port(name: str, adapter_of: Callable[[str, Port], Adapter]) -> None:
    port, cases = PORTS[name]

    def seen_too_late(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda a, b, c, images_seen, **named: function(a, b, c, images_seen + 12800, **named)

    wrong = {key: value if isinstance(value, type) else seen_too_late(value) for key, value in port().items()}
    verdicts = deviating(judge_for(adapter_of(name, wrong), None, cases))
    assert any(clause.startswith("prior.") for clause in verdicts)


def test_every_example_is_on_a_page() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    unseen = [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.stem not in pages]
    assert unseen == []


def commands(page: str) -> Iterator[str]:
    for block in re.findall(r"```console\n(.+?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.strip().startswith("$ "):
                yield line.strip().removeprefix("$ ")


@pytest.mark.slow
def test_the_commands_for_other_languages_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters").symlink_to(ROOT / "adapters")
    ran = []
    for command in commands(PAGE):
        words = shlex.split(command)
        if words[0] == "cc":
            if shutil.which("cc") is None:
                pytest.skip("there is no C compiler: cc is not on the path")
            subprocess.run(words, check=True)
            continue
        if words == ["regionloss", "check", "mine:adapter"]:
            continue
        assert words[:2] == ["regionloss", "check"]
        if words[2].startswith("cmd:node") and shutil.which("node") is None:
            pytest.skip("there is no Node: node is not on the path")
        assert deviating(judge_for(load_adapter(words[2]), None, CHOSEN)) == {}
        ran.append(words[2])
    assert len(ran) == 2


def test_the_other_commands_of_the_pages_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("index.md", "read-a-report.md"):
        explained = [shlex.split(command) for command in commands((DOCS / page).read_text(encoding="utf-8"))]
        for words in explained:
            if words[1] in ("explain", "clauses"):
                assert main(words[1:]) == 0
        assert explained
    assert "coord.small-box-weight" in capsys.readouterr().out


@pytest.mark.slow
def test_the_report_of_the_page_blames_what_is_wrong(suite_options: Callable[..., None]) -> None:
    suite_options("--regionloss-examples", "2", "-n", "0")  # it counts what every property breaks
    (said,) = re.findall(r"<!-- lines: (.+) of (regionloss .+) -->", (DOCS / "read-a-report.md").read_text("utf-8"))
    shown = lines(said[1], said[0]).splitlines()
    assert shown[0] == "1 difference from profile darknet, what changes most first:"
    assert "small_box_exponent = 0, expected 1" in shown[1]
    assert "coord.small-box-weight · alone, this changes" in shown[1]
    assert shown[2] == "After it, nothing remains."
    assert [line.split()[0] for line in shown[3:] if line != "…"][:3] == ["the", "reproduce:", "explain:"]
    assert "not conforming" in shown[-1]


@pytest.mark.slow
def test_the_expected_deviation_of_the_page_is_expected(suite_options: Callable[..., None]) -> None:
    suite_options("-k", "the-gradient-of", "-n", "0")
    shown = lines("regionloss check unweighted:adapter --expect expected.toml", "!|conforming ·")
    assert "! coord.small-box-weight" in shown
    assert "✗" not in shown
    assert ": conforming ·" in shown


def test_the_profile_of_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.+?)```", (DOCS / "profiles.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert load_profile("darknet").differences(load_profile(tmp_path / "mine.toml")) == {"small_box_exponent": (1, 0)}


@pytest.mark.slow
def test_the_gate_of_the_page_writes_what_it_says(tmp_path: Path, quick_program: Path) -> None:
    for name in ("unweighted.py", "expected.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "unweighted.py").rename(tmp_path / "mine.py")
    environment = {**os.environ, "PATH": f"{quick_program}:{os.environ['PATH']}"}
    gate = str(EXAMPLES / "gate.sh")
    passed = subprocess.run(["sh", gate], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    for name in ("report.json", "report.xml", "summary.md", "badge.json"):
        assert (tmp_path / name).stat().st_size
    (tmp_path / "expected.toml").write_text("", encoding="utf-8")
    failed = subprocess.run(["sh", gate], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1, failed.stdout + failed.stderr


def test_the_numbers_of_the_chosen_cases_can_show_a_difference() -> None:
    assert len(CHOSEN) >= 3
    assert all(np.any(case.expected.gradient) for case in CHOSEN if case.expected.gradient is not None)
