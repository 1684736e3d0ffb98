"""Builds the report: `python -m scripts.report`."""
