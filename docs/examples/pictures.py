"""Pictures for the training example: those it learns from, and those it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.floating[Any]]

SHAPES = ("disc", "rectangle", "triangle", "cross")
COLOURS = ("#ff9f1c", "#2ec4b6", "#e71d36", "#5f7fff", "#8d99ae")
FONT = ImageFont.load_default(13)


def make_pictures(count: int, size: int, random: np.random.Generator) -> tuple[Array, list[Array]]:
    """Pictures with two to four coloured shapes that do not overlap.

    Args:
        count: N.
        size: height and width, pixels.
        random: the generator of every choice.

    Returns:
        pictures: `[N, 3, size, size]`, values from 0 to 1.
        truths: for each `[T, 5]` of x, y, w, h (fractions of the picture) and class, an index of `SHAPES`.
    """
    pictures = np.empty((count, 3, size, size))
    truths = []
    for picture in pictures:
        picture[:] = random.uniform(0.05, 0.25, (3, 1, 1)) + random.normal(0, 0.02, picture.shape)
        boxes: list[Array] = []
        for _ in range(random.integers(2, 5)):
            box = _free_place(boxes, random)
            kind = int(random.integers(len(SHAPES)))
            picture[:, _inside(kind, box, size)] = random.uniform(0.45, 1.0, (3, 1))
            boxes.append(np.append(box, kind))
        truths.append(np.array(boxes))
    return pictures.clip(0, 1), truths


def draw_boxes(pictures: Array, truths: Sequence[Array], detections: Sequence[Array], path: Path) -> None:
    """Draw the pictures side by side: detections as bands in the colour of their class, truths as white lines.

    Args:
        pictures: `[N, 3, S, S]`, values from 0 to 1.
        truths: for each picture `[T, 5]`.
        detections: for each picture `[D, 6]` of x, y, w, h, class and confidence.
        path: of the PNG.
    """
    zoom, gap, columns = 2, 8, 4
    side = zoom * pictures.shape[-1]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap + 24), "#202020")
    draw = ImageDraw.Draw(sheet)
    for n, picture in enumerate(pictures):
        left, top = gap + n % columns * (side + gap), gap + n // columns * (side + gap)
        pixels = (255 * picture).round().astype(np.uint8).transpose(1, 2, 0)
        sheet.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (left, top))
        for box in detections[n]:
            x0, y0, x1, y1 = _corners(box, side, left, top)
            draw.rectangle((x0 - 2, y0 - 2, x1 + 2, y1 + 2), outline=COLOURS[int(box[4])], width=5)
        for truth in truths[n]:
            draw.rectangle(_corners(truth, side, left, top), outline="white", width=1)
        for box in detections[n]:
            x0, y0, _, _ = _corners(box, side, left, top)
            text = f"{SHAPES[int(box[4])]} {box[5]:.2f}"
            place = (min(max(x0, left), left + side - draw.textlength(text, FONT)), max(y0 - 18, top))
            draw.rectangle(draw.textbbox(place, text, FONT), fill="#202020")
            draw.text(place, text, COLOURS[int(box[4])], FONT)
    legend = "coloured bands: detections, with class and confidence;  white lines: truths"
    draw.text((gap, sheet.height - 22), legend, "white", FONT)
    sheet.save(path)


def draw_curves(curves: Mapping[str, Sequence[float]], marked: int, note: str, path: Path) -> None:
    """Draw curves over the steps of the training, their values on a logarithmic axis.

    Args:
        curves: a value for every step, by the name of the curve.
        marked: the step to mark.
        note: the label of that step.
        path: of the PNG.
    """
    width, height, left, top, right, bottom, fine = 960, 540, 70, 40, 130, 50, 2
    values = np.array(list(curves.values()))
    positive = values[values > 0]
    low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))
    steps = values.shape[1]

    def place(step: float, value: float) -> tuple[float, float]:
        up = (np.log10(value) - low) / max(high - low, 1)
        return left + (width - left - right) * step / steps, top + (height - top - bottom) * (1 - up)

    sheet = Image.new("RGB", (fine * width, fine * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13 * fine)

    def line(points: Sequence[tuple[float, float]], colour: str, thick: float) -> None:
        draw.line([(fine * x, fine * y) for x, y in points], colour, round(fine * thick), "curve")

    def text(x: float, y: float, words: str, anchor: str, colour: str = "black") -> None:
        draw.text((fine * x, fine * y), words, colour, font, anchor)

    for power in range(int(low), int(high) + 1):
        line([place(0, 10.0**power), place(steps, 10.0**power)], "#dddddd", 1)
        text(left - 8, place(0, 10.0**power)[1], f"{10.0**power:g}", "rm")
    for step in np.linspace(0, steps, 6).round():
        text(place(step, 1)[0], height - bottom + 16, f"{step:.0f}", "mm")
    line([place(marked, 10.0**low), place(marked, 10.0**high)], "#999999", 1)
    text(place(marked, 1)[0] + 6, height - bottom - 12, note, "lm", "#777777")
    ends: list[tuple[float, float, str, str]] = []
    for (name, curve), colour in zip(curves.items(), ("#000000", *COLOURS), strict=False):
        # There is no logarithm of zero: where a term ends, so does its curve.
        points = [place(step, value) for step, value in enumerate(curve) if value > 0]
        line(points, colour, 2)
        ends += [(y, x, name, colour) for x, y in points[-1:]]
    free = -np.inf
    for y, x, name, colour in sorted(ends):
        free = max(y, free + 16)
        text(x + 8, free, name, "lm", colour)
    text(left, 20, "loss and its terms, mean of an image", "lm")
    text((left + width - right) / 2, height - 14, "step", "mm")
    sheet.resize((width, height), Image.Resampling.LANCZOS).save(path)


def _free_place(boxes: Sequence[Array], random: np.random.Generator) -> Array:
    """x, y, w, h of a box away from others `[5]`."""
    while True:
        size = random.uniform(0.18, 0.45, 2)
        centre = random.uniform(size / 2, 1 - size / 2)
        if all((np.abs(centre - box[:2]) > (size + box[2:4]) / 2).any() for box in boxes):
            return np.concatenate([centre, size])


def _inside(kind: int, box: Array, size: int) -> NDArray[np.bool_]:
    """The pixels of a shape that fills its box, `[size, size]`."""
    middle = (np.arange(size) + 0.5) / size
    u = (middle - box[0])[None, :] / (box[2] / 2)
    v = (middle - box[1])[:, None] / (box[3] / 2)
    within = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    shapes: dict[str, NDArray[np.bool_]] = {
        "disc": u * u + v * v <= 1,
        "rectangle": within,
        "triangle": within & (np.abs(u) <= (v + 1) / 2),
        "cross": within & ((np.abs(u) <= 0.3) | (np.abs(v) <= 0.3)),
    }
    return shapes[SHAPES[kind]]


def _corners(box: Array, side: int, left: int, top: int) -> tuple[float, float, float, float]:
    x, y, w, h = side * box[:4]
    return left + x - w / 2, top + y - h / 2, left + x + w / 2, top + y + h / 2
