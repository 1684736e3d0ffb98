"""On a GPU, a step of training as one CUDA graph: recorded once, then replayed, without Python between its operations."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_EAGER = 3  # steps before the recording, in which libraries and the optimizer set themselves up


class StepGraphs:
    """Takes steps; those after the first few by replaying a graph, one for each shape of minibatch.

    What a step changes, it must change in place: parameters, state of the optimizer, learning rates. The random numbers of a replayed
    step are those that it would have drawn otherwise.

    Args:
        generators: the random numbers that steps draw from, on the device.
    """

    def __init__(self, generators: Sequence[torch.Generator]):
        self.generators = generators
        self.forget()

    def forget(self) -> None:
        """Records anew from now on: something that a step works on lies elsewhere in memory."""
        self._seen: Counter[torch.Size] = Counter()
        self._recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def take(self, step: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
        """Takes the step for the minibatch at `index`; what it returns is overwritten by the next one of that shape.

        Args:
            step: gets the index and returns a tensor; always the same one, for what is replayed is what was recorded.
            index: of the examples of the minibatch.
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
        with torch.cuda.graph(graph):  # nothing is executed
            result = step(held)
        return graph, held, result
