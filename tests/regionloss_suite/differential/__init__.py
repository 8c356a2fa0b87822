"""Differential search: inputs on which two losses disagree, shrunk, attributed to a clause and stored as cases."""

from regionloss_suite.differential.search import Find, Progress, Search, SearchError
from regionloss_suite.differential.subjects import Subject, subject_of

__all__ = ["Find", "Progress", "Search", "SearchError", "Subject", "subject_of"]
