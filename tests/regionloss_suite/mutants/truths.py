"""Mistakes about the list of truths (spec chapter 11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from regionloss_adapters import Answer, Question, RefusedError
from regionloss_spec import Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, right
from regionloss_suite.mutants.tools import Answering, as_if, multiplied, needs, read, rows_read

#: From all given rows of an image, `[T, 5]`, and the profile to the rows that are read.
Reading = Callable[[Array, Profile], Array]


def _listed(choose: Reading) -> Answering:
    """The wrong rows are read, and treated like any others."""

    def answer(question: Question) -> Answer:
        profile = question.profile
        tables = [np.array(rows, dtype=np.float64) for rows in question.batch.truths]
        if any(table.size and (table.ndim != 2 or table.shape[1] != 5) for table in tables):
            return right(question)
        truths = tuple(choose(table, profile) if table.size else table for table in tables)
        # These lists have no end marker and are not too long.
        return right(
            dataclasses.replace(
                question,
                batch=dataclasses.replace(question.batch, truths=truths),
                profile=profile.replace(truth_end="none", max_truths=0),
            )
        )

    return answer


def _skipping(table: Array, profile: Profile) -> Array:
    """Rows with x = 0 are left out, and the list goes on."""
    needs(profile.truth_end == "x-zero", "a terminator")
    table = table[table[:, 0] != 0]
    return table[: profile.max_truths] if profile.max_truths else table


def _ended_by_all_zeros(table: Array, profile: Profile) -> Array:
    """Only a row of nothing but zeros ends the list."""
    needs(profile.truth_end == "x-zero", "a terminator")
    ends = np.flatnonzero((table == 0).all(axis=1))
    table = table[: ends[0]] if len(ends) else table
    return table[: profile.max_truths] if profile.max_truths else table


def _by_class(table: Array, profile: Profile) -> Array:
    """A negative class ends the list."""
    ends = np.flatnonzero(table[:, 4] < 0)
    table = rows_read(table, profile.replace(truth_end="none", max_truths=0))
    table = table[: ends[0]] if len(ends) else table
    return table[: profile.max_truths] if profile.max_truths else table


def _last_rows(table: Array, profile: Profile) -> Array:
    needs(profile.max_truths > 0, "a capacity")
    return rows_read(table, profile.replace(max_truths=0))[-profile.max_truths :]


def _fifty(table: Array, profile: Profile) -> Array:
    needs(profile.max_truths != 50, "a capacity that is not 50")
    return rows_read(table, profile.replace(max_truths=50))


def _one_too_few(table: Array, profile: Profile) -> Array:
    needs(profile.max_truths > 1, "a capacity")
    return rows_read(table, profile.replace(max_truths=profile.max_truths - 1))


def _capacity_of_batch(question: Question) -> Answer:
    """The capacity is that of the whole batch: images after a full one read nothing."""
    profile = question.profile
    needs(profile.max_truths > 0, "a capacity")
    left, truths = profile.max_truths, []
    for rows in read(question).truths:
        truths.append(rows[:left])
        left -= len(rows[:left])
    return right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, truths=tuple(truths))))


def _reversed(question: Question) -> Answer:
    """The rows that are read, from the last to the first; the answer has the original indices."""
    read(question)
    tables = [np.array(rows, dtype=np.float64) for rows in question.batch.truths]
    kept = [rows_read(table, question.profile) if table.size else np.zeros((0, 5)) for table in tables]
    return _renamed(question, tuple(rows[::-1] for rows in kept), [np.arange(len(rows))[::-1] for rows in kept])


def _by_area(question: Question) -> Answer:
    """Large truths first, so that a small one wins a collision."""
    given = read(question)
    orders = [np.argsort(-rows[:, 2] * rows[:, 3], kind="stable") for rows in given.truths]
    truths = tuple(rows[order] for rows, order in zip(given.truths, orders, strict=True))
    return _renamed(question, truths, orders)


def _renamed(question: Question, truths: tuple[Array, ...], orders: list[Array]) -> Answer:
    answer = right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, truths=truths)))
    responsible = tuple((image, int(orders[image][truth]), *place) for image, truth, *place in answer.responsible or ())
    return dataclasses.replace(answer, responsible=responsible)


def _padding_silences(question: Question) -> Answer:
    """Rows of padding are scattered to anchor 0 of the first cell, and clear its no-object mask."""
    answer = right(question)
    given = read(question)
    assert answer.gradient is not None
    assert answer.potential is not None
    assert answer.terms is not None
    padded = [len(rows) > len(kept) for rows, kept in zip(question.batch.truths, given.truths, strict=True)]
    needs(question.profile.truth_end == "x-zero", "a list that can be padded")
    gradient, saved = answer.gradient.copy(), 0.0
    for image in np.flatnonzero(padded):
        if any(place[:1] + place[2:] == (int(image), 0, 0, 0) for place in answer.responsible or ()):
            continue
        raw = given.t[image, 0, 4, 0, 0]
        b_o = 1 / (1 + np.exp(-raw))
        if gradient[image, 4, 0, 0] != 0:
            gradient[image, 4, 0, 0] = 0.0
            saved += question.profile.squared_factor * question.profile.no_object_weight * float(b_o) ** 2
    terms = {**answer.terms, "no_object": answer.terms["no_object"] - saved}
    return dataclasses.replace(answer, gradient=gradient, potential=answer.potential - saved, terms=terms)


def _padding_counted(question: Question) -> Answer:
    """The loss is divided by the share of rows that are not padding, as in a mean over all rows."""
    answer, given = right(question), read(question)
    needs(question.profile.truth_end == "x-zero", "a list that can be padded")
    rows = sum(len(np.asarray(table)) for table in question.batch.truths)
    kept = sum(len(table) for table in given.truths)
    return answer if kept in (0, rows) else multiplied(answer, kept / rows)


def _unread_judged(question: Question) -> Answer:
    """Rows that are not read are checked nevertheless."""
    answer = right(question)
    for image, rows in enumerate(question.batch.truths):
        for truth, row in enumerate(np.asarray(rows, dtype=np.float64)):
            if not np.isfinite(row).all() or row[2:].min() < 0 or (row[0] and row[:4].max() > 1):
                raise RefusedError("a row that is not read is outside the domain", image, truth)
    return answer


def _empty_refused(question: Question) -> Answer:
    """An image without truths is treated as an error."""
    answer = right(question)
    for image, rows in enumerate(read(question).truths):
        if not len(rows):
            raise RefusedError("there is no truth to take a maximum of", image)
    return answer


def _mean_over_no_truths(question: Question) -> Answer:
    """The loss is divided by the number of truths and multiplied by it again: 0/0 without truths."""
    answer = right(question)
    needs(len(question.batch.truths) > 0, "an image")
    return answer if any(map(len, read(question).truths)) else multiplied(answer, float("nan"))


def _empty_left_out(question: Question) -> Answer:
    """Images without truths are dropped from the batch."""
    answer, given = right(question), read(question)
    filled = [image for image, rows in enumerate(given.truths) if len(rows)]
    batch = question.batch
    rest = right(
        dataclasses.replace(
            question,
            batch=dataclasses.replace(
                batch,
                predictions=np.asarray(batch.predictions)[filled],
                truths=tuple(batch.truths[image] for image in filled),
            ),
        )
    )
    assert answer.gradient is not None
    assert rest.gradient is not None
    gradient = np.zeros_like(answer.gradient)
    gradient[filled] = rest.gradient
    return dataclasses.replace(
        rest,
        gradient=gradient,
        responsible=tuple((filled[place[0]], *place[1:]) for place in rest.responsible or ()),
        ignored=tuple((filled[place[0]], *place[1:]) for place in rest.ignored or ()),
    )


MUTANTS: list[Mutant] = [
    Mutant(
        id="terminator-skipped",
        clause="truths.terminator",
        title="a row with x = 0 is skipped instead of ending the list",
        after="AlexeyAB/darknet#4469",
        answer=_listed(_skipping),
    ),
    Mutant(
        id="terminator-of-zeros",
        clause="truths.terminator",
        title="only a row of nothing but zeros ends the list",
        after="AlexeyAB/darknet#4469",
        answer=_listed(_ended_by_all_zeros),
    ),
    Mutant(
        id="terminator-by-class",
        clause="truths.terminator",
        title="a negative class ends the list, and a row with x = 0 does not",
        after="eavise-kul/lightnet, MXNet _contrib_Yolo2Output",
        answer=_listed(_by_class),
    ),
    Mutant(
        id="terminator-heeded",
        clause="truths.no-terminator",
        title="a row with x = 0 ends the list although it is an ordinary truth",
        options={"truth_end": "none"},
        answer=as_if(truth_end="x-zero"),
    ),
    Mutant(
        id="padding-in-the-first-cell",
        clause="truths.padding",
        title="rows of padding are scattered to anchor 0 of the first cell and silence its no-object term",
        answer=_padding_silences,
    ),
    Mutant(
        id="padding-counted",
        clause="truths.padding",
        title="rows of padding count in the mean over truths",
        answer=_padding_counted,
    ),
    Mutant(
        id="truths-without-limit",
        clause="truths.capacity",
        title="all truths are read, however many",
        after="pjreddie/darknet#166",
        answer=as_if(max_truths=0),
    ),
    Mutant(
        id="fifty-truths",
        clause="truths.capacity",
        title="50 truths are read",
        after="marvis/pytorch-yolo2, sony/nnabla-examples",
        answer=_listed(_fifty),
    ),
    Mutant(
        id="thirty-truths",
        clause="truths.capacity",
        title="30 truths are read although there is no limit",
        options={"max_truths": 0},
        answer=as_if(max_truths=30),
    ),
    Mutant(
        id="last-truths-read",
        clause="truths.capacity",
        title="the last rows of a list that is too long are read, not the first",
        answer=_listed(_last_rows),
    ),
    Mutant(
        id="one-truth-too-few",
        clause="truths.capacity",
        title="one truth less than the capacity is read",
        answer=_listed(_one_too_few),
    ),
    Mutant(
        id="capacity-of-the-batch",
        clause="truths.capacity",
        title="the capacity is that of the whole batch",
        options={"max_truths": 1},
        answer=_capacity_of_batch,
    ),
    Mutant(
        id="truths-reversed",
        clause="truths.order",
        title="the list is read from its end",
        answer=_reversed,
    ),
    Mutant(
        id="truths-by-area",
        clause="truths.order",
        title="large truths are taken before small ones",
        answer=_by_area,
    ),
    Mutant(
        id="empty-image-refused",
        clause="truths.empty",
        title="an image without truths is refused",
        after="eriklindernoren/PyTorch-YOLOv3#135, longcw/yolo2-pytorch#112",
        answer=_empty_refused,
    ),
    Mutant(
        id="mean-over-no-truths",
        clause="noobj.empty-image",
        title="a batch without any truth is divided by their number, and the loss is NaN",
        after="sony/nnabla-examples",
        answer=_mean_over_no_truths,
    ),
    Mutant(
        id="empty-images-left-out",
        clause="truths.empty",
        title="images without truths are dropped from the batch",
        answer=_empty_left_out,
    ),
    Mutant(
        id="unread-rows-judged",
        clause="domain.unread-rows",
        title="rows after the terminator or beyond the capacity are checked as well",
        answer=_unread_judged,
    ),
]
