"""Every number that the worked example prints, against a computation of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from mpmath import mp, mpf

from regionloss_spec.case import CASES, load_case
from regionloss_spec.clause import chapters

mp.dps = 40

#: A number of mpmath, which has no types.
Number = Any

TEXT = next(path for path in chapters() if path.name == "E-worked-example.md").read_text(encoding="utf-8")
LATE, EARLY = load_case(CASES / "worked-example.json"), load_case(CASES / "worked-example-early.json")

GRID, CELL = 3, 1  # rows and columns; the row and the column of the cell
ANCHORS = [("1", "1"), ("1.5", "1"), ("2", "1.5"), ("1", "2"), ("2.5", "2.5")]
OUTPUTS = [
    ("0.5", "-0.25", "-0.25", "0.25", "0.5", "1", "0", "0"),
    ("0.25", "-0.5", "0.25", "-0.25", "0.75", "0.5", "1.25", "-0.25"),
    ("-0.25", "0.5", "-0.25", "-0.25", "1", "0", "0.5", "1"),
    ("0", "1", "-0.5", "-0.25", "-0.5", "-1", "0", "0.25"),
    ("0.5", "0", "-0.25", "0.25", "-1.5", "0.25", "0.25", "0"),
]
CHANNELS = ("t_x", "t_y", "t_w", "t_h", "t_o", "z_0", "z_1", "z_2")
X, Y, W, H, CLASS = mpf("0.5"), mpf("0.5625"), mpf("0.5625"), mpf("0.3125"), 1
THRESH, PRIOR, OBJECT = mpf("0.6"), mpf("0.01"), mpf(5)
RESPONSIBLE, IGNORED = 1, 2
TERMS = ("no_object", "prior", "coord", "object", "class")
HALF = mpf("0.5")


def sigma(t: Number) -> Number:
    return 1 / (1 + mp.exp(-t))


def slope(t: Number) -> Number:
    return sigma(t) * (1 - sigma(t))


def targets() -> dict[str, Number]:
    a_w, a_h = (mpf(v) for v in ANCHORS[RESPONSIBLE])
    return {
        "xW": X * GRID,
        "yH": Y * GRID,
        "wW": W * GRID,
        "hH": H * GRID,
        r"\hat x": X * GRID - CELL,
        r"\hat y": Y * GRID - CELL,
        r"\hat w": mp.log(W * GRID / a_w),
        r"\hat h": mp.log(H * GRID / a_h),
        "w h": W * H,
        "s": 2 - W * H,
        "left": X - W / 2,
        "right": X + W / 2,
        "top": Y - H / 2,
        "bottom": Y + H / 2,
    }


def shape(k: int) -> dict[str, Number]:
    """The match of an anchor with the truth, both around one centre, in cells."""
    a_w, a_h = (mpf(v) for v in ANCHORS[k])
    w, h = W * GRID, H * GRID
    shared = min(a_w, w) * min(a_h, h)
    union = a_w * a_h + w * h - shared
    return {"shared": shared, "union": union, "shape IoU": shared / union}


def box(k: int) -> dict[str, Number]:
    a_w, a_h = (mpf(v) for v in ANCHORS[k])
    t_x, t_y, t_w, t_h = (mpf(v) for v in OUTPUTS[k][:4])
    here = {"b_x": sigma(t_x), "b_y": sigma(t_y), "e^{t_w}": mp.exp(t_w), "e^{t_h}": mp.exp(t_h)}
    return {
        **here,
        "centre x": (CELL + here["b_x"]) / GRID,
        "centre y": (CELL + here["b_y"]) / GRID,
        "width": a_w * here["e^{t_w}"] / GRID,
        "height": a_h * here["e^{t_h}"] / GRID,
    }


def overlap(k: int) -> dict[str, Number]:
    b, t = box(k), targets()
    edges = {
        "left": b["centre x"] - b["width"] / 2,
        "right": b["centre x"] + b["width"] / 2,
        "top": b["centre y"] - b["height"] / 2,
        "bottom": b["centre y"] + b["height"] / 2,
    }
    across = min(edges["right"], t["right"]) - max(edges["left"], t["left"])
    down = min(edges["bottom"], t["bottom"]) - max(edges["top"], t["top"])
    assert across > 0
    assert down > 0
    union = b["width"] * b["height"] + W * H - across * down
    shared = {"across": across, "down": down, "I": across * down, "U": union, "MaxIOU": across * down / union}
    return {**edges, **shared}


def objectness(k: int) -> dict[str, Number]:
    t_o = mpf(OUTPUTS[k][4])
    return {"b_o": sigma(t_o), r"\sigma'(t_o)": slope(t_o)}


def softmax() -> list[Number]:
    powers = [mp.exp(mpf(z)) for z in OUTPUTS[RESPONSIBLE][5:]]
    return [power / sum(powers) for power in powers]


def classes(c: int) -> dict[str, Number]:
    p, onehot = softmax()[c], mpf(int(c == CLASS))
    return {"e^z": mp.exp(mpf(OUTPUTS[RESPONSIBLE][5 + c])), "p": p, "onehot": onehot, "p − onehot": p - onehot}


def residuals() -> dict[str, Number]:
    """Of the responsible predictor."""
    b, t = box(RESPONSIBLE), targets()
    t_w, t_h = (mpf(v) for v in OUTPUTS[RESPONSIBLE][2:4])
    r = {
        "r_x": b["b_x"] - t[r"\hat x"],
        "r_y": b["b_y"] - t[r"\hat y"],
        "r_w": t_w - t[r"\hat w"],
        "r_h": t_h - t[r"\hat h"],
    }
    return {**r, "r_o": objectness(RESPONSIBLE)["b_o"] - overlap(RESPONSIBLE)["MaxIOU"]}


def values(k: int) -> dict[str, Number | None]:
    """What one predictor pays before 12800 images; `None` for what it does not pay."""
    t_x, t_y, t_w, t_h = (mpf(v) for v in OUTPUTS[k][:4])
    if k == RESPONSIBLE:
        r = residuals()
        coord = targets()["s"] * sum(r[name] ** 2 for name in ("r_x", "r_y", "r_w", "r_h")) / 2
        values = {"coord": coord, "object": OBJECT * r["r_o"] ** 2 / 2, "class": -mp.log(softmax()[CLASS])}
        return {"no_object": None, "prior": None, **values}
    prior = PRIOR * ((sigma(t_x) - HALF) ** 2 + (sigma(t_y) - HALF) ** 2 + t_w**2 + t_h**2) / 2
    no_object = None if k == IGNORED else objectness(k)["b_o"] ** 2 / 2
    return {"no_object": no_object, "prior": prior, "coord": None, "object": None, "class": None}


def gradient(k: int, early: bool) -> dict[str, Number | None]:
    """By channel; `None` where nothing is paid."""
    t_x, t_y, t_w, t_h, t_o = (mpf(v) for v in OUTPUTS[k][:5])
    nothing: dict[str, Number | None] = dict.fromkeys(CHANNELS)
    if k == RESPONSIBLE:
        r, s = residuals(), targets()["s"]
        centre = {"t_x": s * r["r_x"] * slope(t_x), "t_y": s * r["r_y"] * slope(t_y)}
        size = {"t_w": s * r["r_w"], "t_h": s * r["r_h"]}
        return {**centre, **size, "t_o": OBJECT * r["r_o"] * slope(t_o)} | {
            f"z_{c}": classes(c)["p − onehot"] for c in range(3)
        }
    if early:
        nothing |= {"t_x": PRIOR * (sigma(t_x) - HALF) * slope(t_x), "t_y": PRIOR * (sigma(t_y) - HALF) * slope(t_y)}
        nothing |= {"t_w": PRIOR * t_w, "t_h": PRIOR * t_h}
    if k != IGNORED:
        nothing["t_o"] = sigma(t_o) * slope(t_o)
    return nothing


def totals() -> dict[str, dict[str, Number]]:
    """The terms of the whole image: the other 40 predictors sit on their priors and say ½."""
    out = {}
    for name in TERMS:
        cell = sum((v for k in range(5) if (v := values(k)[name]) is not None), mpf(0))
        early = cell + (40 * HALF**2 / 2 if name == "no_object" else 0)
        out[name] = {"before 12800": early, "from 12800 on": mpf(0) if name == "prior" else early}
    out["sum"] = {when: sum(row[when] for row in out.values()) for when in ("before 12800", "from 12800 on")}
    return out


@dataclass(frozen=True)
class Cell:
    """One cell of a table: the section it stands in, the first cell of its row, its column, and what it says."""

    section: str
    row: str
    column: str
    text: str


def cells() -> Iterator[Cell]:
    section = ""
    header: list[str] = []
    for line in TEXT.splitlines():
        if line.startswith("#"):
            section, header = line.lstrip("# "), []
        elif not line.startswith("|"):
            header = []
        elif not header:
            header = [cell.strip().strip("$") for cell in line.strip("|").split("|")]
        elif not set(line) <= set("|- "):
            row = [cell.strip().strip("$") for cell in line.strip("|").split("|")]
            assert len(row) == len(header), line
            for column, text in zip(header[1:], row[1:], strict=True):
                yield Cell(section, row[0], column, text)


def expected(cell: Cell) -> Number | str | None:
    """The number of a cell; a text where it holds one, and `None` for a dash."""
    row = int(cell.row) if cell.row.isdigit() else -1
    match cell.section:
        case "The cell and the object":
            return mpf(dict(zip(("a_w", "a_h", *CHANNELS), (*ANCHORS[row], *OUTPUTS[row]), strict=True))[cell.column])
        case "Where the object belongs":
            return targets()[cell.row]
        case "Which anchor is responsible":
            return shape(row)[cell.column]
        case "The five boxes":
            return box(row)[cell.column]
        case "MaxIOU and the three states":
            state = {RESPONSIBLE: "responsible", IGNORED: "ignored"}.get(row, "no-object")
            return state if cell.column == "state" else overlap(row)[cell.column]
        case "Objectness and classes":
            return {**objectness(row), **(classes(row) if row < 3 else {})}[cell.column]
        case "The residuals of the responsible predictor":
            return residuals()[cell.row]
        case "What each predictor pays":
            return values(row)[cell.column]
        case "The gradient from 12800 images on":
            return gradient(row, early=False)[cell.column]
        case "The gradient before 12800 images":
            return gradient(row, early=True)[cell.column]
        case "The whole image":
            return totals()[cell.row][cell.column]
    raise AssertionError(f"a table stands in an unknown section: {cell}")


def prints(text: str, value: Number) -> bool:
    """Whether a text is a number rounded to the digits of the text; one without digits behind the point is exact."""
    decimals = len(text.partition(".")[2])
    return bool(abs(mpf(text) - value) <= (mpf(10) ** -decimals * HALF if decimals else 0))


NUMBERS = [cell for cell in cells() if not (cell.section == "Where the object belongs" and cell.column != "value")]


@pytest.mark.parametrize("cell", NUMBERS, ids=lambda cell: f"{cell.section}-{cell.row}-{cell.column}")
def test_a_printed_number_is_right_to_its_last_digit(cell: Cell) -> None:
    wanted = expected(cell)
    if wanted is None or isinstance(wanted, str):
        assert cell.text == (wanted or "–")
        return
    text = cell.text.replace("−", "-")
    assert re.fullmatch(r"-?\d+(\.\d+)?", text), cell
    assert prints(text, wanted), (cell, wanted)


def test_the_numbers_of_the_prose_and_the_formulas_are_those_of_the_tables() -> None:
    known = [wanted for cell in NUMBERS if not isinstance(wanted := expected(cell), str | None)]
    known += [sum(classes(c)["e^z"] for c in range(3)), slope(mpf(OUTPUTS[RESPONSIBLE][0]))]
    known += [box(0)[name] - HALF for name in ("b_x", "b_y")]
    prose = "\n".join(line for line in TEXT.splitlines() if not line.startswith("|"))
    numbers = re.findall(r"-?\d+\.\d{4,}", prose)
    assert len(numbers) > 30
    for text in numbers:
        assert any(prints(text, value) for value in known), text


def test_no_number_is_missing() -> None:
    sections = [cell.section for cell in NUMBERS]
    assert sections.count("The cell and the object") == 5 * 10
    assert sections.count("The five boxes") == 5 * 8
    assert sections.count("MaxIOU and the three states") == 5 * 10
    assert sections.count("What each predictor pays") == 5 * 5
    assert sections.count("The gradient from 12800 images on") == 5 * 8
    assert sections.count("The gradient before 12800 images") == 5 * 8
    assert sections.count("The whole image") == 6 * 2


def test_the_decisions_are_those_of_the_numbers() -> None:
    assert max(range(5), key=lambda k: shape(k)["shape IoU"]) == RESPONSIBLE
    assert [k for k in range(5) if k != RESPONSIBLE and overlap(k)["MaxIOU"] > THRESH] == [IGNORED]
    assert overlap(RESPONSIBLE)["MaxIOU"] < THRESH


@pytest.mark.parametrize(("case", "early"), [(LATE, False), (EARLY, True)], ids=["late", "early"])
def test_the_chapter_and_the_case_are_one_example(case: Any, early: bool) -> None:
    assert case.batch.images_seen == (12799 if early else 12800)
    assert case.profile.name == "darknet"
    assert case.batch.anchors.tolist() == [[float(v) for v in anchor] for anchor in ANCHORS]
    assert [row.tolist() for row in case.batch.truths[0]] == [[float(v) for v in (X, Y, W, H, CLASS)]]
    t = case.batch.predictions.reshape(5, 8, 3, 3)
    assert [list(row) for row in t[:, :, CELL, CELL]] == [[float(v) for v in row] for row in OUTPUTS]
    t = t.copy()
    t[:, :, CELL, CELL] = 0
    assert not t.any()
    slopes = case.expected.gradient.reshape(5, 8, 3, 3)
    for k in range(5):
        for c, (name, wanted) in enumerate(gradient(k, early).items()):
            assert name == CHANNELS[c]
            assert slopes[k, c, CELL, CELL] == pytest.approx(float(wanted or 0), rel=1e-14)
    slopes = slopes.copy()
    slopes[:, :, CELL, CELL] = 0
    assert (slopes[:, 4].sum(), slopes.sum()) == (40 * 0.125, 40 * 0.125)
    when = "before 12800" if early else "from 12800 on"
    numbers = {**case.expected.terms, "sum": case.expected.potential}
    assert {name: float(row[when]) for name, row in totals().items()} == pytest.approx(numbers, rel=1e-14)
    assert case.expected.responsible == ((0, 0, RESPONSIBLE, CELL, CELL),)
    assert case.expected.ignored == ((0, IGNORED, CELL, CELL),)
