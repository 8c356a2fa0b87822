"""Mistakes about the class tree and about images with a class but no box (spec chapter 13)."""

from __future__ import annotations

import dataclasses

import numpy as np

from regionloss.boxes import sigmoid
from regionloss.classes import Tree, class_term, group_of, groups_of, log_softmax, path_to_root, softmax
from regionloss.decisions import Decisions, Match, silenced
from regionloss.domain import CLASS_ONLY
from regionloss.terms import CLASSES
from regionloss_adapters import Answer, Question, RefusedError
from regionloss_spec import Batch, Profile
from regionloss_spec.batch import Array
from regionloss_suite.mutants.mutant import Mutant, patched, right
from regionloss_suite.mutants.tools import Given, Terms, as_if, decided, needs, paid, read, repaired


def _flat(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> tuple[float, Array, Array]:
    """One softmax over all classes, with the class alone as target."""
    needs(profile.class_term == "tree", "a class tree")
    flat = profile.replace(class_term="cross-entropy", class_collision="replace")
    return class_term(z, t_o, labels[-1:], weight, flat, None)


def _tree_mended(batch: Batch) -> Batch:
    if batch.tree is None:
        return dataclasses.replace(batch, tree=(-1,) * batch.classes)
    return dataclasses.replace(
        batch, tree=tuple(parent if -1 <= parent < node else -1 for node, parent in enumerate(batch.tree))
    )


def _mending(question: Question) -> Answer:
    needs(question.profile.class_term == "tree", "a class tree")
    return repaired(_tree_mended)(question)


def _leaf_only(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> tuple[float, Array, Array]:
    needs(profile.class_term == "tree", "a class tree")
    value, gradient = 0.0, np.zeros(len(z))
    group = group_of(labels[-1], tree or ())
    value = -weight * float(log_softmax(z[group])[labels[-1] - group.start])
    gradient[group] = weight * np.exp(log_softmax(z[group]))
    gradient[labels[-1]] -= weight
    return value, gradient, -gradient


def _mean_over_path(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> tuple[float, Array, Array]:
    needs(profile.class_term == "tree", "a class tree")
    share = weight / len(path_to_root(labels[-1], tree or ()))
    return class_term(z, t_o, labels, share, profile, tree)


def _everywhere(terms: Terms, given: Given, decisions: Decisions) -> None:
    """Groups off the path are pulled towards equal class probabilities."""
    needs(given.profile.class_term == "tree", "a class tree")
    for match in decisions.matches:
        if not match.pays_class:
            continue
        n, k, j, i = match.predictor
        p = softmax(given.t[n, k, CLASSES:, j, i], given.tree)
        for group in groups_of(given.tree or ()):
            places = slice(CLASSES + group.start, CLASSES + group.stop)
            if (terms["class"].gradient[n, k, places, j, i] == 0).all():
                slope = given.profile.class_weight * (p[group] - 1 / (group.stop - group.start))
                terms["class"].gradient[n, k, places, j, i] = slope
                terms["class"].delta[n, k, places, j, i] = -slope


def _first_keeps(
    z: Array, t_o: Array, labels: list[int], weight: float, profile: Profile, tree: Tree | None
) -> tuple[float, Array, Array]:
    needs(profile.class_term == "tree", "a class tree")
    return class_term(z, t_o, labels[::-1], weight, profile, tree)


def _all_rows_searched(question: Question) -> Answer:
    needs(question.profile.class_term == "tree", "a class tree")
    read(question)
    truths = []
    for rows in question.batch.truths:
        table = np.array(rows, dtype=np.float64)
        boxless = table[(table[:, :2] > CLASS_ONLY).all(axis=1)] if len(table) else table
        truths.append(boxless[:1] if len(boxless) else table)
    return right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, truths=tuple(truths))))


def _first_row_only(question: Question) -> Answer:
    """Only the first row can mark an image without boxes; later such rows are dropped."""
    needs(question.profile.class_term == "tree", "a class tree")
    read(question)
    truths = []
    for rows in question.batch.truths:
        table = np.array(rows, dtype=np.float64)
        if len(table):
            boxless = (table[:, :2] > CLASS_ONLY).all(axis=1)
            table = table[~boxless | (np.arange(len(table)) == 0)]
        truths.append(table)
    return right(dataclasses.replace(question, batch=dataclasses.replace(question.batch, truths=tuple(truths))))


def _class_only_refused(question: Question) -> Answer:
    answer = right(question)
    needs(question.profile.class_term == "tree", "a class tree")
    for image, rows in enumerate(read(question).truths):
        if len(rows) and (rows[0, :2] > CLASS_ONLY).all():
            raise RefusedError("the centre of a truth is outside the image", image, 0)
    return answer


def _sureness(t: Array, label: int, tree: Tree) -> Array:
    """Probability of the whole path at every predictor, `[A, H, W]`."""
    p = softmax(np.moveaxis(t[:, CLASSES:], 1, 0), tree)
    return np.asarray(np.prod([p[node] for node in path_to_root(label, tree)], axis=0))


