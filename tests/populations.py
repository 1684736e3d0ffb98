"""Populations of untrained members, and a generator of noise for each stream."""

import torch


def generators(streams: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(10 + stream) for stream in range(streams)]


def population(model, members: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    starts = [model.initial_parameters(generator) for _ in range(members)]
    return {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}
