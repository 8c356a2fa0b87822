"""Agreement with the reference on random batches, answer by answer: the block of channels names the term.

A property pins a clause by its views, and only on batches that show the clause. If the indicators of a batch deviate,
its gradient and terms follow from them and are not judged.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import assume
from hypothesis import strategies as st

from regionloss_spec import load_clauses
from regionloss_spec.clause import View
from regionloss_suite.oracle.comparison import VIEWS
from regionloss_suite.properties.harness import PropertyHarness
from regionloss_suite.properties.property import EVERYTHING, Function
from regionloss_suite.properties.registry import pins
from regionloss_suite.properties.response import DeviationError, Response

#: Clauses of the number format, which apply to every property.
_FORMATS = ("numerics.float64", "numerics.float32", "numerics.float16", "numerics.bfloat16")

#: Each subject: its name, its views, and what an adapter must return.
_SUBJECTS: tuple[tuple[str, Callable[[View], bool], tuple[str, ...]], ...] = (
    ("the indicators", lambda view: view.answer == "indicator", ("indicators",)),
    ("the gradient of tx and ty", lambda view: "xy" in view.blocks, ("gradient",)),
    ("the gradient of tw and th", lambda view: "wh" in view.blocks, ("gradient",)),
    ("the gradient of the objectness", lambda view: "o" in view.blocks, ("gradient",)),
    ("the gradient of the classes", lambda view: "c" in view.blocks, ("gradient",)),
    ("the value of each term", lambda view: view.answer == "term", ("terms",)),
    ("the potential", lambda view: view.answer == "potential", ("potential",)),
    ("the printed cost", lambda view: view.answer == "printed cost", ("printed cost",)),
    ("the statistics line", lambda view: view.answer == "statistics", ("statistics",)),
)


def _speaks_of(view: View, chosen: Callable[[View], bool]) -> bool:
    """Whether a view of a clause is specific to the clause and part of a subject."""
    if view.broad:
        return False
    if view.answer == "gradient":
        return any(chosen(View("gradient", (block,), view.states)) for block in view.blocks)
    return chosen(view)


def _pinned(chosen: Callable[[View], bool]) -> tuple[str, ...]:
    clauses = load_clauses().values()
    return tuple(clause.id for clause in clauses if any(_speaks_of(view, chosen) for view in clause.seen))


def _agrees(chosen: Callable[[View], bool]) -> Function:
    views = tuple(view for view in VIEWS if chosen(view))

    def property_of_one_answer(harness: PropertyHarness, data: st.DataObject) -> None:
        """Within the bound of every number, and exactly for every decision."""
        response = harness.ask(harness.draw(data))
        if views[0].answer != "statistics" and not any(view.answer == "indicator" for view in views):
            assume(response.comparison.difference(View("indicator")) is None)
        try:
            response.conforms(views)
        except DeviationError as departs:
            departs.clauses = _to_blame(harness, response, chosen)
            raise

    return property_of_one_answer


def _to_blame(harness: PropertyHarness, response: Response, chosen: Callable[[View], bool]) -> tuple[str, ...]:
    """The clauses that the deviating batch shows and whose own views deviate; otherwise the number format's."""
    alone = PropertyHarness(harness.adapter, harness.profile, harness.dtype)
    alone.note(response)
    blamed = []
    for clause in load_clauses().values():
        views = [view for view in clause.seen if _speaks_of(view, chosen)]
        if clause.id in alone.shown and any(response.comparison.difference(view) is not None for view in views):
            blamed.append(clause.id)
    if response.comparison.difference(View("indicator")) is not None:
        blamed = [clause for clause in blamed if clause.split(".")[0] in _families_of_departure(response)] or blamed
    return tuple(blamed) or (f"numerics.{harness.dtype}", "numerics.bound")


def _families_of_departure(response: Response) -> tuple[str, ...]:
    """Families of clauses that can cause a wrong indicator: of assignment if that is wrong, otherwise of MaxIOU."""
    responsible = response.answer.responsible
    expected = [
        (match.image, match.truth, match.anchor, match.row, match.column)
        for match in response.result.decisions.matches
        if match.pays_box
    ]
    if responsible is not None and sorted(responsible) != sorted(expected):
        predicted = response.result.profile.anchor_choice.startswith("predicted")
        return ("notation", "assign", "table", *(("decode", "iou") if predicted else ()))
    return ("decode", "iou", "noobj", "object", "table")


for _name, _chosen, _needs in _SUBJECTS:
    pins(
        *dict.fromkeys((*_pinned(_chosen), "numerics.bound", *_FORMATS)),
        name=f"{_name} agree{'s' * (_name != 'the indicators')} with the reference",
        needs=_needs,
        by_feature=True,
        every_format=True,
        share=1.5,
    )(_agrees(_chosen))

pins(
    *dict.fromkeys(clause for _, chosen, _ in _SUBJECTS[:7] for clause in _pinned(chosen)),
    name=EVERYTHING,
    by_feature=True,
    share=0.4,
)(_agrees(lambda view: view.answer not in ("printed cost", "statistics")))
