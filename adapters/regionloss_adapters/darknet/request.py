"""A question in darknet's own terms: its options, the truths that it reads, and the request for the shim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionloss import DomainError
from regionloss.domain import read_inputs
from regionloss_adapters.darknet.checkout import Family
from regionloss_adapters.protocol import CannotAnswerError
from regionloss_spec import Batch, Profile, load_profile
from regionloss_spec.recording import options

#: How many truths per image pjreddie/darknet reads, whatever its configuration.
_ROWS_READ = 30
_MAGIC = 0x0131534C4E474552


def darknet_options(profile: Profile, family: Family) -> tuple[dict[str, Any], str]:
    """The options for a profile, by darknet's names, and the shipped profile that they start from.

    Raises:
        CannotAnswerError: the family has no option for a choice of the profile.
    """
    first = family == "pjreddie"
    base = "darknet" if first else "yolo9000" if profile.class_term == "tree" else "darknet-2016"
    classfix = {"full": 1, "by-objectness": 2}.get(profile.ignored_class, 0)
    if profile.no_object_target == "max-iou":
        classfix = -1
    config = {
        "thresh": profile.thresh,
        "coord_scale": profile.coord_weight,
        "object_scale": profile.object_weight,
        "noobject_scale": profile.no_object_weight,
        "class_scale": profile.class_weight,
        "softmax": int(profile.class_term not in ("logistic", "squared-linear")),
        "rescore": int(profile.object_target == "iou"),
        "bias_match": int(profile.anchor_choice == "anchor-shape"),
        "background": int(first and profile.objectness == "background"),
        "classfix": 0 if first else classfix,
        "focal": int(not first and profile.class_term == "focal"),
    }
    understood = load_profile(base).replace(**options(config, base, Path(repository(family))))
    beyond = understood.differences(profile)
    for axis in ("max_truths", "truth_end"):  # they affect only some lists of truths: `defined_truths`
        beyond.pop(axis, None)
    if beyond:
        wanted = ", ".join(f"{axis} = {there!r}" for axis, (_, there) in beyond.items())
        raise CannotAnswerError(f"{repository(family)} has no option for {wanted}")
    return config, base


def defined_truths(batch: Batch, profile: Profile, family: Family) -> list[NDArray[np.float32]]:
    """All rows of truths of a batch in float32, if darknet's behaviour on the batch is defined.

    Raises:
        CannotAnswerError: it is undefined, or the profile reads other rows than darknet would.
    """
    with np.errstate(over="ignore"):
        try:
            truths = [np.asarray(rows, dtype=np.float32).reshape(len(rows), 5) for rows in batch.truths]
            predictions = np.asarray(batch.predictions, dtype=np.float32)
            anchors = np.asarray(batch.anchors, dtype=np.float32)
            read_inputs(predictions, truths, anchors, batch.classes, batch.images_seen, profile, batch.tree)
        except (DomainError, TypeError, ValueError) as error:
            raise CannotAnswerError(f"darknet's behaviour is undefined: {error}") from error
    for image, rows in enumerate(truths):
        ends = np.flatnonzero(rows[:, 0] == 0)
        if profile.truth_end == "none" and len(ends):
            raise CannotAnswerError(f"image {image}, truth {ends[0]}: x is 0, which ends the list in darknet")
        listed = int(ends[0]) if len(ends) else len(rows)
        reads = min(listed, profile.max_truths or listed)
        if family == "pjreddie" and reads != min(listed, _ROWS_READ):
            raise CannotAnswerError(
                f"image {image} lists {listed} truths, of which the profile reads {reads}: "
                f"{repository(family)} reads {_ROWS_READ} at most"
            )
    return truths


def encode(
    batch: Batch, truths: list[NDArray[np.float32]], config: dict[str, Any], profile: Profile, family: Family
) -> bytes:
    """The request in the format of the shim: see its source."""
    images, _, height, width = batch.predictions.shape
    longest = max((len(rows) for rows in truths), default=0) + 1  # includes a row of zeros, which ends the list
    if family == "pjreddie":
        rows = max(longest, _ROWS_READ)
    else:  # its option `max`, at most the length of the longest list
        rows = min(longest, profile.max_truths or longest)
    head = [_MAGIC, images, width, height, len(batch.anchors), batch.classes, rows, batch.images_seen]
    head += [config[name] for name in ("softmax", "rescore", "bias_match", "background", "classfix", "focal")]
    scales = [config[name] for name in ("thresh", "coord_scale", "object_scale", "noobject_scale", "class_scale")]
    table = np.zeros((images, rows, 5), dtype=np.float32)
    for image, given in enumerate(truths):
        kept = given[:rows]
        table[image, : len(kept)] = kept
    floats = (np.array(scales), batch.anchors, table, batch.predictions)
    return np.array(head, dtype=np.int64).tobytes() + b"".join(part.astype(np.float32).tobytes() for part in floats)


def tree_file(tree: tuple[int, ...]) -> str:
    """A class tree in darknet's format: a name and a parent in each line."""
    return "".join(f"class{node} {parent}\n" for node, parent in enumerate(tree))


def repository(family: Family) -> str:
    """The repository that a family descends from."""
    return {"pjreddie": "pjreddie/darknet", "alexeyab": "AlexeyAB/darknet"}[family]
