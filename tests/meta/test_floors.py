"""An import points down only: spec, then reference, then adapters, then suite; and nothing imports in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
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


#: The modules at the root of the suite; all others have a room.
AT_THE_ROOT = {"__init__", "__main__", "plugin", "pytest_api", "run", "test_golden", "test_properties"}
#: More floors than this, and nobody finds the way.
MOST_FLOORS = 11

MODULES = {
    ".".join(part for part in path.relative_to(ROOT / room).with_suffix("").parts if part != "__init__"): path
    for room, package in zip(ROOMS, FLOORS, strict=True)
    for path in (ROOT / room / package).rglob("*.py")
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def is_face(module: str) -> bool:
    """Whether it is an `__init__` that defines nothing and hands names on."""
    defined = (ast.FunctionDef, ast.ClassDef)
    return MODULES[module].stem == "__init__" and not any(isinstance(node, defined) for node in tree_of(module).body)


def source_of(package: str, name: str) -> str | None:
    """The module that a name comes from when it is imported from a package, `None` where that is not ours."""
    if f"{package}.{name}" in MODULES:
        return f"{package}.{name}"
    if package not in MODULES:
        return None
    if is_face(package):
        for node in tree_of(package).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
                return source_of(node.module or "", name)
    return package


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, at its top or in a function."""
    nodes = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom)]
    sources = {source_of(node.module or "", alias.name) for node in nodes for alias in node.names}
    return {source for source in sources if source is not None and source != module}


def room_of(module: str) -> str:
    """A package below the suite is one room; in the suite, each folder is one, and each module at the root."""
    package, *rest = module.split(".")
    return ".".join([package, *rest[:1]]) if package == "regionloss_suite" else package


GRAPH = {module: imports_of(module) for module in MODULES if not is_face(module)}


def test_the_graph_sees_what_is_imported() -> None:
    assert "regionloss_suite.judging.exchange" in GRAPH["regionloss_suite.judging.judge"]
    assert "regionloss_spec.clause" in GRAPH["regionloss_suite.judging.judge"], "through a package that hands it on"
    assert "regionloss_suite.run" in GRAPH["regionloss_suite"], "in a function"
    assert {room for room in map(room_of, GRAPH) if room.startswith("regionloss_suite.")} > {"regionloss_suite.cli"}


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_rooms_stand_on_few_floors_without_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, sources in GRAPH.items():
        below = {room_of(source) for source in sources} - {room_of(module)}
        rooms.setdefault(room_of(module), set()).update(below)
    floors: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = 1 + max((floors[below] for below in rooms[room]), default=0)
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_every_module_of_the_suite_has_a_room() -> None:
    assert {path.stem for path in (ROOT / "tests/regionloss_suite").glob("*.py")} == AT_THE_ROOT
