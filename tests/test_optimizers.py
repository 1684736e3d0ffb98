"""The update rules: against NumPy oracles in float64, typed-in numbers, torch.optim, and limiting cases from the paper."""

import copy
import math

import numpy as np
import pytest
import torch

import optim
from cases import CASES, GRID

# Everything here is float64 and differs from its oracle only in the order of operations: a few units of 2.2e-16 per step.
RELATIVE = 1e-12
STEPS = 60  # 0.9^60 is 2e-3: corrections and decays have been both far from 1 and near it


def gradients(steps: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Gradients over many scales; the first coordinate is zero at every step, the second now and then."""
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((steps, *shape)) * 10.0 ** rng.integers(-4, 3, size=shape)
    if g[0].size > 1:
        flat = g.reshape(steps, -1)
        flat[:, 0] = 0
        flat[::3, 1] = 0
    return g


def far_from_zero(shape: tuple[int, ...]) -> np.ndarray:
    """A start from which STEPS steps of 0.01, or a few times that, reach no zero, where a relative error means nothing."""
    return 20 + np.random.default_rng(1).standard_normal(shape)


def trajectory(make, start: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
    """The parameters after every step of a torch optimizer that is fed the gradients g."""
    theta = torch.tensor(start, requires_grad=True)
    optimizer = make([theta])
    path = []
    for gradient in g:
        theta.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(theta.detach().numpy().copy())
    return path


PATHS = {
    "default": {},
    "plain": dict(fused=False),
    "lists": dict(foreach=True),
    "default, t a tensor": dict(capturable=True),
    "plain, t a tensor": dict(fused=False, capturable=True),
    "lists, t a tensor": dict(foreach=True, capturable=True),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5)])
@pytest.mark.parametrize("case", CASES)
def test_follows_the_publication(case, shape, path):
    optimizer, oracle, arguments = CASES[case]
    start, g = far_from_zero(shape), gradients(STEPS, shape)
    ours = trajectory(lambda p: optimizer(p, **arguments, **PATHS[path]), start, g)
    np.testing.assert_allclose(ours, oracle(start, g, **arguments), rtol=RELATIVE, atol=0)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # g = 1..4, from 0. By hand: mhat = g and sqrt(vhat) = |g| at the first step, so -0.001 g / (g + 0.01) ...
        (lambda p: optim.Adam(p, eps=0.01), [-9.900990099009901e-4, -9.950248756218905e-4, -9.966777408637874e-4, -9.975062344139651e-4]),
        # ... without correction m = 0.1 g and sqrt(v) = sqrt(0.001) g: -0.001 * 0.1 / sqrt(0.001) whatever g is (eps = 0).
        (lambda p: optim.Adam(p, eps=0.0, bias_correction=False), [-3.1622776601683795e-3] * 4),
        # u = g and m / (1 - beta1) = g, so each coordinate moves by alpha; without correction, by a tenth of it.
        (optim.AdaMax, [-0.002] * 4),
        (lambda p: optim.AdaMax(p, bias_correction=False), [-0.0002] * 4),
        (lambda p: optim.AdaGrad(p, lr=0.5, eps=0.0), [-0.5] * 4),
        (lambda p: optim.RMSProp(p, lr=0.1, rho=0.75, eps=0.0), [-0.2] * 4),
        # d = g, then g + 0.9 g; heavy ball would make -0.1 g.
        (lambda p: optim.SGDNesterov(p, lr=0.1, momentum=0.9), [-0.19, -0.38, -0.57, -0.76]),
        # sqrt(eps) g / sqrt(0.1 g^2 + eps) with eps = 0.3, rho = 0.9.
        (lambda p: optim.AdaDelta(p, rho=0.9, eps=0.3), [-0.8660254037844386, -1.3093073414159542, -1.5, -1.5894388284780525]),
    ],
)
def test_the_first_step_is_the_one_computed_by_hand(make, expected):
    (first,) = trajectory(make, np.zeros(4), np.array([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(first, expected, rtol=RELATIVE, atol=0)


def twins(ours, torchs, **arguments):
    return lambda p: ours(p, **arguments), lambda p: torchs(p, **arguments)


TORCH_TWINS = {
    "Adam": twins(optim.Adam, torch.optim.Adam),
    "Adam, all of its numbers": twins(optim.Adam, torch.optim.Adam, lr=0.01, betas=(0.8, 0.99), eps=1e-2, weight_decay=0.1),
    "Adam, positional": (
        lambda p: optim.Adam(p, 0.01, (0.5, 0.9), 1e-3, 0.1, True),
        lambda p: torch.optim.Adam(p, 0.01, (0.5, 0.9), 1e-3, 0.1, True),
    ),
    "Adam without momentum": twins(optim.Adam, torch.optim.Adam, betas=(0.0, 0.9)),
    "amsgrad": twins(optim.Adam, torch.optim.Adam, amsgrad=True, betas=(0.9, 0.9)),
    "maximize": twins(optim.Adam, torch.optim.Adam, maximize=True, weight_decay=0.1),
    "decoupled": twins(optim.Adam, torch.optim.Adam, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    "AdamW": (lambda p: optim.Adam(p, weight_decay=0.1, decoupled_weight_decay=True), lambda p: torch.optim.AdamW(p, weight_decay=0.1)),
    "tensor lr": twins(optim.Adam, torch.optim.Adam, lr=torch.tensor(0.01, dtype=torch.float64)),
    "AdaMax": twins(optim.AdaMax, torch.optim.Adamax, eps=1e-8),
    "AdaMax, all of its numbers": twins(
        optim.AdaMax, torch.optim.Adamax, lr=0.01, betas=(0.8, 0.9), eps=1e-2, weight_decay=0.1, maximize=True
    ),
    "AdaGrad": twins(optim.AdaGrad, torch.optim.Adagrad, lr=0.1, eps=1e-3, weight_decay=0.1, initial_accumulator_value=0.5),
    "RMSProp": (lambda p: optim.RMSProp(p, lr=0.01, rho=0.9, eps=1e-3), lambda p: torch.optim.RMSprop(p, alpha=0.9, eps=1e-3)),
    "RMSProp with momentum": (lambda p: optim.RMSProp(p, lr=0.01, rho=0.99, momentum=0.9), lambda p: torch.optim.RMSprop(p, momentum=0.9)),
    "SGDNesterov": (lambda p: optim.SGDNesterov(p, momentum=0.95), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.95, nesterov=True)),
    "AdaDelta": (lambda p: optim.AdaDelta(p, rho=0.95), lambda p: torch.optim.Adadelta(p, rho=0.95)),
}


@pytest.mark.parametrize("name", TORCH_TWINS)
def test_moves_as_torchs_whose_runs_it_takes_over_and_which_takes_over_its_own(name):
    """After half of the steps the two load each other's state into optimizers with the defaults of their class."""
    thetas = [torch.tensor(far_from_zero((3, 5)), requires_grad=True) for _ in range(2)]
    machines = [make([theta]) for make, theta in zip(TORCH_TWINS[name], thetas, strict=True)]
    for step, gradient in enumerate(gradients(STEPS, (3, 5))):
        if step == STEPS // 2:
            ours, torchs = (copy.deepcopy(machine.state_dict()) for machine in machines)
            machines = [type(machine)([theta]) for machine, theta in zip(machines, thetas, strict=True)]
            machines[0].load_state_dict(torchs)
            machines[1].load_state_dict(ours)
        for theta, machine in zip(thetas, machines, strict=True):
            theta.grad = torch.tensor(gradient)
            machine.step()
        torch.testing.assert_close(*thetas, rtol=RELATIVE, atol=0)
    assert machines[0].state[thetas[0]]["step"] == machines[1].state[thetas[1]].get("step", STEPS // 2)  # torch's SGD has no t


@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_member_of_a_population_moves_as_if_alone(optimizer, dtype):
    grid, members = GRID[optimizer], 3
    g = torch.tensor(gradients(100, (members, 4, 5)), dtype=dtype)
    start = torch.randn(members, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))

    def run(theta, gradients, **hyperparameters):
        theta = theta.clone().requires_grad_()
        machine = optimizer([theta], **hyperparameters)
        for gradient in gradients:
            theta.grad = gradient
            machine.step()
        return theta.detach()

    together = run(start, g, **{key: torch.tensor(values, dtype=torch.float64) for key, values in grid.items()})
    assert together.dtype == dtype
    for member in range(members):
        alone = run(start[member], g[:, member], **{key: values[member] for key, values in grid.items()})
        # A scalar reaches torch's float32 kernels in double precision, a member's value rounded: a unit or two of 6e-8 per step.
        torch.testing.assert_close(together[member], alone, rtol=1e-13 if dtype == torch.float64 else 1e-5, atol=0)


def test_a_member_that_diverges_disturbs_nobody():
    theta = torch.ones(2, 3, requires_grad=True)
    machine = optim.SGDNesterov([theta], lr=torch.tensor([1e30, 1e-3]))
    for _ in range(20):
        theta.grad = 2 * theta.detach()
        machine.step()
    assert not torch.isfinite(theta[0]).any()
    # 0.998 per step is the plain factor; momentum brings it well below 1 and above 0 in 20 steps.
    assert (theta[1] < 1).all()
    assert (theta[1] > 0).all()


def test_section_2_the_cheaper_order_is_algorithm_1_where_eps_hat_follows_the_correction():
    """eps_hat = eps sqrt(1 - beta2^t): the same to rounding. One eps_hat for all t: not at the first steps."""
    g = np.random.default_rng(3).standard_normal((10, 50))
    for eps, follows, nearest, farthest in ((1e-2, True, 0, 1e-13), (1e-2, False, 0.1, 0.3), (1e-8, False, 1e-8, 1e-6)):
        theta, other = (torch.zeros(50, dtype=torch.float64, requires_grad=True) for _ in range(2))
        exact, cheaper = optim.Adam([theta], eps=eps), optim.Adam([other], eps_hat=eps)
        for t, gradient in enumerate(g, 1):
            theta.grad, other.grad = torch.tensor(gradient), torch.tensor(gradient)
            if follows:
                cheaper.param_groups[0]["eps_hat"] = eps * math.sqrt(1 - 0.999**t)
            exact.step()
            cheaper.step()
        distance = ((other - theta) / theta).abs().median().item()
        assert nearest <= distance <= farthest


def test_section_7_1_large_powers_leave_the_range_of_numbers():
    """Where |g|^p is 0 in float64 nothing is left to divide by, and the coordinate stands still; AdaMax moves by alpha."""
    g = np.full((3, 1), 1e-10)
    assert trajectory(lambda p: optim.LpAdam(p, p=40.0), np.ones(1), g)[-1] == 1.0
    np.testing.assert_allclose(trajectory(lambda p: optim.AdaMax(p, lr=0.1), np.ones(1), g)[-1], 0.7, rtol=RELATIVE)


def test_inverse_sqrt_is_alpha_over_the_root_of_t():
    theta = torch.ones(2, requires_grad=True)
    machine = optim.Adam([theta], lr=torch.tensor([0.1, 0.2], dtype=torch.float64))
    schedule = optim.InverseSqrt(machine)
    for t in range(1, 6):
        np.testing.assert_allclose(machine.param_groups[0]["lr"], np.array([0.1, 0.2]) / math.sqrt(t), rtol=RELATIVE)
        np.testing.assert_array_equal(schedule.get_last_lr()[0], machine.param_groups[0]["lr"])
        machine.step()
        schedule.step()
    resumed = optim.InverseSqrt(optim.Adam([theta], lr=0.0))
    resumed.load_state_dict(optim.InverseSqrt(optim.Adam([theta], lr=0.5)).state_dict() | {"last_epoch": 3})
    assert resumed.optimizer.param_groups[0]["lr"] == 0.25


def test_exponential_is_alpha_times_powers_of_the_decay():
    theta = torch.ones(2, requires_grad=True)
    machine = optim.Adam([theta], lr=torch.tensor([0.1, 0.2], dtype=torch.float64))
    schedule = optim.Exponential(machine, decay=0.9)
    for power in (1, 0.9, 0.81, 0.729):
        np.testing.assert_allclose(machine.param_groups[0]["lr"], np.array([0.1, 0.2]) * power, rtol=RELATIVE)
        machine.step()
        schedule.step()
    for decay in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"decay={decay} is invalid: expected a number in"):
            optim.Exponential(machine, decay)


