"""The one training loop: a population of models, trained side by side on data that stay on the device."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data import Dataset, Split
from data.rows import SparseBatch
from experiments import products
from experiments.checkpoints import Checkpoint
from experiments.model import Model
from experiments.schema import check
from experiments.second_moments import second_moments
from experiments.step_graphs import StepGraphs
from experiments.streams import example_order, generator
from experiments.threads import Threads
from optim import Exponential, InverseSqrt, RuleOptimizer, chooses_minibatches

_EVALUATION_BATCH = 5_000  # examples, counted once for each member
_FORECAST_STEPS, _FORECAST_SECONDS = 7, 0.05  # at least; the second half of them counts: on a GPU they are replayed


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
        second_moments: whether `experiments.second_moments` are recorded after every pass.
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


def _schedule(plan: Plan, optimizer: torch.optim.Optimizer) -> InverseSqrt | Exponential | None:
    if plan.schedule == "constant":
        return None
    return Exponential(optimizer, plan.decay) if plan.schedule == "exponential_pass" else InverseSqrt(optimizer)


class Progress:
    """A population in training: its parameters, optimizer and random numbers, and what has been recorded so far.

    Args:
        model: what is trained.
        make_optimizer: gets the parameters, each of shape [members, ...].
        seeds: one stream of data each.
        per_seed: members per seed; the members of the first seed come first.
        plan: how to train.
        device: where.

    Raises:
        ValueError: a schedule other than `constant` for an optimizer without step size.
    """

    def __init__(self, model: Model, make_optimizer, seeds: Sequence[int], per_seed: int, plan: Plan, device: torch.device):
        starts = [model.initial_parameters(generator(seed, "initial parameters")) for seed in seeds]
        self.parameters = {
            name: torch.stack([start[name] for start in starts]).repeat_interleave(per_seed, 0).to(device).requires_grad_()
            for name in starts[0]
        }
        self.optimizer = make_optimizer(list(self.parameters.values()))
        if hasattr(self.optimizer, "train"):  # schedule-free: it trains at other parameters than those that it evaluates
            self.optimizer.train()
        self.seeds, self.device, self.members = seeds, device, len(seeds) * per_seed
        recorded = (
            plan.cuda_graph
            and device.type == "cuda"
            and isinstance(self.optimizer, RuleOptimizer)
            and not any(group["differentiable"] for group in self.optimizer.param_groups)  # whose state is replaced in every step
        )
        self.noise = [generator(seed, "noise", device) for seed in seeds]
        # Not the cache of casts: it would keep parameters of the step before.
        halved = partial(torch.autocast, device.type, torch.bfloat16, cache_enabled=False)
        self.autocast = halved if plan.precision == "bfloat16" else nullcontext
        self.graphs = StepGraphs(self.noise) if recorded else None
        self._put_on_device()
        self.schedule = _schedule(plan, self.optimizer)
        self.order = [generator(seed, "order of data") for seed in seeds]
        self.passes, self.rows = 0, []
        self._depends_on_threads = model.depends_on_threads
        self.seconds: list[float] = []  # of training until the end of each pass
        # The members that are still trained. Those of a single stream, whose model has nothing of their own, are dropped when they diverge.
        self.alive = list(range(self.members))
        self._can_drop = (
            len(seeds) == 1
            and isinstance(self.optimizer, RuleOptimizer)
            and not any(isinstance(value, Tensor) for value in vars(model).values())
        )

    def record(self, cost: list[float], measured: dict[str, list[float]]) -> None:
        """Adds a row for each member, in the order of `alive`, and drops those that have diverged, if that can be."""
        places = {member: place for place, member in enumerate(self.alive)}
        for member in range(self.members):
            row = {"member": member, "pass": self.passes, "cost": math.nan}
            if member in places:
                row |= {"cost": cost[places[member]]} | {name: values[places[member]] for name, values in measured.items()}
            self.rows.append(row)
        if self._can_drop and not all(map(math.isfinite, cost)):
            self._keep([place for place, value in enumerate(cost) if math.isfinite(value)])

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Puts the parameters that are to be evaluated in place, for schedule-free optimizers, which train at others."""
        if not hasattr(self.optimizer, "eval"):
            yield
            return
        self.optimizer.eval()
        yield
        self.optimizer.train()

    def state_dict(self) -> dict:
        """Everything that the next pass depends on, and what has been recorded."""
        return {
            "alive": self.alive,
            "parameters": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule and self.schedule.state_dict(),
            "generators": [generator.get_state() for generator in (*self.order, *self.noise)],
            "products": products.library(),
            "threads": torch.get_num_threads(),
            **{name: getattr(self, name) for name in ("passes", "seconds", "rows")},
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` returned."""
        for name in ("passes", "seconds", "rows"):
            setattr(self, name, state[name])
        products.use(state["products"])  # whoever began computes on, so that the run ends with the same bits
        if self._depends_on_threads:
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

    def _put_on_device(self) -> None:
        """Puts values of members on the device, and whatever else steps that are replayed read anew: learning rates that are numbers."""

        def moved(value):
            if isinstance(value, tuple):  # such as betas
                return tuple(map(moved, value))
            return value.to(self.device) if isinstance(value, Tensor) else value

        for group in self.optimizer.param_groups:
            group |= {key: moved(value) for key, value in group.items() if key != "params"}
        for group in self.optimizer.param_groups if self.graphs else ():
            group |= {"lr": torch.as_tensor(group["lr"], dtype=torch.float64, device=self.device), "capturable": True}
            self.graphs.forget()

    def _keep(self, places: list[int]) -> None:
        self.alive = [self.alive[place] for place in places]
        if not places:  # nobody takes a step any more
            return
        kept = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.optimizer.keep_members(kept)
        if self.graphs:
            self.graphs.forget()


def train(
    model: Model,
    make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    dataset: Dataset,
    seeds: Sequence[int],
    per_seed: int,
    plan: Plan,
    device: torch.device,
    bar: tqdm | None = None,
    checkpoint: Checkpoint | None = None,
    threads: Threads | None = None,
) -> tuple[pd.DataFrame, list[float]]:
    """Trains len(seeds) * per_seed members at once; members of the same seed see the same minibatches and the same noise.

    Args:
        model: what is trained.
        make_optimizer: gets the parameters, each of shape [members, ...].
        dataset: on the device.
        seeds: one stream of data each.
        per_seed: members per seed; the members of the first seed come first.
        plan: how to train.
        device: where.
        bar: counts the passes that are trained and shows the lowest cost.
        checkpoint: where to go on from, and what to save after every pass.
        threads: hears how long every pass took.

    Returns:
        A table with a row for each pass and member (`member`, `pass`, `cost`, and after passes that are evaluated
        `train_cost`, `train_error`, `test_cost`, `test_error`, `penalty`; where the plan wants them, second moments), and the
        seconds of training until the end of each pass, evaluation left out. Costs are means over examples: `cost` during the
        pass, each minibatch's before its step and with the noise on; the others after the pass with the noise off. What is
        minimised is the cost plus the penalty. The costs of a member that has diverged are infinite or not a number.
    """
    progress = Progress(model, make_optimizer, seeds, per_seed, plan, device)
    if checkpoint and (saved := checkpoint.load()):
        progress.load_state_dict(saved)
    bar = tqdm(disable=True) if bar is None else bar
    while progress.passes < plan.passes:
        start = time.perf_counter() - (progress.seconds[-1] if progress.seconds else 0.0)
        cost = _pass(model, progress, dataset.train, plan) if progress.alive else []
        progress.seconds.append(time.perf_counter() - start)
        if threads and not model.depends_on_threads:
            threads.review(progress.seconds[-1] - (progress.seconds[-2] if progress.passes else 0.0))
        progress.passes += 1
        evaluated = progress.passes % plan.evaluate_every == 0 or progress.passes == plan.passes
        measured = {}
        if evaluated and progress.alive:
            with progress.evaluation():
                measured = evaluate(model, progress.parameters, dataset)
        if plan.second_moments and progress.alive:
            measured |= second_moments(progress.optimizer, progress.parameters)
        progress.record(cost, measured)
        if checkpoint:
            checkpoint.save(progress.state_dict())
        bar.set_postfix_str(f"cost {min(cost, key=lambda value: (value != value, value), default=math.nan):.4f}")
        bar.update()
    return pd.DataFrame(progress.rows), progress.seconds


def seconds_per_pass(
    model: Model,
    make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    dataset: Dataset,
    seeds: Sequence[int],
    per_seed: int,
    plan: Plan,
    device: torch.device,
) -> float:
    """How long a pass of these members will take, from a few steps of a copy that is thrown away; arguments as in `train`."""
    progress = Progress(model, make_optimizer, seeds, per_seed, plan, device)
    own_choice = chooses_minibatches(progress.optimizer)
    of_a_pass = progress.optimizer.minibatches if own_choice else math.ceil(len(dataset.train) / plan.batch_size)
    seconds, start = [], time.perf_counter()
    for cost, _ in steps(model, progress, dataset.train, plan):
        cost.tolist()  # waits for the device
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= _FORECAST_STEPS and sum(seconds) > _FORECAST_SECONDS:
            break
        start = time.perf_counter()
    return statistics.median(seconds[len(seconds) // 2 :]) * of_a_pass


def _pass(model: Model, progress: Progress, split: Split, plan: Plan) -> list[float]:
    """One pass over the training examples; returns the mean cost during it of each member that is still trained."""
    total, examples = torch.zeros(len(progress.alive), device=progress.device), 0
    for cost, batch in steps(model, progress, split, plan):
        total.add_(cost, alpha=batch)
        examples += batch
        if plan.schedule == "inverse_sqrt_step":
            progress.schedule.step()
    if plan.schedule.endswith("_pass"):
        progress.schedule.step()
    return (total / examples).tolist()  # waits for the device, once per pass


def steps(model: Model, progress: Progress, split: Split, plan: Plan) -> Iterator[tuple[Tensor, int]]:
    """Takes the steps of one pass; yields after each the members' costs before it, [members], and the number of examples."""
    if chooses_minibatches(progress.optimizer):
        yield from _steps_of_a_sum_of_functions(model, progress, split)
        return

    def step(inputs: Tensor | SparseBatch, targets: Tensor) -> Tensor:
        cost = model.differentiate(progress.parameters, inputs, targets, progress.noise, progress.autocast)
        progress.optimizer.step()
        return cost

    order = example_order(len(split), progress.order, progress.device, plan.shuffle)
    if progress.graphs:
        for index in order.split(plan.batch_size, 1):
            yield progress.graphs.take(lambda index: step(*split.take(index)), index), index.shape[1]
    else:
        for inputs, targets in split.minibatches(order, plan.batch_size):
            yield step(inputs, targets), targets.shape[1]


def _steps_of_a_sum_of_functions(model: Model, progress: Progress, split: Split) -> Iterator[tuple[Tensor, int]]:
    """As `steps`, for an optimizer that wants the same minibatches in every pass, and chooses the next one itself."""
    order = torch.randperm(len(split), generator=generator(progress.seeds[0], "order of data")).to(progress.device)
    if progress.optimizer.minibatches > len(split):
        raise ValueError(f"optimizer.minibatches={progress.optimizer.minibatches} should be at most {len(split)}, the number of examples")
    parts = order.tensor_split(progress.optimizer.minibatches)
    for _ in parts:
        seen = []

        def closure(i: int, seen: list = seen) -> Tensor:
            cost = model.differentiate(progress.parameters, *split.take(parts[i].unsqueeze(0)), progress.noise, progress.autocast)
            seen.append((cost, len(parts[i])))
            return (cost + model.penalty(progress.parameters)).sum().detach()

        progress.optimizer.step(closure)
        yield seen[0]


@torch.no_grad()
def evaluate(model: Model, parameters: dict[str, Tensor], dataset: Dataset) -> dict[str, list[float]]:
    """Means over all training and all test examples with the noise off, and the penalty; for each member."""
    batch = max(1, _EVALUATION_BATCH // len(next(iter(parameters.values()))))
    means = {}
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        sums: dict[str, Tensor] = {}
        for index in torch.arange(len(split), device=split.targets.device).split(batch):
            for name, values in model.measures(parameters, *split.take(index.unsqueeze(0))).items():  # a stream that all members share
                sums[name] = sums.get(name, 0) + values.sum(1, dtype=torch.float64)
        means |= {f"{part}_{name}": total / len(split) for name, total in sums.items()}
    means["penalty"] = model.penalty(parameters)
    return {name: values.tolist() for name, values in means.items()}
