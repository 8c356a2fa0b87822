"""Losses whose formula is known, read as if it were not."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionloss import region_loss
from regionloss_adapters import Adapter, Answer, CannotAnswerError, Description, Limits, Question
from regionloss_adapters.layouts import Layout
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_adapters.wrap.from_loss import from_numpy
from regionloss_spec import AXES, Profile, ProfileError, load_profile, profile_names
from regionloss_spec.profile import axis_values
from regionloss_suite.cli.main import main
from regionloss_suite.measure import Identified, identify
from regionloss_suite.measure.findings import nice
from regionloss_suite.measure.formula import as_json, differences, formula, lines, markdown, nearest, toml
from regionloss_suite.measure.profile import canonical
from regionloss_suite.measure.verify import verify
from regionloss_suite.mutants import MutantAdapter, catalogue

pytestmark = pytest.mark.slow  # together they take more than twenty seconds

Array = np.ndarray[Any, np.dtype[Any]]


class Hidden:
    """A loss, the reference unless said otherwise, under a profile of its own, whatever the question says."""

    def __init__(self, profile: Profile, loss: Adapter | None = None) -> None:
        self.profile = profile
        self.loss = loss or NumpyAdapter()

    def describe(self) -> Description:
        return self.loss.describe()

    def answer(self, question: Question) -> Answer:
        return self.loss.answer(dataclasses.replace(question, profile=self.profile))


def assert_recovered(found: Identified, profile: Profile) -> None:
    assert canonical(found.profile).differences(canonical(profile)) == {}
    assert [finding.axis for finding in found.odd] == []
    assert found.unknown == []


@pytest.mark.slow
@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_recovered_and_named(name: str) -> None:
    loss = Hidden(load_profile(name))
    found = identify(loss)
    assert_recovered(found, loss.profile)
    assert found.profile.squared_factor == loss.profile.squared_factor
    assert nearest(found.profile) == (name, 0)
    assert verify(loss, found, number=5).whole


def drawn(seed: int) -> Profile:
    """A profile of random axes and constants; a limit of truths leaves room for two truths."""
    here = random.Random(seed)
    while True:
        axes: dict[str, Any] = {axis: here.choice(axis_values(axis)) for axis in AXES if axis_values(axis)}
        axes["thresh"] = round(here.uniform(0.2, 0.9), here.choice((1, 2, 3, 4)))
        axes["prior_until"] = here.choice((0, 1, here.randrange(2, 10**6), here.randrange(2, 2**33)))
        axes["prior_weight"] = here.choice((0.01, 0.1, 1.0, 1e-4, round(here.uniform(0.01, 3), 3)))
        for axis in ("coord_weight", "object_weight", "no_object_weight", "class_weight"):
            axes[axis] = round(here.uniform(0.1, 12), here.choice((1, 2, 3)))
        axes["squared_factor"] = here.choice((0.5, 1.0, 0.25))
        axes["max_truths"] = here.choice((0, here.randrange(2, 250)))
        try:
            return Profile(name="drawn", title="drawn", source="drawn", **axes)
        except ProfileError:
            continue


@pytest.mark.slow
@pytest.mark.sample(every=5)
@pytest.mark.parametrize("seed", range(60))
def test_random_axes_and_constants_are_recovered(seed: int) -> None:
    profile = drawn(seed)
    assert_recovered(identify(Hidden(profile)), profile)


@pytest.mark.sweep  # since it is the sweep that takes all of them
def test_the_random_profiles_take_every_value_of_every_axis() -> None:
    profiles = [drawn(seed) for seed in range(60)]
    for axis in AXES:
        assert {getattr(profile, axis) for profile in profiles} >= set(axis_values(axis)), axis


def test_a_gradient_in_single_precision_is_enough() -> None:
    class Single(Hidden):
        def describe(self) -> Description:
            return dataclasses.replace(super().describe(), dtypes=("float32",))

        def answer(self, question: Question) -> Answer:
            assert question.dtype == "float32"
            answer = super().answer(question)
            return Answer(gradient=np.asarray(answer.gradient).astype(np.float32))

    found = identify(Single(load_profile("samylee")))
    assert canonical(found.profile).differences(canonical(load_profile("samylee"))) == {}
    assert found.unknown == ["printed_cost"]


class ScalarOnly(Hidden):
    """A loss that answers its potential and nothing else."""

    def answer(self, question: Question) -> Answer:
        return Answer(potential=super().answer(question).potential)


@pytest.mark.slow
@pytest.mark.sample(every=3)
@pytest.mark.parametrize("name", ["darknet", "formula", "yad2k", "andy-yun", "lightnet", "yolo9000"])
def test_a_scalar_is_enough(name: str) -> None:
    loss = ScalarOnly(load_profile(name))
    found = identify(loss)
    printed = found.profile.replace(printed_cost=loss.profile.printed_cost)  # it says nothing of what it prints
    assert canonical(printed).differences(canonical(loss.profile)) == {}
    assert [finding.axis for finding in found.odd] == []
    assert found.unknown == ["printed_cost"]
    assert found.findings["object_target_gradient"].confidence == "assumed"
    assert verify(loss, found, number=5).whole


@pytest.mark.slow
def test_a_scalar_that_departs_is_not_verified() -> None:
    loss = ScalarOnly(load_profile("darknet"))
    found = dataclasses.replace(identify(loss), profile=load_profile("darknet").replace(coord_weight=2.0))
    verified = verify(loss, found, number=20)
    assert not verified.whole
    assert "the scalar" in verified.left


@pytest.mark.slow
def test_terms_alone_are_enough() -> None:
    class TermsOnly(Hidden):
        def answer(self, question: Question) -> Answer:
            return Answer(terms=super().answer(question).terms)

    found = identify(TermsOnly(load_profile("samylee")))
    assert canonical(found.profile).differences(canonical(load_profile("samylee"))) == {}


def test_what_departs_beside_the_gradient_is_told() -> None:
    class OtherTerm(Hidden):
        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            assert answer.terms is not None
            return dataclasses.replace(answer, terms={**answer.terms, "object": answer.terms["object"] + 1.0})

    loss = OtherTerm(load_profile("darknet"))
    found = identify(loss)
    verified = verify(loss, found, number=10)
    assert verified.whole
    assert verified.beside == {"the term object": 10}
    assert "also, the term object deviates" in "\n".join(lines(found, verified))


@pytest.mark.slow
def test_an_edge_that_the_formula_does_not_explain_is_told() -> None:
    class NotANumber(Hidden):
        """Has 0/0 for the IoU of boxes of which neither has an area."""

        def answer(self, question: Question) -> Answer:
            return catalogue()["iou-zero-over-zero"].answer(dataclasses.replace(question, profile=self.profile))

    loss, right = NotANumber(load_profile("darknet")), Hidden(load_profile("darknet"))
    found = identify(loss)
    verified, expected = verify(loss, found, number=10), verify(right, found, number=10)
    assert expected.edges > 100
    assert expected.edges_left == {}
    assert list(verified.edges_left) == ["hand-zero-over-zero"]
    said = "\n".join(lines(found, verified))
    assert f"{verified.edges - 1} of {expected.edges} edge cases of the spec" in said
    assert "on an edge: hand-zero-over-zero" in said
    assert "- hand-zero-over-zero" in markdown(found, verified)
    assert list(as_json(found, verified)["verification"]["edges left"]) == ["hand-zero-over-zero"]


def test_of_many_edges_only_the_first_are_told() -> None:
    class TwiceAsMuch(Hidden):
        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            assert answer.gradient is not None
            return dataclasses.replace(answer, gradient=2 * answer.gradient)

    found = identify(Hidden(load_profile("darknet")))
    verified = verify(TwiceAsMuch(load_profile("darknet")), found, number=5)
    assert len(verified.edges_left) > 50
    for begin, said in (("  on an edge: ", lines(found, verified)), ("- ", markdown(found, verified).splitlines())):
        assert sum(line.startswith(f"{begin}hand-") for line in said) == 5
        assert f"{begin}and {len(verified.edges_left) - 5} more" in said


def test_a_promise_to_refuse_is_put_to_the_test() -> None:
    class Clamps(Hidden):
        def answer(self, question: Question) -> Answer:
            rows = tuple(np.clip(rows, 0.01, 0.99) if np.ndim(rows) == 2 else rows for rows in question.batch.truths)
            if any(len(one) and one[:, :2].max() >= 0.99 for one in rows if np.shape(one)[-1] == 5):
                rows = tuple(np.array([[0.5, 0.5, 0.5, 0.5, 0.0]]) for _ in rows)
                question = dataclasses.replace(question, batch=dataclasses.replace(question.batch, truths=rows))
            return super().answer(question)

    assert identify(Hidden(load_profile("darknet"))).findings["outside the domain"].value == "refused"
    finding = identify(Clamps(load_profile("darknet"))).findings["outside the domain"]
    assert finding.odd
    assert "hand-error-x-one" in finding.evidence


def test_a_mean_over_objects_is_odd_and_explained() -> None:
    class PerObject(Hidden):
        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            objects = max(sum(map(len, question.batch.truths)), 1)
            return Answer(gradient=np.asarray(answer.gradient) / objects)

    loss = PerObject(load_profile("darknet"))
    found = identify(loss)
    assert "per-object" in found.findings["reduction"].evidence
    assert "reduction" in [finding.axis for finding in found.odd]
    verified = verify(loss, found, number=40)
    assert verified.explained == verified.batches


def test_a_loss_in_another_layout_is_recovered() -> None:
    profile = load_profile("leetenki")

    def last_channels(predictions: Array, truths: list[Array], question: Question) -> tuple[float, Array]:
        batch = question.batch
        given = np.moveaxis(predictions, -1, 1)
        result = region_loss(
            given, truths, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=profile
        )
        return result.potential, np.moveaxis(result.gradient, 1, -1)

    loss = from_numpy(
        last_channels, name="channels last", layout=Layout("n h w (a e)"), profiles=("leetenki",), dtypes=("float64",)
    )
    found = identify(loss)
    assert canonical(found.profile).differences(canonical(profile)) == {}


def test_what_breaks_is_an_observation() -> None:
    class Brittle(Hidden):
        def answer(self, question: Question) -> Answer:
            if any(len(rows) > 1 for rows in question.batch.truths):
                raise ZeroDivisionError("two truths")
            return super().answer(question)

    found = identify(Brittle(load_profile("darknet")))
    assert "crashed: ZeroDivisionError: two truths" in found.findings["collision"].evidence
    assert found.findings["collision"].confidence == "unknown"
    assert {"collision", "max_truths"} <= set(found.unknown)
    assert found.profile.size_space == "log"


@pytest.mark.parametrize("name", ["darknet", "samylee", "yad2k"])
def test_a_loss_of_square_grids_is_recovered(name: str) -> None:
    class Square(Hidden):
        def answer(self, question: Question) -> Answer:
            height, width = question.batch.predictions.shape[2:]
            if height != width:
                raise CannotAnswerError("square grids alone")
            return super().answer(question)

    loss = Square(load_profile(name))
    found = identify(loss)
    assert canonical(found.profile).differences(canonical(loss.profile)) == {}
    assert found.odd == []
    assert "square grids alone" in found.findings["grids"].evidence
    assert found.findings["cell rule"].value == "floor"
    verified = verify(loss, found, number=60)
    assert verified.whole
    assert verified.beyond == 60 - verified.batches > 0
    assert f"{verified.beyond} more are not supported" in str(verified)


@pytest.mark.sample(every=3)
@pytest.mark.parametrize(
    "limits",
    [Limits(anchors=5), Limits(truths=50), Limits(empty=False), Limits(anchors=3, truths=50, square=True, empty=False)],
    ids=["five anchors", "fifty truths", "never empty", "everything"],
)
@pytest.mark.parametrize("name", ["darknet", "marvis"])
def test_a_loss_of_limited_batches_is_recovered(limits: Limits, name: str) -> None:
    profile = load_profile(name)

    def limited(predictions: Array, truths: list[Array], question: Question) -> tuple[float, Array]:
        batch = question.batch
        assert not limits.beyond(batch)  # it is never put to the loss
        result = region_loss(
            predictions, truths, batch.anchors, batch.classes, images_seen=batch.images_seen, profile=profile
        )
        return result.potential, result.gradient

    loss = from_numpy(
        limited, name="limited", limits=limits, profiles=(name,), dtypes=("float64",), answers=("gradient", "potential")
    )
    found = identify(loss)
    assert set(canonical(found.profile).differences(canonical(profile))) <= {"printed_cost"}  # which it does not return
    assert found.odd == []
    assert not found.factors
    verified = verify(loss, found, number=40)
    assert verified.explained == verified.batches


@pytest.mark.parametrize("name", ["darknet", "andy-yun", "lightnet"])
def test_a_loss_that_breaks_on_an_empty_image_is_recovered(name: str) -> None:
    class NeedsTruths(Hidden):
        def answer(self, question: Question) -> Answer:
            if not all(map(len, question.batch.truths)):
                raise RuntimeError("nothing to stack")
            return super().answer(question)

    loss = NeedsTruths(load_profile(name))
    found = identify(loss)
    assert canonical(found.profile).differences(canonical(loss.profile)) == {}
    assert [finding.axis for finding in found.odd] == ["empty image"]
    assert found.findings["prior_until"].value == loss.profile.prior_until
    assert found.unknown == []


def test_equality_is_asked_at_a_threshold_that_single_precision_holds() -> None:
    class Rounding(NumpyAdapter):
        def describe(self) -> Description:
            return dataclasses.replace(super().describe(), dtypes=("float32",))

        def answer(self, question: Question) -> Answer:
            thresh = question.profile.thresh
            profile = question.profile.replace(thresh=thresh if thresh == 0.5 else thresh - 1e-8)
            return super().answer(dataclasses.replace(question, profile=profile))

    found = identify(Rounding(), "darknet")
    assert (found.profile.thresh, found.profile.ignore) == (0.6, "above")
    assert "at an IoU of exactly 0.5 it pays" in found.findings["ignore"].evidence


def test_equality_that_rounding_decides_is_not_called_measured() -> None:
    class Uneven(Hidden):
        def answer(self, question: Question) -> Answer:
            rule = "above" if question.batch.anchors[0, 0] == 0.75 else "at-or-above"
            self.profile = self.profile.replace(ignore=rule)
            return super().answer(question)

    finding = identify(Uneven(load_profile("darknet"))).findings["ignore"]
    assert (finding.value, finding.confidence) == ("above", "assumed")
    assert "depending on its own rounding of the IoU" in finding.evidence


def test_a_loss_that_remembers_is_told() -> None:
    class Remembers(Hidden):
        asked = 0

        def answer(self, question: Question) -> Answer:
            self.asked += 1
            answer = super().answer(question)
            return dataclasses.replace(answer, gradient=np.asarray(answer.gradient) * (1 + 1e-6 * self.asked))

    assert "hidden state" in [finding.axis for finding in identify(Remembers(load_profile("darknet"))).odd]


def test_a_loss_that_changes_its_inputs_is_told() -> None:
    class Spoils(Hidden):
        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            for rows in question.batch.truths:
                rows *= 0.5
            return answer

    found = identify(Spoils(load_profile("darknet")))
    assert "truths were changed" in found.findings["mutation of inputs"].evidence


@pytest.mark.parametrize(
    ("mutant", "axis"),
    [
        ("border-to-the-earlier-cell", "cell rule"),
        ("several-anchors-responsible", "anchor_choice"),
        ("anchor-by-predicted-iou", "anchor_choice"),
        ("anchor-at-the-corner", "anchor_choice"),
        ("last-of-equal-anchors", "anchor tie"),
        ("first-truth-wins", "collision"),
        ("every-truth-pays", "collision"),
        ("class-of-the-first", "class_collision"),
        ("classes-left-standing", "class_collision"),
        ("classes-replaced", "class_collision"),
        ("class-of-ignored", "ignored_class"),
        ("class-squared-error", "class_term"),
    ],
)
def test_a_mutant_is_read(mutant: str, axis: str) -> None:
    one = catalogue()[mutant]
    right = load_profile(one.profile).replace(**one.options)
    found = identify(Hidden(right, MutantAdapter(one)))
    changed = set(canonical(found.profile).differences(canonical(right)))
    assert axis in changed | {finding.axis for finding in found.odd}


def test_a_wrong_profile_is_not_verified() -> None:
    loss = Hidden(load_profile("darknet"))
    found = identify(loss)
    wrong = dataclasses.replace(found, profile=found.profile.replace(small_box_exponent=0))
    verified = verify(loss, wrong, number=40)
    assert not verified.whole
    assert any("responsible" in part for part in verified.left)


def test_the_file_reproduces_the_profile(tmp_path: Path) -> None:
    loss = Hidden(load_profile("andy-yun"))
    found = identify(loss)
    path = tmp_path / "mine.toml"
    path.write_text(toml(found, verify(loss, found, number=2)), encoding="utf-8")
    assert load_profile(path) == found.profile


def test_differences_are_told_by_clause() -> None:
    told = {axis: clauses for axis, _, _, clauses in differences(load_profile("yad2k"), load_profile("darknet"))}
    assert "object.iou-target" in told["object_target"]
    assert "small_box_exponent" in told
    assert "squared_factor" not in told


def test_a_number_is_given_with_the_fewest_digits_that_were_measured() -> None:
    assert nice(0.6000000000001, 1e-9) == 0.6
    assert nice(1 / 3, 1e-9) == pytest.approx(1 / 3, rel=1e-9)
    assert nice(0.0, 1e-9) == 0.0


def test_the_formula_holds_every_constant() -> None:
    text = "\n".join(formula(load_profile("leetenki").replace(thresh=0.55)))
    for constant in ("0.55", "5000", "0.05 · ((½", "5 · (IOU", "0.05 · (0 - σ(t_o))²"):
        assert constant in text


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {form: tmp_path / f"found.{form}" for form in ("json", "markdown", "toml")}
    options = [part for form, path in files.items() for part in (f"--{form}", str(path))]
    assert main(["identify", "numpy", "--profile", "yad2k", "--batches", "3", *options]) == 0
    said = capsys.readouterr().out
    assert "explains 100 % of 3 random batches" in said
    assert "Nearest known implementation: yad2k" in said
    data = json.loads(files["json"].read_text(encoding="utf-8"))
    assert data["profile"]["object_target"] == "one"
    assert data["nearest"] == {"profile": "yad2k", "differences": 0}
    assert load_profile(files["toml"]).object_target == "one"
    assert "| object_target | one | measured |" in files["markdown"].read_text(encoding="utf-8")


def test_the_command_fails_for_what_answers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mute_loss.py").write_text(
        "from regionloss_adapters import Description\n"
        "class Mute:\n"
        "    def describe(self):\n"
        "        return Description('mute')\n"
        "    def answer(self, question):\n"
        "        raise OSError('no device')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["identify", "mute_loss:Mute"]) == 3
    assert "crashed: OSError: no device" in capsys.readouterr().err
    assert main(["identify", "numpy", "--profile", "no-such"]) == 2


def test_what_is_odd_is_printed() -> None:
    class Doubles(Hidden):
        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            gradient = np.array(answer.gradient)
            gradient[:, 0] *= 2  # t_x of the first anchor
            return dataclasses.replace(answer, gradient=gradient)

    loss = Doubles(load_profile("darknet"))
    found = identify(loss)
    said = "\n".join(lines(found, verify(loss, found, number=3)))
    assert "weights of x and y" in said
    assert "+ 1{t < 12800} · 1{not responsible} · ? · (" in said  # the weight of the prior was not measured


def test_a_formula_has_a_question_mark_for_what_was_not_measured() -> None:
    class Cubed(Hidden):
        """Pulls silent predictors down by the cube of their confidence."""

        def answer(self, question: Question) -> Answer:
            answer = super().answer(question)
            count, (height, width) = len(question.batch.anchors), question.batch.predictions.shape[2:]
            gradient = np.array(answer.gradient).reshape(len(question.batch.truths), count, -1, height, width)
            confidence = 1 / (1 + np.exp(-question.batch.predictions.reshape(gradient.shape)[:, :, 4].clip(-50)))
            silent = np.ones(confidence.shape, dtype=bool)
            for image, _, *predictor in answer.responsible or ():
                silent[(image, *predictor)] = False
            gradient[:, :, 4] *= np.where(silent, confidence**2, 1)
            shape = question.batch.predictions.shape
            return dataclasses.replace(answer, gradient=gradient.reshape(shape), potential=None, terms=None)

    loss = Cubed(load_profile("darknet"))
    found = identify(loss)
    verified = verify(loss, found, number=3)
    assert "objectness" in found.unknown
    shown = lines(found, verified)
    assert "      1{?} · 1{not responsible} · ? · ?" in shown
    assert "      1{?} · 1{not responsible} · ? · ?" in markdown(found, verified).splitlines()
    assert not any(line.startswith("  no_object_weight = ") for line in shown)  # nor is it a difference
