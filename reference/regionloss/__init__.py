"""The YOLOv2 ("region") loss: a readable NumPy reference of the spec, and `regionloss.torch` for training."""

from regionloss.domain import DomainError
from regionloss.loss import Result, evaluate, region_loss

__all__ = ["DomainError", "Result", "evaluate", "region_loss"]
