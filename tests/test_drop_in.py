"""What code written for torch's optimizers relies on: groups, hooks, state, precision, capture, compilation, wrong arguments."""

import copy
import gc
import inspect
import io
import os
import pickle
import signal
import warnings
import weakref
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import optim
from cases import CASES, GRID

TWINS = {
    "Adam": (optim.Adam, torch.optim.Adam, {}),
    "amsgrad": (optim.Adam, torch.optim.Adam, dict(amsgrad=True, betas=(0.9, 0.9))),
    "AdaMax": (optim.AdaMax, torch.optim.Adamax, dict(eps=1e-8)),
}


def gradients(steps: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(steps, 3, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))


def run(theta, machine, steps) -> None:
    for gradient in steps:
        theta.grad = gradient.clone()
        machine.step()


@pytest.mark.parametrize("ours", [optim.Adam, optim.AdaMax])
def test_every_argument_of_torchs_is_an_argument_of_ours(ours):
    torchs = {optim.Adam: torch.optim.Adam, optim.AdaMax: torch.optim.Adamax}[ours]
    theirs, mine = inspect.signature(torchs).parameters, inspect.signature(ours).parameters
    expected = {name: parameter.default for name, parameter in theirs.items()}
    if ours is optim.AdaMax:
        expected["eps"] = 0.0  # the paper has none
    assert {name: mine[name].default for name in theirs} == expected
    positional = [name for name, parameter in theirs.items() if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert list(mine)[: len(positional)] == positional


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True), dict(capturable=True), dict(fused=False, capturable=True)])
@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_resumed_is_the_same_to_the_bit(case, choice):
    optimizer, _, arguments = CASES[case]
    g = gradients(20)
    whole = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    machine = optimizer([whole], **arguments, **choice)
    run(whole, machine, g[:10])
    file = io.BytesIO()
    torch.save(machine.state_dict(), file)
    file.seek(0)
    resumed = whole.detach().clone().requires_grad_()
    second = optimizer([resumed])
    second.load_state_dict(torch.load(file, weights_only=True))
    run(whole, machine, g[10:])
    run(resumed, second, g[10:])
    assert torch.equal(whole, resumed)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_copies_and_pickles_go_on_alike(optimizer, copied):
    g = gradients(10)
    theta = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    machine = optimizer([theta], weight_decay=0.1)
    run(theta, machine, g[:5])
    twin = copied(machine)
    (other,) = twin.param_groups[0]["params"]
    run(theta, machine, g[5:])
    run(other, twin, g[5:])
    assert torch.equal(theta, other)


def surgery(machine, theta, kept):
    """As in 3D Gaussian splatting: some rows of a parameter go, and those of its state with them."""
    smaller = theta.detach()[kept].requires_grad_()
    state = machine.state.pop(theta)
    for key in state:
        if key != "step":
            state[key] = state[key][kept]
    machine.param_groups[0]["params"] = [smaller]
    machine.state[smaller] = state
    return smaller


def shared(machine, theta, kept):
    """As in A3C: a subclass fills the state before the first step, with a tensor of one element or (older ones) a number."""
    zeros = [torch.zeros_like(theta.detach()).share_memory_() for _ in range(2)]
    step = 0 if isinstance(machine, optim.Adam) else torch.zeros(1)
    machine.state[theta] = {"step": step, "exp_avg": zeros[0], "exp_avg_sq": zeros[1]}
    return theta


@pytest.mark.parametrize("act", [surgery, shared])
def test_state_may_be_operated_on_as_torchs(act):
    finals = []
    for make in (optim.Adam, torch.optim.Adam):
        theta = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
        machine = make([theta], lr=0.01)
        run(theta, machine, gradients(3))
        theta = act(machine, theta, torch.tensor([True, False, True]))
        run(theta, machine, gradients(3)[:, : len(theta)])
        assert list(machine.state[theta]) == ["step", "exp_avg", "exp_avg_sq"]
        assert isinstance(machine.state[theta]["step"], torch.Tensor)
        finals.append(theta.detach())
    np.testing.assert_allclose(*finals, rtol=1e-12)


FOLLOWED = {
    optim.Adam: [lambda p: torch.optim.Adam(p), lambda p: torch.optim.AdamW(p)],
    optim.AdaMax: [lambda p: torch.optim.Adamax(p)],
    optim.AdaGrad: [lambda p: torch.optim.Adagrad(p), lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.5)],
    optim.RMSProp: [lambda p: torch.optim.RMSprop(p), lambda p: torch.optim.RMSprop(p, momentum=0.9)],
    optim.SGDNesterov: [lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True)],
    optim.AdaDelta: [lambda p: torch.optim.Adadelta(p)],
    optim.LpAdam: [],
    None: [
        *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD, torch.optim.Rprop),
        lambda p: torch.optim.SGD(p, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, centered=True),
        lambda p: torch.optim.Adagrad(p, lr_decay=0.1),
    ],
}


