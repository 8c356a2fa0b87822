"""The benchmarks: time a loss once its numbers have been checked, in alternation with others in the same run."""
