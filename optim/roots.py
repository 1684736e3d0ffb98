"""The square root that the update rules use."""

import torch
from torch import Tensor


def sqrt(x):
    """Returns the root of x, with derivative 0 where x = 0; autograd's derivative of sqrt(g^2) is NaN at g = 0."""
    if not (isinstance(x, Tensor) and x.requires_grad):
        return x.sqrt()
    return torch.where(x == 0, 0, torch.where(x == 0, 1, x).sqrt())