@pytest.mark.parametrize("ours", [ours for ours in FOLLOWED if ours], ids=lambda cls: cls.__name__)
def test_only_checkpoints_of_the_same_optimizer_are_taken(ours):
    """Ours and torch's; every other is refused by name, and what it followed is followed on."""
    for follower, makes in FOLLOWED.items():
        for make in [*([follower] if follower else []), *makes]:
            theta, twin = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
            machine, taken = make([theta]), ours([twin])
            run(theta, machine, gradients(5))
            if follower is not ours:
                with pytest.raises(ValueError, match=f"is not of {ours.__name__}|is invalid: {ours.__name__} requires"):
                    taken.load_state_dict(machine.state_dict())
                assert not taken.state
                continue
            twin.data.copy_(theta.data)
            taken.load_state_dict(machine.state_dict())
            run(theta, machine, gradients(10)[5:])
            run(twin, taken, gradients(10)[5:])
            np.testing.assert_allclose(twin.detach(), theta.detach(), rtol=1e-12)


def test_named_parameters_are_matched_by_name():
    model = torch.nn.Linear(2, 2)
    machine = optim.Adam([("weight", model.weight), ("bias", model.bias)])
    model(torch.ones(1, 2)).sum().backward()
    machine.step()
    second = optim.Adam([("bias", model.bias), ("weight", model.weight)])
    second.load_state_dict(machine.state_dict())
    assert torch.equal(second.state[model.bias]["exp_avg"], machine.state[model.bias]["exp_avg"])
    assert second.param_groups[0]["param_names"] == ["bias", "weight"]
    with pytest.raises(ValueError, match="other names: bias, scale exist on one side only"):
        optim.Adam([("scale", model.bias), ("weight", model.weight)]).load_state_dict(machine.state_dict())


def test_settings_that_a_checkpoint_does_not_mention_are_those_it_was_made_with():
    """It was made with their defaults; only what says how to store numbers stays as it was. Nothing of this in silence."""
    theta, twin = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    machine, second = optim.Adam([theta]), optim.Adam([twin], eps_hat=0.5, maximize=True, state_dtype=torch.float64)
    run(theta, machine, gradients(3)[:, 0, :3])
    saved = machine.state_dict()
    del saved["param_groups"][0]["maximize"]  # as before torch had it
    twin.data.copy_(theta.data)
    with pytest.warns(UserWarning, match="which replaces") as warned:
        second.load_state_dict(saved)
    assert [str(warning.message).partition(":")[0] for warning in warned] == [
        "the loaded state has eps_hat=None, which replaces eps_hat=0.5",
        "the loaded state has maximize=False, which replaces maximize=True",
    ]
    assert second.param_groups[0]["state_dtype"] is torch.float64
    run(theta, machine, gradients(6)[3:, 0, :3])
    run(twin, second, gradients(6)[3:, 0, :3])
    assert torch.equal(theta, twin)


def test_momentum_may_be_switched_on_later():
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    machine = optim.RMSProp([theta], lr=0.25, rho=0.0, eps=0.0)
    ones = [torch.ones(1, dtype=torch.float64)]
    run(theta, machine, ones)
    assert list(machine.state[theta]) == ["step", "square_avg"]  # nothing that momentum alone needs
    machine.param_groups[0]["momentum"] = 0.5
    run(theta, machine, ones * 2)
    assert theta.item() == -0.25 * (1 + 1 + 1.5)  # d is 1, then 1.5


