"""How a run trains, checked once."""

from dataclasses import dataclass

PRECISIONS = ("float32", "tf32", "bfloat16")
SCHEDULES = ("constant", "inverse_sqrt_step", "inverse_sqrt_pass", "exponential_pass")


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        passes: passes over the training examples.
        batch_size: examples per minibatch.
        schedule: one of SCHEDULES.
        decay: of the step size from pass to pass, with schedule exponential_pass; else 1.
        evaluate_every: costs are evaluated after every so many passes, and after the last.
        shuffle: whether every pass has an order of its own; otherwise examples come as they are stored.
        cuda_graph: whether steps on a GPU are recorded once and replayed, as far as the optimizer is one of ours.
        precision: of the products and convolutions, one of PRECISIONS; parameters are float32.
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
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule} is unknown: choose one of {', '.join(SCHEDULES)}")
        if not (isinstance(self.decay, int | float) and 0 < self.decay <= 1):
            raise ValueError(f"decay={self.decay} should be above 0 and at most 1")
        if self.decay < 1 and self.schedule != "exponential_pass":
            raise ValueError(f"decay={self.decay} has no effect with schedule={self.schedule}: choose schedule=exponential_pass")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision} is unknown: choose one of {', '.join(PRECISIONS)}")
        for name in ("shuffle", "cuda_graph", "second_moments"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name}={value} should be true or false")
        for name in ("passes", "batch_size", "evaluate_every"):
            if not (isinstance(value := getattr(self, name), int) and value > 0):
                raise ValueError(f"{name}={value} should be a whole number above 0")
