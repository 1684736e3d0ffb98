"""The library that all scripts share: reads CSV, JSON and YAML; draws, prints and trains nothing."""
