"""The messages between the suite and an adapter in another process, described in `docs/protocol.md`."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_adapters.process.child import excerpt, printable
from regionloss_adapters.process.folder import Folder
from regionloss_adapters.protocol import AdapterError, Answer, Description, Question
from regionloss_spec import AXES

#: The version of the protocol, which a child repeats in its hello.
PROTOCOL = 1
#: Tensors with more numbers than this are passed as files.
INLINE_LIMIT = 4096

_SCHEMA = Path(__file__).with_name("process.schema.json")
_FIELDS = {
    "gradient": ("gradient",),
    "potential": ("potential",),
    "terms": ("terms",),
    "indicators": ("responsible", "ignored"),
    "printed cost": ("printed_cost",),
    "statistics": ("statistics",),
}


def encode(message: dict[str, Any]) -> bytes:
    """One line of JSON in ASCII."""
    return json.dumps(_plain(message), allow_nan=False, separators=(",", ":")).encode("ascii")


def decode(line: bytes, number: int, *kinds: str) -> dict[str, Any]:
    """A line of the child as a message of one of these kinds, checked by the schema.

    Raises:
        AdapterError: it is not JSON, not such a message, or answers another question than `number`.
    """
    try:
        message: Any = json.loads(
            line.decode("utf-8"), parse_constant=_not_a_number_of_json, object_pairs_hook=_with_each_key_once
        )
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"the adapter itself wrote a line that is not JSON: {error}: {excerpt(line)}") from error
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(kind, str) or kind not in kinds:
        raise AdapterError(f"the adapter itself wrote no message of type {' or '.join(kinds)}: {excerpt(line)}")
    if kind == "hello" and message.get("protocol") != PROTOCOL:
        raise AdapterError(
            f"the adapter itself uses protocol {_short(message.get('protocol'))}, this suite uses {PROTOCOL}"
        )
    problem = next(_validator(kind).iter_errors(message), None)  # only the first, because there may be a million
    if problem is not None:
        meant = problem.schema.get("description") if isinstance(problem.schema, dict) else None
        raise AdapterError(
            f"the adapter itself wrote a wrong {kind}: {printable(problem.json_path[:200])}: "
            f"{printable(problem.message[:300])}" + (f" (expected {meant})" if meant else "")
        )
    if message["id"] != number:
        raise AdapterError(f"the adapter itself answered question {message['id']}, expected question {number}")
    return message


def hello(number: int, folder: Folder, line_limit: int) -> dict[str, Any]:
    """The suite's first message."""
    return {
        "type": "hello",
        "id": number,
        "protocol": PROTOCOL,
        "folder": folder.path,
        "inline_limit": INLINE_LIMIT,
        "line_limit": line_limit,
    }


def description(message: dict[str, Any]) -> Description:
    """The description in the child's hello."""
    given = {name: value for name, value in message.items() if name not in ("type", "id", "protocol", "options")}
    lists = {name: tuple(map(printable, value)) for name, value in given.items() if isinstance(value, list)}
    return Description(**(given | lists | {"name": printable(given["name"])}))


def options_of(message: dict[str, Any]) -> tuple[str, ...] | None:
    """The axes of a profile that the child reads, or `None` if its hello omits them and it skips by itself.

    Raises:
        AdapterError: there is no such axis.
    """
    options: list[str] | None = message.get("options")
    for axis in options or ():
        if axis not in AXES:
            raise AdapterError(
                f"the adapter itself wrote a wrong hello: $.options: there is no axis {printable(axis)!r}; "
                f"the axes are {', '.join(AXES)}"
            )
    return None if options is None else tuple(options)


def question_message(number: int, question: Question, folder: Folder) -> dict[str, Any]:
    """The message that asks for one batch; a large tensor is written to the folder."""
    batch = question.batch
    predictions = np.asarray(batch.predictions, dtype=np.float64)
    tensor: dict[str, Any] = {"shape": list(predictions.shape)}
    if predictions.size > INLINE_LIMIT:
        tensor |= {"dtype": "float64", "file": f"question-{number}-predictions.raw"}
        folder.write(tensor["file"], predictions)
    else:
        tensor["values"] = predictions.ravel()
    return {
        "type": "question",
        "id": number,
        "batch": {
            "predictions": tensor,
            "truths": batch.truths,
            "anchors": batch.anchors,
            "classes": batch.classes,
            "images_seen": batch.images_seen,
            "tree": batch.tree,
        },
        "profile": {"name": question.profile.name, **{axis: getattr(question.profile, axis) for axis in AXES}},
        "dtype": question.dtype,
        "device": question.device,
        "upstream": question.upstream,
    }


def answer(message: dict[str, Any], shape: tuple[int, ...], promised: tuple[str, ...], folder: Folder) -> Answer:
    """The child's answer to a question about predictions of this shape.

    Raises:
        AdapterError: a declared field is missing, or the gradient has another shape than the predictions.
    """
    for name in promised:
        if name in _FIELDS and not any(field in message for field in _FIELDS[name]):
            raise AdapterError(
                f"the adapter itself declares {name!r} but wrote an answer without {' or '.join(_FIELDS[name])}"
            )
    given: dict[str, Any] = {}
    for name in ("potential", "printed_cost"):
        if name in message:
            given[name] = _number(message[name])
    for name in ("terms", "statistics"):
        if name in message:
            given[name] = {key: _number(value) for key, value in message[name].items()}
    for name in ("responsible", "ignored"):
        if name in message:
            given[name] = tuple(tuple(map(int, place)) for place in message[name])
    if "gradient" in message:
        given["gradient"] = _tensor("gradient", message["gradient"], shape, folder)
    return Answer(**given)


def _tensor(name: str, tensor: dict[str, Any], shape: tuple[int, ...], folder: Folder) -> NDArray[np.float64]:
    if tuple(tensor["shape"]) != shape:
        raise AdapterError(f"the adapter itself wrote a {name} of shape {_short(tensor['shape'])}, not {list(shape)}")
    if "file" in tensor:
        return folder.read(tensor["file"], tensor["dtype"], shape)
    values = tensor["values"]
    if len(values) != math.prod(shape):
        raise AdapterError(
            f"the adapter itself wrote {len(values)} values for the {name} of shape {list(shape)}, "
            f"which has {math.prod(shape)}"
        )
    return np.array([_number(value) for value in values], dtype=np.float64).reshape(shape)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise AdapterError("the adapter itself wrote an integer that no floating-point format holds") from error


def _plain(value: Any) -> Any:
    """A value in JSON's types: arrays as lists, ragged ones too, and numbers that JSON lacks as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _validator(kind: str) -> Any:
    import jsonschema  # only adapters in another process need it

    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"})


def _not_a_number_of_json(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number; write it as a string")


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object names a key twice")
    return fields


def _short(value: Any) -> str:
    return printable(repr(value)[:60])