@pytest.mark.parametrize("group", [{"rho": 0.5}, {"alpha": 0.5}])
def test_rho_of_a_group_is_torchs_alpha(group):
    theta = torch.ones(1, requires_grad=True)
    assert optim.RMSProp([{"params": [theta], **group}]).param_groups[0]["alpha"] == 0.5
    with pytest.raises(ValueError, match="rho=1.5 is invalid: expected a number in"):
        optim.RMSProp([theta], rho=1.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_adagrad_starts_where_it_is_told(dtype):
    ours, theirs = (torch.ones(3, dtype=dtype, requires_grad=True) for _ in range(2))
    machines = optim.AdaGrad([ours], initial_accumulator_value=0.5), torch.optim.Adagrad([theirs], initial_accumulator_value=0.5)
    for theta, machine in zip((ours, theirs), machines, strict=True):
        run(theta, machine, gradients(5, dtype)[:, 0, :3])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    with pytest.raises(TypeError, match=r"initial_accumulator_value=tensor\(\[0.5000\]\) is invalid: expected one number"):
        optim.AdaGrad([ours], initial_accumulator_value=torch.tensor([0.5]))


def test_stochastic_rounding_keeps_its_steps_in_checkpoints():
    """SGD needs t for the noise only, and torch's SGD has none."""
    theta = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    for choice in (False, True):
        machine = optim.SGDNesterov([theta], stochastic_rounding=choice)
        run(theta, machine, [torch.ones(3, dtype=torch.bfloat16)])
        assert ("step" in machine.state_dict()["state"][0]) is choice
        assert machine.state[theta]["step"] == 1


def test_amsgrad_may_be_switched_on_later():
    """The largest v is that from then on, and what had been before is not known."""
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    machine = optim.Adam([theta], lr=0.1, betas=(0.0, 0.5))
    run(theta, machine, [torch.tensor([4.0], dtype=torch.float64)])
    machine.param_groups[0]["amsgrad"] = True
    before = theta.item()
    run(theta, machine, [torch.zeros(1, dtype=torch.float64)] * 2 + [torch.ones(1, dtype=torch.float64)])
    # v: 8, 4, 2, 1.5; vmax from the second step on: 4; t = 4.
    assert theta.item() == pytest.approx(before - 0.1 / (4 / (1 - 0.5**4)) ** 0.5, rel=1e-7)


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_right_by_default(dtype, choice):
    """Of gradients that are held exactly every step is lr, but for what the parameter itself cannot hold; v in half precision is lost."""
    theta = torch.zeros(1, dtype=dtype, requires_grad=True)
    machine = optim.Adam([theta], lr=2.0**-10, **choice)
    run(theta, machine, [torch.full((1,), 2.0**-10, dtype=dtype)] * 100)  # v would be 1e-9, below float16's smallest number
    assert {machine.state[theta][name].dtype for name in ("exp_avg", "exp_avg_sq")} == {torch.float32}
    assert theta.item() == pytest.approx(-100 * 2.0**-10, rel=0.02)
    theta.data.zero_()
    machine = optim.AdaGrad([theta], lr=1.0, **choice)
    run(theta, machine, [torch.ones(1, dtype=dtype)] * 1000)
    before = theta.item()
    theta.data.zero_()
    run(theta, machine, [torch.ones(1, dtype=dtype)])
    # lr / sqrt(1001); a sum in bfloat16 stops at 256.
    assert before < 0
    assert -theta.item() == pytest.approx(1001**-0.5, rel=torch.finfo(dtype).eps)


def test_half_precision_state_of_a_checkpoint_becomes_float32():
    theta = torch.ones(3, 4, dtype=torch.bfloat16, requires_grad=True)
    theirs = torch.optim.Adam([theta])
    run(theta, theirs, gradients(3, torch.bfloat16))
    machine = optim.Adam([theta])
    machine.load_state_dict(theirs.state_dict())
    assert machine.state[theta]["exp_avg"].dtype == torch.float32
    assert torch.equal(machine.state[theta]["exp_avg"].bfloat16(), theirs.state[theta]["exp_avg"])


LETTING_GO = {
    "groups": lambda machine: (machine.param_groups.clear(), machine.state.clear()),
    "state": lambda machine: machine.state.clear(),
    "loading": lambda machine: machine.load_state_dict(optim.Adam([torch.ones(9)]).state_dict()),
}


@pytest.mark.parametrize("name", LETTING_GO)
def test_nothing_that_was_let_go_stays_alive(name):
    theta = torch.ones(9, requires_grad=True)
    machine = optim.Adam([theta])
    run(theta, machine, [torch.ones(9)])
    held = [weakref.ref(machine.state[theta][name]) for name in ("exp_avg", "exp_avg_sq")]
    LETTING_GO[name](machine)
    if not machine.param_groups:
        held.append(weakref.ref(theta))
        del theta
    gc.collect()
    assert [ref() for ref in held] == [None] * len(held)


def test_float32_state_of_bfloat16_parameters_survives_loading():
    """torch casts loaded state to the dtype of the parameter; here that would lose 16 of 24 bits."""
    theta = torch.ones(3, 4, dtype=torch.bfloat16, requires_grad=True)
    machine = optim.Adam([theta], state_dtype=torch.float32)
    run(theta, machine, gradients(5, torch.bfloat16))
    second = optim.Adam([theta], state_dtype=torch.float32)
    second.load_state_dict(machine.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        assert second.state[theta][name].dtype == torch.float32
        assert torch.equal(second.state[theta][name], machine.state[theta][name])
        assert second.state[theta][name].data_ptr() != machine.state[theta][name].data_ptr()


def test_state_keeps_the_precision_it_had_when_its_parameter_became_bfloat16():
    theta = torch.ones(3, 4, requires_grad=True)
    machine = optim.Adam([theta])
    run(theta, machine, gradients(2, torch.float32))
    theta.data = theta.data.bfloat16()
    theta.grad = None
    run(theta, machine, gradients(2, torch.bfloat16))
    second = optim.Adam([theta])
    second.load_state_dict(machine.state_dict())
    assert second.state[theta]["exp_avg"].dtype == torch.float32
    assert torch.equal(second.state[theta]["exp_avg"], machine.state[theta]["exp_avg"])


def test_a_checkpoint_with_a_number_t_is_taken_by_a_capturable_optimizer():
    theta = torch.ones(3, requires_grad=True)
    machine, capturable = optim.Adam([theta]), optim.Adam([theta], capturable=True)
    run(theta, machine, [torch.ones(3)])
    state = machine.state_dict()
    state["param_groups"][0]["capturable"] = True
    capturable.load_state_dict(state)
    assert isinstance(capturable.state[theta]["step"], torch.Tensor)
    assert capturable.state[theta]["step"] == 1


def test_hooks_after_loading_have_the_last_word():
    theta = torch.ones(3, requires_grad=True)
    machine, second = optim.Adam([theta]), optim.Adam([theta])
    run(theta, machine, [torch.ones(3)])
    second.register_load_state_dict_post_hook(lambda optimizer: optimizer.state[theta]["exp_avg"].zero_())
    second.load_state_dict(machine.state_dict())
    assert not second.state[theta]["exp_avg"].any()


# What spoils a checkpoint of Adam, and what the error says.
SPOILT = {
    # torch puts an empty dictionary where it has found nothing in a flattened checkpoint
    "state is missing": (
        lambda group, state: state.update(exp_avg_sq={}),
        "is not of Adam: a parameter has step, exp_avg; expected step, exp_avg, exp_avg_sq",
    ),
    "another shape": (lambda group, state: state.update(exp_avg=torch.ones(5)), r"state exp_avg has shape \(5,\), its parameter \(3,\)"),
    "another number of parameters": (lambda group, state: group["params"].append(1), "doesn't match the size of optimizer's group"),
    "a negative lr": (lambda group, state: group.update(lr=-1.0), "lr=-1.0 is invalid: expected a number at least 0"),
    "exclusive keys": (lambda group, state: group.update(amsgrad=True, eps_hat=1e-8), "are mutually exclusive"),
    "a number": (lambda group, state: state.update(exp_avg=3.0), "the loaded state exp_avg is invalid"),
    "integers": (lambda group, state: state.update(exp_avg_sq=torch.ones(3, dtype=torch.int64)), "the loaded state exp_avg_sq is invalid"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_refused_load_says_why_and_has_changed_nothing(name):
    spoil, words = SPOILT[name]
    machine, other = (optim.Adam([torch.ones(3, requires_grad=True)], lr=lr) for lr in (1e-3, 0.5))
    for each in (machine, other):
        run(each.param_groups[0]["params"][0], each, [torch.ones(3)])
    saved, before = copy.deepcopy(other.state_dict()), copy.deepcopy(machine.state_dict())
    spoil(saved["param_groups"][0], saved["state"][0])
    with pytest.raises(ValueError, match=words):
        machine.load_state_dict(saved)
    torch.testing.assert_close(machine.state_dict(), before, rtol=0, atol=0)


def test_members_are_kept_in_all_parameters_or_none():
    stack, other = torch.ones(3, 2, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=r"the parameters have leading axes \[\(2,\), \(3,\)\]"):
        optim.Adam([stack, other]).keep_members(torch.tensor([0, 1]))
    assert stack.shape == (3, 2)
    machine = optim.Adam([stack], lr=torch.tensor([0.1]), betas=(torch.tensor([0.1, 0.2, 0.3]), 0.9))
    machine.keep_members(torch.tensor([0, 2]))
    assert stack.shape == (2, 2)
    assert machine.param_groups[0]["lr"].tolist() == pytest.approx([0.1])
    assert machine.param_groups[0]["betas"][0].tolist() == pytest.approx([0.1, 0.3])


def test_subclasses_with_a_constructor_of_their_own():
    class Halved(optim.Adam):
        def __init__(self, params, lr=1e-3, **anything):
            super().__init__(params, lr=lr / 2, **anything)

    theta = torch.ones(3, requires_grad=True)
    assert Halved([theta], lr=0.5, maximize=True).param_groups[0]["lr"] == 0.25


def test_the_group_that_was_given_is_the_group_that_is_used():
    group = {"params": [torch.ones(3, requires_grad=True)], "beta1": 0.5}
    machine = optim.Adam([group])
    assert machine.param_groups[0] is group
    assert group["betas"] == (0.5, 0.999)


def test_hooks_on_loading_are_heard():
    theta = torch.ones(3, requires_grad=True)
    machine = optim.Adam([theta])
    run(theta, machine, [torch.ones(3)])
    second = optim.Adam([theta])

    def halve(_, state_dict):
        state_dict = copy.deepcopy(state_dict)
        state_dict["state"][0]["exp_avg"] /= 2
        return state_dict

    second.register_load_state_dict_pre_hook(halve)
    second.load_state_dict(machine.state_dict())
    assert torch.equal(2 * second.state[theta]["exp_avg"], machine.state[theta]["exp_avg"])


def test_state_may_be_reset_between_steps():
    g = gradients(6)
    paths = []
    for reset in (
        lambda o: o.state.clear(),
        lambda o: setattr(o, "state", type(o.state)(dict)),
        lambda o: o.load_state_dict(optim.Adam(o.param_groups[0]["params"]).state_dict()),
    ):
        theta = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
        machine = optim.Adam([theta])
        run(theta, machine, g[:3])
        reset(machine)
        run(theta, machine, g[3:])
        paths.append(theta.detach())
        assert machine.state[theta]["step"] == 3
    assert torch.equal(paths[0], paths[1])
    assert torch.equal(paths[0], paths[2])


def test_parameters_may_be_given_other_data():
    theta = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    machine = optim.AdaMax([theta], lr=0.25)
    run(theta, machine, [torch.ones(3, 4, dtype=torch.float64)])
    old, theta.data = theta.data, torch.full((3, 4), 5.0, dtype=torch.float64)
    run(theta, machine, [torch.ones(3, 4, dtype=torch.float64)])
    np.testing.assert_allclose(old, 0.75, rtol=1e-12)
    np.testing.assert_allclose(theta.detach(), 4.75, rtol=1e-12)


def test_named_parameters_and_groups():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False))
    machine = optim.Adam(model.named_parameters())
    assert machine.state_dict()["param_groups"][0]["param_names"] == ["0.weight", "0.bias", "1.weight"]
    machine = optim.Adam([{"params": model[0].parameters(), "beta1": 0.5}, {"params": [], "lr": 3.0}], lr=0.1, betas=(0.8, 0.9))
    machine.add_param_group({"params": model[1].parameters(), "betas": (0.1, 0.2), "maximize": True})
    assert [group["betas"] for group in machine.param_groups] == [(0.5, 0.9), (0.8, 0.9), (0.1, 0.2)]
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(1, 3)).sum().backward()
    machine.step()
    # Adam's first step is lr times the sign of the gradient, up where a group maximises.
    signs = [(p.detach() - old) / (0.1 * p.grad.sign()) for p, old in zip(model.parameters(), before, strict=True)]
    for ratio, expected in zip(signs, (-1, -1, 1), strict=True):
        np.testing.assert_allclose(ratio[ratio.isfinite()], expected, rtol=1e-4)


def test_groups_closures_and_torchs_schedulers():
    a, b, idle = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    machine = optim.AdaMax([{"params": [a, idle]}, {"params": [b], "lr": 0.5}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(machine, gamma=0.1)

    def closure():
        machine.zero_grad()
        loss = (a + b).sum()
        loss.backward()
        return loss

    assert machine.step(closure).item() == 4.0
    scheduler.step()
    machine.step(closure)
    # AdaMax moves by alpha under a constant gradient: 0.1 + 0.01 and 0.5 + 0.05.
    np.testing.assert_allclose(a.detach(), 0.89, rtol=1e-12)
    np.testing.assert_allclose(b.detach(), 0.45, rtol=1e-12)
    assert torch.equal(idle, torch.ones(2, dtype=torch.float64))


def test_torchs_one_cycle_scheduler_moves_beta1():
    theta = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    twin = theta.detach().clone().requires_grad_()
    machines = optim.Adam([theta]), torch.optim.Adam([twin])
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(machine, max_lr=0.1, total_steps=10) for machine in machines]
    for gradient in gradients(10):
        for p, machine in zip((theta, twin), machines, strict=True):
            run(p, machine, [gradient])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for scheduler in schedulers[: 2 if schedulers[0].last_epoch < 9 else 0]:
                scheduler.step()
    assert machines[0].param_groups[0]["betas"] == machines[1].param_groups[0]["betas"] != (0.9, 0.999)
    np.testing.assert_allclose(theta.detach(), twin.detach(), rtol=1e-12)


class OwnStep(optim.Adam):
    """A user's subclass, which torch wraps itself."""

    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("optimizer", [optim.Adam, OwnStep])
def test_step_hooks_are_called_once(optimizer):
    theta, calls = torch.ones(3, requires_grad=True), []
    machine = optimizer([theta])
    machine.register_step_pre_hook(lambda *_: calls.append("before"))
    machine.register_step_post_hook(lambda *_: calls.append("after"))
    everywhere = register_optimizer_step_post_hook(lambda *_: calls.append("everywhere"))
    try:
        run(theta, machine, [torch.ones(3)])
    finally:
        everywhere.remove()
    assert calls == ["before", "after", "everywhere"]


@pytest.mark.parametrize("optimizer", [optim.Adam, OwnStep])
def test_the_profiler_sees_steps_once_by_the_name_that_torch_gives_them(optimizer):
    theta = torch.ones(3, requires_grad=True)
    machine = optimizer([theta])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        run(theta, machine, torch.ones(2, 3))
    name = f"Optimizer.step#{optimizer.__name__}.step"
    assert {event.key: event.count for event in found.key_averages() if event.key.startswith("Optimizer")} == {name: 2}


def test_a_hook_may_replace_the_closure():
    theta, called = torch.ones(3, requires_grad=True), []
    machine = optim.Adam([theta])
    theta.grad = torch.ones(3)
    machine.register_step_pre_hook(lambda optimizer, arguments, _: ((optimizer, lambda: called.append("other")), {}))
    machine.step(lambda: called.append("own"))
    assert called == ["other"]


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True)])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_step_leaves_the_gradient_alone(optimizer, choice):
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer([theta], weight_decay=0.1, maximize=True, **choice).step()
    assert theta.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True)])
