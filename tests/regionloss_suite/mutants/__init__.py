"""The mutant catalogue: known mistakes, each a small deviation of an otherwise correct loss that breaks one clause.

A suite that does not catch all of them cannot be trusted with a real port; and a mistake of a real port is recognised
by the mutant that gives the same answers.
"""

from regionloss_suite.mutants.mutant import Mutant, MutantAdapter, catalogue

__all__ = ["Mutant", "MutantAdapter", "catalogue"]
