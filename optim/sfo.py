"""SFO, the sum-of-functions optimizer of Sohl-Dickstein, Poole & Ganguli (2014, arXiv 1311.2115). Section 6.2 compares Adam with it.

The objective is a sum F(x) = f_1(x) + ... + f_N(x) over N fixed minibatches. SFO keeps a quadratic model of each f_i, anchored at x_i,
where f_i was last evaluated, with gradient g_i::

    f_i(x) ~ f_i(x_i) + g_i (x - x_i) + (x - x_i) H_i (x - x_i) / 2

A step evaluates the minibatch whose model is most out of date, moves its anchor, and then minimises the sum of the models of the active
minibatches. BFGS builds H_i from the pairs (change of x, change of g_i) between evaluations of f_i. All models use the coordinates of
one low-dimensional subspace, which recent gradients span. Coordinates are float64 on the CPU.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeGuard

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

_CONDITION = 1e6  # the largest ratio of eigenvalues of an H_i
_UNSEEN = 0.25  # quantile of past curvatures for unseen directions: 0.5 is slower per epoch, with 0.15 networks diverged
_LONGEST = 10.0  # longest step, in mean lengths of all previous steps
_SHORTER = 0.25  # longest step after a rejection, as a share of the rejected one; the limit then grows tenfold in N steps
_RECENT = 3  # recent costs of a minibatch, whose range bounds how far the next may exceed the model
_COLUMNS = 2**16  # columns of the basis transformed at a time, so that compaction needs no second basis

# State that changes from step to step, besides the models, the basis and the random generator.
_PROGRESS = ("x", "waiting", "evaluations", "rejected", "_since_activation", "_steps", "_path", "_limit", "_retrying", "_before")


class Subspace:
    """An orthonormal basis that grows with the vectors added to it, up to a capacity.

    Args:
        capacity: the largest number of dimensions.
        like: a vector [size] with the dtype and device of the basis.

    Attributes:
        basis: shape [capacity, size]; rows from `dimensions` on are unused.
        dimensions: the number of rows in use.
    """

    def __init__(self, capacity: int, like: Tensor):
        self.basis = like.new_zeros(min(capacity, like.numel()), like.numel())
        self.dimensions = 0

    @property
    def capacity(self) -> int:
        """The largest number of dimensions."""
        return len(self.basis)

    @property
    def precision(self) -> float:
        """Machine epsilon of the basis."""
        return torch.finfo(self.basis.dtype).eps

    @property
    def full(self) -> bool:
        """Whether the basis cannot grow although it does not span the whole space."""
        return self.dimensions == self.capacity < self.basis.shape[1]

    def coordinates(self, vector: Tensor) -> Tensor:
        """Returns the coordinates [capacity] of a vector [size], NaN if it is not finite. Extends the basis if needed and possible."""
        used = self.basis[: self.dimensions]
        coordinates = torch.zeros(self.capacity, dtype=torch.float64, device="cpu")
        rest = vector.clone()
        for _ in range(3):
            part = used @ rest
            rest.addmv_(used.T, part, alpha=-1)
            part = torch.cat([part, rest.norm().unsqueeze(0)]).to("cpu", torch.float64)  # the only synchronisation
            part, length = part[:-1], part[-1].item()
            coordinates[: self.dimensions] += part
            if length > 0.1 * part.norm():  # in a shorter rest, rounding errors spoil orthogonality: repeat
                break
        if not math.isfinite(length):
            return coordinates.fill_(math.nan)
        if length > 10 * self.precision * math.hypot(coordinates.norm(), length) and self.dimensions < self.capacity:
            coordinates[self.dimensions] = length
            torch.div(rest, length, out=self.basis[self.dimensions])
            self.dimensions += 1
        return coordinates

    def vector(self, coordinates: Tensor) -> Tensor:
        """Returns the vector [size] with these coordinates [capacity]."""
        return self.basis[: self.dimensions].T @ coordinates[: self.dimensions].to(self.basis)

    def compact(self, kept: Tensor) -> Tensor:
        """Reduces the subspace to the span of some vectors, with a basis that is orthonormal to rounding.

        Args:
            kept: coordinates of the vectors, shape [vectors, capacity].

        Returns:
            The matrix [capacity, capacity] that maps old coordinates to new ones.
        """
        old = self.dimensions
        units = kept / kept.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        _, lengths, directions = torch.linalg.svd(units[:, :old], full_matrices=False)
        directions = directions[lengths > 1e-13 * lengths[0]]
        # Rounding accumulates over compactions, so the old basis B is only roughly orthonormal: B B^T = gram.
        gram = torch.zeros(old, old, dtype=torch.float64, device=self.basis.device)
        for part in self.basis[:old].split(_COLUMNS, dim=1):
            gram += part @ part.T
        lower = torch.linalg.cholesky(directions @ gram.cpu() @ directions.T)
        rows = torch.linalg.solve_triangular(lower, directions, upper=False).to(self.basis)
        self.dimensions = len(directions)
        for part in self.basis.split(_COLUMNS, dim=1):
            part[: self.dimensions] = rows @ part[:old]
        matrix = torch.zeros(self.capacity, self.capacity, dtype=torch.float64, device="cpu")
        matrix[: self.dimensions, :old] = lower.T @ directions
        return matrix


def curvature(moves: Tensor, changes: Tensor, otherwise: float) -> tuple[Tensor, float]:
    """Builds H from the history of one minibatch by BFGS, starting from beta times the identity.

    beta is the lower quartile of the gains |change| / |move| in the span of the moves.

    Args:
        moves: changes of x between evaluations, oldest first, shape [pairs, dimensions].
        changes: the changes of the gradient, shape [pairs, dimensions].
        otherwise: beta if no pair has positive curvature.

    Returns:
        H [dimensions, dimensions], positive definite, and beta.
    """
    products = (moves * changes).sum(1)
    useful = products > 1e-10 * moves.norm(dim=1) * changes.norm(dim=1)
    moves, changes = moves[useful], changes[useful]
    identity = torch.eye(moves.shape[1], dtype=torch.float64, device="cpu")
    if not len(moves):
        return otherwise * identity, otherwise
    left, lengths, _ = torch.linalg.svd(moves, full_matrices=False)
    seen = lengths > 1e-6 * lengths[0]
    gains = torch.linalg.svdvals((left[:, seen] / lengths[seen]).T @ changes)
    beta = gains.clamp(min=gains[0] / _CONDITION).quantile(_UNSEEN).item()
    hessian = beta * identity
    for move, change in zip(moves, changes, strict=True):
        image = hessian @ move
        hessian = hessian + torch.outer(change, change) / (change @ move) - torch.outer(image, image) / (move @ image)
    values, vectors = torch.linalg.eigh(hessian)
    return vectors * values.clamp(min=values[-1].item() / _CONDITION) @ vectors.T, beta


@dataclass
class Model:
    """The quadratic model of one minibatch; vectors are coordinates [capacity].

    Attributes:
        moves, changes: the pairs of its history, oldest first, shape [pairs, capacity].
        beta: the curvature in directions that the history does not span.
        hessian: H_i, shape [capacity, capacity].
        x_i, f_i, g_i: the anchor, and the cost and gradient there; NaN before the first evaluation.
        values: the last _RECENT costs of the minibatch, including those of rejected steps.
    """

    moves: Tensor
    changes: Tensor
    beta: float
    hessian: Tensor
    x_i: Tensor
    g_i: Tensor
    f_i: float = math.nan
    values: list[float] = field(default_factory=list)

    @classmethod
    def flat(cls, capacity: int, beta: float) -> Model:
        """Returns a model without history, of curvature beta in all directions."""
        empty = torch.zeros(0, capacity, dtype=torch.float64, device="cpu")
        unknown = torch.full((capacity,), math.nan, dtype=torch.float64, device="cpu")
        return cls(empty, empty, beta, beta * torch.eye(capacity, dtype=torch.float64, device="cpu"), unknown, unknown)

    @property
    def anchored(self) -> bool:
        """Whether the minibatch has been evaluated."""
        return not math.isnan(self.f_i)

    def is_exceeded(self, value: float, x: Tensor, precision: float) -> bool:
        """Returns whether the cost at x exceeds the model by more than twice the predicted change, the recent range and rounding."""
        move = x - self.x_i
        predicted = (self.g_i @ move + move @ self.hessian @ move / 2).item()
        tolerated = max(2 * abs(predicted), max(self.values) - min(self.values), 100 * precision * abs(value))
        return value - (self.f_i + predicted) > tolerated

    def add_pair(self, x: Tensor, g: Tensor, precision: float, history: int, dimensions: int) -> None:
        """Adds the changes since the anchor to the history, unless the gradient changed by no more than rounding."""
        if (g - self.g_i).norm() <= 100 * precision * g.norm():
            return
        self.moves = torch.cat([self.moves, (x - self.x_i).unsqueeze(0)])[-history:]
        self.changes = torch.cat([self.changes, (g - self.g_i).unsqueeze(0)])[-history:]
        self.build_hessian(dimensions)

    def build_hessian(self, dimensions: int) -> None:
        """Builds H_i from the history in the first `dimensions` coordinates; the others have curvature beta."""
        hessian, self.beta = curvature(self.moves[:, :dimensions], self.changes[:, :dimensions], self.beta)
        self.hessian = self.beta * torch.eye(self.moves.shape[1], dtype=torch.float64, device="cpu")
        self.hessian[:dimensions, :dimensions] = hessian

    def change_basis(self, matrix: Tensor, origin: Tensor, dimensions: int) -> None:
        """Maps all vectors to new coordinates and a new origin, and drops pairs that lie mostly outside the new subspace."""
        moves, changes = self.moves @ matrix.T, self.changes @ matrix.T
        kept = (moves.norm(dim=1) > 0.5 * self.moves.norm(dim=1)) & (changes.norm(dim=1) > 0.5 * self.changes.norm(dim=1))
        self.moves, self.changes = moves[kept], changes[kept]
        if self.anchored:
            self.x_i, self.g_i = matrix @ (self.x_i - origin), matrix @ self.g_i
        self.build_hessian(dimensions)


class MinibatchChooser(Protocol):
    """An optimizer that chooses the minibatch of each step itself.

    It also has the attribute `chooses_minibatches = True`. A training loop divides the examples once into `minibatches` minibatches, and
    calls `step(closure)` that many times per epoch; `closure(i)` evaluates minibatch i.
    """

    minibatches: int

    def step(self, closure: Callable[[int], Tensor]) -> Tensor:
        """Takes a step that evaluates the closure for at least one minibatch, and returns the first cost."""
        ...


def chooses_minibatches(optimizer: torch.optim.Optimizer | type) -> TypeGuard[MinibatchChooser]:
    """Returns whether an optimizer or optimizer class chooses the minibatch of each step itself; see `MinibatchChooser`."""
    return getattr(optimizer, "chooses_minibatches", False)


class SFO(torch.optim.Optimizer):
    """Minimises a sum of functions, one per minibatch. Each step evaluates one minibatch, which the optimizer chooses.

    The functions must be deterministic: minibatch i always has the same examples and the same noise. There is no learning rate.
    N minibatches need memory for about 3 N numbers per parameter; the SFO paper recommends N = sqrt(examples) / 10.

    ::

        optimizer = SFO(model.parameters(), minibatches=25)
        def closure(i):
            optimizer.zero_grad()
            loss = cost(model, minibatch[i])
            loss.backward()
            return loss
        for _ in range(epochs * 25):
            optimizer.step(closure)

    The SFO paper leaves two rules open. Ours are: A step is rejected if the next cost is not finite or far above its model; a retry is
    accepted if it is finite. Another minibatch becomes active after a rejection, when the mean gradient of the active minibatches is
    smaller than its standard error, or after as many steps as there are active minibatches.

    Args:
        params: parameters of one dtype on one device, in one group.
        minibatches: N.
        history: maximum number of pairs that build an H_i.
        seed: seed of the order in which minibatches become active, and of the metric that chooses the next one.

    Raises:
        ValueError: a number is out of range, or there are several groups, dtypes or devices.

    Attributes:
        models: the models of the active minibatches.
        waiting: the inactive minibatches.
        evaluations: the number of costs evaluated.
        rejected: the number of steps rejected.
    """

    chooses_minibatches: ClassVar[bool] = True

    def __init__(self, params: ParamsT, minibatches: int, history: int = 10, seed: int = 0):
        for name, value in (("minibatches", minibatches), ("history", history)):
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name}={value} is invalid: expected a whole number above 0")
        super().__init__(params, {})
        self._params: list[Tensor] = self.param_groups[0]["params"]
        if len({(p.dtype, p.device) for p in self._params}) != 1 or self._params[0].dtype not in (torch.float32, torch.float64):
            raise ValueError("SFO takes parameters of one dtype, float32 or float64, on one device")
        self.minibatches, self.history = minibatches, history
        self.subspace = Subspace(3 * minibatches + 2, self._params[0].new_zeros(sum(p.numel() for p in self._params)))
        self.random = torch.Generator("cpu").manual_seed(seed)
        self.waiting: list[int] = torch.randperm(minibatches, generator=self.random, device="cpu").tolist()
        self.models: dict[int, Model] = {}
        self.x = torch.zeros(self.subspace.capacity, dtype=torch.float64, device="cpu")  # coordinates of the parameters
        self.evaluations = self.rejected = 0
        self._since_activation, self._steps, self._path, self._limit, self._retrying = 0, 0, 0.0, math.inf, False
        self._before: tuple[Tensor, Tensor] | None = None  # parameters and coordinates before the last step
        for _ in range(min(2, minibatches)):
            self._activate()

    @property
    def active(self) -> list[int]:
        """The minibatches whose models enter the sum."""
        return list(self.models)

    def add_param_group(self, param_group: dict) -> None:
        """Adds the first group, in the constructor; raises ValueError for others, because one subspace holds all parameters."""
        if self.param_groups:
            raise ValueError("SFO takes one group of parameters")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[int], Tensor]) -> Tensor:  # type: ignore[override]  # torch's closures take no minibatch
        """Evaluates one minibatch and moves towards the minimum of the sum of the models.

        Args:
            closure: clears the gradients, computes the cost and the gradients of the minibatch whose number it gets, and returns the
                cost. The first step calls it twice.

        Returns:
            The cost before the step.
        """
        i = self._choose()
        loss, g = self._evaluate(closure, i)
        if self.evaluations == 1:
            self._probe(closure, i, g)
        with torch.autocast(g.device.type, enabled=False):  # coordinates need full precision
            self._update(self.models[i], loss.item(), g)
        return loss

    def state_dict(self) -> dict:
        """Returns a copy of everything that the next step depends on, except the parameters."""
        progress = {name: getattr(self, name) for name in ("minibatches", *_PROGRESS)}
        return super().state_dict() | {
            "basis": self.subspace.basis[: self.subspace.dimensions].clone(),
            "random": self.random.get_state(),
            **copy.deepcopy(progress | {"models": {i: dict(vars(model)) for i, model in self.models.items()}}),
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict) -> None:
        """Copies what `state_dict` returned; the parameters must be those that went with it.

        Raises:
            ValueError: the state has another number of minibatches or parameters; nothing has been loaded.
        """
        if state_dict.get("minibatches") != self.minibatches:
            raise ValueError(
                f"the state has minibatches={state_dict.get('minibatches')}: expected {self.minibatches}, as the optimizer has"
            )
        basis, size = state_dict["basis"], self.subspace.basis.shape[1]
        if basis.shape[1] != size:
            raise ValueError(f"the state is of {basis.shape[1]} parameters: expected {size}, as the optimizer has")
        self.subspace.dimensions = len(basis)
        self.subspace.basis[: len(basis)] = basis
        self.random.set_state(state_dict["random"].cpu())
        state = _on_cpu({name: state_dict[name] for name in ("models", *_PROGRESS)})
        self.models = {i: Model(**fields) for i, fields in state.pop("models").items()}
        for name, value in state.items():
            setattr(self, name, value)
        if self._before is not None:
            self._before = self._before[0].to(self.subspace.basis), self._before[1]

    def __getstate__(self) -> dict:
        """Adds the attributes that torch's `__getstate__` omits."""
        own = ("minibatches", "history", "subspace", "models", "random", "_params", *_PROGRESS)
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    def _evaluate(self, closure: Callable[[int], Tensor], i: int) -> tuple[Tensor, Tensor]:
        """Returns the cost and the gradient [size] of minibatch i."""
        with torch.enable_grad():
            loss = closure(i)
        self.evaluations += 1
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._params]
        return loss.detach(), torch.cat([part.flatten() for part in parts])

    @torch.no_grad()
    def _probe(self, closure: Callable[[int], Tensor], i: int, g: Tensor) -> None:
        """Sets the initial curvature from a second evaluation of the first minibatch, a short way along its gradient."""
        before, length = self._flat_parameters(), g.norm().item()
        if not 0 < length < math.inf:
            return
        reach = 1e-2 * self.subspace.precision ** (1 / 4) * max(1.0, before.norm().item())
        self._set_parameters(before - g * (reach / length))
        changed = (self._evaluate(closure, i)[1] - g).norm().item()
        self._set_parameters(before)
        if 0 < changed < math.inf:
            for model in self.models.values():
                model.beta = changed / reach
                model.build_hessian(self.subspace.dimensions)

    def _choose(self) -> int:
        """Returns a minibatch not evaluated yet, or the one farthest from its anchor in the metric of its own H_i or of their sum."""
        for i, model in self.models.items():
            if not model.anchored:
                return i
        moves = {i: self.x - model.x_i for i, model in self.models.items()}
        if torch.rand((), generator=self.random, device="cpu") < 0.5:
            total = sum(model.hessian for model in self.models.values())
            return max(moves, key=lambda i: (moves[i] @ total @ moves[i]).item())
        return max(moves, key=lambda i: (moves[i] @ self.models[i].hessian @ moves[i]).item())

    @torch.no_grad()
    def _update(self, model: Model, value: float, gradient: Tensor) -> None:
        """Updates the model with one evaluation, or rejects the step that led to it; then moves."""
        g = self._coordinates(gradient)
        finite = math.isfinite(value) and bool(g.isfinite().all())
        if self._before is None and not finite:
            return  # not finite from the start: no point to return to
        precision, accepted = self.subspace.precision, finite
        if finite and model.anchored:
            accepted = self._retrying or not model.is_exceeded(value, self.x, precision)
            model.add_pair(self.x, g, precision, self.history, self.subspace.dimensions)
        if finite:  # after rejections too, so that noisy costs widen the tolerance
            model.values = [*model.values, value][-_RECENT:]
        if accepted:
            model.x_i, model.f_i, model.g_i = self.x.clone(), value, g
            self._limit *= 10 ** (1 / self.minibatches)
            self._since_activation += 1
            if self._should_activate():
                self._activate()
        else:
            self._reject_step()
        self._retrying = not accepted
        self._move()

    def _coordinates(self, vector: Tensor) -> Tensor:
        """Returns the coordinates of a vector; compacts a full subspace first."""
        if self.subspace.full:
            known = [model for model in self.models.values() if model.anchored]
            matrix = self.subspace.compact(torch.stack([v for model in known for v in (model.g_i, model.x_i - self.x)]))
            for model in self.models.values():
                model.change_basis(matrix, self.x, self.subspace.dimensions)
            self._before = None if self._before is None else (self._before[0], matrix @ (self._before[1] - self.x))
            self.x = torch.zeros_like(self.x)
        return self.subspace.coordinates(vector)

    def _should_activate(self) -> bool:
        """Returns whether the gradients of the active minibatches nearly cancel, or each had its turn since the last activation."""
        known = [model.g_i for model in self.models.values() if model.anchored]
        if len(known) < len(self.models) or len(known) < 2:
            return False
        gradients = torch.stack(known)
        mean = gradients.mean(0)
        error = (gradients - mean).square().sum() / ((len(known) - 1) * len(known))
        return self._since_activation >= len(known) or bool(mean.square().sum() < error)

    def _activate(self) -> None:
        """Activates a minibatch with the median curvature of the others, which holds until it has been evaluated twice."""
        if self.waiting:
            beta = statistics.median([model.beta for model in self.models.values()]) if self.models else 1.0
            self.models[self.waiting.pop()] = Model.flat(self.subspace.capacity, beta)
        self._since_activation = 0

    def _reject_step(self) -> None:
        """Undoes the last step, limits the next ones, and activates a minibatch."""
        assert self._before is not None  # only a step can be rejected
        parameters, x = self._before
        self.rejected += 1
        self._limit = _SHORTER * (self.x - x).norm().item()
        self._set_parameters(parameters)
        self.x = x
        self._activate()

    def _move(self) -> None:
        """Takes the Newton step on the sum of the models."""
        known = [model for model in self.models.values() if model.anchored]
        total = sum(model.hessian for model in known)
        slope = sum(model.g_i + model.hessian @ (self.x - model.x_i) for model in known)
        step = -torch.linalg.solve(total, slope)
        step[self.subspace.dimensions :] = 0.0
        length = step.norm().item()
        limit = min(self._limit, _LONGEST * self._path / self._steps if self._steps else math.inf)
        if length > limit:
            step, length = step * (limit / length), limit
        self._path, self._steps = self._path + length, self._steps + 1
        self._before = self._flat_parameters(), self.x
        self.x = self.x + step
        self._set_parameters(self._before[0] + self.subspace.vector(step))

    def _flat_parameters(self) -> Tensor:
        """Returns a copy [size] of the parameters."""
        return torch.cat([p.detach().flatten() for p in self._params])

    def _set_parameters(self, flat: Tensor) -> None:
        """Copies a vector [size] into the parameters."""
        for p, part in zip(self._params, flat.split([p.numel() for p in self._params]), strict=True):
            p.copy_(part.view_as(p))


def _on_cpu(value):
    """Returns a copy of nested containers with all tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_on_cpu, value))
    return value