def test_a_learning_rate_that_is_a_tensor_may_change_in_place(choice):
    lr = torch.tensor(0.25, dtype=torch.float64)
    theta = torch.ones(3, requires_grad=True)
    machine = optim.AdaMax([theta], lr=lr, **choice)
    run(theta, machine, [torch.ones(3)])
    lr.fill_(0.5)
    run(theta, machine, [torch.ones(3)])
    np.testing.assert_allclose(theta.detach(), 0.25, rtol=1e-6)


@pytest.mark.parametrize("choice", [{}, dict(fused=True), dict(foreach=True)])
def test_grad_scaler_leaves_out_steps_that_overflowed(choice):
    plain, scaled = (torch.full((3,), 2.0, requires_grad=True) for _ in range(2))
    reference, machine = optim.Adam([plain], lr=0.1), optim.Adam([scaled], lr=0.1, **choice)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(6):
        factor = float("inf") if step == 2 else 1.0
        machine.zero_grad()
        scaler.scale((scaled**2).sum() * factor).backward()
        received, scale = scaled.grad.clone(), scaler.get_scale()
        scaler.step(machine)
        scaler.update()
        # As torch's: unscaled in the step, which leaves gradients alone, for an explicit fused=True only.
        assert torch.equal(scaled.grad, received if choice.get("fused") else received / scale)
        if step != 2:
            reference.zero_grad()
            (plain**2).sum().backward()
            reference.step()
    torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=0)
    assert machine.state[scaled]["step"] == 5
    assert not hasattr(machine, "found_inf")


