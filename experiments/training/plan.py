"""What the training loop takes: its validated settings, and a population with its data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.types import Dataset
from experiments.models.base import Model
from experiments.schema import check

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        epochs: number of epochs.
        batch_size: examples per minibatch.
        schedule: constant, inverse_sqrt_step, inverse_sqrt_epoch or exponential_epoch.
        decay: factor of the learning rate per epoch, with schedule=exponential_epoch; else 1.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        shuffle: whether to reshuffle in every epoch; otherwise examples keep their stored order.
        cuda_graph: whether to record and replay steps on a GPU, for optimizers from optim.
        precision: of products and convolutions: float32, tf32 or bfloat16; parameters are float32.
        second_moments: whether to record `second_moments` after every epoch.

    Raises:
        ConfigError: a value is invalid.
        ValueError: decay has no effect with the schedule.
    """

    epochs: int
    batch_size: int
    schedule: str
    evaluate_every: int = 1
    shuffle: bool = True
    cuda_graph: bool = True
    precision: str = "float32"
    second_moments: bool = False
    decay: float = 1.0

    def __post_init__(self):
        for key, value in vars(self).items():
            check(key, value)
        if self.decay < 1 and self.schedule != "exponential_epoch":
            raise ValueError(
                f"decay={self.decay} has no effect with schedule={self.schedule}: choose schedule=exponential_epoch or decay=1"
            )


@dataclass(frozen=True)
class Training:
    """A population of len(seeds) * per_seed members, its data, and how it is trained.

    Members that share a seed see the same minibatches and noise; each is updated independently. Training minimises cost plus penalty.

    Attributes:
        model: the model to train.
        make_optimizer: builds the optimizer from the parameters, each of shape [members, ...].
        dataset: on the device.
        seeds: one stream of data each.
        per_seed: members per seed; members are ordered by seed.
        plan: how to train.
        device: of parameters and data.
    """

    model: Model
    make_optimizer: MakeOptimizer
    dataset: Dataset
    seeds: Sequence[int]
    per_seed: int
    plan: Plan
    device: torch.device
