"""The path `compiled`, for the host: kernels in C++, compiled when they are first needed."""
