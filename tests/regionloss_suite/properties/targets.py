"""What is held constant when the loss is differentiated (spec chapters 8 and 10)."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec import Profile
from regionloss_spec.clause import BLOCKS
from regionloss_suite.judging.exchange import quantised
from regionloss_suite.properties.geometry import by_predictor, with_predictions
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import both


def _linear_sizes(profile: Profile) -> bool:
    """Whether the size residual is linear in the output, and no output chooses the anchor."""
    return profile.size_space == "log" and profile.anchor_choice.startswith("anchor")


@pins("object.target-constant", "constant.max-iou", "constant.assignment", "class.ignored-by-objectness",
      needs=("gradient",), when=lambda profile: profile.object_target_gradient == "constant")  # fmt: skip
def the_target_of_objectness_is_constant(harness: PropertyHarness, data: st.DataObject) -> None:
    """The objectness does not affect the box gradients: nothing flows through the IoU."""
    batch = harness.draw(data, boxless=False)
    assume(any(len(rows) for rows in batch.truths))
    t = by_predictor(batch)
    t[:, :, 4] = data.draw(st.sampled_from((-6.0, -1.0, 0.0, 1.0, 6.0)))
    where = np.zeros((1, 1, t.shape[2], 1, 1), dtype=bool)
    where[:, :, :4] = True
    harness.agree(harness.ask(batch), harness.ask(with_predictions(batch, t)), where=where)


@pins("constant.weight", "coord.size-gradient", "coord.size-target", "object.target-constant", "constant.assignment",
      needs=("gradient",), when=lambda p: _linear_sizes(p) and p.object_target_gradient == "constant")  # fmt: skip
def the_gradient_of_a_size_is_linear_in_its_output(harness: PropertyHarness, data: st.DataObject) -> None:
    """Three equal steps: neither a weight, a target nor an indicator changes with the predicted size."""
    batch = harness.draw(data, boxless=False)
    t = by_predictor(batch)
    t[:, :, 2:4] = np.clip(np.round(4 * t[:, :, 2:4]) / 4, -4, 4)  # so that the steps are exact in every format
    channel, step = data.draw(st.sampled_from((2, 3))), data.draw(st.sampled_from((0.25, 0.5)))
    response = []
    for k in range(3):
        moved = t.copy()
        moved[:, :, channel] += k * step
        response.append(harness.ask(with_predictions(batch, moved)))
    one, two, three = response
    assume(not any({"cell border", "anchor"} & set(each.edges) for each in response))
    here = np.zeros(t.shape, dtype=bool)
    here[:, :, channel] = True
    bound = one.gradient_bound + 2 * two.gradient_bound + three.gradient_bound
    bound += harness.rounding(one.gradient, 2 * two.gradient, three.gradient)
    three.hold("gradient", three.gradient, 2 * two.gradient - one.gradient, bound, here)


@pins("scale.potential", needs=("potential",))
def the_loss_moves_with_each_block_of_outputs_as_its_terms_do(harness: PropertyHarness, data: st.DataObject) -> None:
    """One block of one predictor changes: the difference of two losses is that of the block's terms.

    So a loss that returns only one number is judged term by term; the name of the deviation contains the block.
    """
    batch = harness.draw(data, images=(1, 1))
    t = by_predictor(batch)
    _, anchors, channels, height, width = t.shape
    k, j, i = (data.draw(st.integers(0, size - 1)) for size in (anchors, height, width))
    block = data.draw(st.sampled_from(BLOCKS))
    part = {"xy": slice(0, 2), "wh": slice(2, 4), "o": slice(4, 5), "c": slice(5, channels)}[block]
    t[0, k, part, j, i] += quantised(data.draw(st.sampled_from((0.5, -1.0, 2.0))), harness.dtype)
    one, other = harness.ask(batch), harness.ask(with_predictions(batch, quantised(t, harness.dtype)))
    assume(not one.edges and not other.edges)
    if "potential" in (numbers := both(one, other)):
        first, second, bound = numbers["potential"]
        wanted = other.result.potential - one.result.potential
        other.hold_number(f"change of the potential with {block}", second - first, wanted, bound)
