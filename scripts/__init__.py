"""From results to figures, tables and the report: `python -m scripts.figures`, `scripts.tables`, `scripts.report` and others."""
