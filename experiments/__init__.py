"""The paper's experiments: models with their costs, the one training loop, and the records it leaves."""
