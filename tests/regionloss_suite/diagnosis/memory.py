"""A loss that remembers: until that is mended, no answer says what it computes (`numerics.repeatability`)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss_adapters.wrap.loss_call import MutatedInputError
from regionloss_spec import Batch
from regionloss_spec.clause import View
from regionloss_suite.judging.differences import MeasuredDifference
from regionloss_suite.judging.exchange import Exchange, drawn_case, put
from regionloss_suite.judging.judge import Judge, Observation
from regionloss_suite.judging.verdict import Verdict
from regionloss_suite.oracle.comparison import Difference
from regionloss_suite.oracle.strategies import raw_of

_CLAUSE = "numerics.repeatability"
#: How many departing cases are put once more.
_AGAIN = 8
#: How many pairs of batches of new shapes are put.
_ROUNDS = 4


def writes_to_inputs(departing: list[Observation]) -> MeasuredDifference | None:
    """A departing case whose arrays the loss changed; `None` if it leaves them as they are."""
    changed = next((one for one in departing if isinstance(one.exchange.error, MutatedInputError)), None)
    if changed is None:
        return None
    return _difference("what it writes to its inputs", str(changed.exchange.error), changed, departing)


def another_answer(judge: Judge, departing: list[Observation]) -> MeasuredDifference | None:
    """A departing case that has another answer when it is put again; `None` if all asked again have the same one.

    The smallest are put again, in the opposite order, so that another batch lies between.
    """
    answered = [one for one in departing if one.exchange.outcome == "answered" and judge.puts(one.case)]
    if not answered:
        return None
    some = sorted(answered, key=lambda one: np.size(one.case.batch.predictions))[:_AGAIN]
    for observation in reversed(some):
        evidence = _apart(observation.exchange, judge.ask_again(observation.exchange))
        if evidence:
            return _difference("another answer to the same question", evidence, observation, departing)
    inside = next((one for one in some if one.case.expected.error is None), None)
    evidence = "" if inside is None else _kept_by_shape(judge, inside)
    if inside is not None and evidence:
        return _difference("what it keeps of an earlier batch of the same shape", evidence, inside, departing)
    return None


def _difference(
    words: str, evidence: str, observation: Observation, departing: list[Observation]
) -> MeasuredDifference:
    cases = len({one.case.id for one in departing})
    first = Difference(
        case=observation.case.id, dtype=observation.exchange.dtype, quantity="error",
        got=evidence, expected="the same answer to the same question, whose arrays stay as they are",
    )  # fmt: skip
    return MeasuredDifference(
        choice=words, measured=None, expected=None, clause=_CLAUSE,
        evidence=evidence, changes=cases, departing=cases, case=observation.case.id, first=first,
    )  # fmt: skip


def _kept_by_shape(judge: Judge, observation: Observation) -> str:
    """Whether of two batches of a shape that is new the first is answered rightly and the second is not, each time.

    What the loss keeps may go by the shape alone, or by the number of cells.
    """
    for turned in (False, True):
        if all(_first_of_its_shape(judge, observation, places, turned) for places in range(_ROUNDS)):
            grids = "grids of as many cells" if turned else "batches of the same shape"
            return (
                f"of two new {grids} the first is answered rightly and the second is not, {_ROUNDS} times of {_ROUNDS}"
            )
    return ""


def _first_of_its_shape(judge: Judge, observation: Observation, number: int, turned: bool) -> bool:
    """Whether of two new batches the first one asked is right, and the other one is not."""
    height, width = (4 + 2 * number, 11 + number) if turned else (3 + 2 * number, 7 + number)
    for grid, second in (((height, width), False), ((width, height) if turned else (height, width), True)):
        batch = _drawn(grid, number, observation.case.batch, second=second)
        case = drawn_case("memory", "A question of a new shape.", batch, observation.case.profile)
        question = dataclasses.replace(observation.exchange.question, batch=batch)
        exchange = put(judge.adapter, question, case=case, description=judge.description)
        if exchange.comparison is None:
            return False
        if (exchange.comparison.difference(View("everything")) is not None) is not second:
            return False
    return True


def _drawn(grid: tuple[int, int], number: int, like: Batch, *, second: bool) -> Batch:
    """A batch whose numbers of images, anchors, cells and truths no golden case has, with boxes on its truths.

    The second one has other predictions, anchors, sizes and classes, and truths at the same places.
    """
    images, anchors, rows = 5 + number, 6 + number, 13 + number
    random = np.random.default_rng(number)
    places = random.integers(4, 28, size=(images, rows, 2)) / 32
    sizes = random.integers(2, 16, size=(images, rows, 2)) / 32
    classes = random.integers(like.classes, size=(images, rows, 1))
    shapes = random.integers(16, 128, size=(anchors, 2)) / 32
    if second:
        random = np.random.default_rng(1000 + number)
        sizes, classes, shapes = sizes + 1 / 32, (classes + 1) % like.classes, shapes * 1.125
    truths = np.concatenate([places, sizes, classes], axis=2)
    t = random.normal(size=(images, anchors, 5 + like.classes, *grid))
    for image, row in np.ndindex(images, rows):
        anchor = int(random.integers(anchors))
        i, j = int(truths[image, row, 0] * grid[1]), int(truths[image, row, 1] * grid[0])
        t[image, anchor, :4, j, i] = raw_of(truths[image, row], j, i, shapes[anchor], *grid)
    predictions = np.round(t.reshape(images, -1, *grid) * 64) / 64
    return Batch(predictions, tuple(truths), shapes, like.classes, images_seen=10**9, tree=like.tree)


def _apart(before: Exchange, again: Exchange) -> str:
    """How two answers to the same question differ, beyond another order of sums; empty if they do not."""
    if again.returned is None or before.returned is None:
        return f"an answer, and then {again.message or again.outcome}"
    for name in ("gradient", "potential"):
        one, other = getattr(before.returned, name), getattr(again.returned, name)
        if one is None or other is None or np.shape(one) != np.shape(other):
            continue
        noise = 1e-6 * float(np.abs(one).max(initial=0.0, where=np.isfinite(one)))
        if not np.allclose(one, other, rtol=1e-5, atol=noise, equal_nan=True):
            where = np.unravel_index(np.argmax(np.abs(np.subtract(one, other))), np.shape(one))
            pair = np.asarray(one)[where], np.asarray(other)[where]
            return f"{name} {pair[0]:.9g}, and then {pair[1]:.9g} for the same question"
    return ""


def hidden_behind(verdicts: list[Verdict], difference: MeasuredDifference) -> list[Verdict]:
    """The verdicts with everything that departs hidden behind the clause of repeatability."""
    settled = []
    for verdict in verdicts:
        if verdict.clause == _CLAUSE:
            verdict = dataclasses.replace(
                verdict, verdict="deviating", first=difference.first, reason="", looks_like=difference.words
            )
        elif verdict.verdict == "deviating":
            verdict = dataclasses.replace(
                verdict, verdict="hidden", follows=_CLAUSE, reason=f"cannot be told behind {_CLAUSE}"
            )
        settled.append(verdict)
    return settled
