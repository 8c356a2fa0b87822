"""Known mistakes, read as if they were losses that nobody knows: none passes as the loss that it is a mistake of.

Every fifth of the catalogue is read here, and of these every fourth by `make test`; run as a script, this module reads
all of them and prints what gives each away.
"""

from __future__ import annotations

import dataclasses

import pytest

from regionloss_adapters import Answer, Description, Question
from regionloss_adapters.numpy_reference import NumpyAdapter
from regionloss_spec import Profile, load_profile
from regionloss_suite.measure import identify
from regionloss_suite.measure.profile import canonical
from regionloss_suite.measure.verify import verify
from regionloss_suite.mutants import Mutant, MutantAdapter, catalogue

#: Weights of which none is 1, for mistakes that a weight of 1 hides.
_WEIGHTS = {"coord_weight": 2.0, "object_weight": 3.0, "no_object_weight": 0.5, "class_weight": 1.5}

#: Mistakes that only the edge cases of the spec show: ties, numbers near the ends of the format, rows of padding.
ON_AN_EDGE = (
    "class-only-anchors-first",
    "class-only-behind-the-end",
    "iou-overflow-nan",
    "iou-overflow-one",
    "iou-smoothed",
    "iou-touching",
    "iou-zero-over-zero",
    "later-truth-erases-match",
    "masked-infinity",
    "padding-counted",
    "padding-in-the-first-cell",
    "recall-at-one-half",
    "unread-rows-judged",
)

#: Mistakes that no question here shows, and why.
HIDDEN = {
    "last-of-the-best-truths": "only an exact tie tells, in a profile that no edge case was made for",
    "places-from-one": "only the place that a refusal names is wrong, and the formula does not say it",
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
        if verified.edges_left:
            return f"edge {', '.join(verified.edges_left)}"
    return ""


@pytest.mark.slow
@pytest.mark.sample(every=4)
@pytest.mark.parametrize("name", ON_AN_EDGE)
def test_a_mistake_that_random_batches_do_not_show_departs_on_an_edge(name: str) -> None:
    assert shown_by(catalogue()[name]).startswith("edge ")


@pytest.mark.slow
@pytest.mark.sample(every=4)
@pytest.mark.parametrize("name", [name for name in sorted(catalogue())[::5] if name not in (*ON_AN_EDGE, *HIDDEN)])
def test_a_mistake_does_not_pass_as_the_loss_that_it_was_made_from(name: str) -> None:
    assert shown_by(catalogue()[name])


def test_what_stays_hidden_is_in_the_catalogue_and_little() -> None:
    assert set(HIDDEN) <= set(catalogue())
    assert len(HIDDEN) < len(catalogue()) / 100


@pytest.mark.slow
def test_what_is_no_mistake_is_not_given_away() -> None:
    plain = dataclasses.replace(catalogue()["first-truth-wins"], answer=NumpyAdapter().answer)
    assert shown_by(plain) == ""


if __name__ == "__main__":
    for mutant in catalogue().values():
        print(mutant.id, shown_by(mutant) or HIDDEN.get(mutant.id, "PASSES"), sep=": ", flush=True)
