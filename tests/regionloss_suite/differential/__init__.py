"""Differential search: inputs on which two losses disagree, made small, named by a clause and kept as cases."""

from regionloss_suite.differential.search import Find, Progress, Search, SearchError
from regionloss_suite.differential.subjects import Side, side_of

__all__ = ["Find", "Progress", "Search", "SearchError", "Side", "side_of"]
