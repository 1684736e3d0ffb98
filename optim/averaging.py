"""Averages of the parameters over the steps, which generalise better than the last iterate where gradients are noisy (section 7.2)."""

from __future__ import annotations

import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .paths import local
from .plans import HALF


class TemporalAverage(ABC):
    """Follows an optimizer: every step of it enters the average. `swapped_in` lends the average to the parameters.

    The average of parameters in half precision is kept in float32. Parameters that are added to the optimizer later join at
    their first step, with an average of their own steps; those that leave it leave the average. Tensors of integers keep their
    own values. Nothing waits for the device, and a CUDA graph that captures the step captures the average with it.

    An average that nobody holds any more is freed, and follows no longer. It is pickled and copied together with its optimizer.
    For statistics of BatchNorm, average `buffers=model.buffers()` too, or call torch.optim.swa_utils.update_bn while the average
    is swapped in.

    Args:
        optimizer: any torch optimizer.
        buffers: tensors that are averaged with its parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, buffers: Iterable[Tensor] = ()):
        self._optimizer, self._buffers = optimizer, list(buffers)
        self.thetas: list[Tensor] = []
        self.thetabars: list[Tensor] = []
        self._steps: list[Tensor] = []  # of each theta; one tensor for those that joined together
        self._kept: list[Tensor] | None = None
        self._join()
        self._follow()

    def _follow(self) -> None:
        """Hears of the optimizer's steps as long as somebody else holds this average."""
        refuse, update = weakref.WeakMethod(self._refuse_if_swapped_in), weakref.WeakMethod(self.update)
        hooks = [
            self._optimizer.register_step_pre_hook(lambda *_: (method := refuse()) and method()),
            self._optimizer.register_step_post_hook(lambda *_: (method := update()) and method()),
        ]

        def unhook() -> None:
            for hook in hooks:
                hook.remove()

        self._finalizer = weakref.finalize(self, unhook)
        self._finalizer.atexit = False

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_finalizer"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._follow()

    def _join(self) -> None:
        """Makes the tensors that are averaged those that the optimizer has now, and the buffers."""
        now = [theta for group in self._optimizer.param_groups for theta in group["params"]] + self._buffers
        now = [theta for theta in now if theta.is_floating_point() or theta.is_complex()]
        if len(now) == len(self.thetas) and all(map(lambda one, other: one is other, now, self.thetas)):
            return
        held = {id(theta): place for place, theta in enumerate(self.thetas)}
        before, joined = (self.thetabars, self._steps), torch.zeros((), dtype=torch.float64, device=now[0].device)
        self.thetabars = [
            before[0][held[id(theta)]]
            if id(theta) in held
            else torch.zeros_like(theta, dtype=torch.float32 if theta.dtype in HALF else None).detach()
            for theta in now
        ]
        self._steps = [before[1][held[id(theta)]] if id(theta) in held else joined for theta in now]
        self.thetas = now

    @property
    def t(self) -> Tensor:
        """The number of steps that entered the average, shape []."""
        return self._steps[0]

    @abstractmethod
    def _weight(self, t: Tensor) -> float | Tensor:
        """How far the average goes towards the parameters in step t."""

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters into the average; each step of the optimizer does so."""
        self._join()
        found_inf = getattr(self._optimizer, "found_inf", None)  # set by GradScaler: not 0 where the step was left out
        weights = {}
        for t in {id(t): t for t in self._steps}.values():
            t += 1 if found_inf is None else (found_inf == 0).to(t)
            weight = self._weight(t)
            if found_inf is not None:
                weight = torch.as_tensor(weight, dtype=torch.float64, device=t.device)
                weight = torch.where(found_inf.to(t.device) == 0, weight, 0.0)
            weights[id(t)] = weight
        for thetabar, theta, t in zip(map(local, self.thetabars), map(local, self.thetas), self._steps, strict=True):
            weight = weights[id(t)]
            thetabar.lerp_(theta.to(thetabar.dtype), weight.to(thetabar) if isinstance(weight, Tensor) else weight)

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
            theta.copy_(thetabar)

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
        self._finalizer()

    def state_dict(self) -> dict:
        """The averages, in the order of the parameters and then the buffers, and the number of steps that entered each."""
        return {"steps": self._steps, "thetabars": self.thetabars}

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over (as copies) what `state_dict` returned.

        Raises:
            ValueError: it belongs to other parameters.
        """
        self._join()
        theirs, ours = ([tuple(tensor.shape) for tensor in tensors] for tensors in (state_dict["thetabars"], self.thetabars))
        if theirs != ours:
            raise ValueError(f"the loaded averages have shapes {theirs}, the parameters {ours}")
        for old, new in zip(self.thetabars, state_dict["thetabars"], strict=True):
            old.copy_(new)
        shared = {step.item(): step.to(self.t.device, copy=True) for step in state_dict["steps"]}
        self._steps = [shared[step.item()] for step in state_dict["steps"]]

    def _refuse_if_swapped_in(self) -> None:
        if self._kept is not None:
            raise RuntimeError("the average is swapped in: swap_out() before the next step")


class ExponentialAverage(TemporalAverage):
    """thetabar_t = beta thetabar_(t-1) + (1 - beta) theta_t from thetabar_0 = 0; thetahat_t = thetabar_t / (1 - beta^t).

    thetahat is kept as such, by thetahat_t = thetahat_(t-1) + (1 - beta) / (1 - beta^t) (theta_t - thetahat_(t-1)), which leaves
    parameters that do not move exactly as they are.

    Args:
        optimizer: any torch optimizer.
        beta: decay rate, in [0, 1); the paper writes beta2.
        bias_correction: average to thetahat, not to thetabar, which is too close to zero at first.
        buffers: see `TemporalAverage`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, beta: float = 0.999, bias_correction: bool = True, buffers: Iterable[Tensor] = ()):
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta} should lie in [0, 1)")
        super().__init__(optimizer, buffers)
        self.beta, self.bias_correction = beta, bias_correction

    def _weight(self, t: Tensor) -> float | Tensor:
        return (1 - self.beta) / (1 - self.beta**t) if self.bias_correction else 1 - self.beta


class PolyakRuppert(TemporalAverage):
    """The plain mean of all iterates (Polyak & Juditsky 1992, Ruppert 1988).

    Args:
        optimizer: any torch optimizer.
        buffers: see `TemporalAverage`.
    """

    def _weight(self, t: Tensor) -> Tensor:
        return 1 / t
