"""The fast path of any device: the gradient is written down, in NumPy on the host and in PyTorch on a device."""
