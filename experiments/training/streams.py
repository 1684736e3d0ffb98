"""Random numbers: separate streams, derived from the seed, for initial parameters, order of data and noise.

With the same seed, all optimizers of a panel have the same initial parameters, minibatches and noise.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_PURPOSES = ("initial parameters", "order of data", "noise")


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns the generator for one purpose: `initial parameters`, `order of data` or `noise`."""
    stream = np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose),))
    return torch.Generator(device).manual_seed(int(stream.generate_state(1, np.uint64)[0] >> 1))


def example_order(examples: int, generators: Sequence[torch.Generator], device: torch.device, shuffle: bool = True) -> Tensor:
    """Returns the order of examples in one epoch: indices [streams, examples], one stream per generator."""
    order = [torch.randperm(examples, generator=g) if shuffle else torch.arange(examples) for g in generators]
    return torch.stack(order).to(device)
