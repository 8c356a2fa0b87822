"""Whole ports: in a foreign style (NHWC, corners in pixels, a mean over images), or of activated predictions."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionloss import evaluate
from regionloss_adapters import Adapter, Answer, CannotAnswerError, Description, Question, from_torch, layouts, truths
from regionloss_adapters.layouts import Layout
from regionloss_spec import Batch, load_case, load_cases
from regionloss_spec.case import CASES
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.strategies import batches
from unit.adapters.wrap.losses import DARKNET, check

SETTINGS = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def near_an_edge(batch: Batch) -> bool:
    """Whether a rounding could decide otherwise which predictor a truth has, or whether one is ignored."""
    result = evaluate(batch, DARKNET)
    return bool((np.abs(result.decisions.max_iou - DARKNET.thresh) < 1e-4).any())


SIDE = 416


def foreign_loss(outputs: Any, boxes: Any, anchors: Any, seen: int) -> Any:
    """`outputs` `[N, H, W, A*(5+C)]`, raw; `boxes` for each image `[T, 5]` of class, x1, y1, x2, y2 in pixels."""
    import torch

    anchors = torch.as_tensor(np.asarray(anchors), dtype=outputs.dtype)
    entries = outputs.unflatten(3, (len(anchors), -1))  # [N, H, W, A, 5+C]
    t = entries.permute(0, 3, 4, 1, 2)
    corners = [image.double() / SIDE for image in boxes]
    rows = [
        torch.stack([(b[:, 1] + b[:, 3]) / 2, (b[:, 2] + b[:, 4]) / 2, b[:, 3] - b[:, 1], b[:, 4] - b[:, 2]], 1)
        for b in corners
    ]
    labels = [[round(label) for label in image[:, 0].tolist()] for image in boxes]
    p = t[:, :, 5:].log_softmax(dim=2)
    total = summed(t[:, :, :2].sigmoid(), t[:, :, 2:4], t[:, :, 4].sigmoid(), p, rows, labels, anchors, seen)
    return total / max(len(outputs), 1)


def overlap(boxes: Any, box: Any) -> Any:
    """IoU of `[4, ...]` with `[4]`, centres and sizes."""
    import torch

    right = torch.minimum(boxes[:2] + boxes[2:] / 2, (box[:2] + box[2:] / 2).reshape(2, *[1] * (boxes.ndim - 1)))
    left = torch.maximum(boxes[:2] - boxes[2:] / 2, (box[:2] - box[2:] / 2).reshape(2, *[1] * (boxes.ndim - 1)))
    shared = (right - left).clamp(min=0).prod(0)
    union = boxes[2:].prod(0) + box[2:].prod() - shared
    return torch.where(torch.isfinite(union) & (union > 0), shared / union, torch.zeros_like(union))


def summed(xy: Any, wh: Any, o: Any, log_p: Any, rows: Any, labels: Any, anchors: Any, seen: int) -> Any:
    """darknet's loss; σ(tx, ty) and tw, th `[N, A, 2, H, W]`, σ(to) `[N, A, H, W]`, ln p `[N, A, C, H, W]`."""
    import torch

    _, _, _, height, width = xy.shape
    grid = torch.tensor([width, height], dtype=xy.dtype)
    offset = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))
    total = 0.0 * (xy[:0].sum() + o[:0].sum())
    for n, truth_rows in enumerate(rows):
        with torch.no_grad():
            centres = (xy[n] + offset) / grid[:, None, None]
            sizes = wh[n].exp() * anchors[:, :, None, None] / grid[:, None, None]
            decoded = torch.cat([centres, sizes], dim=1).movedim(1, 0)  # [4, A, H, W]
        quiet = torch.zeros_like(o[n], dtype=torch.bool)
        owner: dict[Any, int] = {}
        for m, row in enumerate(truth_rows[:30]):
            quiet |= overlap(decoded, row.to(xy)) > 0.6
            shapes = torch.cat([torch.zeros(2, len(anchors)).double(), (anchors.double() / grid.double()).T])
            shape = torch.cat([torch.zeros(2).double(), row[2:]])
            i, j = (math.floor(float(row[axis]) * cells) for axis, cells in ((0, width), (1, height)))
            owner[int(overlap(shapes, shape).argmax()), j, i] = m
        free = torch.ones_like(quiet)
        for (k, j, i), m in owner.items():
            row = truth_rows[m]
            free[k, j, i] = False
            place = (row[:2] * grid.double() - offset[:, j, i]).to(xy)
            size = (row[2:] * grid.double() / anchors[k].double()).log().to(xy)
            squares = (xy[n, k, :, j, i] - place) ** 2 + (wh[n, k, :, j, i] - size) ** 2
            iou = overlap(decoded[:, k, j, i], row.to(xy))
            total = total + 0.5 * float(2 - row[2] * row[3]) * squares.sum() + 2.5 * (iou - o[n, k, j, i]) ** 2
            total = total - log_p[n, k, labels[n][m], j, i]
        total = total + 0.5 * (o[n][free & ~quiet] ** 2).sum()
        if seen < 12800:
            early = free[:, None].expand(-1, 2, -1, -1)
            total = total + 0.005 * (((xy[n] - 0.5)[early] ** 2).sum() + (wh[n][early] ** 2).sum())
    return total


