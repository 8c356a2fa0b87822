"""A profile: one frozen value for every decision that the formula leaves open.

Each field is an *axis*; the clauses of the spec define the axis and each of its values
(`regionloss clauses`). The shipped profiles are the TOML files in `profiles/`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

_FOLDER = Path(__file__).with_name("profiles")


class ProfileError(ValueError):
    """A profile that does not exist, or that names an unknown axis or value."""


#: A value of an axis, what another axis has to be beside it, and the clause that defines no more than that.
UNDEFINED: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    ("class_collision", "accumulate", "class_term", ("logistic", "tree"), "assign.class-accumulates"),
    ("class_collision", "accumulate", "collision", ("last",), "assign.class-accumulates"),
    ("class_collision", "accumulate", "ignored_class", ("none",), "assign.class-accumulates"),
    ("size_target_floor", "one-cell", "size_space", ("log",), "coord.size-target-floor"),
    ("objectness", "background", "class_term", ("cross-entropy",), "object.background"),
    ("objectness", "background", "no_object_target", ("zero",), "object.background"),
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Every choice of one YOLOv2 loss. The defaults are darknet's, in its published configurations."""

    name: str
    title: str
    source: str

    # The no-object term and its indicator.
    ignore: Literal["above", "at-or-above", "none"] = "above"
    thresh: float = 0.6
    no_object_applies: Literal["not-responsible", "every-predictor"] = "not-responsible"
    no_object_target: Literal["zero", "max-iou"] = "zero"

    # The prior term and its indicator.
    prior_applies: Literal["not-responsible", "every-predictor"] = "not-responsible"
    prior_until: int = 12800
    prior_weight: float = 0.01

    # Which predictor is responsible for a truth.
    anchor_choice: Literal["anchor-shape", "anchor-corner", "predicted-shape", "predicted-iou"] = "anchor-shape"
    collision: Literal["last", "first", "sum"] = "last"
    class_collision: Literal["replace", "accumulate"] = "replace"

    # The coordinate term.
    size_space: Literal["log", "decoded", "square-root"] = "log"
    size_target_floor: Literal["none", "one-cell"] = "none"
    small_box_exponent: Literal[0, 1, 2] = 1

    # The objectness term.
    object_target: Literal["iou", "one", "max-iou"] = "iou"
    object_target_gradient: Literal["constant", "flows"] = "constant"
    objectness: Literal["logistic", "background"] = "logistic"

    # The class term.
    class_term: Literal["cross-entropy", "squared-error", "squared-linear", "logistic", "focal", "tree"] = (
        "cross-entropy"
    )
    ignored_class: Literal["none", "full", "by-objectness"] = "none"

    # Weights, factor and reduction.
    coord_weight: float = 1.0
    object_weight: float = 5.0
    no_object_weight: float = 1.0
    class_weight: float = 1.0
    squared_factor: float = 0.5
    reduction: Literal["sum", "per-image"] = "sum"
    printed_cost: Literal["residuals", "gradient", "potential"] = "residuals"

    # The list of truths.
    truth_end: Literal["x-zero", "none"] = "x-zero"
    max_truths: int = 30

    def __post_init__(self) -> None:
        for axis, kind in _types().items():
            object.__setattr__(self, axis, _checked(f"profile {self.name!r}", axis, getattr(self, axis), kind))
        self._refuse_what_no_clause_defines()

    def _refuse_what_no_clause_defines(self) -> None:
        """Values of two axes that no clause defines together."""
        for axis, value, other, needed, clause in UNDEFINED:
            if getattr(self, axis) == value and getattr(self, other) not in needed:
                raise ProfileError(
                    f"profile {self.name!r}: {axis} is {value!r}, which needs {other} "
                    f"{' or '.join(map(repr, needed))}, not {getattr(self, other)!r} ({clause})"
                )

    def replace(self, **options: Any) -> Profile:
        """This profile with some axes set differently. Raises `ProfileError` for an unknown axis or value."""
        for axis in options:
            if axis not in AXES:
                raise ProfileError(f"unknown axis {axis!r}; the axes are {', '.join(AXES)}")
        return dataclasses.replace(self, **options)

    def differences(self, other: Profile) -> dict[str, tuple[Any, Any]]:
        """The axes on which two profiles differ, as `{axis: (self, other)}`."""
        pairs = {axis: (getattr(self, axis), getattr(other, axis)) for axis in AXES}
        return {axis: pair for axis, pair in pairs.items() if pair[0] != pair[1]}


#: The axes, in the order of the fields; `name`, `title` and `source` only describe.
AXES: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(Profile) if field.name not in ("name", "title", "source")
)


@cache
def _types() -> dict[str, Any]:
    """The declared type of each field, which takes a millisecond to work out."""
    return get_type_hints(Profile)


def axis_values(axis: str) -> tuple[Any, ...]:
    """The values that a discrete axis can take; empty for a numeric axis."""
    kind = _types()[axis]
    return get_args(kind) if get_origin(kind) is Literal else ()


def profile_names() -> list[str]:
    """The names of the shipped profiles, `darknet` first."""
    names = sorted(path.stem for path in _FOLDER.glob("*.toml"))
    return sorted(names, key=lambda name: name != "darknet")


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by its name, or a TOML file of the same shape by its path.

    A file may start from a shipped profile with `extends = "darknet"` and state only what differs.

    Raises:
        ProfileError: no such profile, not TOML, an unknown axis, or a value that the axis does not take.
    """
    path = Path(name_or_path)
    return _read(path) if path.suffix == ".toml" else _shipped(str(name_or_path))


@cache  # a file of the user's may change, a shipped one does not
def _shipped(name: str) -> Profile:
    return _read(_FOLDER / f"{name}.toml", name)


def _read(path: Path, name: str = "") -> Profile:
    if not path.is_file():
        raise ProfileError(
            f"no profile {name or str(path)!r}; shipped are {', '.join(profile_names())}, or name a .toml file"
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not TOML: {error}") from error
    return _from_table(table, path)


def _from_table(table: dict[str, Any], path: Path) -> Profile:
    base = table.pop("extends", None)
    known = ("name", "title", "source", *AXES)
    for key in table:
        if key not in known:
            raise ProfileError(f"{path}: unknown key {key!r}; the axes are {', '.join(AXES)}")
    for key in ("name", "title", "source"):
        if key not in table:
            raise ProfileError(f"{path}: missing key {key!r}")
    if base is None:
        return Profile(**table)
    return dataclasses.replace(load_profile(base), **table)


def _checked(where: str, axis: str, value: Any, kind: Any) -> Any:
    """The value of one axis in its declared type, or an error that names the axis."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or isinstance(value, bool):
            raise ProfileError(f"{where}: {axis} is {value!r}; it takes {', '.join(map(repr, get_args(kind)))}")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise ProfileError(f"{where}: {axis} is {value!r}; expected text")
        return value
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise ProfileError(f"{where}: {axis} is {value!r}; it takes {'a whole number' if kind is int else 'a number'}")
    if not 0 <= value < float("inf"):
        raise ProfileError(f"{where}: {axis} is {value!r}; it takes a finite number that is not negative")
    return kind(value)
