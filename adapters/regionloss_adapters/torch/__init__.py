"""The PyTorch losses of this project as adapters, and helpers for any loss in PyTorch."""
