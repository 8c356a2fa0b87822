"""The path of CUDA: kernels in Triton. Only `paths` imports it, since Triton need not be installed."""
