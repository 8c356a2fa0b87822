"""Every known mistake, read as if it were a loss that nobody knows: none passes as the loss that it is a mistake of."""

from __future__ import annotations

import dataclasses

from regionloss_adapters import Answer, Description, Question
from regionloss_spec import Profile, load_profile
from regionloss_suite.identify import identify
from regionloss_suite.identify.profile_of import canonical
from regionloss_suite.identify.verify import verify
from regionloss_suite.mutants import Mutant, MutantAdapter

#: Weights of which none is 1, for mistakes that a weight of 1 hides.
_WEIGHTS = {"coord_weight": 2.0, "object_weight": 3.0, "no_object_weight": 0.5, "class_weight": 1.5}


class Hidden:
    """A mutant under a profile of its own, whatever the question says."""

    def __init__(self, mutant: Mutant, profile: Profile) -> None:
        self.loss = MutantAdapter(mutant)
        self.profile = profile

    def describe(self) -> Description:
        return self.loss.describe()

    def answer(self, question: Question) -> Answer:
        return self.loss.answer(dataclasses.replace(question, profile=self.profile))


def shown_by(mutant: Mutant, batches: int = 30) -> str:
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
