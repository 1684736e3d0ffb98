"""Sums up grids and candidates (`python -m scripts.tuning`), and what they tell about settings that the paper leaves out."""
