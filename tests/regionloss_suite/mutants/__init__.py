"""The mutant catalogue: known mistakes, each a small deviation of an otherwise right loss, each breaking one clause.

A suite that does not catch every one of them cannot be trusted with a real port; and what a real port does wrong is
recognised by the mutant that answers the same.
"""

from regionloss_suite.mutants.mutant import Mutant, MutantAdapter, catalogue

__all__ = ["Mutant", "MutantAdapter", "catalogue"]
