"""Speed: ``python -m benchmarks.models``, ``python -m benchmarks.kernels``, ``python -m benchmarks.peak``."""
