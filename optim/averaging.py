"""Averages of the parameters over the steps, which generalise better than the last iterate where gradients are noisy (section 7.2)."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)


class TemporalAverage(ABC):
    """Follows an optimizer: every step of it enters the average. `swapped_in` lends the average to the parameters.

    The average of parameters in half precision is kept in float32. Nothing waits for the device, and a CUDA graph that captures
    the step captures the average with it.

    Args:
        optimizer: any torch optimizer; the parameters that it has now are averaged.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.thetas: list[Tensor] = [theta for group in optimizer.param_groups for theta in group["params"]]
        self.thetabars = [torch.zeros_like(theta, dtype=torch.float32 if theta.dtype in _HALF else None) for theta in self.thetas]
        self.t = torch.zeros((), dtype=torch.float64, device=self.thetas[0].device)
        self._optimizer = optimizer
        self._kept: list[Tensor] | None = None
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._refuse_if_swapped_in()),
            optimizer.register_step_post_hook(lambda *_: self.update()),
        ]

    @abstractmethod
    def _weight(self) -> float | Tensor:
        """How far the average goes towards the parameters after step self.t."""

    @abstractmethod
    def _estimate(self, thetabar: Tensor) -> Tensor:
        """The average that is lent to the parameters."""

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters into the average; each step of the optimizer does so."""
        found_inf = getattr(self._optimizer, "found_inf", None)  # set by GradScaler: not 0 where the step was left out
        self.t += 1 if found_inf is None else (found_inf == 0).to(self.t)
        weight = self._weight()
        if found_inf is not None:
            weight = torch.as_tensor(weight, dtype=torch.float64, device=self.t.device)
            weight = torch.where(found_inf.to(self.t.device) == 0, weight, 0.0)
        for thetabar, theta in zip(self.thetabars, self.thetas, strict=True):
            here = weight.to(thetabar.device, thetabar.dtype) if isinstance(weight, Tensor) else weight
            thetabar.lerp_(theta.to(thetabar.dtype), here)

    @torch.no_grad()
    def swap_in(self) -> None:
        """Puts the average in the place of the parameters, which are kept.

        Raises:
            RuntimeError: it is there already, or there has been no step.
        """
        self._refuse_if_swapped_in()
        if self.t == 0:
            raise RuntimeError("there is no average before the first step")
        self._kept = [theta.clone() for theta in self.thetas]
        for theta, thetabar in zip(self.thetas, self.thetabars, strict=True):
            theta.copy_(self._estimate(thetabar))

    @torch.no_grad()
    def swap_out(self) -> None:
        """Puts the parameters back.

        Raises:
            RuntimeError: they are in their place.
        """
        if self._kept is None:
            raise RuntimeError("the average is not swapped in")
        for theta, kept in zip(self.thetas, self._kept, strict=True):
            theta.copy_(kept)
        self._kept = None

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The average in the place of the parameters, for the length of a `with` block."""
        self.swap_in()
        try:
            yield
        finally:
            self.swap_out()

    def remove(self) -> None:
        """Stops following the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict:
        """The averages, in the order of the parameters, and the number of steps that entered them."""
        return {"t": self.t, "thetabars": self.thetabars}

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over (as copies) what `state_dict` returned.

        Raises:
            ValueError: it belongs to other parameters.
        """
        theirs, ours = ([tuple(tensor.shape) for tensor in tensors] for tensors in (state_dict["thetabars"], self.thetabars))
        if theirs != ours:
            raise ValueError(f"the loaded averages have shapes {theirs}, the parameters {ours}")
        for old, new in zip([self.t, *self.thetabars], [state_dict["t"], *state_dict["thetabars"]], strict=True):
            old.copy_(new)

    def _refuse_if_swapped_in(self) -> None:
        if self._kept is not None:
            raise RuntimeError("the average is swapped in: swap_out() before the next step")


class ExponentialAverage(TemporalAverage):
    """thetabar_t = beta thetabar_(t-1) + (1 - beta) theta_t from thetabar_0 = 0; thetahat_t = thetabar_t / (1 - beta^t).

    Args:
        optimizer: any torch optimizer.
        beta: decay rate, in [0, 1); the paper writes beta2.
        bias_correction: lend thetahat, not thetabar, which is too close to zero at first.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, beta: float = 0.999, bias_correction: bool = True):
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta} should lie in [0, 1)")
        super().__init__(optimizer)
        self.beta, self.bias_correction = beta, bias_correction

    def _weight(self) -> float:
        return 1 - self.beta

    def _estimate(self, thetabar: Tensor) -> Tensor:
        return thetabar / (1 - self.beta ** self.t.to(thetabar.device)) if self.bias_correction else thetabar


class PolyakRuppert(TemporalAverage):
    """The plain mean of all iterates (Polyak & Juditsky 1992, Ruppert 1988).

    Args:
        optimizer: any torch optimizer.
    """

    def _weight(self) -> Tensor:
        return 1 / self.t

    def _estimate(self, thetabar: Tensor) -> Tensor:
        return thetabar
