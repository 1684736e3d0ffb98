"""Measures speed and memory: `python -m scripts.benchmarks.training`, `.optimizers` and `.sfo_memory`."""
