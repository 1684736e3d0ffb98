"""The square root of the rules."""

import torch
from torch import Tensor


def sqrt(x):
    """Returns the root of x, with derivative 0 where x = 0, as sqrt(g^2) = |g| has it: autograd would take 0 times infinity there."""
    if not (isinstance(x, Tensor) and x.requires_grad):
        return x.sqrt()
    return torch.where(x == 0, 0, torch.where(x == 0, 1, x).sqrt())
