"""How a run trains, checked once."""

from dataclasses import dataclass

from experiments.schema import check


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        passes: passes over the training examples.
        batch_size: examples per minibatch.
        schedule: constant, inverse_sqrt_step, inverse_sqrt_pass or exponential_pass.
        decay: of the step size from pass to pass, with schedule exponential_pass; else 1.
        evaluate_every: costs are evaluated after every so many passes, and after the last.
        shuffle: whether every pass has an order of its own; otherwise examples come as they are stored.
        cuda_graph: whether steps on a GPU are recorded once and replayed, as far as the optimizer is one of ours.
        precision: of the products and convolutions: float32, tf32 or bfloat16; parameters are float32.
        second_moments: whether `second_moments` are recorded after every pass.
    """

    passes: int
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
        if self.decay < 1 and self.schedule != "exponential_pass":
            raise ValueError(f"decay={self.decay} has no effect with schedule={self.schedule}: choose schedule=exponential_pass")
