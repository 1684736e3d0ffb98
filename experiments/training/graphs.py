"""Training steps as CUDA graphs: recorded once, then replayed without Python between operations."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_EAGER = 3  # steps before recording: libraries and the optimizer initialise lazily


class StepGraphs:
    """Takes steps; after the first few by replaying a graph, one per shape of minibatch.

    A step must change parameters, optimizer state and learning rates in place. Replayed steps draw the same random numbers as eager ones.

    Args:
        generators: the generators that steps draw from, on the device.
    """

    def __init__(self, generators: Sequence[torch.Generator]):
        self.generators = generators
        self.forget()

    def forget(self) -> None:
        """Invalidates the recorded graphs: call after any tensor of the step is reallocated."""
        self._seen: Counter[torch.Size] = Counter()
        self._recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def take(self, step: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
        """Takes a step on one minibatch.

        Args:
            step: maps an index to a tensor; must be the same function in every call, because the recorded one is replayed.
            index: indices of the minibatch's examples.

        Returns:
            The step's result; the next step of that shape overwrites it.
        """
        self._seen[index.shape] += 1
        if self._seen[index.shape] <= _EAGER:
            return step(index)
        if index.shape not in self._recorded:
            self._recorded[index.shape] = self._record(step, index)
        graph, held, result = self._recorded[index.shape]
        held.copy_(index)
        graph.replay()
        return result

    def _record(self, step: Callable[[Tensor], Tensor], index: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        graph, held = torch.cuda.CUDAGraph(), index.clone()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):  # records without executing
            result = step(held)
        return graph, held, result