def test_grad_scaler_that_has_unscaled_already():
    theta = torch.full((3,), 2.0, requires_grad=True)
    machine = optim.SGDNesterov([theta], lr=0.1, momentum=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale((theta**2).sum()).backward()
    scaler.unscale_(machine)
    scaler.step(machine)
    np.testing.assert_allclose(theta.detach(), 1.6, rtol=1e-6)


@pytest.mark.parametrize("name", TWINS)
def test_differentiable_steps_have_the_right_derivative(name):
    """By the learning rate and the weight decay, through four steps: autograd against central differences, in float64."""
    ours, _, arguments = TWINS[name]
    g = gradients(4)

    def final(lr, decay):
        theta = torch.full((3, 4), 2.0, dtype=torch.float64, requires_grad=True).clone()
        theta.retain_grad()
        machine = ours([theta], lr=lr, weight_decay=decay, differentiable=True, **arguments)
        for gradient in g:
            theta.grad = gradient
            machine.step()
        return (theta**2).sum()

    lr, decay = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.01, 0.1))
    derivatives = torch.autograd.grad(final(lr, decay), (lr, decay))
    for number, derivative in enumerate(derivatives):
        nudge = [torch.tensor(1e-5 if number == k else 0.0, dtype=torch.float64) for k in range(2)]
        up, down = (final(lr.detach() + s * nudge[0], decay.detach() + s * nudge[1]) for s in (1, -1))
        # The error of a central difference is of order 1e-10, relative to values of order 1 to 100.
        assert derivative.item() == pytest.approx(((up - down) / 2e-5).item(), rel=1e-6)


