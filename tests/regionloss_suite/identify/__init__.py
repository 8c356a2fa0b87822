"""Read the formula off a loss: ask designed questions, measure every constant, and verify what was read."""

from regionloss_suite.identify.notebook import Finding
from regionloss_suite.identify.run import Identified, identify

__all__ = ["Finding", "Identified", "identify"]
