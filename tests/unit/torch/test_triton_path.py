from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch._subclasses import FakeTensorMode

from regionloss.torch import ops
from regionloss.torch.ops import ForwardInputs
from regionloss.torch.settings import settings_of
from regionloss.torch.triton import operators as triton_path
from regionloss.torch.triton.device import exceeds, exponential, logistic
from regionloss_spec import Profile
from unit.torch.on_triton import (
    DARKNET,
    DEVICE,
    INTERPRETED,
    GuardedMemory,
    backward,
    batch_of,
    conforms,
    forward,
    map_tensors,
    random_inputs,
    same_decisions,
)

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

EVERY = DARKNET.replace(no_object_applies="every-predictor", prior_applies="every-predictor", thresh=0.3)


@pytest.mark.parametrize(
    ("shape", "length", "anchors"),
    [
        pytest.param((2, 4, 3, 5), 6, (1.0, 2.0, 2.0, 1.0, 1.25, 1.5), id="small"),
        pytest.param((1, 1, 1, 1), 1, (1.0, 1.0), id="one-of-everything"),
        pytest.param((1, 2, 9, 15), 4, (2.0, 3.0, 3.0, 2.0), id="no-whole-number-of-tiles"),
        pytest.param((1, 300, 2, 3), 3, (1.0, 2.0), id="classes-in-turns"),
        pytest.param((3, 20, 4, 4), 0, (1.0, 2.0), id="no-truths"),
        pytest.param((0, 3, 2, 2), 4, (1.0, 2.0), id="no-images"),
    ],
)
def test_every_shape_agrees_with_the_reference(
    shape: tuple[int, int, int, int], length: int, anchors: tuple[float, ...]
) -> None:
    profile = DARKNET.replace(max_truths=0, thresh=0.4)
    inputs = random_inputs(shape, length, profile=profile, anchors=anchors)
    result = same_decisions(inputs)
    assert result.loss.shape == ()
    assert backward(inputs, result).shape == inputs.predictions.shape
    conforms(batch_of(inputs), profile)


def test_the_largest_of_many_classes_may_be_read_last() -> None:
    inputs = random_inputs((1, 300, 2, 3), 3, anchors=(1.0, 2.0))
    inputs.predictions[:, -1] = 9.0
    conforms(batch_of(inputs), DARKNET)


def test_the_squared_error_is_summed_over_all_blocks_of_classes() -> None:
    profile = DARKNET.replace(class_term="squared-error")
    conforms(batch_of(random_inputs((1, 300, 2, 3), 3, profile=profile, anchors=(1.0, 2.0))), profile)


def test_a_position_that_float32_cannot_represent_is_read_exactly() -> None:
    columns = 2048  # in float32 a place is off by up to 2048 * 2^-25 cells
    row = torch.tensor([[[(1500 + 1 / 3) / columns, 0.5, 1 / columns, 0.5, 1.0]]], dtype=torch.float64, device=DEVICE)
    inputs = random_inputs((1, 2, 1, columns), 1, anchors=(1.0, 1.0))._replace(rows=row)
    inputs.predictions[:, :2] = 0  # σ is 1/2, and so is the slope with respect to it 1/4
    gradient = backward(inputs, forward(inputs))[0, :2, 0, 1500].tolist()
    small = 2 - 0.5 / columns
    assert gradient == pytest.approx([small * (1 / 2 - 1 / 3) / 4, 0], rel=1e-6)


