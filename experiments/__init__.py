"""The paper's experiments: models and their losses, the training loop, and records of finished runs."""
