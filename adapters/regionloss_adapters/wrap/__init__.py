"""Adapters for the usual port, in a few lines."""

from regionloss_adapters.wrap.from_loss import Options, from_jax, from_keras, from_numpy, from_torch
from regionloss_adapters.wrap.loss_call import MutatedInputError

__all__ = ["MutatedInputError", "Options", "from_jax", "from_keras", "from_numpy", "from_torch"]
