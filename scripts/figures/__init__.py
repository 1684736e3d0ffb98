"""Draws all figures: `python -m scripts.figures`."""
