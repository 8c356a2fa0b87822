"""The benchmarks: how fast a loss is that has been found to be right, held against others in the same run."""
