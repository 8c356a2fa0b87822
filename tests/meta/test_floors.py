"""An import points down only: spec, then reference, then adapters, then suite."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("regionloss_spec", "regionloss", "regionloss_adapters", "regionloss_suite")
ROOMS = ("spec", "reference", "adapters", "tests")
FILES = [
    pytest.param(path, floor, id=str(path.relative_to(ROOT)))
    for floor, (room, package) in enumerate(zip(ROOMS, FLOORS, strict=True))
    for path in sorted((ROOT / room / package).rglob("*.py"))
]


def imported(path: Path, *, top: bool) -> set[str]:
    """Packages that a file imports, at its top level or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top else list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(("path", "floor"), FILES)
def test_nothing_knows_the_floors_above(path: Path, floor: int) -> None:
    assert not imported(path, top=False) & set(FLOORS[floor + 1 :])


@pytest.mark.parametrize(("path", "floor"), FILES)
def test_torch_is_imported_only_where_it_is_the_subject(path: Path, floor: int) -> None:
    if "torch" not in path.relative_to(ROOT).as_posix():
        assert "torch" not in imported(path, top=False)


def test_the_plugin_stays_light_for_every_pytest_run() -> None:
    heavy = {"torch", "hypothesis", "numpy", "jsonschema", *FLOORS}
    assert not imported(ROOT / "tests/regionloss_suite/plugin.py", top=True) & heavy
