from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch._subclasses import FakeTensorMode

from regionloss.torch import analytic, triton_path
from regionloss.torch.settings import settings_of
from regionloss.torch.triton_device import exceeds, exponential, logistic
from regionloss_spec import Profile
from unit.on_triton import (
    DARKNET,
    DEVICE,
    INTERPRETED,
    Given,
    Guarded,
    backward,
    batch_of,
    carried,
    conforms,
    forward,
    given,
    same_decisions,
)

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

EVERY = DARKNET.replace(no_object_applies="every-predictor", prior_applies="every-predictor", thresh=0.3)


@pytest.mark.parametrize(
    ("shape", "slots", "anchors"),
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
    shape: tuple[int, int, int, int], slots: int, anchors: tuple[float, ...]
) -> None:
    profile = DARKNET.replace(max_truths=0, thresh=0.4)
    asked = given(shape, slots, profile=profile, anchors=anchors)
    found = same_decisions(asked)
    assert found.loss.shape == ()
    assert backward(asked, found).shape == asked.predictions.shape
    conforms(batch_of(asked), profile)


def test_the_largest_of_many_classes_may_be_read_last() -> None:
    asked = given((1, 300, 2, 3), 3, anchors=(1.0, 2.0))
    asked.predictions[:, -1] = 9.0
    conforms(batch_of(asked), DARKNET)


def test_the_squared_error_of_classes_is_summed_over_all_turns() -> None:
    profile = DARKNET.replace(class_term="squared-error")
    conforms(batch_of(given((1, 300, 2, 3), 3, profile=profile, anchors=(1.0, 2.0))), profile)


def test_a_place_that_float32_cannot_tell_is_read_as_it_is() -> None:
    columns = 2048  # in float32 a place is off by up to 2048 * 2^-25 cells
    row = torch.tensor([[[(1500 + 1 / 3) / columns, 0.5, 1 / columns, 0.5, 1.0]]], dtype=torch.float64, device=DEVICE)
    asked = given((1, 2, 1, columns), 1, anchors=(1.0, 1.0))._replace(rows=row)
    asked.predictions[:, :2] = 0  # σ is 1/2, and so is the slope with respect to it 1/4
    slope = backward(asked, forward(asked))[0, :2, 0, 1500].tolist()
    small = 2 - 0.5 / columns
    assert slope == pytest.approx([small * (1 / 2 - 1 / 3) / 4, 0], rel=1e-6)


def test_a_tie_with_the_threshold_is_decided_as_by_a_division() -> None:
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


def test_exponential_and_logistic_keep_their_digits_far_out() -> None:
    t = torch.linspace(-87, 88, 4096, device=DEVICE)
    ends = torch.tensor([-1e30, -200, 200, 1e30, float("nan"), 0, -0.0, 88.7], device=DEVICE)
    t[: len(ends)] = ends
    power, probability = torch.zeros_like(t), torch.zeros_like(t)
    ask_exponential[(1,)](t, power, probability, 4096, enable_fp_fusion=False)
    exact = t.double().cpu()
    for got, expected in ((power, exact.exp()), (probability, torch.sigmoid(exact))):
        found = got.cpu().double()
        expected = expected.float().double()  # infinite where float32 is
        assert torch.equal(found.isnan(), exact.isnan())
        off = (found - expected).abs() / expected
        assert (found == expected)[:4].all()
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
    asked = given((1, 1, 2, width), 3, anchors=(1.0, 1.0))._replace(rows=rows)
    assert forward(asked).owner.tolist() == [columns]


def test_the_first_of_equal_anchors_and_the_last_of_rivals_answer() -> None:
    rows = torch.tensor([[[0.1, 0.1, 0.5, 0.5, 0], [0.1, 0.1, 0.25, 0.5, 1], [0.12, 0.1, 0.5, 0.5, 1]]], device=DEVICE)
    asked = given((1, 2, 2, 2), 3, anchors=(1.0, 0.5, 0.5, 1.0, 1.0, 0.5))._replace(rows=rows)
    assert forward(asked).owner.tolist() == [[-1, 4, 0]]
    first = asked._replace(settings=settings_of(DARKNET.replace(collision="first")))
    assert forward(first).owner.tolist() == [[0, 4, -1]]