def test_a_tie_with_the_threshold_is_decided_as_a_division_would() -> None:
    # Quotients as close to the threshold as float32 gets, of both parities, on it and on both sides of it.
    draw = np.random.default_rng(0)
    for thresh, at_or_above in ((0.6, False), (0.7, False), (0.5, True), (0.6, True), (0.5, False), (1 / 3, False)):
        union = draw.uniform(2.0**-20, 2, 4096).astype(np.float32)
        shared = (union * np.float32(thresh)).view(np.int32) + draw.integers(-2, 3, 4096).astype(np.int32)
        union[:6] = [0, np.inf, np.nan, 2, 4, 8]
        shared = shared.view(np.float32)
        shared[:3], shared[3:6] = [0, 1, 1], union[3:6] * np.float32(thresh)
        with np.errstate(all="ignore"):
            quotient = np.where((union > 0) & np.isfinite(union), shared / union, 0)
        expected = quotient >= np.float32(thresh) if at_or_above else quotient > np.float32(thresh)
        assert 0 < expected.sum() < 4096
        threshold = triton_path.threshold_of(thresh, at_or_above)
        answer = torch.zeros(4096, dtype=torch.int32, device=DEVICE)
        ask_exceeds[(1,)](
            torch.from_numpy(shared).to(DEVICE), torch.from_numpy(union).to(DEVICE), answer, threshold, 4096,
            enable_fp_fusion=False,
        )  # fmt: skip
        assert (answer.cpu().numpy() == expected).all()


@triton.jit  # type: ignore[untyped-decorator]
def ask_exceeds(shared: Any, union: Any, answer: Any, threshold: Any, SIZE: tl.constexpr) -> None:
    place = tl.arange(0, SIZE)
    above = exceeds(tl.load(shared + place), tl.load(union + place), threshold)
    tl.store(answer + place, above.to(tl.int32))


def test_exponential_and_logistic_are_accurate_for_large_arguments() -> None:
    t = torch.linspace(-87, 88, 4096, device=DEVICE)
    ends = torch.tensor([-1e30, -200, 200, 1e30, float("nan"), 0, -0.0, 88.7], device=DEVICE)
    t[: len(ends)] = ends
    power, probability = torch.zeros_like(t), torch.zeros_like(t)
    ask_exponential[(1,)](t, power, probability, 4096, enable_fp_fusion=False)
    exact = t.double().cpu()
    for got, expected in ((power, exact.exp()), (probability, torch.sigmoid(exact))):
        result = got.cpu().double()
        expected = expected.float().double()  # infinite where float32 is
        assert torch.equal(result.isnan(), exact.isnan())
        off = (result - expected).abs() / expected
        assert (result == expected)[:4].all()
        assert off[5:].max() < 6 * 2.0**-24


@triton.jit  # type: ignore[untyped-decorator]
def ask_exponential(t: Any, power: Any, probability: Any, SIZE: tl.constexpr) -> None:
    place = tl.arange(0, SIZE)
    tl.store(power + place, exponential(tl.load(t + place)))
    tl.store(probability + place, logistic(tl.load(t + place)))


@pytest.mark.parametrize("width", [7, 13, 100, 416])
def test_a_centre_just_below_a_border_stays_in_its_cell(width: int) -> None:
    # In float32 the product of x and W rounds up to the border, and the last cell would be the first of the next row.
    below = np.nextafter(np.array([1, 3 / width, 2 / width], dtype=np.float32), np.float32(0))
    columns = [int(np.float64(x) * width) for x in below]
    assert columns[0] == width - 1
    rows = torch.tensor([[float(x), 0.25, 0.1, 0.1, 0] for x in below], device=DEVICE)[None]
    inputs = random_inputs((1, 1, 2, width), 3, anchors=(1.0, 1.0))._replace(rows=rows)
    assert forward(inputs).predictor_of_truth.tolist() == [columns]


def test_the_first_of_equal_anchors_and_the_last_of_colliding_truths_win() -> None:
    rows = torch.tensor([[[0.1, 0.1, 0.5, 0.5, 0], [0.1, 0.1, 0.25, 0.5, 1], [0.12, 0.1, 0.5, 0.5, 1]]], device=DEVICE)
    inputs = random_inputs((1, 2, 2, 2), 3, anchors=(1.0, 0.5, 0.5, 1.0, 1.0, 0.5))._replace(rows=rows)
    assert forward(inputs).predictor_of_truth.tolist() == [[-1, 4, 0]]
    first = inputs._replace(settings=settings_of(DARKNET.replace(collision="first")))
    assert forward(first).predictor_of_truth.tolist() == [[0, 4, -1]]


