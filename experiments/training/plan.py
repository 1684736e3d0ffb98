"""The validated settings of the training loop."""

from dataclasses import dataclass

from experiments.schema import check


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
            raise ValueError(f"decay={self.decay} has no effect with schedule={self.schedule}: choose schedule=exponential_epoch or decay=1")
