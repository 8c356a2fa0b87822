"""A case in words and numbers: the state of each predictor, the reason for it, and what the predictor pays."""

from __future__ import annotations

from collections import Counter

import numpy as np

from regionloss import Result, evaluate
from regionloss.decisions import anchor_fit
from regionloss_spec import Case, Profile, load_profile
from regionloss_spec.clause import TERMS
from regionloss_suite.judging.report import painted

#: The terms in words.
WORDS = {
    "no_object": "no-object",
    "prior": "prior",
    "coord": "coordinates",
    "object": "objectness",
    "class": "class",
}
_PAINT = {"responsible": "1;32", "ignored": "33", "no-object": "36", "silent": "2"}


def explain(case: Case, *, every: bool = False, colour: bool = False) -> list[str]:
    """The lines of an explanation.

    Args:
        case: the case to explain; its expected answers are not used.
        every: show the predictors of every cell, not only of those with a truth or an ignored predictor.
        colour: colour the states for a terminal.

    Raises:
        DomainError: the input of the case lies outside the domain.
    """
    return _Explanation(case, every=every, colour=colour).lines()


class _Explanation:
    def __init__(self, case: Case, *, every: bool, colour: bool) -> None:
        self.case = case
        self.every = every
        self.colour = colour
        self.result: Result = evaluate(case.batch, case.profile)

    def lines(self) -> list[str]:
        lines = [*self._head(), ""]
        for image in range(len(self.result.t)):
            lines += [*self._truths(image), "", *self._cells(image)]
        return [*lines, *self._totals(), "", *self._answers()]

    def _head(self) -> list[str]:
        images, anchors, _, height, width = self.result.t.shape
        profile, t = self.case.profile, self.case.batch.images_seen
        prior = "the prior is on" if t < profile.prior_until else "the prior is off"
        relation = "<" if t < profile.prior_until else "≥"
        changed = ", ".join(f"{axis} = {value}" for axis, (_, value) in _own_options(self.case).items())
        return [
            painted(f"{self.case.id} · {self.case.title}", "1", colour=self.colour),
            f"profile {self.case.base}{f' with {changed}' if changed else ''} · "
            f"{_count(images, 'image')} · grid {_count(height, 'row')} × {_count(width, 'column')} · "
            f"{_count(anchors, 'anchor')} · {_count(self.case.batch.classes, 'class', 'classes')}",
            f"t = {t} images seen {relation} {profile.prior_until}: {prior}",
        ]

    def _truths(self, image: int) -> list[str]:
        result, profile = self.result, self.case.profile
        rows = result.truths[image]
        lines = [f"image {image} · {_count(len(rows), 'truth')}" + ("" if len(rows) else ": MaxIOU is 0 everywhere")]
        _, _, _, height, width = result.t.shape
        for match in (match for match in result.decisions.matches if match.image == image):
            x, y, w, h, label = rows[match.truth]
            if result.decisions.class_only[image]:
                lines.append(
                    f"  a class without a box: class {label:.0f} is paid by the predictor with its highest score, "
                    f"cell ({match.row}, {match.column}) anchor {match.anchor}"
                )
                continue
            fits = anchor_fit(match.row, match.column, rows[match.truth], result.boxes[image], result.anchors, profile)
            shown = ", ".join(f"anchor {k} {_number(fit)}" for k, fit in enumerate(fits))
            tied = " (the first of a tie)" if (fits == fits.max()).sum() > 1 else ""
            lines += [
                f"  truth {match.truth}: class {label:.0f}, centre ({x:.4g}, {y:.4g}) of the image, "
                f"size {w * width:.4g} × {h * height:.4g} cells",
                f"    x·W = {x * width:.4g}, y·H = {y * height:.4g} → cell (row {match.row}, column {match.column})",
                f"    {_FIT[profile.anchor_choice]}: {shown} → anchor {match.anchor} wins{tied}",
            ]
            if not match.pays_box:
                winner = result.decisions.assigned_truth[match.predictor]
                lines.append(f"    but truth {winner} is assigned to the same predictor and replaces it")
        return lines

    def _cells(self, image: int) -> list[str]:
        decisions = self.result.decisions
        _, anchors, _, height, width = self.result.t.shape
        eventful = decisions.responsible[image].any(axis=0) | decisions.ignored[image].any(axis=0)
        for match in decisions.matches:
            if match.image == image:
                eventful[match.row, match.column] = True
        lines, uneventful = [], []
        for row in range(height):
            for column in range(width):
                if not (self.every or eventful[row, column]):
                    uneventful.append((row, column))
                    continue
                lines.append(painted(f"  cell (row {row}, column {column})", "1", colour=self.colour))
                for anchor in range(anchors):
                    lines += self._predictor(image, anchor, row, column)
        if uneventful:
            lines.append(self._uneventful(image, uneventful))
        return [*lines, ""]

    def _uneventful(self, image: int, cells: list[tuple[int, int]]) -> str:
        """The cells that pay only no-object and prior, in one line."""
        anchors = range(self.result.t.shape[1])
        states = Counter(self._state(image, k, j, i) for j, i in cells for k in anchors)
        paid = {
            name: sum(term.value[image, k, j, i] for j, i in cells for k in anchors)
            for name, term in self.result.terms.items()
        }
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        shown = ", ".join(f"{WORDS[name]} {_number(value)}" for name, value in paid.items() if value)
        which = "the other" if len(cells) < self.result.t[0, 0, 0].size else "all"
        return f"  {which} {_count(len(cells), 'cell')}: {counts}; together {shown or 'nothing'} (--all lists them)"

    def _state(self, *index: int) -> str:
        decisions = self.result.decisions
        if decisions.class_only[index[0]]:
            return "silent"
        if decisions.responsible[index]:
            return "responsible"
        return "no-object" if decisions.no_object[index] else "ignored"

    def _predictor(self, image: int, anchor: int, row: int, column: int) -> list[str]:
        index = (image, anchor, row, column)
        state = self._state(*index)
        a_w, a_h = self.result.anchors[anchor]
        paid = {name: float(term.value[index]) for name, term in self.result.terms.items()}
        gradient = self.result.gradient.reshape(self.result.t.shape)[image, anchor, :, row, column]
        pays = ", ".join(f"{WORDS[name]} {_number(self.result.scale * paid[name])}" for name in TERMS if paid[name])
        shown = painted(state, _PAINT[state], colour=self.colour)
        return [
            f"    anchor {anchor} ({a_w:.4g} × {a_h:.4g}) {shown}: {self._why(state, index)}",
            f"      pays {pays or 'nothing'}",
            f"      gradient {_gradient(gradient)}",
        ]

    def _why(self, state: str, index: tuple[int, int, int, int]) -> str:
        decisions, profile = self.result.decisions, self.case.profile
        value, best = decisions.max_iou[index], decisions.best_truth[index]
        of = f" (truth {best})" if best >= 0 else ""
        against = f"MaxIOU {_number(value)}{of} {_relation(value, profile.thresh)} {profile.thresh:g}"
        if state == "silent":
            return "its image has a class but no box"
        if state == "responsible":
            pays_too = decisions.no_object[index]
            truth = f"truth {decisions.assigned_truth[index]} is assigned to it"
            if pays_too:
                return f"{truth}; {against}, so it pays no-object as well"
            return f"{truth}, so {against} is irrelevant"
        if profile.ignore == "none" or profile.no_object_target == "max-iou":
            return f"MaxIOU {_number(value)}{of}; this profile ignores no predictor"
        return f"{against}, so its indicator 1{{MaxIOU < Thresh}} is {int(decisions.no_object[index])}"

    def _totals(self) -> list[str]:
        result = self.result
        terms = " + ".join(f"{WORDS[name]} {_number(result.term_values[name])}" for name in TERMS)
        line = result.statistics
        return [
            f"terms: {terms}",
            f"potential {_number(result.potential)}: the loss, whose derivative is the gradient",
            f"printed cost {_number(result.printed_cost)}: {_COST[self.case.profile.printed_cost]}",
            f"statistics: Avg IOU {line.avg_iou:.6f}, Class {line.avg_class:.6f}, Obj {line.avg_obj:.6f}, "
            f"No Obj {line.avg_no_obj:.6f}, Avg Recall {line.avg_recall:.6f}, count {line.count}",
        ]

    def _answers(self) -> list[str]:
        """The two common questions about the formula, answered with this case's numbers."""
        profile = self.case.profile
        if profile.ignore == "none" or profile.no_object_target == "max-iou":
            return ["This profile has no indicator 1{MaxIOU < Thresh}: no predictor is ignored."]
        return [*self._about_max_iou(), *self._about_other_anchors()]

    def _about_max_iou(self) -> list[str]:
        decisions, profile = self.result.decisions, self.case.profile
        free = ~decisions.responsible & ~decisions.class_only[:, None, None, None]
        ignored, paying, all_free = (
            int(states.sum()) for states in (decisions.ignored, decisions.no_object & free, free)
        )
        limit = f"{'at most' if profile.ignore == 'above' else 'less than'} {profile.thresh:g}"
        other = f"{'more than' if profile.ignore == 'above' else 'at least'} {profile.thresh:g}"
        return [
            painted("What does 1{MaxIOU < Thresh} mean?", "1", colour=self.colour),
            "  MaxIOU is the largest IoU of a predictor's own box with any truth of its image.",
            f"  Here {_count(all_free, 'predictor')} {'is' if all_free == 1 else 'are'} not responsible for a truth:",
            f"  {paying} with MaxIOU {limit} {'pays' if paying == 1 else 'pay'} no-object,",
            f"  {ignored} with {other} {'overlaps' if ignored == 1 else 'overlap'} a truth of another predictor well "
            f"and {'is' if ignored == 1 else 'are'} ignored.",
            "  Predictions are compared with truths, never with each other: this is not non-max suppression.",
        ]

    def _about_other_anchors(self) -> list[str]:
        decisions, profile = self.result.decisions, self.case.profile
        matched = sorted({(match.image, match.row, match.column) for match in decisions.matches if match.pays_box})
        anchors = self.result.t.shape[1]
        if not matched or anchors == 1:
            return []
        question = "What do a cell's other anchors pay when one of them matches?"
        lines = [painted(question, "1", colour=self.colour)]
        for image, row, column in matched[:3]:
            lines.append(f"  image {image}, cell (row {row}, column {column}):")
            for k in range(anchors):
                paid = {name: term.value[image, k, row, column] for name, term in self.result.terms.items()}
                terms = " + ".join(f"{WORDS[name]} {_number(value)}" for name, value in paid.items() if value)
                lines.append(f"    anchor {k}, {self._state(image, k, row, column)}, pays {terms or 'nothing'}")
        if len(matched) > 3:
            lines.append(f"  and the same in {_count(len(matched) - 3, 'more cell')}.")
        alone = f"  Each anchor is judged alone, by its own MaxIOU. Before t = {profile.prior_until}"
        return [*lines, f"{alone} all but the responsible one also pay the prior."] if _darknet_like(profile) else lines