# d(sum of theta) / dg by hand, after the first step, where g = 0: the other coordinate's g = 1.
AT_ZERO = {
    "Adam": (optim.Adam, {}, -1e-3 / 1e-8),
    "amsgrad": (optim.Adam, dict(amsgrad=True), -1e-3 / 1e-8),
    # alpha_t (1 - beta1) / eps_hat = alpha sqrt(1 - beta2) / eps_hat
    "eps_hat": (optim.Adam, dict(eps_hat=1e-8), -1e-3 * 0.001**0.5 / 1e-8),
    "AdaGrad": (optim.AdaGrad, {}, -1e-2 / 1e-10),
    "RMSProp": (optim.RMSProp, {}, -1e-3 / 1e-8),
    # Where a step is 0 because all gradients were 0, it has no derivative, and counts as constant.
    "LpAdam": (optim.LpAdam, {}, 0.0),
    "AdaMax": (optim.AdaMax, {}, 0.0),
}


@pytest.mark.parametrize("name", AT_ZERO)
def test_derivatives_where_a_gradient_is_zero(name):
    optimizer, arguments, expected = AT_ZERO[name]
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True).clone()
    theta.retain_grad()
    g = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    theta.grad = g
    optimizer([theta], differentiable=True, **arguments).step()
    at_zero, elsewhere = torch.autograd.grad(theta.sum(), g)[0]
    assert at_zero.item() == pytest.approx(expected, rel=1e-12)
    assert elsewhere.abs() < 1e-9  # a first step does not depend on the size of a gradient


