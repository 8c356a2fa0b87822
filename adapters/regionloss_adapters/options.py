"""Which options of a profile an implementation can follow."""

from __future__ import annotations

from collections.abc import Collection

from regionloss_spec import Profile, ProfileError, load_profile


def missing_option(profile: Profile, profiles: Collection[str], options: Collection[str]) -> str | None:
    """The first axis that a case sets and an implementation does not read, or `None` if it can be asked.

    Args:
        profile: of the question; a case may set an axis otherwise than the shipped profile of that name.
        profiles: what the implementation claims; one that claims `*` reads every axis.
        options: the axes that it reads from the profile of a question.
    """
    if "*" in profiles:
        return None
    try:
        changed = load_profile(profile.name).differences(profile)
    except ProfileError:  # a profile of the user's own, which is all there is to compare with
        return None
    return next((axis for axis in changed if axis not in options), None)
