"""An identified loss in mathematical notation, as differences from darknet, and as a profile file."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from regionloss_spec import AXES, Profile, load_clauses, load_profile, profile_names
from regionloss_suite.measure.experiments import Identified
from regionloss_suite.measure.measured import Factors
from regionloss_suite.measure.profile import canonical, squared_weights
from regionloss_suite.measure.reduction import SYMBOLS
from regionloss_suite.measure.verify import Verified

#: The number of edge cases to list one by one.
_EDGES_SHOWN = 5


#: What is printed for what was not measured.
_OPEN = "?"


def formula(profile: Profile, unknown: Collection[str] = (), factors: Factors | None = None) -> list[str]:
    """The loss of a profile with its constants, a line for each term; the factor is multiplied into the weights.

    Args:
        profile: every choice.
        unknown: the axes that were not measured, for which `?` is printed.
        factors: what multiplies the terms beside the profile.
    """
    p = profile
    squared = squared_weights(p)

    def known(text: str, *axes: str) -> str:
        return _OPEN if any(axis in unknown for axis in axes) else text

    def weight(axis: str) -> str:
        if axis in unknown:
            return _OPEN
        return f"{getattr(p, axis) * (p.squared_factor if axis in squared else 1):.9g}"

    others = " · 1{not responsible}"
    unsilenced = {"above": f"1{{MaxIOU ≤ {p.thresh:g}}}", "at-or-above": f"1{{MaxIOU < {p.thresh:g}}}", "none": "1"}[
        p.ignore
    ]
    unsilenced = "1{?}" if "ignore" in unknown or ("thresh" in unknown and p.ignore != "none") else unsilenced
    indicator = unsilenced + (others if p.no_object_applies == "not-responsible" else "")
    background = {"cross-entropy": "-ln softmax(t_o, t_c)_o", "squared": "(1 - t_o)²"}
    nothing = "(0 - σ(t_o))²" if p.no_object_target == "zero" else "(MaxIOU - σ(t_o))²"
    something = {
        "iou": "(IOU^truth - σ(t_o))²", "one": "(1 - σ(t_o))²", "max-iou": "(MaxIOU - σ(t_o))²"
    }[p.object_target]  # fmt: skip
    if p.objectness == "background":
        joint = p.class_term == "cross-entropy"
        nothing = background["cross-entropy" if joint else "squared"]
        something = "-ln(1 - softmax(t_o, t_c)_o)" if joint else "(0 - t_o)²"
    elif p.object_target_gradient == "flows" and p.object_target != "one":
        something += ", with gradient through the target"
    nothing = known(nothing, "objectness", "no_object_target")
    something = known(something, "objectness", "object_target")
    sizes = {
        "log": "(ln(w·W / a_w) - t_w)² + (ln(h·H / a_h) - t_h)²",
        "decoded": "(w·W - a_w·e^t_w)² + (h·H - a_h·e^t_h)²",
        "square-root": "(√w - √b_w)² + (√h - √b_h)²",
    }[p.size_space]
    if p.size_target_floor == "one-cell":
        sizes = "(ln(max(w·W, 1) / a_w) - t_w)² + (ln(max(h·H, 1) / a_h) - t_h)²"
    box = {0: "", 1: "(2 - w·h) · ", 2: "(2 - w·h)² · "}[p.small_box_exponent]
    classes = {
        "cross-entropy": "-ln softmax(t_c)_truth",
        "squared-error": "Σ_c (1_c - softmax(t_c))²",
        "squared-linear": "Σ_c (1_c - t_c)²",
        "logistic": "Σ_c BCE(1_c, σ(t_c))",
        "focal": "-½(1 - p)² ln p, p = softmax(t_c)_truth",
        "tree": "Σ_groups -ln softmax(group)_truth",
    }[p.class_term]
    sizes = known(sizes, "size_space", "size_target_floor")
    box = "? · " if "small_box_exponent" in unknown else box
    classes = known(classes, "class_term")
    divisor = "1/N · " if p.reduction == "per-image" else ""
    if factors is not None and factors.divisor:
        divisor = f"{SYMBOLS[factors.divisor]} · "
    elif "reduction" in unknown:
        divisor = "? · "
    lines = [
        f"L = {divisor}Σ_predictors [",
        f"      {indicator} · {weight('no_object_weight')} · {nothing}",
    ]
    if p.prior_until:
        who = others if p.prior_applies == "not-responsible" else ""
        lines.append(
            f"    + 1{{t < {known(str(p.prior_until), 'prior_until')}}}{who} · {weight('prior_weight')} · "
            "((½ - σ(t_x))² + (½ - σ(t_y))² + t_w² + t_h²)"
        )
    lines += [
        f"    + 1^truth · {weight('coord_weight')} · {box}((x·W - i - σ(t_x))² + (y·H - j - σ(t_y))²",
        f"          + {sizes})",
        f"    + 1^truth · {weight('object_weight')} · {something}",
        f"    + 1^truth · {weight('class_weight')} · {classes}",
    ]
    if "ignored_class" in unknown:
        lines.append("    + ? · 1{ignored} · the classes of the ignored")
    elif p.ignored_class != "none":
        by = "σ(t_o) · " if p.ignored_class == "by-objectness" else ""
        lines.append(f"    + 1{{ignored}} · {weight('class_weight')} · {by}{classes}, of the nearest truth")
    lines.append("]")
    where = {
        "anchor-shape": "the anchor of the truth's cell with the largest IoU of shapes",
        "anchor-corner": "the anchor of the truth's cell with the largest IoU when it sits on the cell's corner",
        "predicted-shape": "the predictor of the truth's cell whose box has the largest IoU of shapes",
        "predicted-iou": "the predictor of the truth's cell whose box has the largest IoU",
    }[p.anchor_choice]
    rival = {"last": "the last truth wins", "first": "the first truth wins", "sum": "every truth is paid"}[p.collision]
    if p.class_collision == "accumulate":
        rival += ", classes of all are true"
    where, rival = known(where, "anchor_choice"), known(rival, "collision")
    lines.append(f"1^truth: {where}; of several on one predictor, {rival}")
    end = "a row with x = 0 ends the list" if p.truth_end == "x-zero" else "no row ends the list"
    read = f"at most {p.max_truths} are read" if p.max_truths else "all are read"
    lines.append(f"truths: {known(end, 'truth_end')}; {known(read, 'max_truths')}")
    return lines if factors is None else [*lines, *_of_terms(factors)]


def _of_terms(factors: Factors) -> list[str]:
    """The factors of terms in words."""
    lines = [f"the gradient of {term} is {factor:.9g} times this" for term, factor in factors.gradient.items()]
    return lines + [f"the value of {term} is {factor:.9g} times this" for term, factor in factors.value.items()]


def beside_profile(factors: Factors) -> list[str]:
    """What no profile holds, in words: the divisor and the factors of terms."""
    return [
        *([f"the loss is multiplied by {SYMBOLS[factors.divisor]}"] if factors.divisor else []),
        *_of_terms(factors),
    ]


def measured_formula(identified: Identified) -> list[str]:
    """The measured loss with its factors, and the caveat for what no profile expresses."""
    return formula(identified.profile, identified.unknown, identified.factors)


def differences(profile: Profile, other: Profile) -> list[tuple[str, Any, Any, list[str]]]:
    """The differences of two profiles: axis, value, the other's value, and the clauses of both.

    Products of a factor and a weight are compared, not their parts; axes without effect in either are left out.
    """
    ours, theirs = canonical(profile), canonical(other)
    clauses = load_clauses().values()
    rows = []
    for axis, (value, other_value) in ours.differences(theirs).items():
        ids = [
            clause.id for clause in clauses
            if clause.axis == axis and (not clause.values or {value, other_value} & set(clause.values))
        ]  # fmt: skip
        rows.append((axis, value, other_value, ids))
    return rows


def measured_differences(identified: Identified, other: Profile) -> list[tuple[str, Any, Any, list[str]]]:
    """The differences of the measured profile from another; what was not measured is none."""
    rows = differences(identified.profile, other)
    return [row for row in rows if row[0] not in identified.unknown]


def nearest(profile: Profile) -> tuple[str, int]:
    """The shipped profile that differs on the fewest axes, and their number."""
    counts = [(len(differences(profile, load_profile(name))), name) for name in profile_names()]
    count, name = min(counts, key=lambda pair: pair[0])  # darknet first on a tie
    return name, count


def toml(identified: Identified, verified: Verified | None) -> str:
    """The profile as a file for `load_profile`."""
    lines = [f"# {verified}" if verified is not None else "# not verified"]
    if identified.unknown:
        lines.append(f"# not identified, left at darknet's value: {', '.join(identified.unknown)}")
    lines += [f"# beside the profile: {line}" for line in beside_profile(identified.factors)]
    for key in ("name", "title", "source", *AXES):
        value = getattr(identified.profile, key)
        lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def as_json(identified: Identified, verified: Verified) -> dict[str, Any]:
    """The whole result as JSON."""
    return {
        "loss": identified.name,
        "questions": identified.questions,
        "formula": measured_formula(identified),
        "profile": {axis: getattr(identified.profile, axis) for axis in AXES},
        "factors": {
            "gradient": dict(identified.factors.gradient),
            "value": dict(identified.factors.value),
            "divisor": identified.factors.divisor,
        },
        "nearest": dict(zip(("profile", "differences"), nearest(identified.profile), strict=True)),
        "differences": [
            {"axis": axis, "value": value, "darknet": other, "clauses": ids}
            for axis, value, other, ids in measured_differences(identified, load_profile("darknet"))
        ],
        "findings": [
            {"axis": f.axis, "value": f.value, "confidence": f.confidence, "odd": f.odd, "evidence": f.evidence}
            for f in identified.findings.values()
        ],
        "verification": {
            "batches": verified.batches, "explained": verified.explained, "beyond": verified.beyond,
            "left": dict(verified.left), "beside": dict(verified.beside),
            "first": verified.first, "edges": verified.edges, "edges left": verified.edges_left,
        },
    }  # fmt: skip


def assumed(odd: Sequence[str]) -> list[str]:
    """The caveat for a formula with darknet's values on some axes because no profile expresses the loss there.

    Args:
        odd: findings that no profile expresses; only those that affect the formula are named.
    """
    axes = [axis for axis in AXES if axis in odd and axis != "printed_cost"]
    return [f"no profile expresses it in {', '.join(axes)}: there, this is what darknet does"] if axes else []


def _odd_axes(identified: Identified) -> list[str]:
    return [axis for axis in identified.unknown if identified.findings[axis].odd]


def lines(identified: Identified, verified: Verified) -> list[str]:
    """The result for a terminal."""
    name, count = nearest(identified.profile)
    out = [f"{identified.name}: {identified.questions} questions", "", *measured_formula(identified), ""]
    out.append("Differences from darknet (weights of squared terms for a factor of ½):")
    changes = measured_differences(identified, load_profile("darknet"))
    out += [f"  {axis} = {value} (darknet: {other}) · {', '.join(ids)}" for axis, value, other, ids in changes] or [
        "  none"
    ]
    out.append(f"Nearest known implementation: {name}" + (f", {count} axes apart" if count else ", no axis apart"))
    notes = [
        ("What no profile expresses:", [f for f in identified.findings.values() if f.odd]),
        ("Unknown:", [f for f in identified.findings.values() if f.value is None and not f.odd]),
    ]
    for title, findings in notes:
        if findings:
            out += [title, *(f"  {f.axis}: {f.evidence}" for f in findings)]
    out += ["", str(verified)]
    out += [f"  not explained: {part} (in {count} batches)" for part, count in verified.left.most_common()]
    out += [f"  also, {part} deviates (in {count} batches)" for part, count in verified.beside.most_common()]
    out += [f"  first: {verified.first}"] if verified.first else []
    edges = first_of(list(verified.edges_left.values()), _EDGES_SHOWN)
    return out + [f"  on an edge: {departure}" for departure in edges]


def first_of(sentences: Sequence[str], most: int, kind: str = "") -> list[str]:
    """The first few of many sentences, and how many more there are.

    Args:
        sentences: one line each.
        most: how many to keep.
        kind: the noun for the rest, if any.
    """
    if len(sentences) <= most:
        return list(sentences)
    more = f"{len(sentences) - most} {kind}".rstrip()
    return [*sentences[:most], f"and {more} more"]


def markdown(identified: Identified, verified: Verified) -> str:
    """The result as a page, with the evidence of every axis."""
    name, count = nearest(identified.profile)
    known = f"Nearest known implementation: `{name}`, {count} axes apart."
    out = [f"# {identified.name}", "", f"{verified}.", known, ""]
    out += [
        "```text",
        *measured_formula(identified),
        "```",
        "",
        "| axis | value | darknet | clauses |",
        "| --- | --- | --- | --- |",
    ]
    out += [
        f"| `{axis}` | {value} | {other} | {', '.join(f'`{one}`' for one in ids)} |"
        for axis, value, other, ids in measured_differences(identified, load_profile("darknet"))
    ]
    out += ["", "| finding | value | confidence | evidence |", "| --- | --- | --- | --- |"]
    for f in identified.findings.values():
        value = "unknown" if f.value is None else f.value
        out.append(f"| {f.axis} | {value} | {f.confidence} | {f.evidence.replace('|', chr(92) + '|')} |")
    if verified.left:
        out += ["", "Not explained:", ""]
        out += [f"- {part}, in {number} batches" for part, number in verified.left.most_common()]
    if verified.beside:
        out += ["", "The loss also deviates in:", ""]
        out += [f"- {part}, in {number} batches" for part, number in verified.beside.most_common()]
    if verified.edges_left:
        out += ["", "On edge cases of the spec it deviates:", ""]
        out += [f"- {departure}" for departure in first_of(list(verified.edges_left.values()), _EDGES_SHOWN)]
    return "\n".join(out) + "\n"
