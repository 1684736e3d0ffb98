"""The models: a loss for each experiment, and its initial parameters."""
