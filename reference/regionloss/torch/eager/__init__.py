"""The path of every profile: plain PyTorch, whose gradient is that of autograd."""

from regionloss.torch.eager.loss import EagerResult, region_loss

__all__ = ["EagerResult", "region_loss"]
