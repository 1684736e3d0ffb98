"""The step-size schedule of the paper's theory and of its logistic regression (sections 4 and 6.1)."""

import math

import torch


class InverseSqrt:
    """alpha_t = alpha / sqrt(t) for t = 1, 2, ...; the caller decides whether t counts steps or passes.

    Works on any torch optimizer, and unlike torch's own schedulers also where `lr` holds one value per member.

    Args:
        optimizer: its groups' `lr` at this moment is alpha.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self.alphas = [group["lr"] for group in optimizer.param_groups]
        self.t = 1

    def step(self) -> None:
        """Goes from t to t + 1."""
        self.t += 1
        for group, alpha in zip(self.optimizer.param_groups, self.alphas, strict=True):
            group["lr"] = alpha / math.sqrt(self.t)