def test_terminator_counts_and_capacity_end_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(triton_path.FORWARD, "CHUNK", 2)  # so that few truths are several chunks
    asked = given((3, 2, 2, 2), 6, profile=DARKNET.replace(max_truths=5))
    rows = asked.rows.clone()
    rows[0, 4, 0] = 0
    rows[1, 1, 0] = 0
    asked = asked._replace(rows=rows)
    lengths = [(4, 1, 5), (3, 1, 0)]
    for counts, expected in zip((None, torch.tensor([3, 7, 0], device=DEVICE)), lengths, strict=True):
        found = same_decisions(asked._replace(counts=counts))
        for image, length in enumerate(expected):
            assert (found.owner[image, length:] == -1).all()
            assert length == 0 or found.owner[image, length - 1] >= 0  # the last one is paid
    profile = DARKNET.replace(max_truths=0, truth_end="none", collision="first")
    endless = same_decisions(asked._replace(settings=settings_of(profile)))
    assert (endless.owner[:, 0] >= 0).all()


@pytest.mark.sweep  # several chunks are read above, of fewer slots
def test_a_long_list_is_read_to_its_end() -> None:
    # Far more slots than a chunk has, the last of which takes the predictor of all others.
    asked = given((1, 1, 1, 1), 130, anchors=(1.0, 1.0), profile=DARKNET.replace(max_truths=0))
    assert same_decisions(asked).owner[0].tolist() == [-1] * 129 + [0]


@pytest.mark.sample(every=2)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_rows_may_have_any_type_and_strides(dtype: torch.dtype) -> None:
    asked = given()
    kept = asked.rows.to(dtype)
    plain = asked._replace(rows=kept.float())
    expected = forward(plain)
    slope = backward(plain, expected)
    wide = torch.full((5, 2, 8), float("nan"), dtype=dtype, device=DEVICE)
    wide[:, :, ::2] = torch.nn.functional.pad(kept, (0, 0, 0, 1)).permute(2, 0, 1)
    strided = wide[:, :, :6:2].permute(1, 2, 0)
    assert not strided.is_contiguous()
    for rows in (kept, strided):
        found = forward(asked._replace(rows=rows))
        assert torch.equal(found.loss, expected.loss)
        assert torch.equal(found.owner, expected.owner)
        assert torch.equal(backward(asked._replace(rows=rows), found), slope)


def test_float64_rows_are_read_exactly() -> None:
    # The last number below a half: rounded to float32 it would be in the next cell.
    rows = torch.tensor([[[0.5 - 2.0**-54, 0.5, 0.3, 0.3, 0]]], dtype=torch.float64, device=DEVICE)
    asked = given((1, 1, 2, 2), 1, anchors=(1.0, 1.0))._replace(rows=rows)
    assert forward(asked).owner.tolist() == [[2]]


FAULTS = [
    (0, 1.0), (0, -0.1), (0, float("nan")), (0, float("inf")), (1, 1.0), (1, -1e9), (2, 0.0), (2, -0.5), (2, 1.5),
    (3, 0.0), (3, 1.5), (3, float("nan")), (3, -float("inf")),
    (4, -1.0), (4, 2.0), (4, 0.5), (4, 1e30), (4, float("nan")),
]  # fmt: skip


def test_a_bad_truth_touches_nothing_but_makes_its_image_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first image is sound, each of the others has a fault in its second truth.
    asked = given((1 + len(FAULTS), 2, 2, 2), 2, anchors=(1.0, 1.0))
    rows = asked.rows.clone()
    for image, (column, value) in enumerate(FAULTS, start=1):
        rows[image, 1, column] = value
    one = torch.ones(1 + len(FAULTS), dtype=torch.int64, device=DEVICE)
    one[0] = 2
    expected = forward(asked._replace(counts=one))
    gradient = backward(asked, expected)
    memory = Guarded(monkeypatch)
    asked = asked._replace(rows=rows)
    found = forward(asked)
    slope = backward(asked, found)
    assert memory.untouched()
    assert found.loss.isnan()
    assert found.terms.isfinite().all()
    assert torch.equal(found.owner, expected.owner)
    assert torch.equal(found.kept[0], expected.kept[0])
    assert torch.equal(found.state[0], expected.state[0])
    assert torch.equal(found.state[1:] & 6, expected.state[1:] & 6)
    assert (found.state[1:] >= analytic.BAD).all()
    assert torch.equal(slope[0], gradient[0])
    assert slope[1:, 4].isnan().all()
    others = [0, 1, 2, 3, 5, 6]
    assert torch.equal(slope[1:, others], gradient[1:, others])


