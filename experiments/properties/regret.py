"""Regret in online convex optimisation (section 4, Theorem 4.1 and Corollary 4.2), and a counterexample to the theorem.

At each step t the algorithm chooses theta_t, then the convex cost f_t is revealed. Its regret is

    R(T) = sum_t f_t(theta_t) - min_theta sum_t f_t(theta).

For alpha_t = alpha / sqrt(t), beta1_t = beta1 lambda^(t - 1) and beta1^2 / sqrt(beta2) < 1, Theorem 4.1 bounds it by

    D^2 / (2 alpha (1 - beta1)) sum_i sqrt(T vhat_T,i)
    + alpha (1 + beta1) Ginf / ((1 - beta1) sqrt(1 - beta2) (1 - gamma)^2) sum_i |g_1:T,i|_2
    + sum_i Dinf^2 Ginf sqrt(1 - beta2) / (2 alpha beta1 (1 - lambda)^2),        gamma = beta1^2 / sqrt(beta2),

where D and Dinf bound the distances between iterates (here also from the best point) in the 2-norm and the infinity norm, and Ginf
bounds the gradient's coordinates. Then R(T) / T is O(1 / sqrt(T)).

The proof has a gap: it assumes that sqrt(vhat_t) / alpha_t never falls. Reddi, Kale & Kumar (2018, Theorem 1) give linear costs on
[-1, 1], with slope C at every third step and -1 at the others, on which Adam with beta1 = 0 and beta2 = 1 / (1 + C^2) converges to the
worst point. They propose two remedies: the largest v so far in place of v (AMSGrad), and a beta2 near 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

import optim
from experiments.properties.trajectories import follow
from experiments.training.plan import MakeOptimizer

_ZIPF = 1.1  # feature k occurs with probability k^-1.1
_C = 3.0  # the slope of every third cost in the counterexample


@dataclass(frozen=True)
class Stream:
    """A sequence of costs log(1 + exp(-y_t x_t . theta)), or x_t . theta on the box [-1, 1]^n.

    Attributes:
        x: shape [steps, coordinates].
        y: -1 or 1, shape [steps]; None for linear costs.
    """

    x: Tensor
    y: Tensor | None = None

    def costs(self, theta: Tensor, first: int, last: int) -> Tensor:
        """Returns f_t(theta) for t = first + 1, ..., last; theta is one point, or one per t."""
        products = (self.x[first:last] * theta).sum(-1)
        return products if self.y is None else torch.nn.functional.softplus(-self.y[first:last] * products)

    def gradient(self, theta: Tensor, t: int) -> Tensor:
        """Returns the gradient of f_t at theta."""
        x = self.x[t - 1]
        return x.clone() if self.y is None else -self.y[t - 1] * x * torch.sigmoid(-self.y[t - 1] * (x @ theta))

    def best(self, steps: int) -> Tensor:
        """Returns the point that minimises the sum of the first `steps` costs."""
        if self.y is None:
            return -self.x[:steps].sum(0).sign()
        x, y = self.x[:steps].numpy(), self.y[:steps].numpy()

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            margins = y * (x @ theta)
            return np.logaddexp(0, -margins).sum(), -x.T @ (y * expit(-margins))

        found = minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-14})
        return torch.from_numpy(found.x)


def stream(problem: str, steps: int, dimensions: int, seed: int) -> Stream:
    """Draws a stream: `dense` or `sparse` (Zipf) features of a noisy linear classifier, `switching` slopes, or the `counterexample`."""
    generator = torch.Generator().manual_seed(seed)
    if problem == "counterexample":
        return Stream(torch.where(torch.arange(steps) % 3 == 0, _C, -1.0).double().unsqueeze(1))
    if problem == "switching":  # an adversary that flips the sign of each coordinate at random times
        turns = torch.rand(steps, dimensions, generator=generator) < 0.05
        signs = 1.0 - 2.0 * (turns.cumsum(0) % 2)
        return Stream(signs.double() * torch.rand(steps, 1, generator=generator, dtype=torch.float64))
    x = torch.randn(steps, dimensions, generator=generator, dtype=torch.float64)
    if problem == "sparse":
        x *= torch.rand(steps, dimensions, generator=generator, dtype=torch.float64) < torch.arange(1, dimensions + 1) ** -_ZIPF
    truth = torch.randn(dimensions, generator=generator, dtype=torch.float64)
    y = torch.where(torch.rand(steps, generator=generator, dtype=torch.float64) < torch.sigmoid(x @ truth), 1.0, -1.0)
    return Stream(x, y.double())


def theorem_bound(thetas: Tensor, best: Tensor, g: Tensor, vhat: Tensor, alpha: float, beta1: float, beta2: float, lambda_: float) -> float:
    """Returns the right-hand side of Theorem 4.1 for a run; infinite unless beta1^2 / sqrt(beta2) < 1.

    Args:
        thetas: iterates, shape [T, coordinates].
        best: the best point in hindsight, shape [coordinates].
        g: gradients, shape [T, coordinates].
        vhat: after the last step, shape [coordinates].
        alpha, beta1, beta2, lambda_: of the run; beta1 above 0.
    """
    steps, gamma = len(g), beta1**2 / math.sqrt(beta2)
    if gamma >= 1:
        return math.inf
    points = torch.cat([thetas, best.unsqueeze(0)])
    # The sides of the smallest box around the points bound all distances.
    extent = points.amax(0) - points.amin(0)
    d, d_inf, g_inf = extent.norm().item(), extent.max().item(), g.abs().max().item()
    first = d**2 / (2 * alpha * (1 - beta1)) * (steps * vhat).sqrt().sum().item()
    second = alpha * (1 + beta1) * g_inf / ((1 - beta1) * math.sqrt(1 - beta2) * (1 - gamma) ** 2) * g.norm(dim=0).sum().item()
    third = len(best) * d_inf**2 * g_inf * math.sqrt(1 - beta2) / (2 * alpha * beta1 * (1 - lambda_) ** 2)
    return first + second + third


def measure(seeds: Sequence[int], steps: int, dimensions: int, alpha: float, lambda_: float, horizons: int) -> pd.DataFrame:
    """Measures the average regret at logarithmically spaced horizons T.

    Args:
        seeds: of the costs.
        steps: the largest horizon.
        dimensions: coordinates of theta; the counterexample has one.
        alpha: learning rate at t = 1.
        lambda_: decay rate of beta1.
        horizons: number of horizons.

    Returns:
        `seed`, `problem`, `optimizer`, `T`, `average_regret` R(T) / T, and for Adam `average_bound`, the theorem's bound / T.
    """
    adam = partial(optim.Adam, lr=alpha, betas=(0.9, 0.999), eps=1e-12, beta1_decay=lambda_)
    optimizers: dict[str, MakeOptimizer] = {
        "Adam": adam,
        "AdaGrad": partial(optim.AdaGrad, lr=alpha),
        "SGD": partial(optim.SGDNesterov, lr=alpha, momentum=0.0),
    }
    # The beta2 of the proof of divergence.
    short = partial(optim.Adam, lr=alpha, betas=(0.0, 1 / (1 + _C**2)), eps=0.0)
    remedies: dict[str, MakeOptimizer] = {
        "Adam, small beta2": short,
        "AMSGrad, small beta2": partial(short, amsgrad=True),
        "Adam, beta2 = 0.999": partial(short, betas=(0.0, 0.999)),
    }
    at = sorted({round(value) for value in np.geomspace(10, steps, horizons)})
    lines = []
    for problem in ("dense", "sparse", "switching", "counterexample"):
        for seed in seeds if problem != "counterexample" else seeds[:1]:  # the counterexample is deterministic
            costs = stream(problem, steps, dimensions, seed)
            bests = {T: costs.best(T) for T in at}
            for name, make in (remedies if problem == "counterexample" else optimizers).items():
                thetas, vhats = _play(make, costs, steps, at)
                own = costs.costs(thetas, 0, steps).cumsum(0)
                g = torch.stack([costs.gradient(theta, t) for t, theta in enumerate(thetas, 1)]) if name == "Adam" else None
                for T in at:
                    regret = (own[T - 1] - costs.costs(bests[T], 0, T).sum()).item()
                    line = {"seed": seed, "problem": problem, "optimizer": name, "T": T, "average_regret": regret / T}
                    if g is not None:
                        bound = theorem_bound(thetas[:T], bests[T], g[:T], vhats[T], alpha, 0.9, 0.999, lambda_)
                        line["average_bound"] = bound / T
                    lines.append(line)
    return pd.DataFrame(lines)


def _play(make: MakeOptimizer, costs: Stream, steps: int, at: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """Returns theta_1, theta_2, ..., shape [steps, coordinates], and Adam's vhat_T for each T in `at`."""
    start = torch.zeros(costs.x.shape[1], dtype=torch.float64)
    thetas, vhats = [start], {}
    for t, theta, optimizer in follow(make, start, costs.gradient, steps, decaying=True):
        if costs.y is None:
            theta.clamp_(-1, 1)  # projects onto the box, in place: the optimizer continues from there
        thetas.append(theta.clone())
        if t in at and isinstance(optimizer, optim.Adam):
            (group,), (state,) = optimizer.param_groups, optimizer.state.values()
            vhats[t] = state["exp_avg_sq"] / (1 - group["betas"][1] ** t)
    return torch.stack(thetas[:-1]), vhats
