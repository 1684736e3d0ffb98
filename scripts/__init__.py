"""From results to figures, tables and the report: `python -m scripts.figures`, `scripts.tables`, `scripts.report` and others."""

import experiments.process  # noqa: F401  answers Ctrl-C during the imports in one word