def _without_objectness(image: int, t: Array, label: int, tree: Tree) -> Match:
    by_cell = np.moveaxis(_sureness(t, label, tree), 0, -1)
    j, i, k = np.unravel_index(int(np.argmax(by_cell)), by_cell.shape)
    return Match(image, 0, int(k), int(j), int(i), 0.0, pays_box=False)


def _by_objectness(image: int, t: Array, label: int, tree: Tree) -> Match:
    by_cell = np.moveaxis(t[:, 4], 0, -1)
    j, i, k = np.unravel_index(int(np.argmax(by_cell)), by_cell.shape)
    return Match(image, 0, int(k), int(j), int(i), 0.0, pays_box=False)


def _anchors_first(image: int, t: Array, label: int, tree: Tree) -> Match:
    sure = sigmoid(t[:, 4]) * _sureness(t, label, tree)
    k, j, i = np.unravel_index(int(np.argmax(sure)), sure.shape)
    return Match(image, 0, int(k), int(j), int(i), 0.0, pays_box=False)


def _background_around(decisions: Decisions, given: Given) -> Decisions:
    """In an image without boxes, every predictor but the chosen one pays no-object."""
    needs(given.profile.class_term == "tree", "a class tree")
    chosen = np.zeros_like(decisions.responsible)
    for match in decisions.matches:
        chosen[match.predictor] = True
    around = decisions.class_only[:, None, None, None] & ~chosen & ~silenced(decisions.max_iou, given.profile)
    return dataclasses.replace(decisions, no_object=decisions.no_object | around)


def _prior_everywhere(decisions: Decisions, given: Given) -> Decisions:
    needs(given.profile.class_term == "tree", "a class tree")
    early = given.images_seen < given.profile.prior_until
    return dataclasses.replace(decisions, prior=decisions.prior | (early & decisions.class_only[:, None, None, None]))


MUTANTS: list[Mutant] = [
    Mutant(
        id="tree-flat",
        clause="tree.groups",
        title="one softmax runs over all classes of the tree",
        profile="yolo9000",
        answer=patched(terms__class_term=_flat),
    ),
    Mutant(
        id="tree-mended",
        clause="tree.groups",
        title="a parent that does not come earlier counts as no parent",
        profile="yolo9000",
        answer=_mending,
    ),
    Mutant(
        id="tree-leaf-only",
        clause="tree.path",
        title="only the class itself pays, not its ancestors",
        profile="yolo9000",
        answer=patched(terms__class_term=_leaf_only),
    ),
    Mutant(
        id="tree-mean-over-path",
        clause="tree.path",
        title="the path is a mean over its nodes instead of their sum",
        profile="yolo9000",
        answer=patched(terms__class_term=_mean_over_path),
    ),
    Mutant(
        id="tree-off-path",
        clause="tree.off-path",
        title="groups off the path are pulled towards equal class probabilities",
        profile="yolo9000",
        answer=paid(_everywhere),
    ),
    Mutant(
        id="tree-collision-cleared",
        clause="tree.collision",
        title="a later truth clears the groups that are only on the earlier path",
        profile="yolo9000",
        answer=as_if(class_collision="replace"),
    ),
    Mutant(
        id="tree-collision-first",
        clause="tree.collision",
        title="an earlier truth keeps the groups that are also on a later one's path",
        profile="yolo9000",
        answer=patched(terms__class_term=_first_keeps),
    ),
    Mutant(
        id="class-only-behind-the-end",
        clause="tree.class-only-image",
        title="rows after the terminator are searched for one without a box",
        profile="yolo9000",
        answer=_all_rows_searched,
    ),
    Mutant(
        id="class-only-in-the-first-row",
        clause="tree.class-only-image",
        title="only the first row of an image can mark it as having no boxes",
        profile="yolo9000",
        answer=_first_row_only,
    ),
    Mutant(
        id="class-only-refused",
        clause="tree.class-only-image",
        title="an image with a class but no box is refused",
        profile="yolo9000",
        answer=_class_only_refused,
    ),
    Mutant(
        id="class-only-without-objectness",
        clause="tree.class-only-choice",
        title="a class without a box is assigned to the predictor with its largest probability, ignoring objectness",
        profile="yolo9000",
        answer=patched(decisions___match_by_class=_without_objectness),
    ),
    Mutant(
        id="class-only-by-objectness",
        clause="tree.class-only-choice",
        title="a class without a box is assigned to the predictor with the largest objectness, ignoring its classes",
        profile="yolo9000",
        answer=patched(decisions___match_by_class=_by_objectness),
    ),
    Mutant(
        id="class-only-anchors-first",
        clause="tree.class-only-choice",
        title="of predictors with equal scores, the first in the order anchor, row, column pays",
        profile="yolo9000",
        answer=patched(decisions___match_by_class=_anchors_first),
    ),
    Mutant(
        id="class-only-background",
        clause="tree.class-only-silence",
        title="the other predictors of an image without boxes pay the no-object term",
        after="pjreddie/darknet",
        profile="yolo9000",
        answer=decided(_background_around),
    ),
    Mutant(
        id="class-only-prior",
        clause="tree.class-only-silence",
        title="the predictors of an image without boxes pay the prior",
        profile="yolo9000",
        answer=decided(_prior_everywhere),
    ),
]
