"""Step-size schedules: that of the paper's theory and logistic regression (sections 4 and 6.1), and the exponential one of its time."""

import math

import torch
from torch import Tensor


class Schedule:
    """alpha_t = alpha factor(t) for t = 1, 2, ...; the caller decides whether t counts steps or passes.

    Works on any torch optimizer, and unlike torch's own schedulers also where `lr` holds one value per member. A learning rate
    that is a tensor is replaced by a copy at first and then overwritten in place, so that a captured step sees the change.

    Args:
        optimizer: its groups' `lr` at this moment is alpha.

    Raises:
        ValueError: the optimizer has no `lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError(f"{type(optimizer).__name__} has no step size that a schedule could change: use schedule=constant")
        self.optimizer = optimizer
        self.alphas = [_own(group["lr"]) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = _own(group["lr"])
        self.t = 1

    def factor(self, t: int) -> float:
        """alpha_t / alpha, 1 for t = 1."""
        raise NotImplementedError

    def step(self) -> None:
        """Goes from t to t + 1."""
        self.t += 1
        self._apply()

    def state_dict(self) -> dict:
        """alpha for each group, and t."""
        return {"t": self.t, "alphas": self.alphas}

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what `state_dict` returned."""
        groups = self.optimizer.param_groups
        self.t = state_dict["t"]
        self.alphas = [_own(alpha, group["lr"]) for alpha, group in zip(state_dict["alphas"], groups, strict=True)]
        self._apply()

    def keep_members(self, kept: Tensor) -> None:
        """Goes on with these members of a population (their indices), as `RuleOptimizer.keep_members`."""
        self.alphas = [alpha[kept] if isinstance(alpha, Tensor) and alpha.ndim else alpha for alpha in self.alphas]

    @torch.no_grad()
    def _apply(self) -> None:
        for group, alpha in zip(self.optimizer.param_groups, self.alphas, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(alpha * self.factor(self.t))
            else:
                group["lr"] = alpha * self.factor(self.t)


class InverseSqrt(Schedule):
    """alpha_t = alpha / sqrt(t) (Corollary 4.2, section 6.1); see `Schedule`."""

    def factor(self, t: int) -> float:
        """1 / sqrt(t)."""
        return 1 / math.sqrt(t)


class Exponential(Schedule):
    """alpha_t = alpha decay^(t - 1); see `Schedule`.

    Args:
        optimizer: see `Schedule`.
        decay: the factor from t to t + 1, above 0 and at most 1.

    Raises:
        ValueError: the decay is out of range, or the optimizer has no `lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float):
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} should be above 0 and at most 1")
        super().__init__(optimizer)
        self.decay = decay

    def factor(self, t: int) -> float:
        """decay^(t - 1)."""
        return self.decay ** (t - 1)


def _own(lr: float | Tensor, like: float | Tensor | None = None) -> float | Tensor:
    """A copy, on the device of another tensor, if there is one."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.to(like.device, copy=True) if isinstance(like, Tensor) else lr.clone()