def test_terminator_counts_and_capacity_end_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(triton_path.FORWARD, "CHUNK", 2)  # so that few truths are several chunks
    inputs = random_inputs((3, 2, 2, 2), 4, profile=DARKNET.replace(max_truths=3), anchors=(1.0, 2.0, 2.0, 1.0))
    rows = inputs.rows.clone()
    rows[0, 2, 0] = 0
    rows[1, 1, 0] = 0
    inputs = inputs._replace(rows=rows)
    lengths = [(2, 1, 3), (1, 1, 0)]
    for counts, expected in zip((None, torch.tensor([1, 5, 0], device=DEVICE)), lengths, strict=True):
        result = same_decisions(inputs._replace(counts=counts))
        for image, length in enumerate(expected):
            assert (result.predictor_of_truth[image, length:] == -1).all()
            assert length == 0 or result.predictor_of_truth[image, length - 1] >= 0  # the last one is paid
    profile = DARKNET.replace(max_truths=0, truth_end="none", collision="first")
    endless = same_decisions(inputs._replace(settings=settings_of(profile)))
    assert (endless.predictor_of_truth[:, 0] >= 0).all()


@pytest.mark.sweep  # several chunks are read above, of fewer slots
def test_a_long_list_is_read_to_its_end() -> None:
    # Far more truths than a chunk has, the last of which takes the predictor of all others.
    inputs = random_inputs((1, 1, 1, 1), 130, anchors=(1.0, 1.0), profile=DARKNET.replace(max_truths=0))
    assert same_decisions(inputs).predictor_of_truth[0].tolist() == [-1] * 129 + [0]


@pytest.mark.sample(every=2)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_rows_may_have_any_type_and_strides(dtype: torch.dtype) -> None:
    inputs = random_inputs((2, 2, 2, 2), anchors=(1.0, 2.0))
    kept = inputs.rows.to(dtype)
    plain = inputs._replace(rows=kept.float())
    expected = forward(plain)
    gradient = backward(plain, expected)
    wide = torch.full((5, 2, 8), float("nan"), dtype=dtype, device=DEVICE)
    wide[:, :, ::2] = torch.nn.functional.pad(kept, (0, 0, 0, 1)).permute(2, 0, 1)
    strided = wide[:, :, :6:2].permute(1, 2, 0)
    assert not strided.is_contiguous()
    for rows in (kept, strided):
        result = forward(inputs._replace(rows=rows))
        assert torch.equal(result.loss, expected.loss)
        assert torch.equal(result.predictor_of_truth, expected.predictor_of_truth)
        assert torch.equal(backward(inputs._replace(rows=rows), result), gradient)


def test_float64_rows_are_read_exactly() -> None:
    # The last number below a half: rounded to float32 it would be in the next cell.
    rows = torch.tensor([[[0.5 - 2.0**-54, 0.5, 0.3, 0.3, 0]]], dtype=torch.float64, device=DEVICE)
    inputs = random_inputs((1, 1, 2, 2), 1, anchors=(1.0, 1.0))._replace(rows=rows)
    assert forward(inputs).predictor_of_truth.tolist() == [[2]]


FAULTS = [
    (0, 1.0), (0, -0.1), (0, float("nan")), (0, float("inf")), (1, 1.0), (1, -1e9), (2, 0.0), (2, -0.5), (2, 1.5),
    (3, 0.0), (3, 1.5), (3, float("nan")), (3, -float("inf")),
    (4, -1.0), (4, 2.0), (4, 0.5), (4, 1e30), (4, float("nan")),
]  # fmt: skip


