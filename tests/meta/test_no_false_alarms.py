"""Correct losses are never accused, and a single wrong digit is always found: thousands of drawn batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meta.single import SingleAdapter
from regionloss import Result, evaluate
from regionloss.boxes import sigmoid
from regionloss_adapters import Adapter, Answer, Question, load_adapter
from regionloss_spec import Batch, Case, Profile, load_cases, load_profile
from regionloss_spec.batch import Array
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.judging.exchange import drawn_case
from regionloss_suite.oracle.comparison import VIEWS, Comparison
from regionloss_suite.properties.harness import PropertyHarness
from unit.torch.profiles import variants

EVERY = [pytest.param(profile, id=name) for name, profile in variants().items()]
RECORDED = [case for case in load_cases() if case.recorded]


def accused(adapter: Adapter, profile: Profile, dtype: str, examples: int) -> tuple[int, list[str]]:
    """How many batches were drawn, and every departure; none is left out, whatever edge it stands on."""
    asker = PropertyHarness(adapter, profile, dtype, notes=False)
    found: list[str] = []
    drawn = 0

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        nonlocal drawn
        with np.errstate(all="ignore"):  # float32 overflows where the bounds say that it may
            asked = asker.ask(asker.draw(data))
            differences = [asked.comparison.difference(view) for view in VIEWS]
        drawn += 1
        found.extend(str(difference) for difference in differences if difference is not None)

    ask()
    return drawn, found


@pytest.mark.slow
@pytest.mark.sample(every=3)
@pytest.mark.parametrize("profile", EVERY)
def test_the_formulas_in_float32_are_never_accused(profile: Profile) -> None:
    assert accused(SingleAdapter(), profile, "float32", 20) == (20, [])


@pytest.mark.slow
@pytest.mark.sample(every=4)
@pytest.mark.parametrize("profile", EVERY)
def test_the_eager_loss_is_never_accused(profile: Profile) -> None:
    pytest.importorskip("torch")
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        assert accused(load_adapter("torch"), profile, dtype, 4) == (4, [])


@pytest.mark.parametrize("case", RECORDED, ids=[case.id for case in RECORDED])
def test_darknet_is_never_accused(case: Case) -> None:
    """Its recorded answers, compared with the reference as for any float32 loss, with no slack for a recording."""
    said = case.expected
    answer = Answer(
        gradient=said.gradient,
        responsible=said.responsible,
        ignored=said.ignored,
        printed_cost=said.printed_cost,
        statistics=said.statistics,
    )
    asked = dataclasses.replace(case, provenance={"kind": "derivation"}, expected=Expected())
    assert not asked.recorded
    comparison = Comparison(asked, answer, "float32")
    assert [str(difference) for view in VIEWS if (difference := comparison.difference(view))] == []


def ordinary(rng: np.random.Generator) -> Batch:
    """Numbers as they occur in training, in float32."""
    shape = rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    t = rng.normal(scale=rng.choice([0.3, 1.0, 3.0]), size=(2, 2 * (5 + 3), *shape))
    truths = []
    for _ in range(2):
        count = int(rng.integers(0, 5))
        sizes = rng.uniform(0.05, 0.9, (count, 2))
        table = np.concatenate([rng.random((count, 2)), sizes, rng.integers(0, 3, (count, 1))], axis=1)
        truths.append(table.astype(np.float32).astype(np.float64))
    anchors = rng.uniform(0.3, 1.0, (2, 2)).astype(np.float32).astype(np.float64) * [columns, rows]
    seen = int(rng.choice([0, 10**6]))
    return Batch(t.astype(np.float32).astype(np.float64), tuple(truths), anchors, 3, seen, None)


def keeps_its_digits(result: Result) -> Array:
    """The elements that no cancellation has made, by the operands of each difference, `[N, A, 5+C, H, W]`.

    Of classes that pay cross-entropy, and of truths of which the last wins; the rule is that of chapter 12.
    """
    least = 2e-3
    t, decisions = result.t, result.decisions
    _, _, _, height, width = t.shape
    kept = np.zeros(t.shape, dtype=bool)
    b = sigmoid(t)
    kept[:, :, 4] = 1 - b[:, :, 4] > least
    cells = np.arange(width), np.arange(height)[:, None]
    for channel in (0, 1):
        kept[:, :, channel] = np.abs(b[:, :, channel] - 0.5) > least * (cells[channel] + 1)
        kept[:, :, channel] &= 1 - b[:, :, channel] > least
    kept[:, :, 2:4] = np.abs(t[:, :, 2:4]) > least
    for match in decisions.matches:
        n, k, j, i = match.predictor
        row = result.truths[n][match.truth]
        for channel, cell, count in ((0, i, width), (1, j, height)):
            place = row[channel] * count
            own = b[n, k, channel, j, i]
            kept[n, k, channel, j, i] = abs(own - (place - cell)) > least * (1 + place) and 1 - own > least
            target = np.log(row[channel + 2] * count / result.anchors[k, channel])
            raw = t[n, k, channel + 2, j, i]
            kept[n, k, channel + 2, j, i] = abs(raw - target) > least * (1 + abs(raw) + abs(target))
        box = result.boxes[n][:, k, j, i]
        small = min(*box[2:], *row[2:4])
        own = b[n, k, 4, j, i]
        kept[n, k, 4, j, i] = abs(own - match.iou) > least * (own + match.iou / small) and 1 - own > least
        p = np.exp(t[n, k, 5:, j, i] - t[n, k, 5:, j, i].max())
        p /= p.sum()
        kept[n, k, 5:, j, i] = np.where(np.arange(len(p)) == row[4], 1 - p > least, True)
    return kept


@pytest.mark.slow
@pytest.mark.sample(every=2)
@pytest.mark.parametrize("name", ["darknet", "lightnet"])
def test_a_thousandth_in_any_single_entry_is_found(name: str) -> None:
    rng = np.random.default_rng(5)
    profile = load_profile(name)
    tried = paid = 0
    for _ in range(12):
        batch = ordinary(rng)
        case = drawn_case("drawn", "drawn", batch, profile)
        right = SingleAdapter().answer(Question(batch=batch, profile=profile, dtype="float32"))
        result = evaluate(batch, profile)
        places = np.argwhere(keeps_its_digits(result).reshape(result.gradient.shape) & (result.gradient != 0))
        view = View("gradient", ("xy", "wh", "o", "c"), ("responsible", "ignored", "no-object"))
        assert Comparison(case, right, "float32").difference(view) is None
        for place in places:
            wrong = np.asarray(right.gradient).copy()
            wrong[tuple(place)] *= 1 + rng.choice([-1e-3, 1e-3])
            found = Comparison(case, dataclasses.replace(right, gradient=wrong), "float32").difference(view)
            assert found is not None, (place, result.gradient[tuple(place)])
            assert (found.image, found.row, found.column) == (place[0], place[2], place[3])
        tried += len(places)
        paid += int(np.count_nonzero(result.gradient))
    assert tried > 1500
    assert tried > 0.98 * paid
