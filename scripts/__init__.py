"""Turns results into figures, tables and the report: `python -m scripts.figures`, `scripts.tables`, `scripts.report` and others."""

import experiments.process  # noqa: F401  no traceback for Ctrl-C during the imports
