"""The adapters that are written in other languages, as a reader of the protocol's page would write them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regionloss_adapters import CannotAnswerError, Question, RefusedError
from regionloss_adapters.process.adapter import ProcessAdapter
from regionloss_adapters.process.messages import INLINE_LIMIT
from regionloss_spec import Batch, Case, Profile, load_cases, load_profile, profile_names
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.oracle.strategies import batches

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "adapters/examples"
PAGE = ROOT / "docs/protocol.md"
DARKNET = load_profile("darknet")
EVERYTHING = View("everything")

#: What both examples have.
OPTIONS: list[dict[str, Any]] = [
    {},
    {"thresh": 0.3},
    {"thresh": 0.0, "max_truths": 2},
    {"coord_weight": 0.3, "object_weight": 2.5, "no_object_weight": 0.7, "class_weight": 1.7, "squared_factor": 1.0},
    {"object_target": "one"},
    {"prior_until": 0},
    {"prior_until": 500, "prior_weight": 0.7},
    {"anchor_choice": "predicted-shape"},
    {"small_box_exponent": 2},
]
#: What only the JavaScript example has.
MORE_OPTIONS: list[dict[str, Any]] = [
    {"ignore": "at-or-above", "no_object_applies": "every-predictor", "prior_applies": "every-predictor"},
    {"ignore": "none", "reduction": "per-image"},
    {"no_object_target": "max-iou", "object_target": "max-iou"},
    {"anchor_choice": "anchor-corner", "collision": "first"},
    {"anchor_choice": "predicted-iou", "collision": "sum"},
    {"size_space": "decoded"},
    {"size_target_floor": "one-cell"},
    {"size_space": "square-root", "truth_end": "none"},
    {"class_term": "squared-error"},
    {"class_term": "squared-linear"},
    {"class_term": "logistic", "class_collision": "accumulate"},
    {"class_term": "focal"},
]


@dataclass(frozen=True)
class Example:
    adapter: ProcessAdapter
    profiles: tuple[Profile, ...]
    clauses: int  # fewer judged clauses than this would mean that the example skips what it claims


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: cc is not on the path")
    program = tmp_path_factory.mktemp("c") / "region_loss"
    strict = ["-O2", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    command = [compiler, *strict, "-o", str(program), str(EXAMPLES / "c/region_loss.c"), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def c_example(c_program: Path) -> Iterator[Example]:
    profiles = tuple(DARKNET.replace(**axes) for axes in OPTIONS)
    with ProcessAdapter([str(c_program)]) as adapter:
        yield Example(adapter, (*profiles, load_profile("darknet-2016")), clauses=95)


@pytest.fixture(scope="module")
def javascript_example() -> Iterator[Example]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node: node is not on the path")
    profiles = tuple(DARKNET.replace(**axes) for axes in OPTIONS + MORE_OPTIONS)
    with ProcessAdapter([node, str(EXAMPLES / "javascript/region_loss.mjs")]) as adapter:
        claimed = [load_profile(name) for name in adapter.describe().profiles]
        assert {profile.name for profile in claimed} == {*profile_names()} - {"yolo9000"}  # it has no class tree
        yield Example(adapter, (*profiles, *claimed), clauses=115)


@pytest.fixture(scope="module", params=["c_example", "javascript_example"])
def example(request: pytest.FixtureRequest) -> Example:
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, Example)
    return chosen


@pytest.mark.slow
def test_no_clause_deviates_on_the_golden_cases(example: Example) -> None:
    judge = Judge(example.adapter, load_cases())
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert judge.crashes == {}
    assert [f"{one.clause}: {one.first}" for one in verdicts if one.verdict == "deviating"] == []
    assert sum(one.verdict == "conforming" for one in verdicts) >= example.clauses


@pytest.mark.slow
@settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_answer_is_within_the_bound_of_the_reference(example: Example, data: st.DataObject) -> None:
    profile = data.draw(st.sampled_from(example.profiles))
    batch = data.draw(batches(profile))
    assert departure(example, batch, profile) is None


def test_a_large_batch_goes_by_file(example: Example) -> None:
    rng = np.random.default_rng(5)
    truths = tuple(
        np.column_stack([rng.uniform(0.01, 0.99, (9, 2)), rng.uniform(0.05, 1, (9, 2)), rng.integers(0, 4, 9)])
        for _ in range(2)
    )
    batch = Batch(rng.normal(size=(2, 27, 11, 13)), truths, rng.uniform(0.5, 5, (3, 2)), 4, 0)
    assert batch.predictions.size > INLINE_LIMIT
    for profile in (DARKNET, load_profile("darknet-2016")):
        assert departure(example, batch, profile) is None


def test_the_upstream_gradient_scales_the_gradient_alone(example: Example) -> None:
    case = next(case for case in load_cases() if case.id == "pj-batch")
    once = example.adapter.answer(Question(batch=case.batch, profile=case.profile, dtype="float64"))
    scaled = example.adapter.answer(Question(batch=case.batch, profile=case.profile, dtype="float64", upstream=-0.25))
    assert once.gradient is not None
    assert scaled.gradient is not None
    np.testing.assert_array_equal(scaled.gradient, -0.25 * once.gradient)
    assert (scaled.potential, scaled.terms) == (once.potential, once.terms)


def test_a_refusal_names_image_and_truth(example: Example) -> None:
    rows = np.array([[0.5, 0.5, 0.5, 0.5, 0.0], [0.5, 1.0, 0.5, 0.5, 0.0]])
    batch = Batch(np.zeros((2, 6, 1, 1)), (np.zeros((0, 5)), rows), np.ones((1, 2)), 1, 0)
    with pytest.raises(RefusedError, match="image 1, truth 1: y is 1, ") as refused:
        example.adapter.answer(Question(batch=batch, profile=DARKNET, dtype="float64"))
    assert (refused.value.image, refused.value.truth) == (1, 1)


def test_a_choice_that_an_example_does_not_have_is_skipped_with_its_name(example: Example) -> None:
    batch = Batch(np.zeros((1, 6, 1, 1)), (np.zeros((0, 5)),), np.ones((1, 2)), 1, 0, (-1,))
    tree = load_profile("yolo9000")
    with pytest.raises(CannotAnswerError) as skipped:
        example.adapter.answer(Question(batch=batch, profile=tree, dtype="float64"))
    assert str(skipped.value).partition(":")[0] in DARKNET.differences(tree)


def test_the_transcript_of_the_protocols_page_is_what_is_said(c_program: Path) -> None:
    transcript = [
        line.split("> ", 1) for line in PAGE.read_text().splitlines() if line.startswith(("suite> ", "child> "))
    ]
    assert [who for who, _ in transcript] == ["suite", "child"] * 3
    schema = json.loads((ROOT / "adapters/regionloss_adapters/process/process.schema.json").read_text())
    for _, line in transcript:
        jsonschema.Draft202012Validator(schema).validate(json.loads(line))
    questions = "".join(f"{line}\n" for who, line in transcript if who == "suite")
    done = subprocess.run([c_program], input=questions, capture_output=True, text=True, check=True, timeout=60)
    answers = [json.loads(line) for who, line in transcript if who == "child"]
    for expected, got in zip(answers, map(json.loads, done.stdout.splitlines()), strict=True):
        for message in (expected, got):  # the last digit may be another with another mathematical library
            for key in ("gradient", "terms", "potential"):
                if key in message:
                    message[key] = [round(number, 12) for number in numbers(message[key])]
        assert got == expected


def numbers(value: Any) -> list[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        return [one for item in (value.values() if isinstance(value, dict) else value) for one in numbers(item)]
    return [value]


def departure(example: Example, batch: Batch, profile: Profile) -> str | None:
    """The first departure of an answer from the reference in any gradient element, term, potential or indicator."""
    answer = example.adapter.answer(Question(batch=batch, profile=profile, dtype="float64"))
    parts = (answer.gradient, answer.potential, answer.terms, answer.responsible, answer.ignored)
    assert all(one is not None for one in parts)
    case = Case(id="drawn", title="", base=profile.name, profile=profile, batch=batch, expected=Expected())
    difference = Comparison(case, answer, "float64").difference(EVERYTHING)
    return None if difference is None else str(difference)
