"""Determine the formula of a loss: put designed questions to it, measure every constant, and verify the result."""

from regionloss_suite.measure.experiments import Identified, identify
from regionloss_suite.measure.findings import Finding

__all__ = ["Finding", "Identified", "identify"]
