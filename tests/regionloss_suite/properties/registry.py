"""The registry of the properties."""

from __future__ import annotations

from collections.abc import Callable

from regionloss_spec import Profile
from regionloss_suite.properties.property import Function, Property

#: Every property by its name, in the order of their modules.
PROPERTIES: dict[str, Property] = {}


def always(profile: Profile) -> bool:
    """For every profile."""
    return True


def pins(
    *clauses: str,
    name: str = "",
    needs: tuple[str, ...] = (),
    when: Callable[[Profile], bool] = always,
    by_feature: bool = False,
    every_format: bool = False,
    share: float = 1.0,
) -> Callable[[Function], Function]:
    """Register a function as a property; its name is the function's with spaces, unless another one is given."""

    def register(function: Function) -> Function:
        sentence = name or function.__name__.replace("_", " ")
        if sentence in PROPERTIES:
            raise ValueError(f"there are two properties named {sentence!r}")
        PROPERTIES[sentence] = Property(sentence, clauses, function, needs, when, by_feature, every_format, share)
        return function

    return register
