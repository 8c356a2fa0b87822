"""Recordings of darknet's own `forward_region_layer`, read as cases.

A recording holds darknet's option names, its `l.delta` and the cost that it printed. What a case wants beside these,
its terms for example, is not in a recording and stays unsaid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_spec.batch import Batch
from regionloss_spec.case import Case, CaseError, Expected, case_from_json, load_array, read_json
from regionloss_spec.profile import Profile, load_profile

_FAMILIES = {"pjreddie/darknet": "darknet", "AlexeyAB/darknet": "darknet-2016"}
_DESCRIBE = {"batch", "height", "width", "num", "classes", "anchors", "images_seen"}
_WEIGHTS = {
    "thresh": "thresh",
    "coord_scale": "coord_weight",
    "object_scale": "object_weight",
    "noobject_scale": "no_object_weight",
    "class_scale": "class_weight",
}
_SWITCHES = {"softmax", "rescore", "bias_match", "background", "classfix", "focal", "tree"}


def load_folder(folder: Path) -> list[Case]:
    """Every case of a folder, each file a case or a recording, in the order of their names.

    Raises:
        CaseError: the folder holds no such file, or a file cannot be read.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise CaseError(f"{folder}: no case and no recording (*.json) in it")
    cases = []
    for path in paths:
        data = read_json(path)
        recording = isinstance(data, dict) and "config" in data
        cases.append(recording_from_json(data, path) if recording else case_from_json(data, path))
    return cases


def recording_from_json(data: dict[str, Any], path: Path) -> Case:
    """A case from the parsed JSON of a recording. Raises `CaseError` with the file and the field at fault."""
    try:
        return _recording(data, path)
    except KeyError as error:
        raise CaseError(f"{path}: the recording has no field {error}") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, CaseError):
            raise
        raise CaseError(f"{path}: {error}") from error


def _recording(data: dict[str, Any], path: Path) -> Case:
    source, config = data["source"], data["config"]
    if source["repository"] not in _FAMILIES:
        raise CaseError(
            f"{path}: source.repository is {source['repository']!r}, expected one of {', '.join(_FAMILIES)}"
        )
    base = _FAMILIES[source["repository"]]
    tree = tuple(int(line.split()[1]) for line in config["tree"].splitlines()) if config.get("tree") else None
    if tree is not None:
        base = "yolo9000"
    predictions = _tensor(data, "predictions", path)
    batch = Batch(
        predictions=predictions,
        truths=tuple(np.array(rows, dtype=np.float64).reshape(len(rows), 5) for rows in data["truths"]),
        anchors=np.array(config["anchors"], dtype=np.float64),
        classes=config["classes"],
        images_seen=config["images_seen"],
        tree=tree,
    )
    shape = (config["batch"], config["num"] * (5 + config["classes"]), config["height"], config["width"])
    if predictions.shape != shape or len(batch.truths) != config["batch"]:
        raise CaseError(
            f"{path}: shape is {list(predictions.shape)} with {len(batch.truths)} truth lists, "
            f"but config says {list(shape)}"
        )
    return Case(
        id=data["id"],
        title=data["title"],
        provenance={"kind": "recording", **{key: source[key] for key in ("repository", "commit", "function", "build")}},
        base=base,
        profile=load_profile(base).replace(**options(config, base, path)),
        batch=batch,
        expected=Expected(gradient=_gradient(data, batch, base, path), printed_cost=float(data["reported_cost"])),
    )


def options(config: dict[str, Any], base: str, path: Path) -> dict[str, Any]:
    """The axes that darknet's options set differently from the profile `base`."""
    for key in config:
        if key not in _DESCRIBE | set(_WEIGHTS) | _SWITCHES:
            raise CaseError(f"{path}: unknown option {key!r} in config")
    axes: dict[str, Any] = {axis: float(config[key]) for key, axis in _WEIGHTS.items()}
    if not config["rescore"]:
        axes["object_target"] = "one"
    if not config["bias_match"]:
        axes["anchor_choice"] = "predicted-shape"
    if config.get("background"):
        axes["objectness"] = "background"
    if config.get("classfix"):
        axes |= {
            -1: {"no_object_target": "max-iou"},
            1: {"ignored_class": "full"},
            2: {"ignored_class": "by-objectness"},
        }[config["classfix"]]
    if base == "yolo9000":
        pass  # a tree decides the class term, whatever softmax and focal say
    elif config.get("focal"):
        axes["class_term"] = "focal"
    elif not config["softmax"] and base == "darknet":
        axes |= {"class_term": "logistic", "class_collision": "accumulate"}
    elif not config["softmax"]:
        axes["class_term"] = "squared-linear"
    standard: Profile = load_profile(base)
    return {axis: value for axis, value in axes.items() if value != getattr(standard, axis)}


def _gradient(data: dict[str, Any], batch: Batch, base: str, path: Path) -> NDArray[np.float64]:
    activated = _tensor(data, "activated", path) if "activated" in data else _activate(batch.predictions)
    background = bool(data["config"].get("background"))
    return gradient_from_delta(_tensor(data, "delta", path), batch, base, activated=activated, background=background)


def gradient_from_delta(
    delta: NDArray[Any], batch: Batch, base: str, *, activated: NDArray[Any], background: bool
) -> NDArray[np.float64]:
    """The gradient that darknet propagates: minus `delta`, times the logistic derivative where `delta` lacks it.

    Args:
        delta: darknet's `l.delta`, `[N, A*(5+C), H, W]`.
        batch: the input.
        base: `darknet` for pjreddie/darknet, whose backward pass multiplies in the logistic derivative.
        activated: `l.output` of pjreddie/darknet, `[N, A*(5+C), H, W]`; not read for AlexeyAB/darknet.
        background: whether objectness is a class of the softmax, without a logistic derivative.
    """
    if base != "darknet":
        return np.asarray(-delta, dtype=np.float64)
    by_channel = (len(batch.truths), len(batch.anchors), 5 + batch.classes, *delta.shape[2:])
    a = np.asarray(activated, dtype=np.float64).reshape(by_channel)
    slope = np.ones(by_channel)
    logistic = [0, 1] if background else [0, 1, 4]
    slope[:, :, logistic] = a[:, :, logistic] * (1 - a[:, :, logistic])
    return np.asarray(-delta * slope.reshape(delta.shape), dtype=np.float64)


def _activate(predictions: NDArray[Any]) -> NDArray[np.float64]:
    """The logistic outputs as darknet stored them in float32, for recordings too large to hold them."""
    return np.asarray(1 / (1 + np.exp(-predictions)), dtype=np.float32).astype(np.float64)


def _tensor(data: dict[str, Any], name: str, path: Path) -> NDArray[np.float64]:
    if "arrays" in data and name not in data:
        return load_array(path, data["arrays"], name).astype(np.float64)
    return np.array(data[name], dtype=np.float64).reshape(data["shape"])
