from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from regionloss import DomainError, Result, evaluate
from regionloss.bounds import PRECISIONS, ROUNDINGS, Bounds, Precision, bounds
from regionloss.boxes import iou, sigmoid
from regionloss.classes import path_to_root, softmax
from regionloss.decisions import Match, anchor_fit
from regionloss_adapters import Answer, Question
from regionloss_adapters.numpy_reference import indicators
from regionloss_spec import Batch, Profile, load_cases, load_profile
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.strategies import batches
from unit.torch.profiles import DARKNET, TREE, variants

torch = pytest.importorskip("torch", reason="the eager loss needs PyTorch: pip install 'regionloss[torch]'")

import regionloss.torch  # noqa: E402 - only where PyTorch is installed
from regionloss.torch.eager import region_loss  # noqa: E402 - likewise
from regionloss.torch.eager.decisions import TruthLists, decide_on_host  # noqa: E402 - likewise
from regionloss.torch.eager.loss import pay_terms  # noqa: E402 - likewise
from regionloss_adapters.torch.eager import TorchEagerAdapter  # noqa: E402 - likewise

pytestmark = pytest.mark.slow  # together they take more than twenty seconds

Array = NDArray[Any]

ADAPTER = TorchEagerAdapter()
ANCHORS = np.array([[1.0, 2.0], [2.0, 1.0]])
FORMATS = {dtype: torch.finfo(getattr(torch, dtype)) for dtype in PRECISIONS}

every_profile = pytest.mark.parametrize(
    "profile", [pytest.param(profile, id=name) for name, profile in variants().items()]
)


@every_profile
@settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_result_is_within_the_bound_of_the_reference(profile: Profile, data: st.DataObject) -> None:
    batch = data.draw(batches(profile))  # exact in float32, so both precisions get the same bits
    compared = [compare(batch, profile, dtype) for dtype in ("float64", "float32")]
    assume(any(compared))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["darknet", "yolo9000", "formula", "samylee"])
@settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_half_precision_gradient_is_rounded_once(name: str, dtype: str, data: st.DataObject) -> None:
    profile = load_profile(name)
    batch = data.draw(batches(profile))
    rounded = torch.from_numpy(batch.predictions).to(getattr(torch, dtype)).double().numpy()
    batch = Batch(rounded, batch.truths, batch.anchors, batch.classes, batch.images_seen, batch.tree)
    assume(compare(batch, profile, dtype))


@pytest.mark.slow
def test_no_clause_deviates_on_the_golden_cases() -> None:
    judge = Judge(ADAPTER, load_cases())
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    assert [f"{one.clause}: {one.first}" for one in verdicts if one.verdict == "deviating"] == []


def test_predictions_may_have_any_strides() -> None:
    t = network(2, 3, 4)
    by_channel_last = t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    every_second = torch.zeros(2, 2 * t.shape[1], 3, 8, dtype=t.dtype)
    every_second[:, ::2, :, ::2] = t
    strided = every_second[:, ::2, :, ::2].requires_grad_()
    contiguous = t.clone().requires_grad_()
    expected, (gradient,) = potential_and_gradient(contiguous)
    for other in (by_channel_last, strided):
        assert not other.is_contiguous()
        got, (other_gradient,) = potential_and_gradient(other)
        assert torch.equal(got, expected)
        assert torch.equal(other_gradient, gradient)


def test_truths_may_be_tensors_arrays_or_one_padded_tensor() -> None:
    t = network(2, 3, 4).requires_grad_()
    rows = [[[0.3, 0.4, 0.2, 0.3, 1]], [[0.9, 0.1, 0.5, 0.5, 0], [0.6, 0.6, 0.1, 0.1, 1]]]
    padded = torch.zeros(2, 3, 5, dtype=torch.float64)
    for n, image in enumerate(rows):
        padded[n, : len(image)] = torch.tensor(image, dtype=torch.float64)
    forms: list[Any] = [
        padded,
        padded.numpy(),
        [np.array(image) for image in rows],
        [torch.tensor(image, dtype=torch.float64, requires_grad=True) for image in rows],
        rows,
    ]
    results = [region_loss(t, form, torch.from_numpy(ANCHORS), 2, images_seen=0) for form in forms]
    assert [len(result.matches) for result in results] == [3] * 5
    assert all(torch.equal(result.potential, results[0].potential) for result in results)


