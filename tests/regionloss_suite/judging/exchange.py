"""One question to an adapter, and its outcome.

Golden cases, properties, the differential search and the measuring questions all use `put`, so a refusal, a crash or a
broken contract of an adapter means the same everywhere.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from regionloss import DomainError, Result
from regionloss_adapters import Adapter, AdapterError, Answer, CannotAnswerError, Description, Question, RefusedError
from regionloss_spec import Batch, Case, Profile, profile_names
from regionloss_spec.batch import Array
from regionloss_spec.case import Expected
from regionloss_suite.oracle.comparison import Comparison, reference_of
from regionloss_suite.oracle.reduction import multiplied_out

Outcome = Literal["answered", "refused", "cannot", "crashed", "broke its promise"]


def _as_it_is(result: Result) -> Result:
    return result


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question and what the adapter did with it.

    Attributes:
        case: the question as a case, with the expected answer.
        question: the question, with its format and device.
        description: the adapter's description of itself.
        outcome: `answered`; `refused` as outside the domain; `cannot` answer this; `crashed`; or `broke its promise`,
            which is a fault of the adapter and says nothing about the loss.
        returned: the answer exactly as returned, or `None`.
        message: why there is no answer.
        image, truth: the place named by a refusal.
        error: the exception that was raised instead of an answer.
        traceback: of a crash.
        adjust: what becomes of a result of the reference before the answer is compared with it.
    """

    case: Case
    question: Question
    description: Description
    outcome: Outcome
    returned: Answer | None = None
    message: str = ""
    image: int | None = None
    truth: int | None = None
    error: Exception | None = None
    traceback: str = ""
    adjust: Callable[[Result], Result] = _as_it_is

    @property
    def dtype(self) -> str:
        """The format of the predictions."""
        return self.question.dtype

    @property
    def unanswerable(self) -> bool:
        """Whether the exchange says nothing about the loss."""
        return self.outcome in ("cannot", "broke its promise")

    @cached_property
    def answer(self) -> Answer | None:
        """The answer with its declared reduction and factor undone, or `None`.

        Outside the domain no truth is assigned, so a mean over objects stays as it is.
        """
        if self.returned is None:
            return None
        boxes = 0
        if self.description.reduction == "per-object":
            try:
                boxes = sum(match.pays_box for match in reference_of(self.case).decisions.matches)
            except DomainError:
                boxes = 0
        images, divided = len(self.case.batch.truths), self.case.profile.reduction
        return multiplied_out(self.returned, self.description, images, boxes, divided=divided)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The answer beside the reference's; `None` without an answer, or if a refusal was expected."""
        if self.case.expected.error is not None or self.answer is None:
            return None
        with np.errstate(all="ignore"):
            return Comparison(self.case, self.answer, self.dtype, self.adjust)


def put(adapter: Adapter, question: Question, *, case: Case, description: Description) -> Exchange:
    """Put a question to an adapter; an exception is recorded, never raised.

    Args:
        adapter: the implementation under test.
        question: passed to the adapter as it is; a loss may change its arrays.
        case: the same batch and profile, with the expected answer.
        description: of the adapter.
    """
    try:
        answer = adapter.answer(question)
    except RefusedError as error:
        return Exchange(case, question, description, "refused", None, str(error), error.image, error.truth, error=error)
    except CannotAnswerError as error:
        return Exchange(case, question, description, "cannot", message=str(error), error=error)
    except AdapterError as error:
        return Exchange(case, question, description, "broke its promise", message=str(error), error=error)
    except Exception as error:  # any exception of a loss under test is a finding about that loss
        message, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        return Exchange(case, question, description, "crashed", message=message, error=error, traceback=trace)
    return Exchange(case, question, description, "answered", answer)


def copied(batch: Batch) -> Batch:
    """A batch with writable copies of the same arrays."""
    return dataclasses.replace(
        batch,
        predictions=batch.predictions.copy(),
        truths=tuple(rows.copy() for rows in batch.truths),
        anchors=batch.anchors.copy(),
    )


def written_to(batch: Batch, given: Batch) -> str:
    """Which array of a copied batch is no longer the same, such as `predictions`; empty if none was changed."""
    lists = {
        f"truths of image {image}": rows for image, rows in enumerate(zip(batch.truths, given.truths, strict=True))
    }
    pairs = {"predictions": (batch.predictions, given.predictions), "anchors": (batch.anchors, given.anchors)}
    for name, (before, after) in {**pairs, **lists}.items():
        if not np.array_equal(before, after, equal_nan=True):
            return name
    return ""


def drawn_case(name: str, title: str, batch: Batch, profile: Profile) -> Case:
    """A random batch as a case that expects the reference's answer."""
    base = profile.name if profile.name in profile_names() else "darknet"
    return Case(
        id=name,
        title=title,
        provenance={"kind": "derivation"},
        base=base,
        profile=profile,
        batch=batch,
        expected=Expected(),
    )


def quantised(values: Array, dtype: str) -> Array:
    """Numbers rounded to a format, stored in float64."""
    if dtype == "bfloat16":  # float32 without the lower half of its bits, rounded to even
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(np.float64)
    return np.asarray(values).astype(dtype).astype(np.float64)
