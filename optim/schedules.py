"""Learning-rate schedules: alpha / sqrt(t) (sections 4 and 6.1), and exponential decay, which was common in 2014."""

import math

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


class Schedule(LRScheduler):
    """Sets alpha_t = alpha factor(t) for t = 1, 2, ...; the caller decides whether t counts steps or epochs.

    A torch scheduler for any torch optimizer, with t = `last_epoch` + 1. Unlike torch's schedulers, it accepts an `lr` with one value
    per member. alpha is a group's `initial_lr`: its `lr` at construction, or at the next `step()` for a group that is added later. A
    tensor `lr` is copied once and then updated in place, so that captured CUDA graphs see the change.

    Args:
        optimizer: the optimizer whose groups the schedule updates.

    Raises:
        ValueError: the optimizer has no `lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError(f"{type(optimizer).__name__} has no learning rate to schedule: use schedule=constant")
        for group in optimizer.param_groups:
            group["lr"] = _copy(group["lr"])
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        """Returns alpha_t / alpha, which is 1 for t = 1."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Returns alpha_t for each group."""
        self._find_alphas()
        factor = self.factor(self.last_epoch + 1)
        return [alpha * factor for alpha in self.base_lrs]

    def state_dict(self) -> dict:
        """Returns t and the alphas under torch's names."""
        self._find_alphas()
        return super().state_dict()

    def _find_alphas(self) -> None:
        """Reads alpha from each group, because groups may have been added and members removed."""
        self.base_lrs = [group.setdefault("initial_lr", _copy(group["lr"])) for group in self.optimizer.param_groups]

    def load_state_dict(self, state_dict: dict) -> None:
        """Copies what `state_dict` returned and sets the learning rates.

        Raises:
            ValueError: the state is of another schedule or number of groups; nothing has been loaded.
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
        """Replaces torch's method, which does not support tensors with one value per member."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(torch.as_tensor(lr, dtype=torch.float64))
            else:
                group["lr"] = lr
        self._last_lr = [_copy(group["lr"]) for group in self.optimizer.param_groups]


class InverseSqrt(Schedule):
    """Sets alpha_t = alpha / sqrt(t) (Corollary 4.2, section 6.1); see `Schedule`."""

    def factor(self, t: int) -> float:
        """Returns 1 / sqrt(t)."""
        return 1 / math.sqrt(t)


class Exponential(Schedule):
    """Sets alpha_t = alpha decay^(t - 1); see `Schedule`.

    Args:
        optimizer: see `Schedule`.
        decay: alpha_(t+1) / alpha_t, in (0, 1].

    Raises:
        ValueError: the decay is out of range, or the optimizer has no `lr`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float):
        if not 0 < decay <= 1:
            raise ValueError(f"decay={decay} is invalid: expected a number in (0, 1]")
        self.decay = decay
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        """Returns decay^(t - 1)."""
        return self.decay ** (t - 1)


def _copy(lr: float | Tensor, like: float | Tensor | None = None) -> float | Tensor:
    """Returns a copy, on the device of `like` if that is a tensor."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.to(like.device, copy=True) if isinstance(like, Tensor) else lr.clone()
