"""How large Adam's estimates of second moments are, layer by layer: section 6.3 says that in figure 3 they vanish."""

import torch
from torch import Tensor

from optim import Adam


@torch.no_grad()
def second_moments(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> dict[str, list[float]]:
    """What vhat_t = v_t / (1 - beta2^t) (Algorithm 1) is after a step, over the weights and biases of each layer.

    Args:
        optimizer: has taken a step.
        parameters: each of shape [members, ...], named <layer>.weight and <layer>.bias; a layer without name is `scores`.

    Returns:
        Two values per layer and member: `vhat_<layer>`, the median of vhat, in squared units of the gradient; `below_eps_<layer>`,
        the share of the coordinates with sqrt(vhat) < eps, whose steps eps decides. Nothing for optimizers other than Algorithm 1.
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
