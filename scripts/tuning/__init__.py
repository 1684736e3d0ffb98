"""Summarises grids and candidates (`python -m scripts.tuning`), and infers settings that the paper does not state."""
