"""The charts."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from regionloss_suite.bench.chart import charts
from unit.suite.bench.made_up import FEW, TIMES, results

SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart_is_well_formed_and_says_in_words_what_it_shows() -> None:
    settings = [dataclasses.replace(FEW, images=images) for images in (1, 4, 16)]
    settings += [dataclasses.replace(FEW, height=cells, width=cells) for cells in (7, 26)]
    settings += [dataclasses.replace(FEW, dtype="float16"), dataclasses.replace(FEW, height=7, width=13)]
    drawn = charts(results({**TIMES, 'a "loss" <b>': [0.5, 0.5, 0.5]}, *settings))
    assert [chart.name for chart in drawn] == ["time", "memory"]
    root = ElementTree.fromstring(drawn[0].svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Time of forward and backward (wall)"
    description = root.findtext(f"{SVG}desc") or ""
    assert description == drawn[0].alternative
    assert "Against images in the batch, N: " in description
    assert "torch-analytic from 1.00 ms at 1 to 1.00 ms at 16; " in description
    assert "Against cells along the grid, H = W: " in description
    assert "classes" not in description
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 2 * 4  # two panels; three losses and copy_
    assert [len(line.get("points", "").split()) for line in lines] == [3] * 8
    looks = {(line.get("class"), line.get("stroke-dasharray")) for line in lines}
    assert len({dashes for _, dashes in looks}) == 4  # told apart without colour


def test_no_chart_where_nothing_lies_along_an_axis() -> None:
    assert charts(results(TIMES, FEW, dataclasses.replace(FEW, images=4, classes=80))) == []
