"""The symptoms of each clause: those of a loss that breaks this clause and no other."""

from __future__ import annotations

from functools import cache

#: By clause, the symptoms of a loss that breaks it. `;` separates symptoms, `|` alternatives.
#: Capitals are spelled out below.
_SYMPTOMS = {
    "notation.predictor": "background other; objectness other; class other | free class appears",
    "notation.channel-order": "background other | IGNORED; objectness other; class other; centre other; size other; "
    "free class appears | ignored class appears; free centre appears | free size appears",
    "notation.grid-axes": "another cell | no predictor; centre other; size other; objectness other",
    "notation.anchor-units": "size other; objectness other; another anchor; IGNORED",
    "notation.truth-units": "another cell | no predictor; another anchor; centre other; size other; objectness other; "
    "IGNORED",
    "decode.centre": "IGNORED; objectness other",
    "decode.size": "IGNORED; objectness other",
    "decode.objectness": "objectness other; background other",
    "decode.class-probabilities": "class other; free class appears | ignored class appears",
    "iou.definition": "IGNORED; objectness other",
    "iou.touching": "IGNORED | another anchor; objectness rounds | objectness other",
    "iou.zero-area": "objectness nan | objectness other; background nan | IGNORED",
    "iou.overflow": "objectness nan | objectness other; IGNORED | background nan | size nan",
    "assign.cell": "another cell",
    "assign.cell-border": "another cell",
    "assign.one-predictor": "several predictors | no predictor",
    "assign.anchor-shape": "another anchor",
    "assign.anchor-corner": "another anchor",
    "assign.predicted-shape": "another anchor",
    "assign.predicted-iou": "another anchor",
    "assign.anchor-tie": "another anchor",
    "assign.no-overlap": "another cell | no predictor | another anchor",
    "assign.last-truth-wins": "another truth | every truth pays | own predictor",
    "assign.first-truth-wins": "another truth | every truth pays | own predictor",
    "assign.every-truth-pays": "another truth | no predictor",
    "assign.repeated-truth": "every truth pays | no predictor | another truth",
    "assign.class-replaced": "class other",
    "assign.class-accumulates": "class other",
    "noobj.max-iou": "ignored too many | ignored differently; ignored too few | ignored differently",
    "noobj.every-truth": "ignored too few; nobody ignored | another threshold",
    "noobj.same-image": "ignored too many | another threshold",
    "noobj.threshold": "another threshold | nobody ignored",
    "noobj.equality": "at the threshold | nobody ignored",
    "noobj.equality-ignored": "at the threshold",
    "noobj.no-ignore": "another threshold | everybody ignored | ignored too many",
    "noobj.not-responsible": "objectness other alone; no_object value alone",
    "noobj.every-predictor": "objectness other alone; no_object value alone",
    "noobj.not-suppression": "ignored too many | ignored too few | ignored differently",
    "noobj.value": "no_object value alone",
    "noobj.gradient": "background slope alone | background other alone",
    "noobj.target-zero": "background other; nobody ignored",
    "noobj.target-max-iou": "background other | background vanishes; everybody ignored | another threshold",
    "noobj.empty-image": "ignored in empty images | background nan | background vanishes",
    "prior.value": "prior value alone | prior size other | prior centre other",
    "prior.gradient": "PRIOR slope alone | PRIOR other alone",
    "prior.weight": "prior centre factor | prior size factor; "
    "prior centre of ignored factor | prior size of ignored factor",
    "prior.coordinates-only": "ignored objectness appears alone | ignored class appears alone; "
    "background other alone | free class appears alone; prior value alone",
    "prior.limit": "prior centre appears | prior centre vanishes; prior size appears | prior size vanishes",
    "prior.images-seen": "prior centre vanishes; prior size vanishes",
    "prior.not-responsible": "centre other alone | size other alone; prior value alone",
    "prior.every-predictor": "centre other alone | size other alone; prior value alone",
    "prior.ignored-too": "prior centre of ignored vanishes; prior size of ignored vanishes",
    "coord.only-responsible": "free centre appears | free centre other; free size appears | free size other",
    "coord.value": "coord value alone",
    "coord.centre-target": "centre other | centre appears",
    "coord.centre-gradient": "centre slope alone",
    "coord.size-target": "size other | size appears",
    "coord.decoded-size": "size other",
    "coord.square-root-size": "size other",
    "coord.size-target-unclamped": "size other | size vanishes",
    "coord.size-target-floor": "size other",
    "coord.size-gradient": "size slope alone",
    "coord.small-box-weight": "centre by its size | size by its size",
    "coord.constant-weight": "centre by its size | size by its size",
    "coord.squared-small-box-weight": "centre by its size | size by its size",
    "object.only-responsible": "ignored object appears",
    "object.value": "object value alone | objectness slope",
    "object.gradient": "objectness slope alone",
    "object.overrides-ignore": "objectness vanishes | no predictor",
    "object.iou-target": "objectness other",
    "object.one-target": "objectness other",
    "object.max-iou-target": "objectness other",
    "object.target-constant": "centre other alone; size other alone",
    "object.target-flows": "centre other alone; size other alone",
    "object.background": "objectness other; background other; class other",
    "class.only-responsible": "free class appears; ignored class appears",
    "class.ignored-none": "ignored class appears",
    "class.ignored-full": "ignored class vanishes | ignored class other",
    "class.ignored-by-objectness": "ignored class other | ignored objectness appears alone",
    "class.cross-entropy": "class other | class value alone",
    "class.gradient": "class other alone | class factor alone | class slope alone",
    "class.large-logits": "class nan | class other",
    "class.one-class": "class appears | class vanishes",
    "class.squared-error": "class other | class value alone",
    "class.squared-linear": "class other | class value alone",
    "class.logistic": "class other | class value alone",
    "class.focal": "class other | class value alone | class factor",
    "table.three-states": "values only",
    "table.other-anchors": "ignored beside a match | prior size vanishes",
    "table.structural-zeros": "free class appears alone | ignored class appears alone | size nan | free size nan; "
    "ignored objectness appears alone | free centre appears alone | free size appears alone | prior size nan",
    "constant.max-iou": "free centre appears alone | PRIOR appears alone; "
    "free size appears alone | prior centre other alone | prior size other alone",
    "constant.assignment": "centre other alone; size other alone",
    "constant.weight": "centre by predictor; size by predictor",
    "scale.coord-weight": "centre factor; size factor",
    "scale.object-weight": "objectness factor",
    "scale.no-object-weight": "background factor",
    "scale.class-weight": "class factor",
    "scale.squared-factor": "squares by one factor | squares by one factor alone | squares values by one factor",
    "scale.sum": "all by one factor | all by one factor alone | all values by one factor",
    "scale.per-image": "all by one factor | all by one factor alone | all values by one factor",
    "scale.potential": "potential alone",
    "scale.printed-cost": "printed cost alone",
    "truths.terminator": "unread truth | no predictor | another truth; refuses what is valid",
    "truths.no-terminator": "no predictor",
    "truths.padding": "unread truth | ignored too many | all by one factor",
    "truths.capacity": "unread truth | no predictor | another truth; refuses what is valid",
    "truths.order": "another truth",
    "truths.empty": "refuses what is valid | background vanishes",
    "domain.predictions-finite": "accepts what is invalid",
    "domain.channels": "accepts what is invalid",
    "domain.ranks": "accepts what is invalid",
    "domain.truths-finite": "accepts what is invalid",
    "domain.centre": "accepts what is invalid",
    "domain.size": "accepts what is invalid",
    "domain.class": "accepts what is invalid",
    "domain.anchors": "accepts what is invalid",
    "domain.images-seen": "accepts what is invalid",
    "domain.no-repair": "accepts what is invalid",
    "domain.error-message": "refuses at another place",
    "domain.empty-batch": "potential alone | refuses what is valid | another shape",
    "domain.smallest": "refuses what is valid | another shape",
    "domain.unread-rows": "refuses what is valid",
    "numerics.float64": "ROUNDS",
    "numerics.float32": "ROUNDS",
    "numerics.float16": "ROUNDS",
    "numerics.bfloat16": "ROUNDS",
    "numerics.bound": "ROUNDS",
    "numerics.exp-overflow": "size nan | size other; objectness nan | IGNORED | objectness other",
    "numerics.underflow": "objectness nan | background nan; centre nan | class nan",
    "numerics.log-of-zero": "class value alone | class value rounds | class other",
    "numerics.accumulation": "no_object value rounds",
    "statistics.avg-iou": "statistics avg_iou",
    "statistics.class": "statistics avg_class",
    "statistics.obj": "statistics avg_obj",
    "statistics.no-obj": "statistics avg_no_obj",
    "statistics.recall": "statistics avg_recall",
    "statistics.count": "statistics count",
    "statistics.count-zero": "statistics of nothing",
    "tree.groups": "class other; boxless class other | accepts what is invalid",
    "tree.path": "class other | class vanishes; boxless class other | boxless class vanishes",
    "tree.off-path": "class other alone; boxless class other alone",
    "tree.collision": "class other | class vanishes",
    "tree.class-only-image": "refuses what is valid | boxless class other",
    "tree.class-only-choice": "boxless class other | boxless class other alone",
    "tree.class-only-silence": "silent centre appears | silent size appears | silent objectness appears",
}
#: The meaning of the capitals; `PRIOR` stands for a symptom of each payer of the prior.
_SPELLED = {
    "IGNORED": "ignored too many | ignored too few | ignored differently | nobody ignored | everybody ignored "
    "| another threshold",
    "ROUNDS": "centre rounds | size rounds | objectness rounds | class rounds | background rounds",
}

_PRIOR = ["prior centre", "prior size", "prior centre of ignored", "prior size of ignored"]


@cache
def symptoms_of_clause(clause: str, values: str) -> tuple[frozenset[str], ...]:
    """The symptoms of a clause, each as a set of alternatives; empty for a clause without symptoms.

    Args:
        clause: its id.
        values: what checks the value: `terms`, the `potential` alone, or `nothing`.
    """
    spelled = _SYMPTOMS.get(clause, "")
    for capitals, meant in _SPELLED.items():
        spelled = spelled.replace(capitals, meant)
    symptoms = []
    for symptom in spelled.split(";"):
        words = [word.strip() for word in symptom.split("|")]
        payers = [word.replace("PRIOR", payer) for word in words for payer in (_PRIOR if "PRIOR" in word else [""])]
        symptoms.append(frozenset(_as_shown(word, values) for word in payers if word))
    return tuple(symptom for symptom in symptoms if symptom)


def _as_shown(symptom: str, values: str) -> str:
    """A symptom as it shows if no terms are returned."""
    if values != "terms" and " value" in symptom:
        return "potential alone"
    return symptom.removesuffix(" alone") if values == "nothing" and not symptom.startswith("potential") else symptom
