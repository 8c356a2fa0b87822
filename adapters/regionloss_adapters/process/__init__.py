"""An adapter in a process of its own, in any language."""

from regionloss_adapters.process.adapter import LossError, ProcessAdapter

__all__ = ["LossError", "ProcessAdapter"]
