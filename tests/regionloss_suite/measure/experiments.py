"""The experiments in their order: each builds on the findings of those before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from regionloss_adapters import Adapter
from regionloss_spec import AXES, Profile, load_profile
from regionloss_suite.measure import (
    assignment,
    background,
    class_outputs,
    coordinates,
    domain_probe,
    ignore_rule,
    objectness,
    overlap,
)
from regionloss_suite.measure.black_box import BlackBox, NoAnswerError
from regionloss_suite.measure.findings import Finding, Findings
from regionloss_suite.measure.measured import HIDES, Factors, signs, value_factors
from regionloss_suite.measure.profile import printed_cost, profile_of

#: Name of the experiment, its function, and the axes that stay unknown if it fails.
_EXPERIMENTS: tuple[tuple[str, Callable[[Findings], None], tuple[str, ...]], ...] = (
    ("the reduction", background.reduction, ("reduction",)),  # first, because it divides every other answer
    ("the prior", background.prior, ("prior_until", "prior_weight", "prior_applies")),
    ("no object", background.no_object, ("objectness", "no_object_weight")),
    ("the centre", coordinates.centre, ("coord_weight", "small_box_exponent")),
    ("the size", coordinates.size, ("size_space", "size_target_floor")),
    ("capacity", assignment.capacity, ("max_truths",)),
    ("the end of the list", assignment.end_of_list, ("truth_end",)),
    ("the cell", assignment.cell, ()),
    ("the anchor", assignment.anchor_choice, ("anchor_choice",)),
    ("the ignore rule", ignore_rule.rule, ("ignore", "thresh", "no_object_target")),
    ("other cells, and the box of the ignored", ignore_rule.of_other_cells, ()),
    ("objectness", objectness.responsible,
     ("object_weight", "object_target", "object_target_gradient", "no_object_applies")),
    ("the IoU", overlap.overlap, ()),
    ("the prior of the responsible", objectness.prior_applies, ("prior_applies",)),
    ("classes", class_outputs.form, ("class_term", "class_weight")),
    ("classes of the ignored", ignore_rule.ignored_class, ("ignored_class",)),
    ("collisions", assignment.collision, ("collision", "class_collision")),
    ("the scalar", class_outputs.scalar, ()),
    ("the printed cost", printed_cost, ("printed_cost",)),
    ("input outside the domain", domain_probe.refusals, ()),
    ("no images", domain_probe.no_images, ()),
    ("the same question again", background.steady, ()),
)  # fmt: skip


@dataclass(frozen=True)
class Identified:
    """The measured formula of a loss.

    Attributes:
        name: of the loss, from its adapter.
        findings: by axis, in the order of the axes, followed by findings that no axis expresses.
        profile: the closest profile.
        questions: number of questions.
        wants_tree: whether it needs a tree of classes.
        scalar_only: whether it returns no gradient, so that slopes of its scalar were measured.
        factors: what it multiplies the terms of the profile by.
        asked: the profile of the questions.
        anchors: the number of anchors that it takes, if it takes no other; 0 for any number.
    """

    name: str
    findings: dict[str, Finding]
    profile: Profile
    questions: int
    wants_tree: bool
    scalar_only: bool
    factors: Factors
    asked: Profile
    anchors: int = 0

    @property
    def unknown(self) -> list[str]:
        """The axes that no experiment could determine, except for things that the loss does not return."""
        return [axis for axis in AXES if axis in self.findings and self.findings[axis].value is None]

    @property
    def odd(self) -> list[Finding]:
        """The findings that no profile expresses."""
        return [finding for finding in self.findings.values() if finding.odd]


def question_profile(adapter: Adapter, profile: str | None) -> Profile:
    """The profile of the questions: the given one, or the first that the adapter claims, or darknet."""
    claimed = next((name for name in adapter.describe().profiles if name != "*"), "darknet")
    return load_profile(profile or claimed)


def identify(
    adapter: Adapter,
    profile: str | Profile | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    budget: float = math.inf,
) -> Identified:
    """Determine the formula of a loss.

    Args:
        adapter: the loss.
        profile: the profile of the questions; the loss may or may not read it.
        progress: called with the name of each experiment, its number, and the number of experiments.
        budget: seconds after which no other experiment begins; its axes are then unknown.

    Raises:
        NoAnswerError: it cannot answer even the simplest question.
    """
    asked = profile if isinstance(profile, Profile) else question_profile(adapter, profile)
    findings = Findings(BlackBox(adapter, asked))
    end = time.monotonic() + budget
    background.start(findings)
    stopped = ""
    for number, (name, experiment, axes) in enumerate(_EXPERIMENTS):
        if progress is not None:
            progress(name, number, len(_EXPERIMENTS))
        if time.monotonic() > end:
            stopped = f"not measured: the {budget:g} s of the budget were used up"
        if stopped:
            _unknown(findings, axes, stopped)
            continue
        try:
            experiment(findings)
        except NoAnswerError as error:
            _unknown(findings, axes, f"the experiment on {name}: {error}", odd=True)
        except KeyboardInterrupt:
            stopped = "not measured: interrupted"
            _unknown(findings, axes, stopped)
        except (ArithmeticError, LookupError, ValueError) as failed:
            # An answer that no experiment expects, such as a 0 that is used as a divisor, is an observation as well.
            why = f"{type(failed).__name__}: {failed}"
            _unknown(
                findings, axes or (name,), f"the experiment on {name} cannot interpret its answers: {why}", odd=True
            )
    _hide(findings)
    nearest = profile_of(findings, "identified")
    gradient = signs(findings)
    factors = Factors(gradient, {} if stopped else value_factors(findings, nearest, gradient), findings.box.divisor)
    for axis in findings.products:
        kept = findings.by_axis[axis]
        findings.note(axis, getattr(nearest, axis), kept.evidence, kept.confidence)
    findings.note("squared_factor", nearest.squared_factor,
              "a gradient shows only products of the factor and the weights", "assumed")  # fmt: skip
    findings.by_axis.pop("background form", None)
    for axis in AXES:
        if axis not in findings.by_axis:
            findings.unknown(axis, "no experiment got as far")
    ordered = [axis for axis in AXES if axis in findings.by_axis]
    ordered += [axis for axis in findings.by_axis if axis not in AXES]
    by_axis = {axis: findings.by_axis[axis] for axis in ordered}
    box = findings.box
    return Identified(
        box.description.name,
        by_axis,
        nearest,
        box.questions,
        box.wants_tree,
        box.scalar_only,
        factors,
        asked,
        box.anchors,
    )


def _hide(findings: Findings) -> None:
    """Withdraw what was measured by something that turned out to be odd."""
    for axis, hidden in HIDES.items():
        if axis in findings.by_axis and findings.by_axis[axis].odd:
            for name in hidden:
                before = findings.by_axis.get(name)
                if before is not None and before.confidence == "measured":
                    findings.unknown(name, f"{before.evidence}; but {axis} is odd, on which this builds")
                    findings.products.pop(name, None)


def _unknown(findings: Findings, axes: tuple[str, ...], evidence: str, *, odd: bool = False) -> None:
    for axis in axes:
        if axis not in findings.by_axis:
            findings.unknown(axis, evidence, odd=odd, failed=odd)
