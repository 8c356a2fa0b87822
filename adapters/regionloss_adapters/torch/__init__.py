"""The PyTorch losses of this project as adapters, and what any loss in PyTorch is asked with."""
