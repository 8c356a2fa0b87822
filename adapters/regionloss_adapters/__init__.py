"""The adapter protocol, through which any YOLOv2 loss is judged, and the bundled adapters."""

from regionloss_adapters import layouts, truths
from regionloss_adapters.limits import Limits
from regionloss_adapters.load import load_adapter
from regionloss_adapters.process.adapter import LossError, ProcessAdapter
from regionloss_adapters.protocol import (
    Adapter,
    AdapterError,
    Answer,
    CannotAnswer,
    CannotAnswerError,
    Description,
    Question,
    Refused,
    RefusedError,
)
from regionloss_adapters.timed import Timeable, Timed
from regionloss_adapters.wrap.from_loss import from_jax, from_keras, from_numpy, from_torch

__all__ = [
    "Adapter",
    "AdapterError",
    "Answer",
    "CannotAnswer",
    "CannotAnswerError",
    "Description",
    "Limits",
    "LossError",
    "ProcessAdapter",
    "Question",
    "Refused",
    "RefusedError",
    "Timeable",
    "Timed",
    "from_jax",
    "from_keras",
    "from_numpy",
    "from_torch",
    "layouts",
    "load_adapter",
    "truths",
]