@pytest.mark.parametrize("foreach", [None, True])
def test_whoever_traces_sees_the_update(foreach):
    def step(theta, g, m, v, t):
        theta, m, v, t = (tensor.clone() for tensor in (theta, m, v, t))
        theta.grad = g
        machine = optim.Adam([theta], lr=0.1, foreach=foreach)
        machine.state[theta] = {"step": t, "exp_avg": m, "exp_avg_sq": v}
        machine.step()
        return theta, m, v, t

    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(3, dtype=torch.float64, generator=generator) for _ in range(4)]
    traced = make_fx(step)(*[torch.zeros_like(tensor) for tensor in tensors], torch.tensor(0.0, dtype=torch.float64))
    t = torch.tensor(5.0, dtype=torch.float64)
    for ours, expected in zip(traced(*tensors, t), step(*tensors, t), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-14, atol=0)
    with FakeTensorMode():
        theta = torch.ones(3, requires_grad=True)
        theta.grad = torch.ones(3)
        optim.Adam([theta], foreach=foreach).step()


class NoFloat64(TorchDispatchMode):
    """Apple's GPUs have no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.device.type != "cpu"):
            assert tensor.dtype is not torch.float64, func
        return out


@pytest.mark.parametrize("choice", [{}, dict(foreach=True)])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_devices_without_float64_are_spared_it(optimizer, choice):
    """The meta device stands for them: like theirs, its tensors take a path without compiled code."""
    theta = torch.ones(3, device="meta", requires_grad=True)
    theta.grad = torch.ones_like(theta)
    machine = optimizer([theta], lr=0.01, weight_decay=0.1, **choice)
    with NoFloat64():
        machine.step()
        machine.step()
    assert machine.paths() == {"foreach" if choice else "plain": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork")  # Python 3.12 warns of what is tried here, and so does JAX where it is installed
def test_a_forked_child_steps_after_its_parent_has(monkeypatch):
    """OpenMP's threads are not there in the child; torch's own optimizers wait for them for ever."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    theta = torch.ones(1_000_000, requires_grad=True)
    theta.grad = torch.ones_like(theta)
    machine = optim.AdaMax([theta], lr=0.25, fused=True)
    machine.step()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits
        try:
            machine.step()
        finally:
            os._exit(theta[-1].item() == 0.5)  # (torch itself would wait, in a mean over all)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it finds on a machine
@pytest.mark.parametrize("choice", [{}, dict(foreach=True)])
@pytest.mark.parametrize("optimizer", [optim.Adam, optim.AdaMax])
def test_torch_compile_takes_the_whole_step(optimizer, choice):
    ours, theirs = (torch.full((3, 4), 20.0, requires_grad=True) for _ in range(2))
    machine, reference = (
        optimizer([ours], lr=torch.tensor(0.01), weight_decay=0.1, **choice),
        optimizer([theirs], lr=0.01, weight_decay=0.1),
    )
    step = torch.compile(machine.step, fullgraph=True)
    for gradient in gradients(6, torch.float32):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert machine.state[ours]["step"] == 6