def test_a_bad_row_that_is_not_read_is_no_fault() -> None:
    asked = given((1, 4, 2, 3), 4)
    rows = asked.rows.clone()
    rows[0, 2, 0] = 0
    rows[0, 3] = float("nan")
    assert forward(asked._replace(rows=rows)).loss.isfinite()
    counts = torch.tensor([3], device=DEVICE)
    rows[0, 2] = rows[0, 1]
    assert forward(asked._replace(rows=rows, counts=counts)).loss.isfinite()


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda t: t,
    "channels-last": lambda t: t.to(memory_format=torch.channels_last),
    "turned": lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "every-second": lambda t: torch.stack([t, t], dim=4).flatten(3)[..., ::2],
    "expanded": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize(
    ("layout", "profile"),
    [*((layout, DARKNET) for layout in LAYOUTS), ("contiguous", EVERY)],
    ids=[*LAYOUTS, "every-predictor"],
)
def test_every_element_is_written_and_nothing_beside(
    layout: str, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = given((2, 35, 5, 27), 2, profile=profile, anchors=(1.0, 2.0))  # one more than a tile, in each direction
    asked = asked._replace(predictions=LAYOUTS[layout](asked.predictions))
    kept = [value.clone() for value in (asked.predictions, asked.rows)]
    plain = asked._replace(predictions=asked.predictions.contiguous())
    expected = forward(plain)
    slope = backward(plain, expected)
    memory = Guarded(monkeypatch)
    found = forward(asked)
    gradient = backward(asked, found)
    monkeypatch.undo()
    assert memory.untouched()
    assert gradient.stride() == torch.empty_like(asked.predictions).stride()
    for got, wanted in zip((*found.flat(), gradient), (*expected.flat(), slope), strict=True):
        assert torch.equal(got, wanted)  # and so holds no NaN
    assert torch.equal(asked.predictions, kept[0])
    assert torch.equal(asked.rows, kept[1])


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
    asked = given((2, 35, 3, 23), 4, profile=profile, anchors=(1.0, 2.0))
    found = forward(asked)
    gradient = backward(asked, found)
    addresses = np.concatenate(written)
    assert len(np.unique(addresses)) == len(addresses)
    for answer in (*found.flat(), gradient):
        own = answer.data_ptr() + answer.element_size() * np.arange(answer.numel(), dtype=np.uint64)
        assert np.isin(own, addresses).all()


def test_answers_repeat_bit_for_bit() -> None:
    asked = given((2, 5, 6, 11), 4)
    answers = [(*found.flat(), backward(asked, found)) for found in (forward(asked), forward(asked))]
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_upstream_is_multiplied_before_the_gradient_is_rounded() -> None:
    asked = given((1, 2, 2, 2), 2, profile=EVERY)
    found = forward(asked)
    slope = backward(asked, found)
    assert torch.equal(backward(asked, found, 2.0**-20), slope * 2.0**-20)
    half = asked._replace(predictions=asked.predictions.half())
    exact = asked._replace(predictions=half.predictions.float())
    expected = backward(exact, found, 3.0).half()
    assert torch.equal(backward(half, found, 3.0), expected)
    assert not torch.equal(backward(half, found) * 3, expected)


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
    asked = given(profile=EVERY)
    half = asked._replace(predictions=asked.predictions.to(dtype))
    exact = asked._replace(predictions=half.predictions.float())
    found, expected = forward(half), forward(exact)
    assert found.loss.dtype == torch.float32
    for got, wanted in zip(found.flat(), expected.flat(), strict=True):
        assert torch.equal(got, wanted)
    gradient = backward(half, found)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, backward(exact, expected).to(dtype))


