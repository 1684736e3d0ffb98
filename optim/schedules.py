"""Step-size schedules: that of the paper's theory and logistic regression (sections 4 and 6.1), and the exponential one of its time."""

import math

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


class Schedule(LRScheduler):
    """alpha_t = alpha factor(t) for t = 1, 2, ...; the caller decides whether t counts steps or passes.

    A torch scheduler (t is `last_epoch` + 1) for any torch optimizer, which unlike torch's own also takes an `lr` with one value
    per member. Alpha is a group's `initial_lr`: its `lr` when the schedule first sees it, which for a group that is added later
    is the next `step()`. A learning rate that is a tensor is replaced by a copy at first and then overwritten in place, so that a
    captured step sees the change.

    Args:
        optimizer: whose groups' `lr` the schedule sets.

    Raises:
        ValueError: the optimizer has no `lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError(f"{type(optimizer).__name__} has no step size that a schedule could change: use schedule=constant")
        for group in optimizer.param_groups:
            group["lr"] = _copy(group["lr"])
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        """alpha_t / alpha, 1 for t = 1."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Returns alpha_t for each group."""
        self._find_alphas()
        factor = self.factor(self.last_epoch + 1)
        return [alpha * factor for alpha in self.base_lrs]

    def state_dict(self) -> dict:
        """As of any scheduler of torch."""
        self._find_alphas()
        return super().state_dict()

    def _find_alphas(self) -> None:
        """Takes them from the groups: some may be new, and members may have gone."""
        self.base_lrs = [group.setdefault("initial_lr", _copy(group["lr"])) for group in self.optimizer.param_groups]

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what `state_dict` returned, and sets the learning rates.

        Raises:
            ValueError: it is of another schedule, or of an optimizer with another number of groups; nothing has been loaded.
        """
        groups, alphas = self.optimizer.param_groups, state_dict.get("base_lrs", ())
        if len(alphas) != len(groups) or state_dict.keys() != self.state_dict().keys():
            raise ValueError(f"the loaded schedule is invalid: expected {type(self).__name__} with {len(groups)} learning rates")
        super().load_state_dict(state_dict)
        for group, alpha in zip(groups, alphas, strict=True):
            group["initial_lr"] = _copy(alpha, like=group["lr"])
        self._update_lr(self.last_epoch)

    @torch.no_grad()
    def _update_lr(self, epoch: int | None = None) -> None:
        """In the place of torch's, which sets numbers only."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(torch.as_tensor(lr, dtype=torch.float64))
            else:
                group["lr"] = lr
        self._last_lr = [_copy(group["lr"]) for group in self.optimizer.param_groups]


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
        self.decay = decay
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        """decay^(t - 1)."""
        return self.decay ** (t - 1)


def _copy(lr: float | Tensor, like: float | Tensor | None = None) -> float | Tensor:
    """A copy, on the device of another tensor, if there is one."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.to(like.device, copy=True) if isinstance(like, Tensor) else lr.clone()
