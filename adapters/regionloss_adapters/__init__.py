"""The adapter protocol, through which any YOLOv2 loss is judged, and the bundled adapters."""

from regionloss_adapters.load import AdapterError, load_adapter
from regionloss_adapters.protocol import Adapter, Answer, CannotAnswer, Description, Refused

__all__ = ["Adapter", "AdapterError", "Answer", "CannotAnswer", "Description", "Refused", "load_adapter"]