def make_foreign() -> Adapter:
    return from_torch(
        lambda outputs, boxes, question: foreign_loss(
            outputs, boxes, question.batch.anchors, question.batch.images_seen
        ),
        name="foreign",
        layout=layouts.NHWC,
        truths=truths.Ragged(columns="class x1 y1 x2 y2", unit="pixels", image_size=(SIDE, SIDE), dtype="float64"),
        reduction="per-image",
        answers=("gradient", "potential"),
        dtypes=("float64", "float32"),
    )


@SETTINGS
@given(data=st.data())
def test_a_port_in_a_foreign_style_is_within_bounds_once_its_mean_is_multiplied_out(data: st.DataObject) -> None:
    pytest.importorskip("torch")
    batch = data.draw(batches(DARKNET))
    for dtype in ("float64", "float32"):
        question = Question(batch=batch, profile=DARKNET, dtype=dtype)
        try:
            answer = make_foreign().answer(question)
        except CannotAnswerError:
            continue
        if not near_an_edge(batch):
            check(answer, question, scale=len(batch.predictions))


class MultipliedOut:
    """An adapter whose declared division by the number of images is taken back."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def describe(self) -> Description:
        return dataclasses.replace(self.adapter.describe(), reduction="sum")

    def answer(self, question: Question) -> Answer:
        answer, images = self.adapter.answer(question), len(question.batch.predictions)
        assert answer.gradient is not None
        assert answer.potential is not None
        return dataclasses.replace(answer, gradient=images * answer.gradient, potential=images * answer.potential)


def test_a_port_in_a_foreign_style_conforms_to_every_clause_that_it_can_be_asked() -> None:
    pytest.importorskip("torch")
    judge = Judge(MultipliedOut(make_foreign()), load_cases())
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert [verdict for verdict in verdicts if verdict.verdict == "deviating"] == []
    assert Counter(verdict.verdict for verdict in verdicts)["conforming"] > 70
    assert all(load_case(CASES / f"{case}.json").expected.error is not None for case in judge.crashes)


def test_a_port_in_a_foreign_style_is_found_out_where_it_is_taken_for_another() -> None:
    pytest.importorskip("torch")
    judge = Judge(MultipliedOut(make_foreign()), load_cases(), profile="darknet-2016")
    deviating = {clause.id for clause in judge.clauses if judge.verdict(clause).verdict == "deviating"}
    assert "coord.constant-weight" in deviating


GIVEN = [
    Layout("n a e h w", xy="sigmoid", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="cells", wh="exp", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="fraction", wh="cells", o="sigmoid", c="softmax"),
    Layout("n a e h w", xy="fraction", wh="fraction", o="sigmoid"),
]


def of_activated(layout: Layout) -> Any:
    """The loss above for a port whose predictions are activated; what it wants raw, it takes back itself."""

    def loss(predictions: Any, rows: Any, question: Question) -> Any:
        import torch

        batch = question.batch
        xy, wh, o, c = predictions.split([2, 2, 1, batch.classes], dim=2)
        height, width = predictions.shape[3:]
        anchors = torch.as_tensor(batch.anchors).to(predictions)
        grid = torch.tensor([width, height])[:, None, None].to(predictions)
        offset = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))
        xy = {"sigmoid": xy, "cells": xy - offset, "fraction": xy * grid - offset}[layout.xy]
        unit = anchors[:, :, None, None] / (grid if layout.wh == "fraction" else 1)
        if layout.wh != "raw":
            wh = (wh if layout.wh == "exp" else wh / unit).log()
        log_p = c.log() if layout.c == "softmax" else c.log_softmax(dim=2)
        labels = [image[:, 4].int().tolist() for image in rows]
        boxes = [image[:, :4].double() for image in rows]
        return summed(xy, wh, o[:, :, 0], log_p, boxes, labels, anchors, batch.images_seen)

    return loss


@pytest.mark.parametrize("layout", GIVEN, ids=lambda layout: "-".join(layout.activated.values()))
@SETTINGS
@given(data=st.data())
def test_a_port_of_activated_predictions_is_within_bounds(layout: Layout, data: st.DataObject) -> None:
    pytest.importorskip("torch")
    batch = data.draw(batches(DARKNET))
    for dtype in ("float64", "float32"):
        adapter = from_torch(
            of_activated(layout), name="activated", layout=layout, answers=("gradient", "potential"), dtypes=(dtype,)
        )
        question = Question(batch=batch, profile=DARKNET, dtype=dtype, upstream=2.0)
        try:
            answer = adapter.answer(question)
        except CannotAnswerError:
            continue
        if not near_an_edge(batch):
            check(answer, question)