@pytest.mark.parametrize("axis", range(4))
def test_a_number_two_billion_numbers_away_is_found(axis: int) -> None:
    asked = given((3, 1, 3, 3), 2, anchors=(1.0, 1.0))
    strides = [54, 9, 3, 1]
    strides[axis] = 2**30 + 64
    reach = 1 + sum(stride * (size - 1) for stride, size in zip(strides, asked.predictions.shape, strict=True))
    if axis == 1:
        strides[axis], reach = 2**29, 5 * 2**29 + 256
    assert reach > 2**31
    memory = torch.empty(reach, dtype=torch.float16, device=DEVICE)  # of which hardly a page is touched
    predictions = memory.as_strided(asked.predictions.shape, strides).copy_(asked.predictions)
    near = asked._replace(predictions=predictions.clone(memory_format=torch.contiguous_format))
    asked = asked._replace(predictions=predictions)
    found, expected = forward(asked), forward(near)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(backward(asked, found).contiguous(), backward(near, expected))


@pytest.mark.sample(every=2)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_prior_is_on_up_to_the_limit_wherever_t_comes_from(dtype: torch.dtype) -> None:
    asked = given((1, 2, 2, 2), 2)
    for seen, pays in ((0, True), (12799, True), (12800, False), (2**40, False)):
        number = forward(asked._replace(seen=seen))
        assert (number.terms[1] > 0) == pays
        assert ((number.state & analytic.PRIOR) > 0).any() == pays
        places = [DEVICE, "cpu"] if seen < 2**31 or dtype == torch.int64 else []
        for place in places:
            tensor = torch.tensor(seen, dtype=dtype, device=place)
            found = forward(asked._replace(images_seen=tensor, seen=0 if pays else 10**6))
            assert all(torch.equal(one, other) for one, other in zip(found.flat(), number.flat(), strict=True))


def test_float64_and_tensors_on_other_devices_are_refused() -> None:
    asked = given()
    with pytest.raises(TypeError, match=r"torch\.float64; the triton path takes float32, .* to the analytic path"):
        forward(asked._replace(predictions=asked.predictions.double()))
    with pytest.raises(ValueError, match="truths are on meta, expected"):
        forward(asked._replace(rows=asked.rows.to("meta")))
    with pytest.raises(ValueError, match="counts are on meta, expected"):
        forward(asked._replace(counts=torch.zeros(2, dtype=torch.int64, device="meta")))


def arguments(asked: Given) -> tuple[Any, ...]:
    return (*asked[:5], list(asked.anchors), list(asked.settings), False)


def test_the_operators_keep_what_they_promise_to_pytorch() -> None:
    asked = given((1, 2, 2, 1), 1, anchors=(1.0, 1.0))
    predictions = asked.predictions.to(memory_format=torch.channels_last).requires_grad_()
    counts, seen = torch.tensor([1], device=DEVICE), torch.tensor(3, device=DEVICE)
    full = asked._replace(predictions=predictions, counts=counts, images_seen=seen)
    torch.library.opcheck(torch.ops.regionloss.triton.default, arguments(full))
    found = forward(asked)
    torch.library.opcheck(
        torch.ops.regionloss.triton_backward.default,
        (torch.ones((), device=DEVICE), asked.predictions, asked.rows, *found[2:], *arguments(asked)[5:7]),
    )


def test_nothing_waits_for_the_device() -> None:
    # To ask a fake tensor for a number, or how many there are of something, raises.
    asked = given()
    with FakeTensorMode() as mode:
        fake = carried(asked, mode.from_tensor)
        predictions = fake.predictions.requires_grad_()
        seen = mode.from_tensor(torch.tensor(0, device=DEVICE))
        fake = fake._replace(images_seen=seen)
        loss, *_, owner, overlap = torch.ops.regionloss.triton(*arguments(fake._replace(predictions=predictions)))
        (gradient,) = torch.autograd.grad(loss, predictions)
    assert (gradient.shape, gradient.stride()) == (asked.predictions.shape, asked.predictions.stride())
    assert (owner.dtype, overlap.dtype) == (torch.int32, torch.float32)
