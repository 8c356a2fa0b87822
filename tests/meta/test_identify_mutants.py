"""Known mistakes, read as if they were losses that nobody knows: none passes as the loss that it is a mistake of.

Every fifth of the catalogue is read here; run as a script, this module reads all of them and prints what gives each
away.
"""

from __future__ import annotations

import dataclasses

import pytest

from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import Profile, load_profile
from regionloss_suite.identify import identify
from regionloss_suite.identify.profile_of import canonical
from regionloss_suite.identify.verify import verify
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue

#: Weights of which none is 1, for mistakes that a weight of 1 hides.
_WEIGHTS = {"coord_weight": 2.0, "object_weight": 3.0, "no_object_weight": 0.5, "class_weight": 1.5}

_FAR = "only numbers near the ends of the format, which no random batch has, tell"
_TIE = "only an exact tie tells, which random batches seldom have"
_REST = "only rows of padding tell, and random batches have none"

#: Mistakes that no question here shows, and why.
HIDDEN = {
    "class-only-anchors-first": _TIE,
    "class-only-behind-the-end": "it needs a row behind the end that names a class and no box",
    "iou-overflow-nan": _FAR,
    "iou-overflow-one": _FAR,
    "iou-smoothed": _FAR,
    "iou-touching": "only boxes that share an edge and nothing else tell, and they overlap by next to nothing",
    "iou-zero-over-zero": _FAR,
    "last-of-the-best-truths": _TIE,
    "later-truth-erases-match": "it needs a responsible predictor that a later truth ignores",
    "masked-infinity": _FAR,
    "padding-counted": _REST,
    "padding-in-the-first-cell": _REST,
    "places-from-one": "only the place that a refusal names is wrong, and the formula does not say it",
    "recall-at-one-half": "only an IoU of exactly one half tells, and only in the statistics",
    "unread-rows-judged": "it needs a fault behind the end of the list",
}


class Hidden:
    """A mutant under a profile of its own, whatever the question says."""

    def __init__(self, mutant: Mutant, profile: Profile) -> None:
        self.loss = MutantAdapter(mutant)
        self.profile = profile

    def describe(self) -> Description:
        return self.loss.describe()

    def answer(self, question: Question) -> Answer:
        return self.loss.answer(dataclasses.replace(question, profile=self.profile))


def shown_by(mutant: Mutant, batches: int = 100) -> str:
    """What gives a mutant away: an axis, something odd, or what random batches do not explain; else an empty text."""
    right = load_profile(mutant.profile).replace(**mutant.options)
    for profile in (right, right.replace(**_WEIGHTS)):
        loss = Hidden(mutant, profile)
        found = identify(loss)
        changed = canonical(found.profile).differences(canonical(profile))
        if changed:
            return f"axes {', '.join(changed)}"
        if found.odd:
            return f"odd {', '.join(finding.axis for finding in found.odd)}"
        verified = verify(loss, found, number=batches)
        if not verified.whole:
            return f"gradient {verified}"
        if verified.beside:
            return f"beside {', '.join(verified.beside)}"
    return ""


@pytest.mark.parametrize("name", [name for name in sorted(catalogue())[::5] if name not in HIDDEN])
def test_a_mistake_does_not_pass_as_the_loss_that_it_was_made_from(name: str) -> None:
    assert shown_by(catalogue()[name])


def test_what_stays_hidden_is_in_the_catalogue_and_little() -> None:
    assert set(HIDDEN) <= set(catalogue())
    assert len(HIDDEN) < len(catalogue()) / 10


def test_what_is_no_mistake_is_not_given_away() -> None:
    plain = dataclasses.replace(catalogue()["first-truth-wins"], answer=NumpyAdapter().answer)
    assert shown_by(plain) == ""


if __name__ == "__main__":
    for mutant in catalogue().values():
        print(mutant.id, shown_by(mutant) or HIDDEN.get(mutant.id, "PASSES"), sep=": ", flush=True)
