"""Golden cases: an input and the answer of a conforming loss. JSON under `case.schema.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_spec.batch import Batch
from regionloss_spec.profile import Profile, ProfileError, load_profile

#: The cases that come with the spec.
CASES = Path(__file__).with_name("cases")

_SCHEMA = Path(__file__).with_name("case.schema.json")


class CaseError(ValueError):
    """A case file that cannot be read: the message names the file and the field."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Expected:
    """The answer of a conforming loss; `None` for a part that the case does not state.

    Attributes:
        gradient: of the potential with respect to the raw predictions, `[N, A*(5+C), H, W]`.
        responsible: (image, truth, anchor, row, column) of every truth whose box is paid.
        ignored: (image, anchor, row, column) of every predictor that MaxIOU silences.
        terms: the five terms by name, and their sum, the potential.
        printed_cost: what darknet prints as the loss.
        statistics: darknet's statistics line.
        error: the clause by which the input is refused, with `image` and `truth` where the fault has a place.
        from_reference: parts that were neither recorded nor derived by hand.
    """

    gradient: NDArray[np.float64] | None = None
    responsible: tuple[tuple[int, ...], ...] | None = None
    ignored: tuple[tuple[int, ...], ...] | None = None
    terms: dict[str, float] | None = None
    potential: float | None = None
    printed_cost: float | None = None
    statistics: dict[str, float] | None = None
    error: dict[str, Any] | None = None
    from_reference: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """One golden case.

    Attributes:
        id: readable name.
        title: one sentence, what the case shows.
        clauses: ids of the clauses it pins.
        provenance: where the expected numbers come from; `kind` is `recording` or `derivation`.
        base: name of the profile it belongs to.
        profile: that profile with the case's own options on top.
        batch: the input.
        expected: the answer of a conforming loss.
    """

    id: str
    title: str
    clauses: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    base: str
    profile: Profile
    batch: Batch
    expected: Expected

    @property
    def recorded(self) -> bool:
        """Whether the expected numbers carry the rounding of a float32 program."""
        return self.provenance.get("kind") == "recording"


def load_cases(folder: Path = CASES) -> list[Case]:
    """Every case of a folder, in the order of their names. Raises `CaseError` for a file that cannot be read."""
    return [load_case(path) for path in sorted(folder.glob("*.json"))]


def load_case(path: Path) -> Case:
    """Read one case file. Raises `CaseError` with the file and the field at fault."""
    return case_from_json(read_json(path), path)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or a `CaseError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CaseError(f"{path}: not JSON: {error}") from error


def case_from_json(data: Any, path: Path) -> Case:
    """A case from its parsed JSON; `path` names it in errors and says where array files lie."""
    if path.parent != CASES:  # those of the spec are held to the schema by a test, and need no validator to be read
        check_schema(data, path)
    base = data.get("profile", "darknet")
    try:
        profile = load_profile(base).replace(**data.get("options", {}))
    except ProfileError as error:
        raise CaseError(f"{path}: {error}") from error
    channels = len(data["anchors"]) * (5 + data["classes"])
    shape = (len(data["truths"]), channels, data["grid"]["height"], data["grid"]["width"])
    expected = data.get("expected", {})
    batch = Batch(
        predictions=_tensor(data["predictions"], shape, path, "predictions"),
        truths=tuple(_table(rows) for rows in data["truths"]),
        anchors=_table(data["anchors"]),
        classes=data["classes"],
        images_seen=data["images_seen"],
        tree=tuple(data["tree"]) if "tree" in data else None,
    )
    return Case(
        id=data.get("id", path.stem),
        title=data["title"],
        clauses=tuple(data.get("clauses", ())),
        provenance=data.get("provenance", {}),
        base=base,
        profile=profile,
        batch=batch,
        expected=Expected(
            gradient=_tensor(expected["gradient"], shape, path, "expected.gradient")
            if "gradient" in expected
            else None,
            responsible=_places(expected.get("responsible")),
            ignored=_places(expected.get("ignored")),
            terms=expected.get("terms"),
            potential=expected.get("potential"),
            printed_cost=expected.get("printed_cost"),
            statistics={name: float(v) for name, v in expected["statistics"].items()}
            if "statistics" in expected
            else None,
            error=expected.get("error"),
            from_reference=tuple(expected.get("from_reference", ())),
        ),
    )


def check_schema(data: Any, path: Path) -> None:
    """Hold parsed JSON to `case.schema.json`. Raises `CaseError` with the file and the field at fault."""
    import jsonschema

    problem = jsonschema.exceptions.best_match(_validator().iter_errors(data))
    if problem is not None:
        raise CaseError(f"{path}: {problem.json_path}: {problem.message[:200]}")


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))


def _tensor(value: Any, shape: tuple[int, ...], path: Path, name: str) -> NDArray[np.float64]:
    if isinstance(value, list):
        value = {"shape": shape, "values": value}
    if "file" in value:
        return load_array(path, value["file"], value["array"]).astype(np.float64)
    if "values" in value:
        numbers = np.array([float(number) for number in value["values"]])
        if numbers.size != np.prod(value["shape"], dtype=int):
            raise CaseError(f"{path}: {name}: got {numbers.size} numbers for the shape {list(value['shape'])}")
        return numbers.reshape(value["shape"])
    images, channels, height, width = shape
    tensor = np.full(shape, float(value["default"]))
    for here in value["at"]:
        values = [float(number) for number in here["values"]]
        place = (here["image"], here["anchor"], here["row"], here["column"])
        size = (images, channels // len(values), height, width) if values else (0,) * 4
        if not values or channels % len(values) or any(p >= s for p, s in zip(place, size, strict=True)):
            raise CaseError(
                f"{path}: {name}.at: {len(values)} values at image, anchor, row, column {list(place)} "
                f"do not fit the shape {list(shape)}"
            )
        start = here["anchor"] * len(values)
        tensor[here["image"], start : start + len(values), here["row"], here["column"]] = values
    return tensor


def load_array(path: Path, file: str, name: str) -> NDArray[Any]:
    """An array of the .npz file that stands beside a case; never a pickle."""
    beside = path.parent / Path(file).name
    try:
        with np.load(beside, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except (OSError, ValueError, KeyError) as error:
        raise CaseError(f"{path}: array {name!r} of {beside.name} cannot be read: {error}") from error


def _table(rows: list[list[Any]]) -> NDArray[np.float64]:
    try:
        return np.array([[float(number) for number in row] for row in rows])
    except ValueError:  # rows of unequal length: kept as they are, for the loss to refuse
        return np.array([np.array([float(number) for number in row]) for row in rows], dtype=object)


def _places(rows: list[list[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    return None if rows is None else tuple(tuple(row) for row in rows)
