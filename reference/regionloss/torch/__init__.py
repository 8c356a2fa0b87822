"""The YOLOv2 ("region") loss in PyTorch, for training."""

from regionloss.torch.module import Details, RegionLoss, region_loss
from regionloss.torch.paths import PATHS
from regionloss.torch.settings import PathError
from regionloss.torch.truths import PaddedTruths, pad_truths

__all__ = ["PATHS", "Details", "PaddedTruths", "PathError", "RegionLoss", "pad_truths", "region_loss"]