def test_a_bad_truth_writes_nothing_but_the_state_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first image is sound; each of the others is the second with another fault in its second truth.
    pair = random_inputs((2, 2, 2, 2), 2, anchors=(1.0, 1.0))
    expected = forward(pair._replace(counts=torch.tensor([2, 1], device=DEVICE)))
    image = torch.tensor([0] + [1] * len(FAULTS), device=DEVICE)
    gradient = backward(pair, expected)[image]
    rows = pair.rows[image]
    for fault, (column, value) in enumerate(FAULTS, start=1):
        rows[fault, 1, column] = value
    inputs = pair._replace(predictions=pair.predictions[image], rows=rows)
    memory = GuardedMemory(monkeypatch)
    result = forward(inputs)
    grad = backward(inputs, result)
    assert memory.untouched()
    assert result.loss.isnan()
    assert result.terms.isfinite().all()
    assert torch.equal(result.predictor_of_truth, expected.predictor_of_truth[image])
    assert torch.equal(result.kept[0], expected.kept[0][image])
    assert torch.equal(result.state[0], expected.state[0])
    assert torch.equal(result.state[1:] & 6, expected.state[image[1:]] & 6)
    assert (result.state[1:] >= ops.BAD).all()
    assert torch.equal(grad[0], gradient[0])
    assert grad[1:, 4].isnan().all()
    others = [0, 1, 2, 3, 5, 6]
    assert torch.equal(grad[1:, others], gradient[1:, others])


def test_a_bad_row_that_is_not_read_is_ignored() -> None:
    inputs = random_inputs((1, 4, 2, 3), 4)
    rows = inputs.rows.clone()
    rows[0, 2, 0] = 0
    rows[0, 3] = float("nan")
    assert forward(inputs._replace(rows=rows)).loss.isfinite()
    counts = torch.tensor([3], device=DEVICE)
    rows[0, 2] = rows[0, 1]
    assert forward(inputs._replace(rows=rows, counts=counts)).loss.isfinite()


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda t: t,
    "channels-last": lambda t: t.to(memory_format=torch.channels_last),
    "turned": lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "every-second": lambda t: torch.stack([t, t], dim=4).flatten(3)[..., ::2],
    "expanded": lambda t: t[:1].expand(t.shape),
}


def tiles(profile: Profile) -> ForwardInputs:
    """One element more than a tile has, in each direction."""
    return random_inputs((2, 35, 5, 27), 2, profile=profile, anchors=(1.0, 2.0))


@cache
def contiguous_answer(profile: Profile, *, expanded: bool = False) -> tuple[Any, ...]:
    """What the kernels return and write for `tiles` in the ordinary layout; of one image twice where `expanded`."""
    inputs = tiles(profile)
    predictions = LAYOUTS["expanded"](inputs.predictions) if expanded else inputs.predictions
    inputs = inputs._replace(predictions=predictions.contiguous())
    result = forward(inputs)
    return *result.flat(), backward(inputs, result)


