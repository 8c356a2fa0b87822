"""Read the formula off a loss: ask designed questions, measure every constant, and verify what was read."""

from regionloss_suite.measure.experiments import Identified, identify
from regionloss_suite.measure.findings import Finding

__all__ = ["Finding", "Identified", "identify"]