def test_a_schedule_is_a_scheduler_of_torch_and_takes_groups_that_are_added_later():
    machine = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
    schedule = optim.InverseSqrt(machine)
    assert isinstance(schedule, torch.optim.lr_scheduler.LRScheduler)
    for _ in range(2):
        machine.step()
        schedule.step()
    machine.add_param_group({"params": [torch.ones(3, requires_grad=True)], "lr": 0.6})
    assert machine.param_groups[1]["lr"] == 0.6  # until the schedule takes its next step, to t = 4
    schedule.step()
    np.testing.assert_allclose(schedule.get_last_lr(), [0.05, 0.3], rtol=RELATIVE)
    other = optim.InverseSqrt(torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1))
    with pytest.raises(ValueError, match="expected InverseSqrt with 1 learning rates"):
        other.load_state_dict(schedule.state_dict())
    with pytest.raises(ValueError, match="expected Exponential with 2 learning rates"):
        optim.Exponential(machine, 0.5).load_state_dict(schedule.state_dict())


def test_schedules_in_a_row():
    """As torch's: the second starts from the alpha of the first."""
    machine = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
    parts = [torch.optim.lr_scheduler.ConstantLR(machine, factor=0.5, total_iters=9), optim.InverseSqrt(machine)]
    schedule = torch.optim.lr_scheduler.SequentialLR(machine, parts, milestones=[2])
    rates = []
    for _ in range(5):
        rates.append(machine.param_groups[0]["lr"])
        machine.step()
        schedule.step()
    np.testing.assert_allclose(rates, [0.05, 0.05, 0.1, 0.1 / math.sqrt(2), 0.1 / math.sqrt(3)], rtol=RELATIVE)


def test_a_schedule_goes_on_where_it_was_with_the_members_that_are_kept():
    stack = torch.ones(3, 2, requires_grad=True)
    machine = optim.Adam([stack], lr=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    schedule = optim.InverseSqrt(machine)
    machine.step()
    schedule.step()
    machine.keep_members(torch.tensor([0, 2]))
    second = optim.Adam([torch.ones(2, 2, requires_grad=True)], lr=torch.tensor([9.0, 9.0]))
    resumed = optim.InverseSqrt(second)
    second.load_state_dict(copy.deepcopy(machine.state_dict()))
    resumed.load_state_dict(copy.deepcopy(schedule.state_dict()))
    for each, rates in ((machine, schedule), (second, resumed)):
        each.step()
        rates.step()
        np.testing.assert_allclose(each.param_groups[0]["lr"], np.array([0.1, 0.3]) / math.sqrt(3), rtol=RELATIVE)
