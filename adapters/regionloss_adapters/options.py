"""The profile options that an implementation supports."""

from __future__ import annotations

from collections.abc import Collection

from regionloss_spec import Profile, ProfileError, load_profile


def missing_option(profile: Profile, profiles: Collection[str], options: Collection[str]) -> str | None:
    """The first axis that a case sets and an implementation does not read, or `None` if it can run the case.

    Args:
        profile: of the question; a case may change an axis of the shipped profile of that name.
        profiles: the profiles that the implementation claims; one that claims `*` reads every axis.
        options: the axes that it reads from the profile of a question.
    """
    if "*" in profiles:
        return None
    try:
        changed = load_profile(profile.name).differences(profile)
    except ProfileError:  # a user's own profile, the only one to compare with
        return None
    return next((axis for axis in changed if axis not in options), None)
