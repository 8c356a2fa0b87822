"""What is timed on: settings, plans and the roofline."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from regionloss import evaluate
from regionloss_suite.bench.goals import goals_of
from regionloss_suite.bench.plan import crossed, standard
from regionloss_suite.bench.roofline import Roofline, roofline_of
from regionloss_suite.bench.setting import Setting
from unit.suite.bench.made_up import DARKNET, SMALL


def test_the_roofline_of_a_small_batch_by_hand() -> None:
    # 4 x 4 cells in float32 are one line of 64 bytes for each channel; 5 anchors of 5 + 3 channels are 40 lines.
    setting = Setting(height=4, width=4, images=1, classes=3, truths=(1, 1))
    batch = setting.draw()
    read = (5 * 5 + 3) * 64
    assert roofline_of(setting, batch, 64) == Roofline(read, read + 2560, 2 * read + 2560, read)
    # With the channels innermost a predictor takes 32 bytes: its first five numbers 20 of them, its classes the rest.
    # Two predictors share a line of 64 bytes, so that every line is read; the classes of one are part of one line.
    last = dataclasses.replace(setting, layout="channels_last")
    read = (40 + 1) * 64
    assert roofline_of(last, batch, 64) == Roofline(read, read + 2560, 2 * read + 2560, read)


def test_two_truths_in_one_cell_count_once_in_the_roofline() -> None:
    setting = Setting(height=4, width=4, images=1, classes=3, truths=(1, 1))
    batch = setting.draw()
    twice = dataclasses.replace(batch, truths=(np.repeat(batch.truths[0], 2, axis=0),))
    assert roofline_of(setting, twice, 64) == roofline_of(setting, batch, 64)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_batch_lies_in_the_domain_is_exact_in_its_format_and_the_same_each_time(dtype: str) -> None:
    setting = Setting(images=8, truths=(1, 8), dtype=dtype)
    batch = setting.draw()
    assert np.array_equal(batch.predictions, setting.draw().predictions)
    rounded = torch.tensor(batch.predictions).to(getattr(torch, dtype)).double().numpy()
    assert np.array_equal(rounded, batch.predictions)
    assert evaluate(batch, DARKNET).potential > 0
    counts = [len(table) for table in batch.truths]
    assert min(counts) >= 1
    assert max(counts) <= 8
    assert len(set(counts)) > 1


def test_every_truth_of_a_full_image_is_read() -> None:
    setting = Setting(images=2, truths=(50, 50))
    assert [len(table) for table in setting.draw().truths] == [50, 50]
    assert setting.profile(DARKNET).max_truths == 50
    assert SMALL.profile(DARKNET) is DARKNET


def test_a_setting_comes_back_from_json() -> None:
    setting = Setting(19, 26, 3, 80, (2, 40), "float16", "channels_last", 12800)
    assert Setting.from_json(json.loads(json.dumps(setting.to_json()))) == setting
    assert setting.name == "19x26-N3-C80-T2to40-float16-channels_last-t12800"


def test_plans_name_everyone_that_their_goals_name() -> None:
    for device in ("cpu", "cuda"):
        items = {item.setting: item for item in standard(device, ()).items}
        assert len(items) == len(standard(device, ()).items)
        for goal in goals_of(device):
            named = {word.strip(",") for word in goal.what.replace("times", "").split()}
            wanted = named & {"torch-analytic", "torch-compiled", "torch-triton", "materialised", "python-loop"}
            assert wanted <= set(items[goal.setting].candidates)


def test_sizes_are_crossed() -> None:
    plan = crossed("cpu", ("numpy",), grid=[(7, 8), (13, 13)], batch=[1, 2], truths=[(5, 5)], layout=["channels_last"])
    assert [item.setting.name for item in plan.items] == [
        f"{grid}-N{images}-C20-T5-float32-channels_last-t0" for grid in ("7x8", "13x13") for images in (1, 2)
    ]
    assert {item.candidates for item in plan.items} == {("numpy",)}
