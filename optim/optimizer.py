"""`RuleOptimizer`, the `torch.optim.Optimizer` that applies every update rule of this package.

A rule is a pure function of tensors that reads like the paper's pseudo-code::

    rule(theta, g, *state, t, **hyperparameters) -> (theta, *state)

It is written for one model, without parameter groups, gradients or storage. `RuleOptimizer` applies it on one of three paths
(`optim.paths`): fused, compiled to one pass over memory for all parameters (`optim.fused_cpu`, `optim.fused_cuda`); foreach, on lists
of tensors; plain, on one parameter after another (both `optim.tensors`). Each subclass adds only the `Formula` of a parameter group.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, TypeVar, get_type_hints, overload

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim.optimizer import ParamsT, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from . import paths, state
from .options import DEFAULTS, Hyperparameter, Options, check, normalized, with_betas
from .plans import ParamPlan, Step, give_back

Loss = TypeVar("Loss")

# For a number, isinstance(h, Tensor) costs more than everything else that a step does with it.
_NUMBERS = frozenset((float, int, bool))


class Formula(NamedTuple):
    """The update of a parameter group.

    Attributes:
        rule: see the module's docstring.
        state_names: torch's names for the rule's state, the keys of `optimizer.state[theta]`.
        hyperparameters: arguments of the rule by name.
        start: every element of the state before the first step.
    """

    rule: Callable[..., tuple[Tensor, ...]]
    state_names: tuple[str, ...]
    hyperparameters: dict[str, Hyperparameter]
    start: float = 0.0


class RuleOptimizer(torch.optim.Optimizer):
    """Applies a pure update rule to every parameter that has a gradient.

    Any hyper-parameter may be a tensor of shape [members], ideally on the device of the parameters. Each parameter is then a stack of
    members along its leading axis. Each member is updated with its own value, exactly as if it were trained alone. (torch's schedulers
    support a single learning rate only; `InverseSqrt` and `Exponential` support both.)

    Complex parameters are updated as pairs of real numbers, DTensors as their local shards. Half precision is computed in float32,
    with float32 state. Gradients are not modified.

    Args:
        params: parameters, named parameters, or groups of them.
        defaults: the subclass's own keys and their values in groups that lack them.
        options: see `Options`.

    Raises:
        ValueError: a value is out of range, the numbers of members differ, or two options are mutually exclusive.
        TypeError: a value has the wrong type, or an option is unknown.
        RuntimeError: (in a step) a gradient is sparse, or fused=True is impossible.
    """

    # The torch optimizer that the class replaces; groups and state have its keys and names.
    torch_twin: ClassVar[type[torch.optim.Optimizer] | None] = None
    # Arguments that the twin lacks, and their defaults. Groups omit these, and options that the twin lacks, where they have the default: a
    # distributed load asks for every key of a group, and the twin's checkpoints lack them.
    extras: ClassVar[dict] = {}
    # Settings of the twin that the rule fixes. Groups hold them; any other value is an error.
    constants: ClassVar[dict] = {}
    # State that a checkpoint may lack (it then starts at 0), and may contain although the settings do not use it.
    optional_state: ClassVar[frozenset[str]] = frozenset()
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        """Lists the constructor's options in the class's signature."""
        signature = inspect.signature(cls.__init__)
        taken = signature.parameters.get("options")
        if taken is None or taken.kind is not inspect.Parameter.VAR_KEYWORD:
            return
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
            for name, annotation in get_type_hints(Options).items()
            if name not in signature.parameters
        ]
        own = [parameter for parameter in signature.parameters.values() if parameter.name not in ("self", "options")]
        cls.__signature__ = inspect.Signature([*own, *options])

    def __init__(self, params: ParamsT, defaults: dict, options: Options):
        for name, value in options.items():
            if name not in DEFAULTS:
                known = ", ".join(name for name in type(self).__signature__.parameters if name != "params")
                raise TypeError(f"{name}={value!r} is unknown to {type(self).__name__}: expected one of {known}")
        settings = normalized({**DEFAULTS, **self.constants, **with_betas(defaults, defaults.get("betas")), **options})
        self.check_group(settings)
        hidden = self._hidden()
        super().__init__(params, {key: h for key, h in settings.items() if key not in hidden or isinstance(h, Tensor) or h != hidden[key]})

    @classmethod
    def _hidden(cls) -> dict:
        """Returns the arguments that the twin lacks, and their defaults; groups omit arguments that have their default."""
        arguments = {**DEFAULTS, **cls.extras}
        twins = inspect.signature(cls.torch_twin).parameters if cls.torch_twin else arguments
        return {key: default for key, default in arguments.items() if key not in twins}

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether torch.amp.GradScaler may leave unscaling and skipping to the step itself, as in torch for fused=True.

        False across processes: a sharded scaler reports overflows to the other processes only if it unscales.
        """
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return bool(self.defaults.get("fused")) and not (distributed and torch.distributed.get_world_size() > 1)

    def formula(self, settings: dict) -> Formula:
        """Returns the update of a group with these settings."""
        raise NotImplementedError

    def settings(self, group: dict) -> dict:
        """Returns the group with defaults for the keys that it omits."""
        return {**DEFAULTS, **self.extras, **group}

    def check_group(self, settings: dict) -> None:
        """Raises ValueError or TypeError if a value of a group (see `settings`) is invalid."""
        check(settings)
        for key, value in self.constants.items():
            if settings.get(key, value) != value:
                raise ValueError(f"{key}={settings[key]!r} is invalid: {type(self).__name__} requires {key}={value!r}")

    def add_param_group(self, param_group: dict) -> None:
        """Checks the hyper-parameters of a group and adds it; torch calls this for the first groups too."""
        if isinstance(param_group, dict):
            joined = with_betas(param_group, self.defaults.get("betas"))
            known = normalized(self._known({**self.defaults, **joined}))
            self.check_group(known)
            joined.update((key, value) for key, value in known.items() if key in joined)
            param_group.clear()
            param_group.update(joined)
        super().add_param_group(param_group)

    def _known(self, group: dict) -> dict:
        """Returns the settings of a group without foreign keys, such as a scheduler's."""
        return {key: value for key, value in self.settings(group).items() if key in self.defaults or key in DEFAULTS or key in self.extras}

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads the state of an optimizer of the same class, or of its counterpart in torch.optim.

        Named parameters are matched by name. A setting of the rule that the checkpoint omits had its default there. The default
        replaces the current value, with a warning if they differ. Groups keep all other keys that the checkpoint omits. Tensors are
        copied. Unlike in torch, state is converted to `state_dtype`; without `state_dtype`, it never loses precision.

        Raises:
            ValueError: the state is of another optimizer, or groups, names or shapes do not match; nothing has been loaded.
        """
        own = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        loaded: dict[Tensor, dict] = {}
        replaced: list[str] = []

        def convert(_, final: dict) -> dict | None:
            """Converts the state_dict after all other pre-hooks."""
            sizes = [[len(group["params"]) for group in groups] for groups in (self.param_groups, final["param_groups"])]
            if sizes[0] != sizes[1]:
                return None  # torch raises the error
            required = [key for key in self.defaults if key not in DEFAULTS and key not in self.extras]
            groups = [state.matched_by_name(*pair) for pair in zip(final["param_groups"], own, strict=True)]
            for group, theirs, before in zip(self.param_groups, groups, own, strict=True):
                replaced.extend(self._take_defaults(before, theirs))
                states = [state.without_gaps(final["state"].get(number, {})) for number in theirs["params"]]
                settings = self.settings({**before, **theirs})
                names = self.formula(settings).state_names if set(required) <= theirs.keys() else ()
                state.check_loaded(theirs, list(filter(None, states)), required, names, self.optional_state, type(self).__name__)
                self.check_group(self._known(settings))
                for theta, values in zip(group["params"], states, strict=True):
                    if values:
                        loaded[theta] = state.converted(values, theta, settings, {*names, *self.optional_state})
            return {**final, "param_groups": groups}

        def take(_) -> None:
            for group, before in zip(self.param_groups, own, strict=True):
                for key, value in before.items():
                    group.setdefault(key, value)
            self.state.update(loaded)
            for sentence in replaced:
                warnings.warn(sentence, stacklevel=6)

        hooks = self.register_load_state_dict_pre_hook(convert), self.register_load_state_dict_post_hook(take, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _take_defaults(self, own: dict, loaded: dict) -> Iterator[str]:
        """Resets settings of the rule that a loaded group omits to their defaults; yields a warning for each that changes."""
        for key in (*self.extras, "maximize", "decoupled_weight_decay"):
            if key in own and key not in loaded:
                value, default = own.pop(key), {**DEFAULTS, **self.extras}[key]
                if key not in self._hidden():
                    own[key] = default
                if isinstance(value, Tensor) or value != default:
                    yield f"the loaded state has {key}={default!r}, which replaces {key}={value!r}: set it in the groups to keep it"

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Takes one step of the rule. Returns the closure's loss, or None without a closure."""
        arguments = () if closure is None else (closure,)
        return self._observed_step(*arguments) if self._is_observed() else self._step(*arguments)

    step.hooked = True  # type: ignore[attr-defined]  # torch does not wrap it once more

    def _is_observed(self) -> bool:
        """Returns whether hooks or the profiler follow the steps. torch's wrapper, which serves them, takes as long as a small step.

        A subclass with a step of its own has torch's wrapper around that.
        """
        own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        anybody = own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks or profiler._is_profiler_enabled
        return bool(anybody) and type(self).step is RuleOptimizer.step

    def _step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)  # set by GradScaler
        if found_inf is not None and found_inf.device.type == "cpu":
            if found_inf.item():
                return loss
            found_inf = None
        first = 0
        for group in self.param_groups:
            settings = self.settings(group)
            with torch.set_grad_enabled(settings["differentiable"]):
                step = self._step_settings(settings, scale, found_inf)
                by_path = self._group_by_path(settings, step, first)
                try:
                    for path, plans in by_path.items():
                        path(step, plans)
                finally:
                    give_back(by_path)
            first += len(group["params"])
        return loss

    _observed_step = torch.optim.Optimizer.profile_hook_step(_step)

    @torch.no_grad()
    def keep_members(self, kept: Tensor) -> None:
        """Drops the parameters, state and hyper-parameters of all other members of a population.

        Every parameter must be a stack of members. Averages that follow the optimizer are not updated.

        Args:
            kept: indices of the members to keep, int64, shape [kept].

        Raises:
            ValueError: parameters have different numbers of members; nothing has changed.
        """

        sizes = {theta.shape[:1] for group in self.param_groups for theta in group["params"]}
        if len(sizes) != 1 or torch.Size() in sizes:
            raise ValueError(f"the parameters have leading axes {sorted(map(tuple, sizes))}: expected the same number of members in each")
        members = next(iter(sizes))

        def keep(value):
            if isinstance(value, (tuple, list)):
                return type(value)(map(keep, value))
            return value[kept] if isinstance(value, Tensor) and value.shape[:1] == members else value

        for group in self.param_groups:
            group.update({key: keep(value) for key, value in group.items() if key != "params"})
            for theta in group["params"]:
                theta.data, theta.grad = theta.data[kept], None
                if theta in self.state:
                    self.state[theta] = {key: keep(value) for key, value in self.state[theta].items()}

    def paths(self) -> Counter[str]:
        """Returns how many parameters with gradients a step would update on each path: "fused", "foreach" or "plain"."""
        counts: Counter[str] = Counter()
        for group in self.param_groups:
            settings = self.settings(group)
            by_path = self._group_by_path(settings, self._step_settings(settings, None, None))
            counts.update({paths.NAMES.get(path, "fused"): len(plans) for path, plans in by_path.items()})
            give_back(by_path)
        return counts

    def _step_settings(self, settings: dict, scale: Tensor | None, found_inf: Tensor | None) -> Step:
        """Returns the settings of a group in this step."""
        rule, state_names, hyperparameters, _ = self.formula(settings)
        decay = settings.get("weight_decay", 0.0)
        if isinstance(decay, Tensor) or decay:
            hyperparameters["weight_decay"] = decay
            decay = "decoupled" if settings["decoupled_weight_decay"] else "coupled"
        if scale is not None:
            hyperparameters["scale"] = scale
        tracing = paths.is_tracing()
        with_options = paths.with_options.__wrapped__ if tracing else paths.with_options  # torch.compile warns about functools.cache
        rule = with_options(rule, scale is not None, settings["maximize"], decay or None)
        capturable, differentiable = settings["capturable"], settings["differentiable"]
        numbers = _NUMBERS.issuperset(map(type, hyperparameters.values()))
        for letter, h in () if numbers else hyperparameters.items():
            if isinstance(h, Tensor):
                h = h.reshape(()) if h.ndim and h.numel() == 1 else h
                keep = h.ndim or capturable or differentiable or tracing or h.device.type != "cpu"
                hyperparameters[letter] = h if keep else h.item()
        members = None if numbers else paths.members_of(hyperparameters)
        stochastic = settings["stochastic_rounding"]
        return Step(rule, state_names, hyperparameters, members, numbers, tracing, capturable, differentiable, stochastic, found_inf)

    def _group_by_path(self, settings: dict, step: Step, first: int = 0) -> dict[Callable, list[ParamPlan]]:
        """Groups parameters that have gradients by path; `first` is the place of the group's first parameter in the optimizer."""
        cached = self._cached_plans(settings, step, first)
        by_path, states = defaultdict(list), self.state
        for place, theta in enumerate(settings["params"], first):
            g = theta.grad
            if g is None:
                continue
            if g.layout is not torch.strided:
                raise RuntimeError(f"{type(self).__name__} takes dense gradients, got a sparse one of shape {tuple(theta.shape)}")
            values = states[theta]
            plan = cached.get(place)
            if plan is None or not plan.borrow(theta, values, step.state_names):
                plan = cached[place] = self._plan(settings, step, place, theta, values)
            plan.g = g if plan.takes(g) else paths.match_layout(g, theta, plan)
            by_path[plan.path].append(plan)
        return by_path

    def _cached_plans(self, settings: dict, step: Step, first: int) -> dict[int, ParamPlan]:
        """Returns the plans of earlier steps with the same settings, by the parameter's place in the optimizer."""
        if step.differentiable or step.traced:
            return {}
        shared = (step.rule, *step.hyperparameters, settings["fused"], settings["foreach"], step.stochastic_rounding, step.members)
        plans = self.__dict__.setdefault("_plans", {})  # omitted from copies and pickles
        if first not in plans or plans[first][0] != shared:
            plans[first] = shared, {}
        return plans[first][1]

    def _plan(self, settings: dict, step: Step, place: int, theta: Tensor, values: dict) -> ParamPlan:
        """Creates missing state of a parameter and chooses its path."""
        members = step.members
        if members is not None and theta.shape[:1] != members:
            raise ValueError(
                f"a hyper-parameter has {members[0]} values, one per member, "
                f"but a parameter of shape {tuple(theta.shape)} has another leading axis"
            )
        state.complete(values, theta, step.state_names, settings["state_dtype"], self.formula(settings).start)
        stack = [paths.local(tensor) for tensor in (theta, *(values[name] for name in step.state_names))]
        path = paths.choose_path(settings, step, stack)
        key, compiled, simple = paths.noise_key(place, theta), path not in paths.NAMES, stack[0] is theta and theta.is_contiguous()
        return ParamPlan(path, key, members[0] if members else 1, stack[0], stack[1:], values, compiled, simple)
