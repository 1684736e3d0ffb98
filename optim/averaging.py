"""Averages of the parameters over the steps; with noisy gradients they generalise better than the last iterate (section 7.2)."""

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
    """Averages an optimizer's parameters after every step. `swapped_in` sets the parameters to the average.

    Averages of half-precision parameters are float32. Parameters added to the optimizer later are averaged from their first step on;
    removed parameters leave the average. Integer tensors are not averaged. An update never synchronises with the device, and a CUDA
    graph that captures the step captures the update too.

    The average stops following the optimizer once it is garbage-collected. Pickling or copying it includes its optimizer. For
    BatchNorm statistics, pass `buffers=model.buffers()`, or call torch.optim.swa_utils.update_bn while the average is swapped in.

    Args:
        optimizer: any torch optimizer.
        buffers: further tensors to average.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, buffers: Iterable[Tensor] = ()):
        self._optimizer, self._buffers = optimizer, list(buffers)
        self.thetas: list[Tensor] = []
        self.thetabars: list[Tensor] = []
        self._steps: list[Tensor] = []  # per theta; thetas that joined together share a tensor
        self._saved: list[Tensor] | None = None  # the parameters while the average is swapped in
        self._sync_parameters()
        self._register_hooks()

    def _register_hooks(self) -> None:
        """Hooks into the optimizer's steps through weak references, so that the hooks do not keep this average alive."""
        check, update = weakref.WeakMethod(self._check_swapped_out), weakref.WeakMethod(self.update)
        hooks = [
            self._optimizer.register_step_pre_hook(lambda *_: (method := check()) and method()),
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
        self._register_hooks()

    def _sync_parameters(self) -> None:
        """Updates the list of averaged tensors to the optimizer's current parameters and the buffers."""
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
        """Returns the weight of the parameters of step t in the average."""

    @torch.no_grad()
    def update(self) -> None:
        """Adds the current parameters to the average; runs after each step of the optimizer."""
        self._sync_parameters()
        found_inf = getattr(self._optimizer, "found_inf", None)  # set by GradScaler: nonzero if the step was skipped
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
        """Saves the parameters and sets them to the average.

        Raises:
            RuntimeError: the average is swapped in already, or there has been no step.
        """
        self._check_swapped_out()
        if self.t == 0:
            raise RuntimeError("there is no average before the first step")
        self._saved = [theta.clone() for theta in self.thetas]
        for theta, thetabar in zip(self.thetas, self.thetabars, strict=True):
            theta.copy_(thetabar)

    @torch.no_grad()
    def swap_out(self) -> None:
        """Restores the parameters.

        Raises:
            RuntimeError: the average is not swapped in.
        """
        if self._saved is None:
            raise RuntimeError("the average is not swapped in")
        for theta, saved in zip(self.thetas, self._saved, strict=True):
            theta.copy_(saved)
        self._saved = None

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Sets the parameters to the average within a `with` block."""
        self.swap_in()
        try:
            yield
        finally:
            self.swap_out()

    def remove(self) -> None:
        """Stops following the optimizer."""
        self._finalizer()

    def state_dict(self) -> dict:
        """Returns the averages, parameters before buffers, and the number of steps in each."""
        return {"steps": self._steps, "thetabars": self.thetabars}

    def load_state_dict(self, state_dict: dict) -> None:
        """Copies what `state_dict` returned.

        Raises:
            ValueError: the averages have other shapes than the parameters.
        """
        self._sync_parameters()
        theirs, ours = ([tuple(tensor.shape) for tensor in tensors] for tensors in (state_dict["thetabars"], self.thetabars))
        if theirs != ours:
            raise ValueError(f"the loaded averages have shapes {theirs}: expected those of the parameters, {ours}")
        for old, new in zip(self.thetabars, state_dict["thetabars"], strict=True):
            old.copy_(new)
        shared = {step.item(): step.to(self.t.device, copy=True) for step in state_dict["steps"]}
        self._steps = [shared[step.item()] for step in state_dict["steps"]]

    def _check_swapped_out(self) -> None:
        if self._saved is not None:
            raise RuntimeError("the average is swapped in: call swap_out() before the next step")


class ExponentialAverage(TemporalAverage):
    """thetabar_t = beta thetabar_(t-1) + (1 - beta) theta_t from thetabar_0 = 0; thetahat_t = thetabar_t / (1 - beta^t).

    Stores thetahat and updates it by thetahat_t = thetahat_(t-1) + (1 - beta) / (1 - beta^t) (theta_t - thetahat_(t-1)). The average
    of constant parameters is therefore exact.

    Args:
        optimizer: any torch optimizer.
        beta: decay rate, in [0, 1); beta2 in the paper.
        bias_correction: whether the average is thetahat. Without it, the average is thetabar, which is biased towards zero at first.
        buffers: see `TemporalAverage`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, beta: float = 0.999, bias_correction: bool = True, buffers: Iterable[Tensor] = ()):
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta} is invalid: expected a number in [0, 1)")
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