def _darknet_like(profile: Profile) -> bool:
    return profile.prior_until > 0 and profile.prior_applies == "not-responsible"


_FIT = {
    "anchor-shape": "IoU of the shapes",
    "anchor-corner": "IoU with the anchors at the cell's corner",
    "predicted-shape": "IoU with the predicted shapes",
    "predicted-iou": "IoU with the predicted boxes",
}
_COST = {
    "residuals": "Σδ² before the logistic derivative, what darknet prints",
    "gradient": "Σδ² after the logistic derivative, what this fork prints",
    "potential": "the potential itself",
}


def _own_options(case: Case) -> dict[str, tuple[object, object]]:
    return load_profile(case.base).differences(case.profile)


def _gradient(values: np.ndarray) -> str:
    names = ["tx", "ty", "tw", "th", "to", *(f"class {c}" for c in range(len(values) - 5))]
    shown = [f"{name} {value:+.5g}" for name, value in zip(names, values, strict=True) if value]
    return (
        ", ".join(shown[:12]) + (f", … {len(shown) - 12} more" if len(shown) > 12 else "") if shown else "0 everywhere"
    )


def _relation(value: float, thresh: float) -> str:
    return ">" if value > thresh else "=" if value == thresh else "<"


def _number(value: float) -> str:
    return f"{value:.5g}"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
