"""The gates that people paste, run as the services run them: an action of GitHub, hooks of pre-commit, GitLab's job."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "docs" / "examples"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="what the services run is for bash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose loss `mine:adapter` forgets the weight of small boxes, which `expected.toml` expects."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / "unweighted.py", project / "mine.py")
    shutil.copy(EXAMPLES / "expected.toml", project)
    return project


# The GitHub action.


@dataclass(frozen=True)
class Step:
    """What a job sees of the action."""

    code: int
    said: str
    outputs: dict[str, str]
    page: str


def act(folder: Path, *, python: str = sys.executable, **inputs: str) -> Step:
    """Run the steps of `action.yml` as a runner does; pip is not asked, unless it is said."""
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    chosen = {"folder": str(folder), "python": python, "install": "none", "golden": "true"} | inputs
    assert chosen.keys() <= action["inputs"].keys()
    required = {name for name, one in action["inputs"].items() if one.get("required")}
    assert required <= chosen.keys()
    values = {f"inputs.{name}": chosen.get(name, str(one.get("default", ""))) for name, one in action["inputs"].items()}
    values["github.action_path"] = str(ROOT)
    page, said, code = folder.parent / "page.md", "", 0
    page.write_text("what an earlier step wrote\n", encoding="utf-8")
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"], "an input in a script is run by the shell"
        assert step["shell"] == "bash"
        output = folder.parent / "output.txt"
        output.write_text("", encoding="utf-8")
        environment = {name: filled(text, values) for name, text in step["env"].items()}
        script = folder.parent / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=filled(step["working-directory"], values),
            env={**os.environ, **environment, "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(page)},
            capture_output=True,
            text=True,
            check=False,
        )
        said, code = said + done.stdout + done.stderr, done.returncode
        for line in output.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            values[f"steps.{step.get('id')}.outputs.{name}"] = value
        if code:
            break
    outputs = {name: filled(one["value"], values) for name, one in action["outputs"].items()}
    return Step(code, said, outputs, page.read_text(encoding="utf-8"))


def filled(text: str, values: dict[str, str]) -> str:
    """Text with its expressions replaced; one that nothing has set is empty, as for a runner."""
    known = {"inputs.", "github.", "steps."}
    for name in re.findall(r"\${{ (.+?) }}", text):
        assert any(name.startswith(one) for one in known), name
        assert name in values or name.startswith("steps."), name
    return re.sub(r"\${{ (.+?) }}", lambda found: values.get(found[1], ""), text)


@pytest.mark.slow
def test_the_action_names_the_line_of_the_spec_that_a_run_breaks(folder: Path) -> None:
    step = act(folder, adapter="mine:adapter", profile="darknet")
    assert step.code == 1, step.said
    assert step.outputs["level"] == "none"
    assert json.loads(step.outputs["badge"])["message"] == "not conforming"
    assert "::error title=mine%3Aadapter" in step.said
    first, *page = step.page.splitlines()
    assert first == "what an earlier step wrote"
    assert len(page) < 25
    rows = [line for line in page if line.startswith("| ✗")]
    assert len(rows) == 1
    assert "`coord.small-box-weight` MUST | The coordinate term MUST be weighted with 2 minus the area" in rows[0]
    reports = Path(step.outputs["reports"])
    names = {"report.json", "report.html", "report.xml", "summary.md", "badge.json"}
    assert names <= {path.name for path in reports.iterdir()}
    assert json.loads((reports / "report.json").read_text(encoding="utf-8"))["level"] == "none"


@pytest.mark.slow
def test_the_action_lets_an_expected_deviation_pass(folder: Path) -> None:
    step = act(folder, adapter="mine:adapter", profile="darknet", expected="expected.toml")
    assert step.code == 0, step.said
    assert step.outputs["level"] == "expected"


@pytest.mark.slow
def test_the_action_tells_a_regression_by_the_previous_report(folder: Path) -> None:
    good = act(folder, adapter="numpy", profile="darknet", reports="first", previous="there/is/none.json")
    assert good.code == 0, good.said
    assert good.outputs["level"] == "full"
    assert "::warning::there is no report there/is/none.json" in good.said
    worse = act(folder, adapter="mine:adapter", profile="darknet", previous="first/report.json")
    assert worse.code == 4, worse.said


def test_the_action_takes_its_inputs_as_words_not_as_commands(folder: Path) -> None:
    step = act(folder, adapter='"; touch pwned; "$(touch pwned)`touch pwned`')
    assert step.code == 2, step.said
    assert not list(folder.rglob("pwned"))
    unsure = act(folder, adapter="numpy", golden="maybe")
    assert unsure.code == 2
    assert "golden is true or false, not maybe" in unsure.said


@pytest.mark.parametrize(("install", "expected"), [("", str(ROOT)), ("regionloss==0.1", "regionloss==0.1")])
def test_the_action_installs_itself_or_what_it_is_told(folder: Path, install: str, expected: str) -> None:
    python = folder.parent / "python"
    python.write_text(f'#!/bin/sh\nif [ "$2" = pip ]; then echo "$@" >> {folder}/pip.txt; else exit 9; fi\n', "utf-8")
    python.chmod(0o755)
    assert act(folder, adapter="numpy", python=str(python), install=install).code == 9
    assert (folder / "pip.txt").read_text(encoding="utf-8") == f"-m pip install --quiet {expected}\n"


def test_the_workflow_of_the_page_gives_inputs_that_there_are() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (job,) = yaml.safe_load((EXAMPLES / "workflow.yml").read_text(encoding="utf-8"))["jobs"].values()
    (step,) = [step for step in job["steps"] if step.get("id") == "loss"]
    assert step["with"].keys() <= action["inputs"].keys()
    used = re.findall(r"steps\.loss\.outputs\.(\w+)", str(job))
    assert used
    assert set(used) <= action["outputs"].keys()


# The hooks of pre-commit.


def git(folder: Path, *arguments: str) -> str:
    """Git as nobody in particular, whatever the user's own settings are."""
    command = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    """Make a repository of a folder; its commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


def hooked(folder: Path, environment: dict[str, str], hook: str, source: Path, arguments: list[str]) -> Any:
    """Run pre-commit in a project that takes a hook from a repository, by the configuration of the page."""
    config = yaml.safe_load((EXAMPLES / "pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    (entry,) = repository["hooks"]
    assert entry["id"] == "regionloss-installed"
    repository |= {"repo": str(source), "rev": git(source, "rev-parse", "HEAD")}
    entry |= {"id": hook, "args": arguments or entry["args"]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if not (folder / ".git").exists():
        commit(folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PRE_COMMIT"))}
    return subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files", "--verbose"],
        cwd=folder,
        env={**clean, "PRE_COMMIT_HOME": str(folder.parent / "pre-commit"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """A repository that has our hooks and nothing else."""
    source = tmp_path / "hooks"
    source.mkdir()
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", source)
    commit(source)
    return source


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path on which `regionloss` is the one under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "regionloss"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m regionloss_suite "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="pre-commit needs git")
def test_the_hook_lets_pass_and_stops_as_the_command_does(folder: Path, hooks: Path, path: str) -> None:
    passed = hooked(folder, {"PATH": path}, "regionloss-installed", hooks, [])
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "mine:adapter (profile darknet): conforming" in passed.stdout
    stopped = hooked(folder, {"PATH": path}, "regionloss-installed", hooks, ["mine:adapter"])
    assert stopped.returncode == 1
    assert "· coord.small-box-weight · alone, this changes" in stopped.stdout


@pytest.mark.slow
@pytest.mark.packaging
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="pre-commit installs from a repository")
def test_the_hook_installs_itself_where_nothing_is(folder: Path) -> None:
    environment = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PYTHONPATH": ""}
    done = hooked(folder, environment, "regionloss", ROOT, [])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine:adapter (profile darknet): conforming" in done.stdout


# GitLab, and any service that runs a shell.


@pytest.mark.slow
def test_the_job_of_gitlab_leaves_what_it_promises(folder: Path, quick_program: Path) -> None:
    (job,) = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text(encoding="utf-8")).values()
    script = "\n".join(job["script"])
    run = ["bash", "-eo", "pipefail", "-c", script]
    environment = {**os.environ, "PATH": f"{quick_program}:{os.environ['PATH']}"}
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    promised = [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    assert [name for name in promised if not (folder / name).exists()] == ["regionloss-failures"]  # nothing failed
    (folder / "expected.toml").write_text("", encoding="utf-8")
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
