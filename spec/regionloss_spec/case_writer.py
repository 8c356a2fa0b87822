"""Write a case as the JSON that `case.py` reads: one line for each key, large tensors in an .npz file beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss_spec.case import Case
from regionloss_spec.profile import load_profile

#: Tensors with more numbers than this are written beside the JSON file.
_LARGE = 4096


def write_case(case: Case, folder: Path) -> Path:
    """Write `<id>.json`, and `<id>.npz` for large tensors, into a folder. Returns the path of the JSON file."""
    arrays: dict[str, NDArray[Any]] = {}
    file = f"{case.id}.npz"
    base = load_profile(case.base)
    batch, expected = case.batch, case.expected
    height, width = batch.predictions.shape[2:] if batch.predictions.ndim == 4 else (1, 1)
    shape = (len(batch.truths), len(batch.anchors) * (5 + batch.classes), height, width)
    data: dict[str, Any] = {
        "id": case.id,
        "title": case.title,
        "clauses": list(case.clauses),
        "provenance": case.provenance,
        "profile": case.base,
        "options": {axis: here for axis, (_, here) in base.differences(case.profile).items()},
        "grid": {"height": height, "width": width},
        "anchors": batch.anchors.tolist(),
        "classes": batch.classes,
        "tree": None if batch.tree is None else list(batch.tree),
        "images_seen": batch.images_seen,
        "truths": [rows.tolist() for rows in batch.truths],
        "predictions": _tensor("predictions", batch.predictions, shape, file, arrays),
        "expected": {
            "error": expected.error,
            "gradient": None
            if expected.gradient is None
            else _tensor("gradient", expected.gradient, shape, file, arrays),
            "responsible": expected.responsible,
            "ignored": expected.ignored,
            "terms": expected.terms,
            "potential": expected.potential,
            "printed_cost": expected.printed_cost,
            "statistics": expected.statistics,
            "from_reference": list(expected.from_reference),
        },
    }
    data["expected"] = {key: value for key, value in data["expected"].items() if value is not None}
    lines = [
        f" {json.dumps(key)}: {json.dumps(_plain(value), ensure_ascii=False)}"
        for key, value in data.items()
        if value not in (None, {}, "")
    ]
    path = folder / f"{case.id}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    if arrays:
        np.savez_compressed(folder / file, allow_pickle=False, **arrays)
    return path


def _tensor(name: str, values: NDArray[Any], shape: tuple[int, ...], file: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if values.size <= _LARGE:
        flat = values.ravel().tolist()
        return flat if values.shape == shape else {"shape": list(values.shape), "values": flat}
    single = values.astype(np.float32)
    arrays[name] = single if (single == values).all() else values
    return {"file": file, "array": name}


def _plain(value: Any) -> Any:
    """Numbers that JSON lacks as text, everywhere in a value."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
