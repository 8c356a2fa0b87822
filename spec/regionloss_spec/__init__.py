"""The written spec of the YOLOv2 ("region") loss, its profiles and golden cases, and the few lines that read them."""

from regionloss_spec.batch import Batch
from regionloss_spec.case import Case, CaseError, load_case, load_cases
from regionloss_spec.clause import Clause, ClauseError, load_clauses
from regionloss_spec.profile import AXES, Profile, ProfileError, load_profile, profile_names

__all__ = [
    "AXES",
    "Batch",
    "Case",
    "CaseError",
    "Clause",
    "ClauseError",
    "Profile",
    "ProfileError",
    "load_case",
    "load_cases",
    "load_clauses",
    "load_profile",
    "profile_names",
]
