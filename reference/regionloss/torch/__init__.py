"""The YOLOv2 ("region") loss in PyTorch, for training."""

from regionloss.torch.eager import EagerResult, region_loss

__all__ = ["EagerResult", "region_loss"]
