"""The answers to a case once more, in many digits and straight from the formulas of the chapters.

It shares no code with the reference and is built differently: each predictor collects payments, functions of its own
raw outputs in which everything that chapter 10 holds constant is a number; values are these functions, and gradients
are their difference quotients in so many digits that nothing is left of the error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpmath import mp, mpf

from regionloss_spec import Case, Profile

#: A number of mpmath, which has no types.
Number = Any
Function = Callable[[Sequence[Number]], Number]
#: image, anchor, row, column
Predictor = tuple[int, int, int, int]

TERMS = ("no_object", "prior", "coord", "object", "class")

_STEP = mpf(10) ** -40
#: A difference quotient with this step cannot tell less than this from 0.
_SMALLEST = mpf(10) ** -100


@dataclass(frozen=True)
class Payment:
    """What one predictor pays for one term: a function of its raw outputs, differentiated through some of them."""

    term: str
    value: Function
    channels: range


@dataclass(frozen=True)
class Read:
    """One truth that is read: its index in the list, its box as fractions of the image, its class."""

    index: int
    box: tuple[Number, Number, Number, Number]
    label: int


@dataclass(frozen=True)
class Assigned:
    """A truth and the predictor that answers for it; `iou` is that of the decoded box with the truth."""

    truth: Read
    predictor: Predictor
    iou: Number
    pays_box: bool


def digits(case: Case) -> int:
    """Decimal digits that keep 1 - p apart from 1 for the largest output of a case."""
    return 160 + min(400, math.ceil(max((abs(float(t)) for t in case.batch.predictions.ravel()), default=0.0)))


class Derivation:
    """Every answer to a case inside the domain. Use it within `mp.workdps(digits(case))`."""

    def __init__(self, case: Case) -> None:
        batch = case.batch
        self.profile: Profile = case.profile
        self.tree = batch.tree or ()
        self.images, self.rows, self.columns = len(batch.truths), batch.predictions.shape[2], batch.predictions.shape[3]
        self.anchors = [(mpf(float(w)), mpf(float(h))) for w, h in batch.anchors]
        self.outputs = 5 + batch.classes
        places = itertools.product(range(self.images), range(len(self.anchors)), range(self.rows), range(self.columns))
        self.t: dict[Predictor, list[Number]] = {
            (n, k, j, i): [mpf(float(v)) for v in batch.predictions[n, k * self.outputs : (k + 1) * self.outputs, j, i]]
            for n, k, j, i in places
        }
        self.truths: list[list[Read]] = []
        self.class_only: dict[int, Read] = {}
        for n, rows in enumerate(batch.truths):
            self._read(n, [[float(v) for v in row] for row in rows])
        self.warm_up = batch.images_seen < self.profile.prior_until
        self.assigned = [match for n in range(self.images) for match in self._assign(n)]
        self.responsible = {match.predictor for match in self.assigned}
        self.max_iou: dict[Predictor, Number] = {}
        self.best_truth: dict[Predictor, Read | None] = {}
        for who, t in self.t.items():
            overlaps = [(iou(self.box(who, t), truth.box), truth) for truth in self.truths[who[0]]]
            best = max((overlap for overlap, _ in overlaps), default=mpf(0))
            self.max_iou[who] = best
            self.best_truth[who] = next((truth for overlap, truth in overlaps if overlap == best and best > 0), None)
        self.ignored = {who for who in self.t if self._is_ignored(who)}
        self.payments: dict[Predictor, list[Payment]] = {who: self._payments(who) for who in self.t}
        self.scale = mpf(1) if self.profile.reduction == "sum" or not self.images else mpf(1) / self.images

    # What is read (chapters 11 and 13).

    def _read(self, n: int, rows: list[list[float]]) -> None:
        limit = self.profile.max_truths or len(rows)
        read: list[Read] = []
        for index, row in enumerate(rows[:limit]):
            if self.profile.truth_end == "x-zero" and row[0] == 0:
                break
            if self.profile.class_term == "tree" and row[0] > 100000 and row[1] > 100000:
                nowhere = (mpf(0), mpf(0), mpf(0), mpf(0))
                self.class_only[n] = Read(index, nowhere, int(row[4]))
                read = []
                break
            x, y, w, h = (mpf(v) for v in row[:4])
            read.append(Read(index, (x, y, w, h), int(row[4]) if row[4] == row[4] else -1))
        self.truths.append(read)

    # Boxes (chapter 3).

    def box(self, who: Predictor, t: Sequence[Number]) -> tuple[Number, Number, Number, Number]:
        _, k, j, i = who
        a_w, a_h = self.anchors[k]
        return (
            (i + sigma(t[0])) / self.columns,
            (j + sigma(t[1])) / self.rows,
            a_w * mp.exp(t[2]) / self.columns,
            a_h * mp.exp(t[3]) / self.rows,
        )

    # Decisions (chapters 0, 4 and 5).

    def matches(self, n: int, truth: Read) -> list[Number]:
        """The match of each anchor of the truth's cell."""
        x, y, w, h = truth.box
        i, j = int(mp.floor(x * self.columns)), int(mp.floor(y * self.rows))
        zero = mpf(0)
        fits = []
        for k, (a_w, a_h) in enumerate(self.anchors):
            decoded = self.box((n, k, j, i), self.t[n, k, j, i])
            shape = (a_w / self.columns, a_h / self.rows)
            match self.profile.anchor_choice:
                case "anchor-shape":
                    fits.append(iou((zero, zero, *shape), (zero, zero, w, h)))
                case "anchor-corner":
                    fits.append(iou((mpf(i) / self.columns, mpf(j) / self.rows, *shape), truth.box))
                case "predicted-shape":
                    fits.append(iou((zero, zero, *decoded[2:]), (zero, zero, w, h)))
                case "predicted-iou":
                    fits.append(iou(decoded, truth.box))
        return fits

    def _assign(self, n: int) -> list[Assigned]:
        chosen: list[tuple[Read, Predictor]] = []
        for truth in self.truths[n]:
            fits = self.matches(n, truth)
            x, y = truth.box[:2]
            chosen.append(
                (truth, (n, fits.index(max(fits)), int(mp.floor(y * self.rows)), int(mp.floor(x * self.columns))))
            )
        out = []
        for here, (truth, who) in enumerate(chosen):
            earlier = any(other == who for _, other in chosen[:here])
            later = any(other == who for _, other in chosen[here + 1 :])
            pays = {"last": not later, "first": not earlier, "sum": True}[self.profile.collision]
            out.append(Assigned(truth, who, iou(self.box(who, self.t[who]), truth.box), pays))
        return out

    def _is_ignored(self, who: Predictor) -> bool:
        return who[0] not in self.class_only and who not in self.responsible and self._silenced(who)

    def _silenced(self, who: Predictor) -> bool:
        profile = self.profile
        if profile.ignore == "none" or profile.no_object_target == "max-iou":
            return False
        thresh = mpf(profile.thresh)
        return bool(self.max_iou[who] > thresh if profile.ignore == "above" else self.max_iou[who] >= thresh)

    # What each predictor pays (chapters 5 to 9 and 13).

    def _payments(self, who: Predictor) -> list[Payment]:
        n, profile, t = who[0], self.profile, self.t[who]
        everything = range(self.outputs)
        if n in self.class_only:
            if who != self._surest(n):
                return []
            node_of = self._tree_targets([self.class_only[n].label])
            return [Payment("class", self._class_tree(node_of, mpf(profile.class_weight)), everything)]
        paid = []
        q, background = mpf(profile.squared_factor), profile.objectness == "background"
        free = who not in self.responsible
        if (free or profile.no_object_applies == "every-predictor") and not self._silenced(who):
            weight = mpf(profile.no_object_weight)
            target = self.max_iou[who] if profile.no_object_target == "max-iou" else mpf(0)
            if background:
                paid.append(Payment("no_object", lambda u: weight * surprise(u[4:], 0), range(4, 5)))
            else:
                paid.append(Payment("no_object", lambda u: q * weight * (sigma(u[4]) - target) ** 2, everything))
        if self.warm_up and (free or profile.prior_applies == "every-predictor"):
            paid.append(Payment("prior", self._prior(), everything))
        mine = [match for match in self.assigned if match.predictor == who]
        for match in mine:
            if match.pays_box:
                paid.append(Payment("coord", self._coord(match), everything))
                paid.append(self._object(match))
        labels = [[match.truth.label] for match in mine if match.pays_box]
        if profile.class_collision == "accumulate" and mine:
            labels = [[match.truth.label for match in mine]]
        paid += [self._class(together, mpf(profile.class_weight)) for together in labels]
        near = self.best_truth[who]
        if profile.ignored_class != "none" and who in self.ignored and near is not None:
            by = sigma(t[4]) if profile.ignored_class == "by-objectness" else mpf(1)
            paid.append(self._class([near.label], by * mpf(profile.class_weight)))
        return paid

    def _size(self, size: Number, cells: int) -> Number:
        """A size in cells on the scale on which sizes are compared."""
        return {"log": mp.log, "decoded": lambda v: v, "square-root": lambda v: mp.sqrt(v / cells)}[
            self.profile.size_space
        ](size)

    def _sizes(self, who: Predictor, u: Sequence[Number]) -> tuple[Number, Number]:
        """The predicted width and height on that scale."""
        a_w, a_h = self.anchors[who[1]]
        return self._size(a_w * mp.exp(u[2]), self.columns), self._size(a_h * mp.exp(u[3]), self.rows)

    def _prior(self) -> Function:
        factor, half = mpf(self.profile.squared_factor) * mpf(self.profile.prior_weight), mpf("0.5")
        return lambda u: factor * ((sigma(u[0]) - half) ** 2 + (sigma(u[1]) - half) ** 2 + u[2] ** 2 + u[3] ** 2)

    def _coord(self, match: Assigned) -> Function:
        profile, (_, _, j, i) = self.profile, match.predictor
        x, y, w, h = match.truth.box
        factor = mpf(profile.squared_factor) * mpf(profile.coord_weight) * (2 - w * h) ** profile.small_box_exponent
        floor = mpf(1) if profile.size_target_floor == "one-cell" else mpf(0)
        wanted = (
            self._size(max(w * self.columns, floor), self.columns),
            self._size(max(h * self.rows, floor), self.rows),
        )

        def value(u: Sequence[Number]) -> Number:
            got = self._sizes(match.predictor, u)
            r_x, r_y = sigma(u[0]) - (x * self.columns - i), sigma(u[1]) - (y * self.rows - j)
            return factor * (r_x**2 + r_y**2 + (got[0] - wanted[0]) ** 2 + (got[1] - wanted[1]) ** 2)

        return value

    def _object(self, match: Assigned) -> Payment:
        profile, who = self.profile, match.predictor
        weight = mpf(profile.object_weight)
        if profile.objectness == "background":
            return Payment("object", lambda u: weight * odds_against(u[4:], 0), range(4, 5))
        near = self.best_truth[who]
        truth = near if profile.object_target == "max-iou" else match.truth
        constant = {"iou": match.iou, "one": mpf(1), "max-iou": self.max_iou[who]}[profile.object_target]
        flows = profile.object_target_gradient == "flows" and profile.object_target != "one" and truth is not None

        def value(u: Sequence[Number]) -> Number:
            target = iou(self.box(who, u), truth.box) if flows and truth is not None else constant
            return mpf(profile.squared_factor) * weight * (sigma(u[4]) - target) ** 2

        return Payment("object", value, range(self.outputs))

    def _class(self, labels: list[int], weight: Number) -> Payment:
        profile = self.profile
        y = [mpf(int(c in labels)) for c in range(self.outputs - 5)]
        q = mpf(profile.squared_factor)
        label = labels[-1]

        def softmax_error(u: Sequence[Number]) -> Number:
            return q * weight * sum((mp.exp(-surprise(u[5:], c)) - y_c) ** 2 for c, y_c in enumerate(y))

        def linear_error(u: Sequence[Number]) -> Number:
            return q * weight * sum((z - y_c) ** 2 for z, y_c in zip(u[5:], y, strict=True))

        def logistic(u: Sequence[Number]) -> Number:
            return weight * sum(softplus(z) - y_c * z for z, y_c in zip(u[5:], y, strict=True))

        def focal(u: Sequence[Number]) -> Number:
            s = surprise(u[5:], label)
            return weight * (1 - mp.exp(-s)) ** 2 * s / 2

        if profile.objectness == "background":
            return Payment("class", lambda u: weight * surprise(u[4:], 1 + label), range(5, self.outputs))
        value: Function = {
            "cross-entropy": lambda u: weight * surprise(u[5:], label),
            "squared-error": softmax_error,
            "squared-linear": linear_error,
            "logistic": logistic,
            "focal": focal,
            "tree": self._class_tree(self._tree_targets(labels), weight) if profile.class_term == "tree" else logistic,
        }[profile.class_term]
        return Payment("class", value, range(self.outputs))

    # The class tree (chapter 13).

    def group(self, node: int) -> range:
        """The sibling group of a class: the run of consecutive classes with its parent."""
        first, last = node, node
        while first > 0 and self.tree[first - 1] == self.tree[node]:
            first -= 1
        while last + 1 < len(self.tree) and self.tree[last + 1] == self.tree[node]:
            last += 1
        return range(first, last + 1)

    def path(self, node: int) -> list[int]:
        """The class and its ancestors."""
        return [] if node < 0 else [node, *self.path(self.tree[node])]

    def _tree_targets(self, labels: list[int]) -> dict[range, int]:
        return {self.group(node): node for label in labels for node in self.path(label)}

    def _class_tree(self, node_of: dict[range, int], weight: Number) -> Function:
        def value(u: Sequence[Number]) -> Number:
            z = u[5:]
            return weight * sum(surprise([z[c] for c in group], node - group.start) for group, node in node_of.items())

        return value

    def probability(self, who: Predictor, label: int) -> Number:
        """What the statistics call the probability of a class."""
        z, t_o = self.t[who][5:], self.t[who][4]
        if self.profile.class_term == "tree":
            return mp.exp(
                -sum(surprise([z[c] for c in self.group(m)], m - self.group(m).start) for m in self.path(label))
            )
        if self.profile.class_term == "squared-linear":
            return z[label]
        if self.profile.class_term == "logistic":
            return sigma(z[label])
        if self.profile.objectness == "background":
            return mp.exp(-surprise([t_o, *z], 1 + label))
        return mp.exp(-surprise(z, label))

    def objectness(self, who: Predictor) -> Number:
        """σ(t_o), or the probability of the background where it is a class."""
        t = self.t[who]
        return mp.exp(-surprise(t[4:], 0)) if self.profile.objectness == "background" else sigma(t[4])

    def _surest(self, n: int) -> Predictor:
        label = self.class_only[n].label
        order = [(n, k, j, i) for j in range(self.rows) for i in range(self.columns) for k in range(len(self.anchors))]
        return max(order, key=lambda who: sigma(self.t[who][4]) * self.probability(who, label))  # the first of equals

    # The answers (chapters 10 and 14).

    def terms(self) -> dict[str, float]:
        """The five terms."""
        return {name: float(self.scale * self._sum(name)) for name in TERMS}

    def potential(self) -> float:
        """Their sum."""
        return float(self.scale * sum((self._sum(name) for name in TERMS), mpf(0)))

    def _sum(self, name: str) -> Number:
        values = (paid.value(self.t[who]) for who in self.t for paid in self.payments[who] if paid.term == name)
        return sum(values, mpf(0))

    def gradient(self) -> dict[Predictor, list[float]]:
        """By predictor, all of its outputs; 0 for those that nothing is paid through."""
        return {who: [float(self.scale * self._slope(who, c)) for c in range(self.outputs)] for who in self.t}

    def _slope(self, who: Predictor, channel: int) -> Number:
        t = self.t[who]
        up, down = [*t], [*t]
        up[channel] += _STEP
        down[channel] -= _STEP
        through = [paid for paid in self.payments[who] if channel in paid.channels]
        slope = sum((paid.value(up) - paid.value(down) for paid in through), mpf(0)) / (2 * _STEP)
        return slope if abs(slope) > _SMALLEST else mpf(0)

    def printed_cost(self) -> float:
        """Σδ², where δ leaves out the logistic derivative in the first repository, and the reduction in both."""
        if self.profile.printed_cost == "potential":
            return self.potential()
        cost = mpf(0)
        for who, t in self.t.items():
            for channel in range(self.outputs):
                delta = self._slope(who, channel)
                logistic = (0, 1) if self.profile.objectness == "background" else (0, 1, 4)
                if self.profile.printed_cost == "residuals" and channel in logistic:
                    delta /= sigma(t[channel]) * sigma(-t[channel])
                cost += delta**2
        return float(cost)

    def statistics(self) -> dict[str, float]:
        """darknet's statistics line."""
        sure = [self.probability(match.predictor, match.truth.label) for match in self.assigned]
        if self.profile.class_term == "logistic" and self.profile.class_collision == "accumulate":
            for here, match in enumerate(self.assigned):  # darknet counts such a truth and adds nothing
                if any(other.predictor == match.predictor for other in self.assigned[:here]):
                    sure[here] = mpf(0)
        sure += [self.probability(self._surest(n), only.label) for n, only in self.class_only.items()]
        if self.profile.ignored_class != "none":
            above = [who for who in self.t if self._silenced(who)]  # the responsible ones among them once more
            sure += [self.probability(who, near.label) for who in above if (near := self.best_truth[who]) is not None]
        everywhere = [mpf(0) if who[0] in self.class_only else self.objectness(who) for who in self.t]
        return {
            "avg_iou": _mean([match.iou for match in self.assigned]),
            "avg_class": _mean(sure),
            "avg_obj": _mean([self.objectness(match.predictor) for match in self.assigned]),
            "avg_no_obj": _mean(everywhere),
            "avg_recall": _mean([mpf(int(match.iou > mpf("0.5"))) for match in self.assigned]),
            "count": len(self.assigned),
        }

    def paid_truths(self) -> list[tuple[int, ...]]:
        """`responsible` of a case."""
        return [(m.predictor[0], m.truth.index, *m.predictor[1:]) for m in self.assigned if m.pays_box]

    def margins(self) -> list[Number]:
        """How far each decision that is not an exact tie is from going the other way."""
        margins = [
            abs(best - mpf(self.profile.thresh)) for who, best in self.max_iou.items() if who not in self.responsible
        ]
        for match in self.assigned:
            fits = self.matches(match.predictor[0], match.truth)
            margins += [max(fits) - fit for fit in fits]
            for place, cells in zip(match.truth.box[:2], (self.columns, self.rows), strict=True):
                if border := mp.nint(place * cells):  # no cell lies before the one at 0
                    margins.append(abs(place * cells - border))
        return [margin for margin in margins if margin > 0]


