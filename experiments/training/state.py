"""The state of a population in training: everything the next epoch depends on, and the recorded rows."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

from experiments.models import products
from experiments.training.graphs import StepGraphs
from experiments.training.plan import Plan, Training
from experiments.training.streams import generator
from optim import Exponential, InverseSqrt, RuleOptimizer, chooses_minibatches

_MOST_THREADS = 1024  # a damaged checkpoint with 100,000 would crash the process


class TrainState:
    """A population's parameters, optimizer, random numbers and recorded rows.

    Args:
        training: the population.

    Attributes:
        depends_on_threads: whether results depend, in their last bits, on the number of CPU threads. Training then never changes it.

    Raises:
        ValueError: a schedule other than `constant` for an optimizer without a learning rate.
    """

    def __init__(self, training: Training):
        model, seeds, plan, device = training.model, training.seeds, training.plan, training.device
        starts = [model.initial_parameters(generator(seed, "initial parameters")) for seed in seeds]
        self.parameters = {
            name: torch.stack([start[name] for start in starts]).repeat_interleave(training.per_seed, 0).to(device).requires_grad_()
            for name in starts[0]
        }
        self.optimizer = training.make_optimizer(list(self.parameters.values()))
        if hasattr(self.optimizer, "train"):  # schedule-free optimizers train and evaluate at different parameters
            self.optimizer.train()
        self.seeds, self.device, self.members = seeds, device, len(seeds) * training.per_seed
        recorded = (
            plan.cuda_graph
            and device.type == "cuda"
            and isinstance(self.optimizer, RuleOptimizer)
            and not any(group["differentiable"] for group in self.optimizer.param_groups)  # reallocates its state in every step
        )
        self.noise = [generator(seed, "noise", device) for seed in seeds]
        # autocast's cache would keep casts of the previous step's parameters.
        halved = partial(torch.autocast, device.type, torch.bfloat16, cache_enabled=False)
        self.autocast = halved if plan.precision == "bfloat16" else nullcontext
        self.graphs = StepGraphs(self.noise) if recorded else None
        self._put_on_device()
        self.schedule = _schedule(plan, self.optimizer)
        self.order = [generator(seed, "order of data") for seed in seeds]
        self.plan, self.epochs = plan, 0
        self.rows: list[dict[str, float]] = []
        # oneDNN divides the sums of some bfloat16 products among threads, torch those of SFO's long vectors.
        self.depends_on_threads = model.depends_on_threads or plan.precision == "bfloat16" or chooses_minibatches(self.optimizer)
        self.seconds: list[float] = []  # cumulative, after each epoch
        # Members still in training. A diverged member can be dropped if there is one stream and the model has no per-member values.
        self.alive = list(range(self.members))
        self._can_drop = (
            len(seeds) == 1
            and isinstance(self.optimizer, RuleOptimizer)
            and not any(isinstance(value, Tensor) for value in vars(model).values())
        )

    def record(self, cost: list[float], measured: dict[str, list[float]]) -> None:
        """Adds a row for each member and drops diverged members where possible.

        Args:
            cost: of the epoch, for each member of `alive`.
            measured: further columns, each a value per member of `alive`.
        """
        places = {member: place for place, member in enumerate(self.alive)}
        for member in range(self.members):
            row = {"member": member, "epoch": self.epochs, "cost": math.nan}
            if member in places:
                row |= {"cost": cost[places[member]]} | {name: values[places[member]] for name, values in measured.items()}
            self.rows.append(row)
        if self._can_drop and not all(map(math.isfinite, cost)):
            self._keep([place for place, value in enumerate(cost) if math.isfinite(value)])

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Swaps in the evaluation parameters of a schedule-free optimizer for a `with` block; no effect for others."""
        if not (hasattr(self.optimizer, "eval") and hasattr(self.optimizer, "train")):
            yield
            return
        self.optimizer.eval()
        yield
        self.optimizer.train()

    def state_dict(self) -> dict:
        """Returns everything that the next epoch depends on, and the recorded rows."""
        return {
            "alive": self.alive,
            "parameters": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule and self.schedule.state_dict(),
            "generators": [generator.get_state() for generator in (*self.order, *self.noise)],
            "products": products.library(),
            "threads": torch.get_num_threads(),
            **{name: getattr(self, name) for name in ("epochs", "seconds", "rows")},
        }

    def load_state_dict(self, state: dict) -> None:
        """Loads what `state_dict` returned.

        Raises:
            Exception: of any type, if the state is not of such a population.
        """
        self._check(state)
        for name in ("epochs", "seconds", "rows"):
            setattr(self, name, state[name])
        products.use(state["products"])  # the library that trained so far: same bits
        if self.depends_on_threads:
            torch.set_num_threads(state["threads"])
        if len(state["alive"]) < self.members:
            self._keep(state["alive"])
        if not self.alive:
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self._put_on_device()
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        for stream, numbers in zip((*self.order, *self.noise), state["generators"], strict=True):
            stream.set_state(numbers)

    def _check(self, state: dict) -> None:
        """Raises ValueError for an inconsistent state that would otherwise load."""
        epochs, rows, seconds, threads = (state[name] for name in ("epochs", "rows", "seconds", "threads"))
        if not 0 < epochs <= self.plan.epochs or len(seconds) != epochs or not all(isinstance(value, float) for value in seconds):
            raise ValueError(f"it has the seconds of {len(seconds)} epochs: expected {epochs} of {self.plan.epochs}")
        places = [(number, member) for number in range(1, epochs + 1) for member in range(self.members)]
        numbers = all(type(value) in (int, float) for row in rows for value in row.values())
        if not numbers or [(row["epoch"], row["member"]) for row in rows] != places:
            raise ValueError(f"its rows are invalid: expected those of {self.members} members and {epochs} epochs")
        diverged = {row["member"] for row in rows if not math.isfinite(row["cost"])} if self._can_drop else set()
        if state["alive"] != [member for member in range(self.members) if member not in diverged]:
            raise ValueError(f"its members in training are {state['alive']}, but those diverged are {sorted(diverged)}")
        if type(threads) is not int or not 0 < threads <= _MOST_THREADS:
            raise ValueError(f"threads={threads} is invalid: expected a whole number from 1 to {_MOST_THREADS}")
        for name, parameter in self.parameters.items() if state["alive"] else ():
            loaded, shape = state["parameters"][name], (len(state["alive"]), *parameter.shape[1:])
            if loaded.shape != shape or loaded.dtype != parameter.dtype:
                raise ValueError(f"{name} is {loaded.dtype} of shape {tuple(loaded.shape)}: expected {parameter.dtype} of shape {shape}")

    def _put_on_device(self) -> None:
        """Moves per-member hyper-parameters to the device; for graphs also scalar learning rates, which a replayed step must reread."""

        def moved(value):
            if isinstance(value, tuple):  # such as betas
                return tuple(map(moved, value))
            return value.to(self.device) if isinstance(value, Tensor) else value

        for group in self.optimizer.param_groups:
            group |= {key: moved(value) for key, value in group.items() if key != "params"}
        if self.graphs:
            for group in self.optimizer.param_groups:
                group |= {"lr": torch.as_tensor(group["lr"], dtype=torch.float64, device=self.device), "capturable": True}
            self.graphs.forget()

    def _keep(self, places: list[int]) -> None:
        self.alive = [self.alive[place] for place in places]
        if not places:  # the optimizer takes no further step
            return
        assert isinstance(self.optimizer, RuleOptimizer)  # by _can_drop
        kept = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.optimizer.keep_members(kept)
        if self.graphs:
            self.graphs.forget()


def _schedule(plan: Plan, optimizer: torch.optim.Optimizer) -> InverseSqrt | Exponential | None:
    if plan.schedule == "constant":
        return None
    return Exponential(optimizer, plan.decay) if plan.schedule == "exponential_epoch" else InverseSqrt(optimizer)
