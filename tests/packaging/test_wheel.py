"""The distribution that users install: what it holds, and that it works where nothing else is."""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "regionloss_spec": ROOT / "spec" / "regionloss_spec",
    "regionloss": ROOT / "reference" / "regionloss",
    "regionloss_adapters": ROOT / "adapters" / "regionloss_adapters",
    "regionloss_suite": ROOT / "tests" / "regionloss_suite",
}


@dataclass(frozen=True)
class Distribution:
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without what this test run put into the environment; its output, or a failure that shows it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    line = " ".join(map(str, command))
    assert done.returncode == 0, f"{line}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The sdist, and the wheel built from what the sdist holds, both by the installed build backend."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Distribution(sdist=sdist, wheel=wheel)


@pytest.fixture(scope="module")
def bin_folder(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new virtual environment that holds the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    without_torch = folder / "without-torch.txt"
    without_torch.write_text("torch<0\n")  # should the wheel ever require torch, pip gives up before it downloads any
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    bin_folder = folder / "venv" / "bin"
    pip_install = (bin_folder / "python", "-m", "pip", "install", "--quiet", "--no-input")
    constraints = ("--constraint", ROOT / "constraints.txt", "--constraint", without_torch)
    run(*pip_install, *constraints, distribution.wheel, cwd=folder)
    return bin_folder


def test_the_wheel_adds_only_the_four_packages_to_site_packages(distribution: Distribution) -> None:
    dist_info = "-".join(distribution.wheel.name.split("-")[:2]) + ".dist-info"
    with zipfile.ZipFile(distribution.wheel) as archive:
        record = archive.read(f"{dist_info}/RECORD").decode()
        names = set(archive.namelist())
    recorded = {row[0] for row in csv.reader(io.StringIO(record))}

    assert {*PACKAGES, dist_info} == {path.split("/")[0] for path in recorded}
    assert names == recorded


@pytest.mark.parametrize("package", PACKAGES)
def test_sdist_and_wheel_hold_every_file_of_a_package(package: str, distribution: Distribution) -> None:
    source = PACKAGES[package]
    expected = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    with zipfile.ZipFile(distribution.wheel) as archive:
        in_wheel = {name.removeprefix(f"{package}/") for name in archive.namelist() if name.startswith(f"{package}/")}
    inside = f"{distribution.sdist.name.removesuffix('.tar.gz')}/{source.relative_to(ROOT).as_posix()}/"
    with tarfile.open(distribution.sdist) as archive:
        files = {member.name for member in archive.getmembers() if member.isfile()}
    in_sdist = {name.removeprefix(inside) for name in files if name.startswith(inside)}

    assert "py.typed" in expected
    assert expected == in_wheel
    assert expected == in_sdist


def test_the_environment_of_the_wheel_is_its_own_and_has_no_torch(bin_folder: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.util, json\n"
        f"names = {[*PACKAGES, 'torch']!r}\n"
        "specs = {name: importlib.util.find_spec(name) for name in names}\n"
        "print(json.dumps({name: spec and spec.origin for name, spec in specs.items()}))"
    )
    origins = json.loads(run(bin_folder / "python", "-c", code, cwd=tmp_path))

    assert origins.pop("torch") is None
    for name, origin in origins.items():
        assert Path(origin).is_relative_to(bin_folder.parent), name


def test_a_check_runs_from_an_empty_folder(bin_folder: Path, tmp_path: Path) -> None:
    run(bin_folder / "regionloss", "check", "numpy", "--golden", "--json", "verdicts.json", cwd=tmp_path)
    listing = run(bin_folder / "regionloss", "clauses", cwd=tmp_path)

    verdicts = json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]
    assert "conforming" in {entry["verdict"] for entry in verdicts}
    assert [entry["clause"] for entry in verdicts if entry["clause"] not in listing] == []