@every_profile
def test_gradient_is_finite_and_zeros_are_exact_for_huge_logits(profile: Profile) -> None:
    rng = np.random.default_rng(3)
    tree = (-1, -1, 0, 0) if profile.class_term == "tree" else None
    for dtype in (torch.float64, torch.float32):
        for magnitude in (1e2, 1e4, 1e15):
            # Sizes in other spaces than the logarithm are infinite themselves where their exponential is.
            size = magnitude if profile.size_space == "log" else 20.0
            t = rng.choice([-1.0, 0.0, 1.0], (2, 2, 9, 2, 3)) * magnitude
            t[:, :, 2:4] = rng.choice([-1.0, 0.0, 1.0], (2, 2, 2, 2, 3)) * size
            batch = Batch(t.reshape(2, 18, 2, 3), truths_of_all_kinds(), ANCHORS, 4, 0, tree)
            predictions = torch.from_numpy(batch.predictions).to(dtype).requires_grad_()
            loss = region_loss(predictions, batch.truths, ANCHORS, 4, images_seen=0, profile=profile, tree=tree)
            (gradient,) = torch.autograd.grad(loss.potential, predictions)
            assert torch.isfinite(loss.potential)
            assert torch.isfinite(gradient).all()
            gradient = gradient.reshape(2, 2, 9, 2, 3)
            classes = loss.ignored & (profile.ignored_class != "none")
            for match in loss.matches:
                classes[match.predictor] |= match.pays_class
            assert not gradient[:, :, :4].movedim(2, -1)[~(loss.prior | loss.responsible)].any()
            assert not gradient[:, :, 4][~(loss.no_object | loss.responsible)].any()
            assert not gradient[:, :, 5:].movedim(2, -1)[~classes].any()


@pytest.mark.parametrize("space", ["decoded", "square-root"])
def test_an_underflowing_size_has_a_zero_gradient_in_every_space(space: str) -> None:
    t = network(1, 1, 1)
    t[0, 2::7] = t[0, 3::7] = -1e4
    profile = DARKNET.replace(size_space=space)
    _, (gradient,) = potential_and_gradient(t.requires_grad_(), profile=profile, images_seen=10**6)
    assert not gradient[0, 2::7].any()
    assert not gradient[0, 3::7].any()


def test_an_infinite_size_without_weight_is_not_paid() -> None:
    t = network(1, 1, 1)
    t[0, 2::7] = 1e4
    profile = DARKNET.replace(size_space="decoded", coord_weight=0.0)
    potential, (gradient,) = potential_and_gradient(t.requires_grad_(), profile=profile, images_seen=10**6)
    assert torch.isfinite(potential)
    assert torch.isfinite(gradient).all()


def test_an_ignored_predictor_that_overlaps_no_truth_has_no_class() -> None:
    # With a threshold of 0 and equality ignored, predictors are ignored without any truth near them.
    profile = DARKNET.replace(ignore="at-or-above", thresh=0.0, ignored_class="full")
    predictions = torch.zeros(2, 14, 1, 3)
    predictions[:, 2::7] = predictions[:, 3::7] = -5.0
    predictions.requires_grad_()
    rows = [[[0.1, 0.5, 0.05, 0.1, 1]], []]
    loss = region_loss(predictions, rows, ANCHORS, 2, images_seen=10**6, profile=profile)
    (gradient,) = torch.autograd.grad(loss.potential, predictions)
    assert not loss.no_object.any()
    assert gradient.reshape(2, 2, 7, 1, 3)[:, :, 5:].abs().sum(dim=2).nonzero().tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("at_or_above", "expected"), [(False, 0), (True, 1)])
def test_equality_with_the_threshold_is_decided_exactly(at_or_above: bool, expected: int) -> None:
    # The box of the second anchor is the whole image, the truth its left half: IoU is .5 in every precision.
    profile = DARKNET.replace(thresh=0.5, ignore="at-or-above" if at_or_above else "above")
    rows = [[[0.25, 0.5, 0.5, 1.0, 0]]]
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        t = torch.zeros(1, 12, 1, 1, dtype=dtype)
        result = region_loss(t, rows, [[0.5, 1.0], [1.0, 1.0]], 1, images_seen=0, profile=profile)
        assert float(result.max_iou[0, 1, 0, 0]) == 0.5
        assert int(result.ignored.sum()) == expected
        assert result.assigned_truth.flatten().tolist() == [0, -1]


