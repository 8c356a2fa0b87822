"""The layout of a port's predictions: the order of axes, the order of channels, and the activations.

Anything else can be converted inside the wrapped function, where the framework differentiates it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from regionloss_adapters import activations
from regionloss_adapters.axes import arrange, check_axes, restore
from regionloss_adapters.protocol import CannotAnswerError
from regionloss_spec import Batch
from regionloss_spec.batch import Array


@dataclass(frozen=True)
class Layout:
    """A layout of predictions. `replace` derives another one from it.

    Attributes:
        axes: order of the axes n (images), a (anchors), e (the 5+C entries of a predictor), h (rows) and w (columns);
            letters in parentheses are merged into one axis, the last letter running fastest.
        channels: order of the entries of a predictor: x, y, w, h, o (objectness) and c (all classes).
        xy: raw tx and ty, as σ(t), or decoded: the centre of the box in `cells` or as a `fraction` of the image.
        wh: raw tw and th, as e^t, or decoded: the size of the box in `cells` or as a `fraction` of the image.
        o: raw to, or σ(to).
        c: raw class outputs, or their softmax; not over the groups of a class tree.
    """

    axes: str = "n (a e) h w"
    channels: str = "xywhoc"
    xy: Literal["raw", "sigmoid", "cells", "fraction"] = "raw"
    wh: Literal["raw", "exp", "cells", "fraction"] = "raw"
    o: Literal["raw", "sigmoid"] = "raw"
    c: Literal["raw", "softmax"] = "raw"

    def __post_init__(self) -> None:
        check_axes(self.axes)
        if sorted(self.channels) != sorted("xywhoc"):
            raise ValueError(
                f"channels are {self.channels!r}, expected each of x, y, w, h, o, c once, such as 'oxywhc'"
            )
        for name, kinds in _KINDS.items():
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(kinds)}")

    def replace(self, **changes: Any) -> Layout:
        """This layout with some attributes changed."""
        return dataclasses.replace(self, **changes)

    @property
    def activated(self) -> dict[str, str]:
        """The channels that are not raw, such as `{"xy": "sigmoid"}`."""
        return {name: getattr(self, name) for name in _KINDS if getattr(self, name) != "raw"}

    def forward(self, batch: Batch, dtype: str = "float64") -> Array:
        """The predictions of a batch in this layout, float64; contiguous, and never the batch's own array.

        Args:
            batch: predictions `[N, A*(5+C), H, W]`, raw.
            dtype: the format to which they will be rounded.

        Raises:
            CannotAnswerError: the channels are not A*(5+C), or the format cannot represent an activated value.
        """
        t = np.array(batch.predictions, dtype=np.float64)
        if self == NCHW:  # a port that declares errors must get a batch of any shape
            return t
        t = t.reshape(self._shape(batch))
        if self.activated:
            t = self._activate(t, batch, dtype)
        return arrange(t[:, :, self._order(batch)], self.axes)

    def backward(self, gradient: Array, batch: Batch) -> Array:
        """The gradient with respect to the raw predictions `[N, A*(5+C), H, W]`, float64.

        Args:
            gradient: with respect to the result of `forward`, in its shape.
            batch: the batch passed to `forward`.
        """
        gradient = np.asarray(gradient, dtype=np.float64)
        if self == NCHW:
            return gradient
        shape = self._shape(batch)
        canonical = np.empty(shape)
        canonical[:, :, self._order(batch)] = restore(gradient, self.axes, shape)
        if self.activated:
            t = np.asarray(batch.predictions, dtype=np.float64).reshape(shape)
            canonical = self._chain(t, canonical, batch)
        return canonical.reshape(batch.predictions.shape)

    def _activate(self, t: Array, batch: Batch, dtype: str) -> Array:
        if self.c == "softmax" and batch.tree is not None:
            raise CannotAnswerError("its class outputs are a softmax over all classes, and the classes form a tree")
        parts = {
            "xy": activations.centres(t[:, :, 0:2], self.xy),
            "wh": activations.sizes(t[:, :, 2:4], self.wh, np.asarray(batch.anchors)),
            "o": activations.objectness(t[:, :, 4:5], self.o),
            "c": activations.classes(t[:, :, 5:], self.c),
        }
        for name in ("wh", "c"):
            if name in self.activated:
                _check_held(parts[name], self.activated[name], dtype)
        return np.concatenate(list(parts.values()), axis=2)

    def _chain(self, t: Array, gradient: Array, batch: Batch) -> Array:
        return np.concatenate(
            [
                gradient[:, :, 0:2] * activations.centres_slope(t[:, :, 0:2], self.xy),
                gradient[:, :, 2:4] * activations.sizes_slope(t[:, :, 2:4], self.wh, np.asarray(batch.anchors)),
                gradient[:, :, 4:5] * activations.objectness_slope(t[:, :, 4:5], self.o),
                activations.classes_back(t[:, :, 5:], self.c, gradient[:, :, 5:]),
            ],
            axis=2,
        )

    def _order(self, batch: Batch) -> list[int]:
        """The canonical entries, in the order of this layout."""
        entries = {name: [index] for index, name in enumerate("xywho")} | {"c": list(range(5, 5 + batch.classes))}
        return [entry for name in self.channels for entry in entries[name]]

    def _shape(self, batch: Batch) -> tuple[int, int, int, int, int]:
        """N, A, 5+C, H, W."""
        shape, anchors = np.shape(batch.predictions), len(batch.anchors)
        if len(shape) != 4 or shape[1] != anchors * (5 + batch.classes):
            raise CannotAnswerError(
                f"predictions have shape {list(shape)}, but layout {self.axes!r} needs [N, A*(5+C), H, W] "
                f"with {anchors} anchors and {batch.classes} classes"
            )
        return shape[0], anchors, 5 + batch.classes, shape[2], shape[3]


def _check_held(values: Array, kind: str, dtype: str) -> None:
    """Check that no activated value becomes 0 or overflows: sizes are divisors, probabilities go into a logarithm."""
    limits = np.finfo(np.float64 if dtype == "float64" else np.float32)
    lost = np.argwhere((values < limits.tiny) | (values > limits.max))
    if len(lost):
        image, anchor, _, row, column = lost[0]
        raise CannotAnswerError(
            f"image {image}, cell ({row}, {column}), anchor {anchor}: the loss takes activated predictions, "
            f"but {dtype} does not represent {kind} {values[tuple(lost[0])]:.3g}"
        )


_KINDS = {
    "xy": activations.CENTRES,
    "wh": activations.SIZES,
    "o": activations.OBJECTNESS,
    "c": activations.CLASSES,
}

NCHW = Layout("n (a e) h w")
NHWC = Layout("n h w (a e)")
NAHWE = Layout("n a h w e")
NHWAE = Layout("n h w a e")
NAEHW = Layout("n a e h w")
#: One axis for all cells, as in region layers that loop over cells.
NAE_CELLS = Layout("n a e (h w)")
#: One axis for all predictors of an image, as in later detectors.
N_PREDICTORS_E = Layout("n (h w a) e")
#: All x of all anchors, then all y …: channel e*A + a.
CHANNEL_MAJOR = Layout("n (e a) h w")