def sigma(t: Number) -> Number:
    return 1 / (1 + mp.exp(-t))


def softplus(z: Number) -> Number:
    """ln(1 + e^z), the value of a logistic output whose target is 0."""
    return mp.log1p(mp.exp(z))


def surprise(z: Sequence[Number], c: int) -> Number:
    """Minus the logarithm of the softmax probability of one class."""
    return mp.log1p(sum((mp.exp(v - z[c]) for m, v in enumerate(z) if m != c), mpf(0)))


def odds_against(z: Sequence[Number], c: int) -> Number:
    """Minus the logarithm of the softmax probability of all the other classes together."""
    return mp.log1p(mp.exp(z[c]) / sum((mp.exp(v) for m, v in enumerate(z) if m != c), mpf(0)))


def iou(a: Sequence[Number], b: Sequence[Number]) -> Number:
    sides = [
        min(a[d] + a[d + 2] / 2, b[d] + b[d + 2] / 2) - max(a[d] - a[d + 2] / 2, b[d] - b[d + 2] / 2) for d in (0, 1)
    ]
    if min(sides) <= 0:
        return mpf(0)
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _mean(values: list[Number]) -> float:
    return float(sum(values, mpf(0)) / len(values)) if values else math.nan


def fault(case: Case) -> dict[str, Any] | None:
    """The fault of an input that counts by chapter 1, as `expected.error` states it; `None` inside the domain."""
    batch, profile = case.batch, case.profile
    if not len(batch.anchors) or any(len(row) != 2 or not all(0 < v < math.inf for v in row) for row in batch.anchors):
        return {"clause": "domain.anchors"}
    if batch.classes < 1:
        return {"clause": "domain.channels"}
    if batch.images_seen < 0:
        return {"clause": "domain.images-seen"}
    shape = batch.predictions.shape
    if len(shape) == 4 and shape[1] != len(batch.anchors) * (5 + batch.classes):
        return {"clause": "domain.channels"}
    if len(shape) != 4 or min(shape[2:]) < 1:
        return {"clause": "domain.ranks"}
    for n, t in enumerate(batch.predictions):
        if not all(math.isfinite(float(v)) for v in t.ravel()):
            return {"clause": "domain.predictions-finite", "image": n}
    if shape[0] != len(batch.truths):
        return {"clause": "domain.ranks"}
    if profile.class_term == "tree":
        tree = batch.tree or ()
        if len(tree) != batch.classes or any(not -1 <= parent < node for node, parent in enumerate(tree)):
            return {"clause": "tree.groups"}
    for n, rows in enumerate(batch.truths):
        if any(len(row) != 5 for row in rows):
            return {"clause": "domain.ranks", "image": n}
        read = [[float(v) for v in row] for row in rows[: profile.max_truths or len(rows)]]
        if profile.truth_end == "x-zero":
            read = list(itertools.takewhile(lambda row: row[0] != 0, read))
        boxless = [row for row in read if row[0] > 100000 and row[1] > 100000 and profile.class_term == "tree"]
        for truth, row in enumerate(read):
            clause = _fault_of_truth(row, batch.classes, boxless)
            if clause:
                return {"clause": clause, "image": n, "truth": truth}
    return None


def _fault_of_truth(row: list[float], classes: int, boxless: list[list[float]]) -> str | None:
    x, y, w, h, label = row
    if boxless and row is not boxless[0]:
        return None
    if not boxless and not all(math.isfinite(v) for v in row):
        return "domain.truths-finite"
    if not boxless and not (0 <= x < 1 and 0 <= y < 1):
        return "domain.centre"
    if not boxless and not (0 < w <= 1 and 0 < h <= 1):
        return "domain.size"
    return None if label in range(classes) else "domain.class"