@pytest.mark.parametrize(
    ("optimizer", "arguments", "error", "words"),
    [
        (optim.Adam, {"lr": -1.0}, ValueError, "lr=-1.0 is invalid: expected a number at least 0"),
        (optim.Adam, {"beta1": 1.0}, ValueError, r"beta1=1.0 is invalid: expected a number in \[0, 1\)"),
        (optim.Adam, {"betas": (0.9, 1.0)}, ValueError, r"beta2=1.0 is invalid: expected a number in \[0, 1\)"),
        (optim.Adam, {"betas": 0.9}, ValueError, "betas=0.9 is invalid: expected a pair of numbers"),
        (optim.Adam, {"betas": (0.5, 0.9), "beta1": 0.5}, ValueError, r"betas=\(0.5, 0.9\) conflicts with beta1=0.5, beta2=None"),
        (optim.Adam, {"beta2": torch.tensor([0.9, -0.1])}, ValueError, "beta2"),
        (optim.Adam, {"beta1_decay": 0.0}, ValueError, r"beta1_decay=0.0 is invalid: expected a number in \(0, 1\]"),
        (optim.Adam, {"weight_decay": -0.1}, ValueError, "weight_decay=-0.1 is invalid: expected a number at least 0"),
        (optim.Adam, {"amsgrad": True, "eps_hat": 1e-8}, ValueError, "amsgrad=True and eps_hat=1e-08 are mutually exclusive"),
        (optim.Adam, {"fused": True, "foreach": True}, ValueError, "fused=True and foreach=True are mutually exclusive"),
        (optim.Adam, {"fused": True, "differentiable": True}, ValueError, "fused=True and differentiable=True are mutually exclusive"),
        (optim.Adam, {"state_dtype": "float32"}, TypeError, "state_dtype='float32' is invalid: expected None or one of torch.float64"),
        (optim.AdaMax, {"beta2": 1.5}, ValueError, "beta2=1.5"),
        (optim.LpAdam, {"p": 0.5}, ValueError, "p=0.5 is invalid: expected a number at least 1"),
        (optim.AdaGrad, {"eps": -1e-8}, ValueError, "eps"),
        (optim.RMSProp, {"lr": "fast"}, TypeError, "lr='fast' is invalid: expected a number"),
        (optim.RMSProp, {"lr": None}, TypeError, "lr=None is invalid: expected a number"),
        (optim.SGDNesterov, {"lr": float("nan")}, ValueError, "lr=nan"),
        (optim.SGDNesterov, {"nesterov": True}, TypeError, "nesterov=True is unknown to SGDNesterov: expected one of lr, momentum"),
    ],
)
def test_wrong_arguments_are_named(optimizer, arguments, error, words):
    for params, defaults in (([torch.ones(2, requires_grad=True)], arguments), ([{"params": [torch.ones(2)], **arguments}], {})):
        if "nesterov" in arguments and not defaults:
            continue  # torch lets groups carry keys of their users
        with pytest.raises(error, match=words):
            optimizer(params, **defaults)


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.Adam([])
    with pytest.raises(TypeError, match="params argument given to the optimizer should be an iterable"):
        optim.Adam(torch.ones(2))
    with pytest.raises(TypeError, match="optimizer can only optimize Tensors"):
        optim.Adam([1.0])


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.array(0.25), torch.tensor([0.25]), torch.tensor(0.25)])
def test_numbers_of_other_kinds(number):
    theta = torch.ones(3, requires_grad=True)
    machine = optim.AdaMax([theta], lr=number)
    run(theta, machine, [torch.ones(3)])
    assert theta.tolist() == [0.75, 0.75, 0.75]
    file = io.BytesIO()
    torch.save(machine.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["lr"] == 0.25  # nothing of NumPy is in it


@pytest.mark.parametrize("betas", [[0.5, 0.75], np.array([0.5, 0.75]), torch.tensor([0.5, 0.75]), OmegaConf.create([0.5, 0.75])])
def test_betas_of_other_kinds(betas):
    theta = torch.ones(3, requires_grad=True)
    assert optim.Adam([theta], betas=betas).param_groups[0]["betas"] == (0.5, 0.75)
    assert optim.Adam([{"params": [theta], "betas": betas}]).param_groups[0]["betas"] == (0.5, 0.75)
    with pytest.raises(ValueError, match="is invalid: expected a pair of numbers"):
        optim.Adam([theta], betas=[*betas, 0.9])


def test_keys_of_groups_that_belong_to_somebody_else_are_left_alone():
    theirs = {"rho": 2.0, "momentum": None, "p": 0.5, "name": "sam"}
    theta = torch.ones(3, requires_grad=True)
    machine = optim.Adam([{"params": [theta], **theirs}])
    run(theta, machine, [torch.ones(3)])
    machine.load_state_dict(machine.state_dict())
    assert {key: machine.param_groups[0][key] for key in theirs} == theirs
    assert optim.SGDNesterov([{"params": [theta], "beta1": 7}]).param_groups[0]["beta1"] == 7
    with pytest.raises(ValueError, match="nesterov=False is invalid: SGDNesterov requires nesterov=True"):
        optim.SGDNesterov([{"params": [theta], "nesterov": False}])


def test_defaults_that_are_passed_on_count_as_not_given():
    """As jsonargparse and LightningCLI do."""
    assert optim.Adam([torch.ones(1)], betas=[0.9, 0.999], beta1=0.5).param_groups[0]["betas"] == (0.5, 0.999)


def test_arguments_are_checked_before_parameters():
    """As torch's do: torch's own tests of optimizers make them of None."""
    with pytest.raises(ValueError, match="lr=-1 is invalid: expected a number at least 0"):
        optim.Adam(None, lr=-1)


def test_no_argument_is_declared_twice():
    """Neither as an argument and an option, which a type checker refuses and a command line shows twice."""
    for optimizer in GRID:
        (options,) = get_args(inspect.signature(optimizer.__init__, eval_str=True).parameters["options"].annotation)
        assert not get_type_hints(options).keys() & inspect.signature(optimizer.__init__).parameters.keys()


def test_members_must_be_as_many_everywhere():
    theta = torch.ones(2, 4, requires_grad=True)
    theta.grad = torch.ones(2, 4)
    with pytest.raises(ValueError, match="hyper-parameters have 2 and 3 values: expected one per member"):
        optim.Adam([theta], lr=torch.tensor([0.1, 0.1]), eps=torch.tensor([1e-8] * 3)).step()
    with pytest.raises(ValueError, match=r"lr has shape \(2, 1\): expected a number, or one value per member"):
        optim.Adam([theta], lr=torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"lr has shape \(0,\)"):
        optim.Adam([theta], lr=torch.ones(0))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch 2.11 warns although told not to check
def test_sparse_gradients_are_refused_in_a_sentence():
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (3,), check_invariants=False)
    machine = optim.Adam([theta])
    with pytest.raises(RuntimeError, match="Adam takes dense gradients"):
        machine.step()
    assert not machine.state[theta]
