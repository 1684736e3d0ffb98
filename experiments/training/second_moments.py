"""Adam's second-moment estimates by layer; section 6.3 says that they vanish in figure 3."""

import torch
from torch import Tensor

from optim import Adam


@torch.no_grad()
def second_moments(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> dict[str, list[float]]:
    """Summarises vhat_t = v_t / (1 - beta2^t) (Algorithm 1) over the weights and biases of each layer.

    Args:
        optimizer: must have taken a step.
        parameters: each of shape [members, ...], named <layer>.weight and <layer>.bias; a layer without a name is `scores`.

    Returns:
        Two columns per layer, with a value per member: `vhat_<layer>`, the median of vhat, in squared units of the gradient;
        `below_eps_<layer>`, the share of coordinates with sqrt(vhat) < eps, where eps dominates. Empty unless Algorithm 1 trained.
    """
    if not isinstance(optimizer, Adam):
        return {}
    group = optimizer.settings(optimizer.param_groups[0])
    if group["amsgrad"] or group["eps_hat"] is not None:
        return {}
    beta2, eps = (_per_member(value) for value in (group["betas"][1], group["eps"]))
    layers: dict[str, list[Tensor]] = {}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        correction = 1 - _per_member(group["bias_correction"]) * beta2 ** state["step"]
        layers.setdefault(name.rpartition(".")[0] or "scores", []).append(state["exp_avg_sq"].flatten(1) / correction)
    found = {}
    for layer, parts in layers.items():
        vhat = torch.cat(parts, 1)
        found[f"vhat_{layer}"] = vhat.median(1).values.tolist()
        shares = (vhat.sqrt() < eps).double().mean(1)
        found[f"below_eps_{layer}"] = torch.where(vhat.isnan().any(1), torch.nan, shares).tolist()
    return found


def _per_member(value):
    return value.view(-1, 1) if isinstance(value, Tensor) and value.ndim else value