def test_predicted_boxes_are_compared_with_the_threshold_in_the_type_of_the_predictions() -> None:
    # The box of the second anchor is the whole image. Its IoU is 10^-9 above the threshold, which float32 rounds away.
    profile = DARKNET.replace(thresh=0.25)
    rows = [[[0.5, 0.5, 0.5 + 2e-9, 0.5, 0]]]
    ignored = {}
    for dtype in (torch.float64, torch.float32, torch.float16):
        t = torch.zeros(1, 12, 1, 1, dtype=dtype)
        result = region_loss(t, rows, [[0.5, 1.0], [1.0, 1.0]], 1, images_seen=0, profile=profile)
        assert result.max_iou.dtype == torch.promote_types(dtype, torch.float32)
        ignored[dtype] = result.ignored.flatten().tolist()
    assert ignored == {
        torch.float64: [False, True],
        torch.float32: [False, False],
        torch.float16: [False, False],
    }


def test_first_anchor_wins_a_tie_in_every_precision() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        t = torch.randn(1, 14, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
        result = region_loss(t, [[[0.4, 0.4, 0.3, 0.3, 1]]], ANCHORS, 2, images_seen=0)
        assert result.matches[0].predictor == (0, 0, 1, 1)


def test_batch_without_images_and_image_without_truths_have_a_gradient() -> None:
    for images in (0, 2):
        predictions = torch.zeros(images, 14, 2, 2, requires_grad=True)
        for profile in (DARKNET, TREE.replace(reduction="per-image")):
            tree = (-1, -1)
            loss = region_loss(predictions, [[]] * images, ANCHORS, 2, images_seen=0, profile=profile, tree=tree)
            (gradient,) = torch.autograd.grad(loss.potential, predictions)
            assert gradient.shape == predictions.shape
            assert all(term.requires_grad for term in loss.terms.values())
            assert (gradient != 0).any() == (images > 0)


def test_class_only_image_is_paid_where_the_product_would_underflow() -> None:
    # In each predictor both factors of the product vanish in float32, at one predictor less than at the others.
    t = torch.zeros(1, 14, 2, 2).reshape(1, 2, 7, 2, 2)
    t[:, :, 4], t[:, :, 6] = -90.0, -90.0
    t[0, 1, 6, 1, 0] = -80.0
    result = region_loss(
        t.reshape(1, 14, 2, 2), [[[1e6, 1e6, 1, 1, 1]]], ANCHORS, 2, images_seen=0, profile="yolo9000", tree=(-1, -1)
    )
    assert result.matches[0].predictor == (0, 1, 1, 0)
    assert not (result.responsible | result.no_object | result.prior | result.ignored).any()


def test_half_precision_sums_in_float32() -> None:
    predictions = torch.zeros(1, 14, 64, 64, dtype=torch.float16, requires_grad=True)
    loss = region_loss(predictions, [[]], ANCHORS, 2, images_seen=10**6)
    (gradient,) = torch.autograd.grad(loss.potential, predictions)
    assert loss.potential.dtype == torch.float32
    assert gradient.dtype == torch.float16
    assert loss.potential.item() == 2 * 64 * 64 * 0.125


@pytest.mark.parametrize("fault", [0, 1])
def test_a_domain_error_names_image_and_truth(fault: int) -> None:
    rows = torch.full((2, 2, 5), 0.5)
    rows[:, :, 4] = 0
    rows[1, fault, 2] = 1.5
    with pytest.raises(DomainError, match=f"image 1, truth {fault}: w is 1.5") as error:
        region_loss(torch.zeros(2, 14, 2, 2), rows, ANCHORS, 2, images_seen=0)
    assert (error.value.image, error.value.truth) == (1, fault)


def test_predictions_that_are_not_floating_point_are_refused() -> None:
    with pytest.raises(TypeError, match=r"torch\.int64"):
        region_loss(torch.zeros(1, 14, 2, 2, dtype=torch.long), [[]], ANCHORS, 2, images_seen=0)


SMOOTH = [
    pytest.param(DARKNET, id="darknet"),
    pytest.param(DARKNET.replace(object_target_gradient="flows"), id="flows"),
    pytest.param(DARKNET.replace(size_space="square-root", class_term="focal"), id="square-root-focal"),
    pytest.param(DARKNET.replace(size_space="decoded", class_term="squared-error"), id="decoded-squared-error"),
    pytest.param(DARKNET.replace(class_term="logistic", class_collision="accumulate"), id="logistic-accumulate"),
    pytest.param(TREE, id="tree"),
]


@pytest.mark.parametrize("profile", SMOOTH)
def test_first_and_second_derivatives_are_those_of_the_potential(profile: Profile) -> None:
    tree = (-1, -1, 0) if profile.class_term == "tree" else None
    t = torch.from_numpy(0.3 * np.random.default_rng(1).normal(size=(1, 2, 8, 1, 2)))
    rows = [np.array([[0.3, 0.45, 0.5, 0.9, 1], [0.8, 0.6, 0.4, 0.3, 2]])]
    lists = TruthLists([torch.from_numpy(rows[0])], torch.from_numpy(ANCHORS))
    decisions = decide_on_host(t.numpy(), rows, ANCHORS, 0, profile, tree, t.device)
    assert all(match.iou > 0.05 for match in decisions.matches)

    def potential(raw: Any) -> Any:
        """Decisions and targets frozen, as the spec differentiates it."""
        return sum(pay_terms(raw, lists, decisions, profile, tree).values())

    assert torch.autograd.gradcheck(potential, (t.requires_grad_(),))
    assert torch.autograd.gradgradcheck(potential, (t,))


def test_the_numpy_reference_takes_decisions_for_the_eager_path_and_computes_no_term() -> None:
    shared = {"regionloss.domain", "regionloss.c_compiler"}  # neither computes anything
    decisions = {"Match", "decide", "class_payers", "true_nodes"}
    for path in sorted(Path(regionloss.torch.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if isinstance(node, ast.ImportFrom) and module.startswith("regionloss."):
                names = {name.name for name in node.names} if path.parent.name == "eager" else {"anything"}
                assert module in shared or module.startswith("regionloss.torch") or names <= decisions, path


def compare(batch: Batch, profile: Profile, dtype: str) -> bool:
    """Hold the eager loss against the reference; False, and nothing compared, where the batch is on a knife edge."""
    with np.errstate(all="ignore"):  # sizes in decoded space may be infinite: so is then the gradient
        result = evaluate(batch, profile)
        limits = bounds(result, PRECISIONS[dtype])
        edge = knife_edge(result, limits, PRECISIONS[dtype])
    if edge:
        event(f"{dtype} knife edge: {edge}")
        return False
    answer = ADAPTER.answer(Question(batch=batch, profile=profile, dtype=dtype))
    assert answer.gradient is not None
    assert (answer.responsible, answer.ignored) == indicators(result.decisions)
    outside = ~close(answer.gradient, result.gradient, limits.gradient, dtype)
    assert not outside.any(), describe(answer, result, limits, tuple(np.argwhere(outside)[0]), dtype)
    summed_in = "float64" if dtype == "float64" else "float32"
    for name, expected in result.term_values.items():
        got = (answer.terms or {})[name]
        assert close(got, expected, limits.terms[name], summed_in), f"{dtype} {name}: {got}, expected {expected}"
    assert close(answer.potential, result.potential, limits.potential, summed_in)
    predictions = torch.from_numpy(batch.predictions).to(getattr(torch, dtype))
    decisions = region_loss(
        predictions, batch.truths, batch.anchors, batch.classes,
        images_seen=batch.images_seen, profile=profile, tree=batch.tree,
    )  # fmt: skip
    assert (decisions.no_object.numpy() == result.decisions.no_object).all()
    assert (decisions.prior.numpy() == result.decisions.prior).all()
    assert (decisions.responsible.numpy() == result.decisions.responsible).all()
    assert (decisions.assigned_truth.numpy() == result.decisions.assigned_truth).all()
    assert (np.abs(decisions.max_iou.double().numpy() - result.decisions.max_iou) <= limits.max_iou).all()
    return True


def close(got: Any, expected: Any, bound: Any, dtype: str) -> Any:
    """Within the bound, or beyond the format: then it may be infinite or flushed to zero (`numerics.bound`)."""
    with np.errstate(all="ignore"):
        too_large = (np.abs(expected) > FORMATS[dtype].max) & (got == np.sign(expected) * np.inf)
        too_small = (np.abs(expected) < FORMATS[dtype].tiny) & (got == 0)
        return (np.abs(got - expected) <= bound) | too_large | too_small


def describe(answer: Answer, result: Result, limits: Bounds, place: tuple[int, ...], dtype: str) -> str:
    assert answer.gradient is not None
    _, _, channels, _, _ = result.t.shape
    anchor, channel = divmod(int(place[1]), channels)
    return (
        f"{dtype} {result.profile.name} image {place[0]} anchor {anchor} channel {channel} cell {place[2:]}: "
        f"{answer.gradient[place]}, expected {result.gradient[place]} ± {limits.gradient[place]}"
    )


def knife_edge(result: Result, limits: Bounds, precision: Precision) -> str:
    """Which decision has a margin smaller than the rounding of what decides it; empty if none has.

    A correct loss may decide either way there, so such a draw says nothing. Cells and the fit of anchors are taken from
    float64 numbers in every precision and have no edge. Ties that are exact in every precision have tests of their own.
    """
    profile, decisions = result.profile, result.decisions
    margin = np.abs(decisions.max_iou - profile.thresh)
    if profile.ignore != "none" and (margin <= limits.max_iou + precision.unit * profile.thresh).any():
        return "threshold"
    reach = ROUNDINGS * precision.unit
    for match in decisions.matches:
        if decisions.class_only[match.image]:
            if _class_choice_is_close(result, match, reach):
                return "class-only image"
            continue
        row = result.truths[match.image][match.truth]
        if profile.anchor_choice.startswith("predicted"):
            boxes = result.boxes[match.image]
            fits = np.sort(anchor_fit(match.row, match.column, row, boxes, result.anchors, profile))[::-1]
            sizes = np.abs(result.t[match.image, :, 2:4, match.row, match.column]).max()
            if len(fits) > 1 and 0 < fits[0] <= fits[1] + 8 * reach * (1 + sizes):
                return "predicted anchor"
        if profile.object_target_gradient == "flows" and match.pays_box:
            n, k, j, i = match.predictor
            truth = match.truth if profile.object_target == "iou" else int(decisions.best_truth[match.predictor])
            if truth >= 0 and _edges_coincide(result.boxes[n][:, k, j, i], result.truths[n][truth], reach):
                return "kink of the IoU"
    return "nearest truth" if _nearest_is_close(result, limits) else ""


def _class_choice_is_close(result: Result, match: Match, reach: float) -> bool:
    t, tree = result.t[match.image], result.tree or ()
    label = int(result.truths[match.image][0, 4])
    p = softmax(np.moveaxis(t[:, 5:], 1, 0), tree)
    sure = sigmoid(t[:, 4]) * np.prod([p[node] for node in path_to_root(label, tree)], axis=0)
    first, *others = np.sort(sure.ravel())[::-1]
    same_outputs = len(np.unique(np.moveaxis(t[:, 4:], 1, -1).reshape(-1, t.shape[1] - 4), axis=0)) == 1
    return bool(others) and not same_outputs and others[0] >= first * (1 - 8 * reach * (1 + np.abs(t[:, 4:]).max()))


def _edges_coincide(box: Array, row: Array, reach: float) -> bool:
    for axis in (0, 1):
        outputs = box[axis] + np.array([-0.5, 0.5]) * box[axis + 2]
        theirs = row[axis] + np.array([-0.5, 0.5]) * row[axis + 2]
        scale = 16 * reach * (1 + np.abs(outputs).max())
        if (np.abs(outputs[:, None] - theirs[None]) <= scale).any():
            return True
    return False


def _nearest_is_close(result: Result, limits: Bounds) -> bool:
    """Whether two truths, not twins, overlap best to within the rounding, where it matters which of them it is."""
    matters = np.zeros(result.decisions.max_iou.shape, dtype=bool)
    if result.profile.ignored_class != "none":
        matters |= result.decisions.ignored
    if result.profile.object_target == "max-iou" and result.profile.object_target_gradient == "flows":
        matters |= result.decisions.responsible
    for n, k, j, i in np.argwhere(matters & (result.decisions.best_truth >= 0)):
        rows = result.truths[n]
        best = rows[result.decisions.best_truth[n, k, j, i]]
        overlaps = [iou(result.boxes[n][:, k, j, i], row[:4]) for row in rows if (row != best).any()]
        if overlaps and max(overlaps) >= result.decisions.max_iou[n, k, j, i] - 2 * limits.max_iou[n, k, j, i]:
            return True
    return False


def network(images: int, height: int, width: int) -> Any:
    """Predictions of two anchors and two classes, float64, always the same."""
    return torch.from_numpy(np.random.default_rng(0).normal(size=(images, 14, height, width)))


def potential_and_gradient(t: Any, profile: Profile = DARKNET, images_seen: int = 0) -> tuple[Any, Any]:
    rows = [[[0.3, 0.4, 0.2, 0.3, 1], [0.9, 0.1, 0.5, 0.5, 0]]] * len(t)
    result = region_loss(t, rows, ANCHORS, 2, images_seen=images_seen, profile=profile)
    return result.potential, torch.autograd.grad(result.potential, t)


def truths_of_all_kinds() -> tuple[Array, ...]:
    """A collision of two shapes and a truth in another cell, and an image without truths."""
    rows = np.array([[0.4, 0.4, 0.2, 0.3, 1], [0.45, 0.4, 0.2, 0.3, 3], [0.9, 0.9, 0.9, 0.2, 0]])
    return rows, np.zeros((0, 5))
