"""The machine that runs every update rule of this package.

A rule is a pure function of tensors that reads like the paper's pseudo-code::

    rule(theta, g, *state, t, **hyperparameters) -> (theta, *state)

It is written for one model and knows nothing of parameter groups, gradients or storage. `RuleOptimizer` is the
`torch.optim.Optimizer` that holds the state and applies the rule, on one of three paths: compiled to one pass over memory for all
parameters (`optim.fused_cpu`, `optim.fused_cuda`), on lists of tensors, or on the tensors of one parameter after another
(`optim.tensors`). Each subclass says by which formula a group of parameters moves, and adds nothing else.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import ClassVar, NamedTuple, get_type_hints

import torch
from torch import Tensor

from optim import fused_cpu, fused_cuda, tensors
from optim.options import DEFAULTS, Hyperparameter, Options, check, with_betas
from optim.tensors import Entry, Step
from optim.trace import STORAGE, Signature


class Formula(NamedTuple):
    """How a group of parameters moves: the rule, the names of its state, its hyper-parameters by the letters of the rule."""

    rule: Callable[..., tuple[Tensor, ...]]
    state_names: tuple[str, ...]
    letters: dict[str, Hyperparameter]


class RuleOptimizer(torch.optim.Optimizer):
    """Applies a pure update rule to every parameter that has a gradient.

    Any hyper-parameter may be a tensor of shape [members], best on the device of the parameters. These then hold that many
    models stacked along their leading axis, and each member is updated with its own value, exactly as if it were trained alone.
    (torch's schedulers take a learning rate that is one number only; `optim.InverseSqrt` takes both.)

    Complex parameters move as pairs of real ones. In half precision each step is calculated in float32. Gradients are left as
    they are. With torch.amp.GradScaler the scale is taken out in the step itself, which is left out where a gradient overflowed.

    Args:
        params: parameters, named parameters, or groups of them.
        defaults: of the subclass's own keys, for groups that do not have them.
        options: see `Options`.

    Raises:
        ValueError: a value is out of range, there is not one value for each member, or two paths are asked for at once.
        TypeError: a value is of the wrong type, or an option unknown.
        RuntimeError: (in a step) a gradient is sparse, or fused=True cannot be had.
    """

    # The names that the corresponding optimizer of torch gives our state; see `load_state_dict`.
    torch_state: ClassVar[dict[str, str]] = {}

    _step_supports_amp_scaling = True  # tells GradScaler to leave the scale to us

    def __init_subclass__(cls) -> None:
        """Shows in the signature the options that the constructor takes."""
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

    def __init__(self, params, defaults: dict, options: Options):
        for name, value in options.items():
            if name not in DEFAULTS:
                known = ", ".join(name for name in type(self).__signature__.parameters if name != "params")
                raise TypeError(f"{type(self).__name__} takes no {name}={value!r}: it takes {known}")
        super().__init__(params, {**DEFAULTS, **with_betas(defaults, defaults.get("betas")), **options})

    def formula(self, group: dict) -> Formula:
        """How the parameters of the group move."""
        raise NotImplementedError

    def check_group(self, group: dict) -> None:
        """Raises ValueError or TypeError where a value of the group (with all its keys) is not as it should be."""
        check(group)

    def add_param_group(self, param_group: dict) -> None:
        """Adds a group of parameters, after checking its hyper-parameters (torch calls this for the first groups too)."""
        if isinstance(param_group, dict):
            joined = with_betas(param_group, self.defaults.get("betas"))
            self.check_group({**self.defaults, **joined})
            param_group.clear()
            param_group.update(joined)
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes the state of an optimizer of the same class; Adam and AdaMax also that of their counterparts in torch.optim.

        What the loaded groups do not know keeps its value. Unlike torch, state keeps its dtype, and tensors are copied.

        Raises:
            ValueError: groups, names or shapes do not match; nothing has been loaded.
        """
        own = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        names = {"step": "t", **self.torch_state}
        loaded: dict[Tensor, dict] = {}

        def translate(_, final: dict) -> None:
            """Sees what other hooks have made of the state_dict."""
            sizes = [[len(group["params"]) for group in groups] for groups in (self.param_groups, final["param_groups"])]
            if sizes[0] != sizes[1]:
                return  # which torch is about to refuse
            for group, theirs, before in zip(self.param_groups, final["param_groups"], own, strict=True):
                settings = {**before, **theirs}
                self.check_group(settings)
                for theta, number in zip(group["params"], theirs["params"], strict=True):
                    if final["state"].get(number):
                        loaded[theta] = _translated(final["state"][number], names, theta, settings, self.formula(settings).state_names)

        def take(_) -> None:
            for group, before in zip(self.param_groups, own, strict=True):
                for key, value in before.items():
                    group.setdefault(key, value)
            self.state.update(loaded)

        hooks = self.register_load_state_dict_pre_hook(translate), self.register_load_state_dict_post_hook(take, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Makes one step of the rule; returns the closure's loss, if a closure is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)  # set by GradScaler
        if found_inf is not None and found_inf.device.type == "cpu":
            if found_inf.item():
                return loss
            found_inf = None
        place = 0
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"]):
                step = self._prepare(group, scale, found_inf)
                for path, entries in self._sort(group, step, place).items():
                    path(step, entries)
                    for entry in entries:
                        entry.g = None
            place += len(group["params"])
        return loss

    @torch.no_grad()
    def keep_members(self, kept: Tensor) -> None:
        """Goes on with some members of a population: parameters, state and hyper-parameters of the others are let go.

        Every parameter must be a stack of members. Schedules and averages of the optimizer do not notice (see
        `InverseSqrt.keep_members`).

        Args:
            kept: their indices, int64, shape [kept].

        Raises:
            ValueError: the parameters are not stacks of as many members; nothing has changed.
        """

        sizes = {theta.shape[:1] for group in self.param_groups for theta in group["params"]}
        if len(sizes) != 1 or torch.Size() in sizes:
            raise ValueError(f"parameters of one population should agree in their first axis, they have {sorted(map(tuple, sizes))}")
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
        """How many parameters with gradients a step would move on each path: "fused", "foreach" or "plain"."""
        names = {tensors.apply_lists: "foreach", tensors.apply_each: "plain"}
        counts = Counter()
        for group in self.param_groups:
            for path, entries in self._sort(group, self._prepare(group, None, None)).items():
                counts[names.get(path, "fused")] += len(entries)
                for entry in entries:
                    entry.g = None
        return counts

    def _prepare(self, group: dict, scale: Tensor | None, found_inf: Tensor | None) -> Step:
        """What the parameters of the group have in common in this step."""
        rule, state_names, letters = self.formula(group)
        decay = group["weight_decay"]
        if isinstance(decay, Tensor) or decay:
            letters["weight_decay"] = decay
            decay = "decoupled" if group["decoupled_weight_decay"] else "coupled"
        if scale is not None:
            letters["scale"] = scale
        compiling = torch.compiler.is_compiling()  # which sees through a cache, and says so in a warning
        with_options = _with_options.__wrapped__ if compiling else _with_options
        rule = with_options(rule, scale is not None, group["maximize"], decay or None)
        exactly = group["differentiable"] or group["capturable"] or compiling
        for letter, h in letters.items():
            if isinstance(h, Tensor):
                h = h.reshape(()) if h.ndim and h.numel() == 1 else h
                letters[letter] = h if h.ndim or exactly or h.device.type != "cpu" else h.item()
        return Step(rule, state_names, letters, group["capturable"], group["differentiable"], group["stochastic_rounding"], found_inf)

    def _sort(self, group: dict, step: Step, place: int = 0) -> dict[Callable, list[Entry]]:
        """The parameters of the group by the path that moves them; the first has that place in the optimizer."""
        members = _members(step.letters)
        known = self._known(group, step, members, place)
        by_path = defaultdict(list)
        for place, theta in enumerate(group["params"], place):  # noqa: B020
            g = theta.grad
            if g is None:
                continue
            if g.layout is not torch.strided:
                raise RuntimeError(f"{type(self).__name__} takes dense gradients, got a sparse one of shape {tuple(theta.shape)}")
            state = self.state[theta]
            entry = known.get(place)
            if entry is None or not entry.stands_for(theta, state, step.state_names):
                entry = known[place] = self._enter(group, step, members, place, theta, state)
            as_it_is = (
                entry.simple
                and g.is_contiguous()
                and g.dtype is entry.dtype
                and g.shape == entry.shape
                and g.device == entry.device
                and g.__class__ is Tensor
                and not g.is_neg()
            )
            entry.g = g if as_it_is else _laid_out(g, entry)
            by_path[entry.path].append(entry)
        return by_path

    def _known(self, group: dict, step: Step, members: torch.Size | None, place: int) -> dict[int, Entry]:
        """What earlier steps with the same settings have found out about the parameters of a group, by their place."""
        if step.differentiable or torch.compiler.is_compiling():
            return {}
        settings = (step.rule, *step.letters, group["fused"], group["foreach"], step.stochastic_rounding, members)
        before = self.__dict__.setdefault("_entries", {})  # not in copies and pickles
        if place not in before or before[place][0] != settings:
            before[place] = settings, {}
        return before[place][1]

    def _enter(self, group: dict, step: Step, members: torch.Size | None, place: int, theta: Tensor, state: dict) -> Entry:
        """Sets a parameter up: its state, if it has none yet, and its path."""
        if members is not None and theta.shape[:1] != members:
            raise ValueError(
                f"a hyper-parameter has {members[0]} values, one per member, "
                f"but a parameter of shape {tuple(theta.shape)} is not such a stack"
            )
        if not state:
            dtype = theta.dtype if theta.is_complex() else group["state_dtype"]
            state["t"] = 0
            state.update((name, torch.zeros_like(theta, dtype=dtype, memory_format=torch.preserve_format)) for name in step.state_names)
        tensors_ = [theta, *[state[name] for name in step.state_names]]
        if theta.is_complex():
            tensors_ = [torch.view_as_real(tensor) for tensor in tensors_]
        path = _kernel(group, step, *tensors_[:2])
        if path is not None and not _lie_alike(tensors_, members):
            path = None
        simple = path is not None and theta.is_contiguous() and not theta.is_complex()
        return Entry(place, tensors_[0], tensors_[1:], state, path or _path_of_tensors(group, theta), simple)


@functools.cache
def _with_options(rule: Callable, scaled: bool, maximize: bool, decay: str | None) -> Callable:
    """The rule behind what happens to the gradient, and to theta, before it."""
    if not (scaled or maximize or decay):
        return rule

    def optional(theta, g, *state_and_t, alpha, scale=None, weight_decay=None, **letters):
        if scaled:
            g = g / scale
        if maximize:
            g = -g
        if decay == "coupled":
            g = g + weight_decay * theta
        if decay == "decoupled":
            theta = theta * (1 - alpha * weight_decay)
        return rule(theta, g, *state_and_t, alpha=alpha, **letters)

    return optional


def _kernel(group: dict, step: Step, theta: Tensor, state: Tensor) -> Callable | None:
    """The compiled step for such tensors, if it is wanted and there is one."""
    if group["fused"] is False or group["foreach"] or step.differentiable or torch.compiler.is_compiling():
        return None
    if theta.dtype not in STORAGE or state.dtype not in STORAGE or theta.device.type not in ("cpu", "cuda"):
        return None
    stochastic = step.stochastic_rounding and theta.dtype is torch.bfloat16
    return _compiled(step.rule, len(step.state_names), tuple(step.letters), theta.dtype, state.dtype, stochastic, theta.device)


@functools.cache
def _compiled(*description) -> Callable | None:
    *signature, device = description
    signature = Signature(*signature)
    return fused_cuda.kernel(signature, device) if device.type == "cuda" else fused_cpu.kernel(signature)


def _path_of_tensors(group: dict, theta: Tensor) -> Callable:
    """The path of a parameter that no compiled step takes."""
    if group["fused"] and not torch.compiler.is_compiling():
        raise RuntimeError(
            f"fused=True needs a compiler, and parameters that are dense in memory, on a CPU or CUDA device: "
            f"one of shape {tuple(theta.shape)} with strides {theta.stride()} is {theta.dtype} on {theta.device}"
        )
    lists = group["foreach"] if group["foreach"] is not None else theta.device.type == "cuda" and not group["differentiable"]
    return tensors.apply_lists if lists else tensors.apply_each


def _lie_alike(stack: list[Tensor], members: torch.Size | None) -> bool:
    """Whether one loop over memory can run over parameter and state."""
    theta, dtype = stack[0], stack[-1].dtype
    if any(x.__class__ not in (Tensor, torch.nn.Parameter) or x.device != theta.device or x.is_neg() or x.is_conj() for x in stack):
        return False  # tensors that only look like numbers in memory, or lie elsewhere
    if any(x.dtype is not dtype for x in stack[1:]):
        return False
    dense = sum((size - 1) * stride for size, stride in zip(theta.shape, theta.stride(), strict=True)) + 1 == theta.numel()
    if not theta.is_contiguous() and (not dense or members is not None):
        return False
    return all(x.shape == theta.shape and (x.stride() == theta.stride() or (x.is_contiguous() and theta.is_contiguous())) for x in stack)


def _members(letters: dict[str, float | Tensor]) -> torch.Size | None:
    """The shape [members] of hyper-parameters that have a value for each."""
    shapes = {h.shape for h in letters.values() if isinstance(h, Tensor) and h.ndim}
    if len(shapes) > 1:
        raise ValueError(f"hyper-parameters have {' and '.join(str(len_) for (len_,) in sorted(shapes))} values: one per member each")
    return next(iter(shapes), None)


def _laid_out(g: Tensor, entry: Entry) -> Tensor:
    """The gradient as the path takes it: for compiled code, in memory like its parameter."""
    theta = entry.theta
    if g.is_complex():
        g = torch.view_as_real(g.resolve_conj())
    if g.shape != theta.shape or g.device != theta.device:
        raise ValueError(
            f"a gradient has shape {tuple(g.shape)} on {g.device}, its parameter {tuple(theta.shape)} on {theta.device}: "
            "they should be alike"
        )
    if entry.path in (tensors.apply_each, tensors.apply_lists):
        return g
    if g.stride() == theta.stride() and g.dtype is theta.dtype and g.__class__ is Tensor and not g.is_neg():
        return g
    return torch.empty_like(theta).copy_(g)


def _translated(state: dict, names: dict[str, str], theta: Tensor, group: dict, wanted: tuple[str, ...]) -> dict:
    """A loaded state by our names: tensors like theta, t a number if it need not be a tensor on the device."""
    ours = {}
    for theirs, value in state.items():
        name = names.get(theirs, theirs)
        if name == "t":
            on_device = group["capturable"] or theta.is_cuda or (isinstance(value, Tensor) and value.dtype is torch.float64)
            ours[name] = torch.as_tensor(value).to(theta.device, torch.float64, copy=True) if on_device else int(value)
        elif not isinstance(value, Tensor):
            ours[name] = value
        elif value.shape != theta.shape:
            raise ValueError(f"the loaded state {name} has shape {tuple(value.shape)}, its parameter {tuple(theta.shape)}")
        else:
            dtype = value.dtype if theirs == name else theta.dtype if theta.is_complex() else group["state_dtype"] or theta.dtype
            ours[name] = value.to(theta.device, dtype, copy=True)
    wrong = [
        name
        for name in wanted
        if name in ours and not (isinstance(ours[name], Tensor) and ours[name].dtype.is_floating_point != theta.is_complex())
    ]
    if wrong:
        raise ValueError(f"the loaded state {', '.join(wrong)} should be tensors of numbers like those of the parameter")
    if missing := {"t", *wanted} - ours.keys():
        raise ValueError(f"the loaded state has {', '.join(state)}; {', '.join(sorted(missing))} should be there")
    return ours