@pytest.mark.parametrize(
    ("layout", "profile"),
    [*((layout, DARKNET) for layout in LAYOUTS), ("contiguous", EVERY)],
    ids=[*LAYOUTS, "every-predictor"],
)
def test_every_element_is_written_and_nothing_else(
    layout: str, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tiles(profile)
    inputs = inputs._replace(predictions=LAYOUTS[layout](inputs.predictions))
    kept = [value.clone() for value in (inputs.predictions, inputs.rows)]
    expected = contiguous_answer(profile, expanded=layout == "expanded")
    memory = GuardedMemory(monkeypatch)
    result = forward(inputs)
    gradient = backward(inputs, result)
    monkeypatch.undo()
    assert memory.untouched()
    assert gradient.stride() == torch.empty_like(inputs.predictions).stride()
    for got, wanted in zip((*result.flat(), gradient), expected, strict=True):
        assert torch.equal(got, wanted)  # and so holds no NaN
    assert torch.equal(inputs.predictions, kept[0])
    assert torch.equal(inputs.rows, kept[1])


@pytest.mark.skipif(not INTERPRETED, reason="only the interpreter can be watched while it writes")
@pytest.mark.parametrize("profile", [DARKNET, EVERY], ids=["darknet", "every-predictor"])
def test_no_element_is_written_twice(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    # Programs run in any order, at the same time: the last of two would not be the same each time.
    from triton.runtime.interpreter import InterpreterBuilder

    store, written = InterpreterBuilder.create_masked_store, []

    def watched(self: Any, places: Any, value: Any, mask: Any, policy: Any) -> Any:
        written.append(np.broadcast_to(places.data, mask.data.shape)[mask.data])
        return store(self, places, value, mask, policy)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", watched)
    inputs = random_inputs((2, 35, 3, 23), 4, profile=profile, anchors=(1.0, 2.0))
    result = forward(inputs)
    gradient = backward(inputs, result)
    addresses = np.concatenate(written)
    assert len(np.unique(addresses)) == len(addresses)
    for answer in (*result.flat(), gradient):
        own = answer.data_ptr() + answer.element_size() * np.arange(answer.numel(), dtype=np.uint64)
        assert np.isin(own, addresses).all()


def test_results_repeat_bit_for_bit() -> None:
    inputs = random_inputs((2, 5, 6, 11), 4, anchors=(1.0, 2.0))
    answers = [(*result.flat(), backward(inputs, result)) for result in (forward(inputs), forward(inputs))]
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_upstream_is_multiplied_before_the_gradient_is_rounded() -> None:
    inputs = random_inputs((1, 2, 2, 2), 2, profile=EVERY)
    result = forward(inputs)
    gradient = backward(inputs, result)
    assert torch.equal(backward(inputs, result, 2.0**-20), gradient * 2.0**-20)
    half = inputs._replace(predictions=inputs.predictions.half())
    exact = inputs._replace(predictions=half.predictions.float())
    expected = backward(exact, result, 3.0).half()
    assert torch.equal(backward(half, result, 3.0), expected)
    assert not torch.equal(backward(half, result) * 3, expected)


@pytest.fixture
def _rounding_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter round to bfloat16 as a GPU does: of itself it cuts the digits off."""
    if INTERPRETED:
        from triton.runtime import interpreter

        convert = interpreter._convert_float

        def rounded(values: Any, source: Any, target: Any, mode: Any) -> Any:
            if (source, target) != (tl.float32, tl.bfloat16):
                return convert(values, source, target, mode)
            whole = torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16)
            return whole.view(torch.int16).numpy().view(np.uint16).reshape(values.shape)

        monkeypatch.setattr(interpreter, "_convert_float", rounded)


@pytest.mark.usefixtures("_rounding_to_nearest")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_gradient_is_that_of_float32_rounded_once(dtype: torch.dtype) -> None:
    inputs = random_inputs((2, 4, 2, 3), profile=EVERY, anchors=(1.0, 2.0))
    half = inputs._replace(predictions=inputs.predictions.to(dtype))
    exact = inputs._replace(predictions=half.predictions.float())
    result, expected = forward(half), forward(exact)
    assert result.loss.dtype == torch.float32
    for got, wanted in zip(result.flat(), expected.flat(), strict=True):
        assert torch.equal(got, wanted)
    gradient = backward(half, result)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, backward(exact, expected).to(dtype))


@pytest.mark.parametrize("axis", range(4))
def test_an_element_beyond_two_billion_is_addressed(axis: int) -> None:
    inputs = random_inputs((3, 1, 3, 3), 2, anchors=(1.0, 1.0))
    strides = [54, 9, 3, 1]
    strides[axis] = 2**30 + 64
    reach = 1 + sum(stride * (size - 1) for stride, size in zip(strides, inputs.predictions.shape, strict=True))
    if axis == 1:
        strides[axis], reach = 2**29, 5 * 2**29 + 256
    assert reach > 2**31
    memory = torch.empty(reach, dtype=torch.float16, device=DEVICE)  # of which hardly a page is touched
    predictions = memory.as_strided(inputs.predictions.shape, strides).copy_(inputs.predictions)
    near = inputs._replace(predictions=predictions.clone(memory_format=torch.contiguous_format))
    inputs = inputs._replace(predictions=predictions)
    result, expected = forward(inputs), forward(near)
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(backward(inputs, result).contiguous(), backward(near, expected))


@pytest.mark.sample(every=2)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_prior_ends_at_its_limit_for_every_form_of_t(dtype: torch.dtype) -> None:
    inputs = random_inputs((1, 2, 2, 2), 2, anchors=(1.0, 2.0))
    for seen, pays in ((0, True), (12799, True), (12800, False), (2**40, False)):
        number = forward(inputs._replace(seen=seen))
        assert (number.terms[1] > 0) == pays
        assert ((number.state & ops.PRIOR) > 0).any() == pays
        places = [DEVICE, "cpu"] if seen < 2**31 or dtype == torch.int64 else []
        for place in places:
            tensor = torch.tensor(seen, dtype=dtype, device=place)
            result = forward(inputs._replace(images_seen=tensor, seen=0 if pays else 10**6))
            assert all(torch.equal(one, other) for one, other in zip(result.flat(), number.flat(), strict=True))


def test_float64_and_tensors_on_other_devices_are_refused() -> None:
    inputs = random_inputs()
    with pytest.raises(TypeError, match=r"torch\.float64; the triton path takes float32, .* to the analytic path"):
        forward(inputs._replace(predictions=inputs.predictions.double()))
    with pytest.raises(ValueError, match="truths are on meta, expected"):
        forward(inputs._replace(rows=inputs.rows.to("meta")))
    with pytest.raises(ValueError, match="counts are on meta, expected"):
        forward(inputs._replace(counts=torch.zeros(2, dtype=torch.int64, device="meta")))


def arguments(inputs: ForwardInputs) -> tuple[Any, ...]:
    return (*inputs[:5], list(inputs.anchors), list(inputs.settings), False)


def test_the_operators_pass_opcheck() -> None:
    inputs = random_inputs((1, 2, 2, 1), 1, anchors=(1.0, 1.0))
    predictions = inputs.predictions.to(memory_format=torch.channels_last).requires_grad_()
    counts, seen = torch.tensor([1], device=DEVICE), torch.tensor(3, device=DEVICE)
    full = inputs._replace(predictions=predictions, counts=counts, images_seen=seen)
    torch.library.opcheck(torch.ops.regionloss.triton.default, arguments(full))
    result = forward(inputs)
    torch.library.opcheck(
        torch.ops.regionloss.triton_backward.default,
        (torch.ones((), device=DEVICE), inputs.predictions, inputs.rows, *result[2:], *arguments(inputs)[5:7]),
    )


def test_nothing_waits_for_the_device() -> None:
    # To ask a fake tensor for a number, or how many there are of something, raises.
    inputs = random_inputs()
    with FakeTensorMode() as mode:
        fake = map_tensors(inputs, mode.from_tensor)
        predictions = fake.predictions.requires_grad_()
        seen = mode.from_tensor(torch.tensor(0, device=DEVICE))
        fake = fake._replace(images_seen=seen)
        loss, *_, predictor_of_truth, overlap = torch.ops.regionloss.triton(
            *arguments(fake._replace(predictions=predictions))
        )
        (gradient,) = torch.autograd.grad(loss, predictions)
    assert (gradient.shape, gradient.stride()) == (inputs.predictions.shape, inputs.predictions.stride())
    assert (predictor_of_truth.dtype, overlap.dtype) == (torch.int32, torch.float32)
