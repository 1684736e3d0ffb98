"""The library of all scripts: reads CSV, JSON and YAML; does not draw, print or train."""
