"""SFO, the sum-of-functions optimizer of Sohl-Dickstein, Poole & Ganguli (2014, arXiv 1311.2115): what section 6.2 compares Adam with.

The objective is a sum F(x) = f_1(x) + ... + f_N(x), one f_i for each minibatch, which always is the same examples. Of each f_i a
quadratic model is kept, anchored where f_i was last evaluated, at x_i with gradient g_i::

    f_i(x) ~ f_i(x_i) + g_i (x - x_i) + (x - x_i) H_i (x - x_i) / 2

A step minimises the sum of the models of the active minibatches, then evaluates the one minibatch that has become most
out of date, and anchors its model anew. H_i is built by BFGS from the pairs (change of x, change of g_i) between its last
evaluations. All of this happens in the coordinates of a subspace that is spanned by recent gradients, shared by all minibatches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_CONDITION = 1e6  # the largest ratio of eigenvalues of an H_i
_LONGEST = 10.0  # a step is at most so many times as long as the mean of those before
_SHORTER = 0.25  # after a step that was taken back, the next is at most so much of it
_COLUMNS = 2**16  # of the basis are turned at a time

# Attributes of SFO that change from step to step, besides its models, its basis and its random numbers.
_PROGRESS = ("x", "waiting", "evaluations", "taken_back", "_since_activation", "_steps", "_way", "_limit", "_before")


class Subspace:
    """An orthonormal basis that grows with the vectors put into it, up to a capacity.

    Args:
        capacity: the largest number of dimensions.
        like: a vector [size]: its dtype and device are the basis's.

    Attributes:
        basis: shape [capacity, size]; rows from `dimensions` on are not used.
        dimensions: how many there are.
    """

    def __init__(self, capacity: int, like: Tensor):
        self.basis = like.new_zeros(min(capacity, like.numel()), like.numel())
        self.dimensions = 0

    @property
    def capacity(self) -> int:
        """The largest number of dimensions."""
        return len(self.basis)

    @property
    def full(self) -> bool:
        """Whether there is no room for another dimension, though there could be one in the space around."""
        return self.dimensions == self.capacity < self.basis.shape[1]

    def coordinates(self, vector: Tensor) -> Tensor:
        """Coordinates [capacity], float64 on the CPU, of a vector [size], for which the basis grows if need be."""
        used = self.basis[: self.dimensions]
        coordinates = torch.zeros(self.capacity, dtype=torch.float64)
        rest = vector.clone()
        for _ in range(2):  # the second time takes out what rounding left the first time
            part = used @ rest
            rest.addmv_(used.T, part, alpha=-1)
            coordinates[: self.dimensions] += part.to("cpu", torch.float64)
        length, precision = rest.norm().item(), torch.finfo(vector.dtype).eps * vector.norm().item()
        if length > 10 * precision and self.dimensions < self.capacity:
            coordinates[self.dimensions] = length
            rest.div_(length)
            rest.addmv_(used.T, used @ rest, alpha=-1)  # for a short rest is mostly rounding, and not orthogonal yet
            torch.div(rest, rest.norm(), out=self.basis[self.dimensions])
            self.dimensions += 1
        return coordinates

    def vector(self, coordinates: Tensor) -> Tensor:
        """The vector [size] with these coordinates [capacity]."""
        part = coordinates[: self.dimensions].to(self.basis.device, self.basis.dtype)
        return self.basis[: self.dimensions].T @ part

    def compact(self, kept: Tensor) -> Tensor:
        """Keeps only the span of some vectors.

        Args:
            kept: their coordinates, shape [vectors, capacity].

        Returns:
            The matrix [capacity, capacity] that turns old coordinates into new ones.
        """
        units = kept / kept.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        _, lengths, directions = torch.linalg.svd(units, full_matrices=False)
        directions = directions[lengths > 1e-13 * lengths[0]]
        new = len(directions)
        turn = torch.zeros(self.capacity, self.capacity, dtype=torch.float64)
        turn[:new] = directions
        used = directions[:, : self.dimensions].to(self.basis.device, self.basis.dtype)
        for part in self.basis.split(_COLUMNS, dim=1):  # so that no second basis is needed meanwhile
            part[:new] = used @ part[: self.dimensions]
        self.dimensions = new
        return turn


def curvature(moves: Tensor, changes: Tensor, otherwise: float) -> tuple[Tensor, float]:
    """H from the history of one minibatch: BFGS, starting from beta times the identity.

    beta is the median of the gains |change| / |move| in the span of the moves. (With the smallest of them steps in directions never
    seen are long: faster at first, but on networks the cost explodes later.)

    Args:
        moves: changes of x between evaluations, oldest first, shape [pairs, dimensions].
        changes: changes of the gradient, likewise.
        otherwise: beta where the history has no pair of positive curvature.

    Returns:
        H [dimensions, dimensions], positive definite, and beta.
    """
    products = (moves * changes).sum(1)
    useful = products > 1e-10 * moves.norm(dim=1) * changes.norm(dim=1)
    moves, changes = moves[useful], changes[useful]
    identity = torch.eye(moves.shape[1], dtype=torch.float64)
    if not len(moves):
        return otherwise * identity, otherwise
    left, lengths, _ = torch.linalg.svd(moves, full_matrices=False)
    seen = lengths > 1e-6 * lengths[0]
    gains = torch.linalg.svdvals((left[:, seen] / lengths[seen]).T @ changes)
    beta = gains.median().item()
    hessian = beta * identity
    for move, change in zip(moves, changes, strict=True):
        bent = hessian @ move
        hessian = hessian + torch.outer(change, change) / (change @ move) - torch.outer(bent, bent) / (move @ bent)
    values, vectors = torch.linalg.eigh(hessian)
    return vectors * values.clamp(min=values[-1].item() / _CONDITION) @ vectors.T, beta


@dataclass
class Model:
    """The quadratic model of one minibatch; vectors are coordinates [capacity].

    Attributes:
        x_i: where it is anchored, None before its first evaluation.
        f_i, g_i: value and gradient there.
        moves, changes: the pairs of its history, oldest first, shape [pairs, capacity].
        beta: the curvature in directions that its history does not span.
        hessian: H_i, shape [capacity, capacity].
        lowest, highest: the values that the minibatch has had.
    """

    moves: Tensor
    changes: Tensor
    beta: float
    hessian: Tensor
    x_i: Tensor | None = None
    f_i: float = math.nan
    g_i: Tensor | None = None
    lowest: float = math.inf
    highest: float = -math.inf

    @classmethod
    def flat(cls, capacity: int, beta: float) -> Model:
        """A model of which nothing is known but a curvature."""
        nothing = torch.zeros(0, capacity, dtype=torch.float64)
        return cls(nothing, nothing, beta, beta * torch.eye(capacity, dtype=torch.float64))

    def has_exploded(self, value: float, x: Tensor) -> bool:
        """Whether a value at x is above the one that the model predicts, by twice the change it predicts and by all that was seen."""
        move = x - self.x_i
        predicted = (self.g_i @ move + move @ self.hessian @ move / 2).item()
        return value - (self.f_i + predicted) > max(2 * abs(predicted), self.highest - self.lowest)

    def learn(self, x: Tensor, g: Tensor, precision: float, history: int, dimensions: int) -> None:
        """Takes the pair of changes since the anchor into the history, unless the gradient changed by no more than its rounding."""
        if (g - self.g_i).norm() <= 100 * precision * g.norm():
            return
        self.moves = torch.cat([self.moves, (x - self.x_i).unsqueeze(0)])[-history:]
        self.changes = torch.cat([self.changes, (g - self.g_i).unsqueeze(0)])[-history:]
        self.bend(dimensions)

    def bend(self, dimensions: int) -> None:
        """Builds the Hessian from the history, in that many dimensions; others have the curvature beta."""
        hessian, self.beta = curvature(self.moves[:, :dimensions], self.changes[:, :dimensions], self.beta)
        self.hessian = self.beta * torch.eye(self.moves.shape[1], dtype=torch.float64)
        self.hessian[:dimensions, :dimensions] = hessian

    def anchor(self, x: Tensor, g: Tensor, value: float) -> None:
        """Moves the model to where the minibatch was evaluated."""
        self.x_i, self.f_i, self.g_i = x, value, g
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    def turn(self, matrix: Tensor, x: Tensor, dimensions: int) -> None:
        """Changes to other coordinates, whose origin is at x."""
        moves, changes = self.moves @ matrix.T, self.changes @ matrix.T
        kept = (moves.norm(dim=1) > 0.5 * self.moves.norm(dim=1)) & (changes.norm(dim=1) > 0.5 * self.changes.norm(dim=1))
        self.moves, self.changes = moves[kept], changes[kept]
        if self.x_i is not None:
            self.x_i, self.g_i = matrix @ (self.x_i - x), matrix @ self.g_i
        self.bend(dimensions)


class SFO(torch.optim.Optimizer):
    """Minimises a sum of functions, one for each minibatch. Each step evaluates one of them, which the optimizer chooses.

    The functions must be deterministic: minibatch i is always the same examples with the same noise. There is no step size. Memory
    is about 3 N numbers per parameter for N minibatches, whose number should be about sqrt(examples) / 10.

    ::

        optimizer = optim.SFO(model.parameters(), minibatches=25)
        def closure(i):
            optimizer.zero_grad()
            loss = cost(model, minibatch[i])
            loss.backward()
            return loss
        for _ in range(passes * 25):
            optimizer.step(closure)

    Where the published description leaves room: where the value of a minibatch is not finite, or far above what its model says, the
    last step was too long and is taken back, once; another minibatch becomes active when that happens, when the mean gradient
    of the active ones is smaller than its standard error, or after a pass over them without a new one.

    Args:
        params: parameters of one dtype on one device, in one group.
        minibatches: N.
        history: pairs from which each H_i is built.
        seed: decides the order in which minibatches become active, and by whose metric the next one is chosen.

    Raises:
        ValueError: numbers that are out of range, more than one group, several dtypes.

    Attributes:
        models: of the active minibatches.
        waiting: the minibatches that are not active yet.
        evaluations: how often a minibatch was evaluated.
        taken_back: how many steps were taken back.
    """

    def __init__(self, params, minibatches: int, history: int = 10, seed: int = 0):
        for name, value in (("minibatches", minibatches), ("history", history)):
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name}={value} should be a whole number above 0")
        super().__init__(params, {})
        if len(self.param_groups) != 1:
            raise ValueError("SFO takes one group of parameters")
        self._params: list[Tensor] = self.param_groups[0]["params"]
        if len({(p.dtype, p.device) for p in self._params}) != 1 or self._params[0].dtype not in (torch.float32, torch.float64):
            raise ValueError("SFO takes parameters of one dtype, float32 or float64, on one device")
        self.minibatches, self.history = minibatches, history
        size = sum(p.numel() for p in self._params)
        self._precision = torch.finfo(self._params[0].dtype).eps
        self.subspace = Subspace(3 * minibatches + 2, self._params[0].new_zeros(size))
        self.random = torch.Generator().manual_seed(seed)
        self.waiting: list[int] = torch.randperm(minibatches, generator=self.random).tolist()
        self.models: dict[int, Model] = {}
        self.x = torch.zeros(self.subspace.capacity, dtype=torch.float64)  # where the parameters are
        self.evaluations = self.taken_back = 0
        self._since_activation, self._steps, self._way, self._limit = 0, 0, 0.0, math.inf
        self._before: tuple[Tensor, Tensor] | None = None  # parameters and coordinates before the last step
        for _ in range(min(2, minibatches)):
            self._activate()

    @property
    def active(self) -> list[int]:
        """The minibatches that count so far."""
        return list(self.models)

    def step(self, closure: Callable[[int], Tensor]) -> Tensor:
        """Evaluates one minibatch, and moves to where the sum of all models is lowest.

        Args:
            closure: gets the number of a minibatch, clears the gradients, computes its cost and the gradients of it, returns
                the cost. The first step calls it twice.

        Returns:
            The cost that was evaluated, before the step.
        """
        i = self._choose()
        loss, g = self._evaluate(closure, i)
        model, value = self.models[i], loss.item()
        sound = math.isfinite(value) and bool(g.isfinite().all())
        if sound and self.evaluations == 1:
            self._probe(closure, i, g)
        trusted = self._limit == math.inf and model.x_i is not None
        if self._before is not None and (not sound or (trusted and model.has_exploded(value, self.x))):
            self._take_back(model, g if sound else None)
        elif sound:
            g = self._coordinates(g)
            if model.x_i is not None:
                model.learn(self.x, g, self._precision, self.history, self.subspace.dimensions)
            model.anchor(self.x.clone(), g, value)
            self._limit = math.inf
            self._since_activation += 1
            if self._pays_no_more():
                self._activate()
        else:
            return loss  # not finite from the beginning: there is nowhere to go
        self._move()
        return loss

    def state_dict(self) -> dict:
        """Everything that the next step depends on, besides the parameters."""
        return super().state_dict() | {
            "basis": self.subspace.basis[: self.subspace.dimensions].clone(),
            "models": {i: vars(model) for i, model in self.models.items()},
            "random": self.random.get_state(),
            **{name: getattr(self, name) for name in _PROGRESS},
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what `state_dict` returned; the parameters must be those of then."""
        self.subspace.dimensions = len(state_dict["basis"])
        self.subspace.basis[: self.subspace.dimensions] = state_dict["basis"]
        self.models = {i: Model(**known) for i, known in state_dict["models"].items()}
        self.random.set_state(state_dict["random"])
        for name in _PROGRESS:
            setattr(self, name, state_dict[name])
        if self._before is not None:
            self._before = self._before[0].to(self.subspace.basis), self._before[1]

    def _evaluate(self, closure: Callable[[int], Tensor], i: int) -> tuple[Tensor, Tensor]:
        """Cost and gradient [size] of minibatch i."""
        with torch.enable_grad():
            loss = closure(i)
        self.evaluations += 1
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._params]
        return loss.detach(), torch.cat([part.flatten() for part in parts])

    @torch.no_grad()
    def _probe(self, closure: Callable[[int], Tensor], i: int, g: Tensor) -> None:
        """Finds the curvature along the very first gradient, by a second evaluation close by."""
        before = torch.cat([p.flatten() for p in self._params])
        length = g.norm().item()
        if length == 0:
            return
        reach = 1e-2 * torch.finfo(g.dtype).eps ** (1 / 4) * max(1.0, before.norm().item())
        self._place(before - g * (reach / length))
        changed = (self._evaluate(closure, i)[1] - g).norm().item()
        self._place(before)
        if math.isfinite(changed) and changed > 0:
            for known in self.models.values():
                known.beta = changed / reach
                known.bend(self.subspace.dimensions)

    def _choose(self) -> int:
        """One that was never evaluated, or the one farthest from its anchor, by the metric of its own H_i or by that of their sum."""
        for i, model in self.models.items():
            if model.x_i is None:
                return i
        away = {i: self.x - model.x_i for i, model in self.models.items()}
        if torch.rand((), generator=self.random) < 0.5:
            total = sum(model.hessian for model in self.models.values())
            return max(away, key=lambda i: (away[i] @ total @ away[i]).item())
        return max(away, key=lambda i: (away[i] @ self.models[i].hessian @ away[i]).item())

    def _coordinates(self, vector: Tensor) -> Tensor:
        """Coordinates of a vector; the subspace is compacted first where it is full."""
        if self.subspace.full:
            known = [model for model in self.models.values() if model.x_i is not None]
            matrix = self.subspace.compact(torch.stack([v for model in known for v in (model.g_i, model.x_i - self.x)]))
            for model in self.models.values():
                model.turn(matrix, self.x, self.subspace.dimensions)
            self._before = None if self._before is None else (self._before[0], matrix @ (self._before[1] - self.x))
            self.x = torch.zeros_like(self.x)
        return self.subspace.coordinates(vector)

    def _pays_no_more(self) -> bool:
        """Whether more minibatches are wanted: their gradients nearly cancel, or a whole pass went by."""
        known = [model.g_i for model in self.models.values() if model.x_i is not None]
        if len(known) < len(self.models) or len(known) < 2:
            return False
        gradients = torch.stack(known)
        mean = gradients.mean(0)
        error = (gradients - mean).square().sum() / ((len(known) - 1) * len(known))
        return self._since_activation >= len(known) or bool(mean.square().sum() < error)

    def _activate(self) -> None:
        """Lets one more minibatch count, with the median curvature of the others until it has been evaluated twice."""
        if self.waiting:
            beta = statistics.median([model.beta for model in self.models.values()]) if self.models else 1.0
            self.models[self.waiting.pop()] = Model.flat(self.subspace.capacity, beta)
        self._since_activation = 0

    @torch.no_grad()
    def _take_back(self, model: Model, g: Tensor | None) -> None:
        """Goes back to before the last step, whose length the next one will not reach, and learns from the gradient there, if finite."""
        self.taken_back += 1
        if g is not None and model.x_i is not None:
            g = self._coordinates(g)
            model.learn(self.x, g, self._precision, self.history, self.subspace.dimensions)
        place, x = self._before
        self._limit = _SHORTER * (self.x - x).norm().item()
        self._place(place)
        self.x = x
        self._activate()

    @torch.no_grad()
    def _move(self) -> None:
        """The Newton step on the sum of the models."""
        known = [model for model in self.models.values() if model.x_i is not None]
        total = sum(model.hessian for model in known)
        slope = sum(model.g_i + model.hessian @ (self.x - model.x_i) for model in known)
        step = -torch.linalg.solve(total, slope)
        step[self.subspace.dimensions :] = 0.0
        length = step.norm().item()
        limit = min(self._limit, _LONGEST * self._way / self._steps if self._steps else math.inf)
        if length > limit:
            step, length = step * (limit / length), limit
        self._way, self._steps = self._way + length, self._steps + 1
        before = torch.cat([p.flatten() for p in self._params])
        self._before = before, self.x
        self.x = self.x + step
        self._place(before + self.subspace.vector(step))

    @torch.no_grad()
    def _place(self, flat: Tensor) -> None:
        """Puts the parameters where the vector [size] says."""
        for p, part in zip(self._params, flat.split([p.numel() for p in self._params]), strict=True):
            p.copy_(part.view_as(p))
