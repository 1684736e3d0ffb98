"""The paths by which a rule runs: each against the rule on tensors in one precision, on parameters and state, after every step.

There is no GPU in most machines that run these tests. The CUDA source is run there all the same: its text, compiled as C, with
blocks and threads as loops. What only a GPU can show is marked so.
"""

import copy
import ctypes
import functools

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import optim
from cases import CASES, GRID
from optim import fused_cpu, fused_cuda, paths
from optim.adam import adam
from optim.trace import STORAGE, Signature, trace

# Of the largest element: sqrt is correctly rounded in C, torch's may be off by a unit in the last place (1.2e-7 or 2.2e-16), a
# product with a reciprocal by one more, and over 40 steps sums of both signs (d of RMSProp) gather some of these.
RELATIVE = {torch.float32: 4e-6, torch.float64: 1e-14}

SIGNATURE = Signature(adam, 2, ("alpha", "beta1", "beta2", "eps"), torch.float32, torch.float32)
needs_compiler = pytest.mark.skipif(fused_cpu.kernel(SIGNATURE) is None, reason="no C compiler")


@functools.cache
def as_c(signature: Signature) -> ctypes.CDLL:
    """The CUDA source of a step, compiled for a CPU."""
    text = """
    #define __global__
    #define __shared__ static
    #define __grid_constant__
    #define __launch_bounds__(threads)
    #define __syncthreads()
    static struct { unsigned int x; } blockIdx, threadIdx;
    """
    text += fused_cuda.source(trace(signature), signature).replace('extern "C"', "static").replace("#pragma unroll 4", "")
    text += """
    void run(const struct table *table, int blocks, int threads)
    {
      for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) step(*table);
    }
    """
    return fused_cpu.load(text)


def emulated(signature: Signature, device: torch.device):
    """Stands for `fused_cuda.kernel`."""

    def path(step, plans):
        times = step.count(plans, on_device=True)
        for table, blocks in fused_cuda.tables(step.hyperparameters_on(device), plans, times, step.found_inf):
            as_c(signature).run(ctypes.byref(table), blocks, fused_cuda.THREADS)

    return path


@pytest.fixture(params=["fused", "foreach", "cuda"])
def path(request, monkeypatch) -> dict:
    """The arguments that choose a path, which must be had. Three threads share the parameters."""
    if request.param == "foreach":
        return dict(foreach=True)
    if fused_cpu.kernel(SIGNATURE) is None:
        pytest.skip("no C compiler")
    if request.param == "cuda":
        monkeypatch.setattr(paths, "_compiled", lambda *description: emulated(Signature(*description[:-1]), description[-1]))
    monkeypatch.setattr(fused_cpu, "_ELEMENTS_PER_THREAD", 1)
    monkeypatch.setattr(fused_cpu.torch, "get_num_threads", lambda: 3)
    return dict(fused=True)


def assert_equal_to_rounding(ours: Tensor, plain: Tensor, relative: float) -> None:
    finite = plain[plain.isfinite()]
    atol = relative * finite.abs().max().item() if finite.numel() else 0
    torch.testing.assert_close(ours, plain, rtol=relative, atol=atol, equal_nan=True)


def both(optimizer, path, starts, gradients, relative=None, between=lambda machine: None, **arguments) -> list[Tensor]:
    """Runs the plain path and another side by side and compares them after each step; returns the other's parameters."""
    runs = []
    for choice in (dict(fused=False), path):
        thetas = [start.clone(memory_format=torch.preserve_format).requires_grad_() for start in starts]
        runs.append((thetas, optimizer(thetas, **choice, **arguments)))
    for gradient in gradients:
        for thetas, machine in runs:
            for theta, g in zip(thetas, gradient, strict=True):
                theta.grad = g
            machine.step()
        (plain, plain_machine), (ours, machine) = runs
        for theta, expected in zip(ours, plain, strict=True):
            tolerance = relative or RELATIVE[torch.empty(0, dtype=theta.dtype).abs().dtype]
            assert_equal_to_rounding(theta.detach(), expected.detach(), tolerance)
            for name in machine.state[theta]:
                left, right = (torch.as_tensor(run.state[p][name]) for run, p in ((machine, theta), (plain_machine, expected)))
                assert_equal_to_rounding(left, right.to(left.dtype) if name == "step" else right, tolerance)
        for _, each_machine in runs:
            between(each_machine)
    return runs[1][0]


def random(shapes, steps, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    starts = [1 + torch.rand(shape, dtype=dtype, generator=generator) for shape in shapes]
    gradients = [
        [torch.randn(shape, dtype=dtype, generator=generator) * 10.0 ** (step % 7 - 3) for shape in shapes] for step in range(steps)
    ]
    return starts, gradients


SCALES = st.sampled_from([0.0, 1e-45, 1e-38, 1e-30, 1e-10, 1.0, 1e10, 1e30, 3e38, float("inf"), float("-inf"), float("nan")])


@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    case=st.sampled_from(list(CASES)),
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=4),
    scales=st.lists(SCALES, min_size=1, max_size=6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_any_shapes_and_any_gradients(path, case, shapes, scales, dtype, seed):
    """Gradients with zeros, infinities, nans, and scales from the smallest to the largest number."""
    optimizer, _, arguments = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    starts = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    gradients = []
    for scale in scales:
        signs = [torch.randint(-1, 2, shape, generator=generator).to(dtype) for shape in shapes]
        gradients.append([sign * scale for sign in signs])
    both(optimizer, path, starts, gradients, **arguments)


ODD_SHAPES = [(7,), (), (1, 1), (33, 5), (0,), (2, 3, 4, 5), (101,), (3, 2001)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_the_rule_on_tensors(case, dtype, path):
    optimizer, _, arguments = CASES[case]
    both(optimizer, path, *random(ODD_SHAPES, 40, dtype), **arguments)


@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_members_keep_their_own_hyperparameters(optimizer, path):
    grid = {key: torch.tensor(values, dtype=torch.float64) for key, values in GRID[optimizer].items()}
    both(optimizer, path, *random([(3, 11, 2), (3,), (3, 0), (3, 5), (3, 5000)], 40, torch.float32), **grid)


def test_members_whose_values_lie_apart_in_memory(path):
    lr = torch.tensor([[1e-4, 0.0], [1e-3, 0.0], [1e-2, 0.0]])[:, 0]
    both(optim.Adam, path, *random([(3, 5)], 3, torch.float32), lr=lr)


@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_zeros_infinities_and_nans_go_the_same_way(optimizer, path):
    special = torch.tensor([0.0, -0.0, 1e-45, 1e-30, 3e38, float("inf"), float("-inf"), float("nan")])
    both(optimizer, path, [torch.ones(8)], [[torch.zeros(8)], [special], [torch.zeros(8)], [special.flip(0)], [-special]])


@pytest.mark.parametrize("lr", [torch.tensor(0.01, dtype=torch.float64), torch.tensor(0.01)])
def test_hyperparameters_may_be_tensors_of_one_number(lr, path):
    both(optim.Adam, path, *random([(5, 3)], 3, torch.float32), lr=lr, betas=(torch.tensor(0.5), torch.tensor(0.75)))


def test_hundreds_of_parameters_and_parameters_without_a_gradient(path):
    starts, gradients = random([(n % 13 + 1, 3) for n in range(200)], 3, torch.float32)
    for step, gradient in enumerate(gradients):
        gradient[5] = None
        if step == 1:
            gradient[7] = None  # from now on its t is one behind
    both(optim.AdaMax, path, starts, gradients)


def test_complex_parameters_are_pairs_of_real_ones(path):
    starts, gradients = random([(5, 3)], 10, torch.complex64)
    (theta,) = both(optim.Adam, path, starts, gradients)
    pairs = torch.view_as_real(starts[0]).clone().requires_grad_()
    machine = optim.Adam([pairs])
    for (gradient,) in gradients:
        pairs.grad = torch.view_as_real(gradient)
        machine.step()
    assert_equal_to_rounding(torch.view_as_real(theta.detach()), pairs.detach(), RELATIVE[torch.float32])


@pytest.mark.parametrize("state_dtype", [None, torch.float32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_half_precision_calculates_in_float32(optimizer, dtype, state_dtype, path):
    starts, gradients = random([(33, 5), (7,)], 10, dtype)
    # Where a float32 result lies on the border between two neighbours in half precision, the paths may part by one of those.
    both(optimizer, path, starts, gradients, relative=torch.finfo(dtype).eps, lr=0.01, state_dtype=state_dtype)


def test_half_precision_rounds_only_what_it_stores():
    """One step from values that half precision holds is the float32 step, rounded once."""
    (start,), ((gradient,),) = random([(1000,)], 1, torch.bfloat16)
    moved = []
    for dtype in (torch.bfloat16, torch.float32):
        theta = start.clone().to(dtype).requires_grad_()
        theta.grad = gradient.to(dtype)
        optim.Adam([theta], lr=0.01, fused=False).step()
        moved.append(theta.detach().to(torch.bfloat16))
    assert torch.equal(*moved)


def test_stochastic_rounding_is_right_on_average(path):
    """Steps of 2^-12 on numbers that bfloat16 holds to 2^-7: without it none would ever move."""
    theta = torch.ones(20_000, dtype=torch.bfloat16, requires_grad=True)
    machine = optim.SGDNesterov([theta], lr=2.0**-12, momentum=0.0, stochastic_rounding=True, state_dtype=torch.float32, **path)
    for _ in range(64):
        theta.grad = -torch.ones_like(theta)
        machine.step()
    moved = theta.detach().float() - 1
    # 64 steps of 2^-12 make 2^-6; each is a jump of 2^-7 with probability 2^-5, of variance 2^-14 * 2^-5 * (1 - 2^-5).
    deviation = (64 * 2.0**-19 * (1 - 2.0**-5) / len(moved)) ** 0.5
    assert abs(moved.mean().item() - 2.0**-6) < 5 * deviation
    assert moved.std().item() == pytest.approx(deviation * len(moved) ** 0.5, rel=0.05)


def test_stochastic_rounding_is_the_same_on_every_path(path):
    starts, gradients = random([(50, 7), (3,), (40, 30)], 10, torch.bfloat16)
    starts[2], gradients = starts[2].t(), [[*others, g.t()] for *others, g in gradients]
    # The rules' float32 results agree to rounding, so that a few elements in a million may still round apart: none does here.
    both(optim.SGDNesterov, path, starts, gradients, relative=1e-30, lr=2.0**-5, momentum=0.5, stochastic_rounding=True)


def test_stochastic_rounding_leaves_infinities_and_nans():
    for choice in ({}, dict(fused=False)):
        theta = torch.tensor([float("inf"), float("nan"), 3.0e38], dtype=torch.bfloat16).requires_grad_()
        theta.grad = torch.zeros_like(theta)
        optim.SGDNesterov([theta], stochastic_rounding=True, **choice).step()
        assert theta[0] == float("inf")
        assert theta[1].isnan()


def layouts() -> dict[str, tuple[Tensor, Tensor]]:
    """Parameters and gradients that lie in memory in various ways."""
    generator = torch.Generator().manual_seed(0)
    g, image = torch.randn(6, 4, generator=generator), torch.randn(4, 3, 5, 2, generator=generator)
    last = torch.channels_last
    return {
        "transposed": (torch.ones(4, 6).t(), torch.randn(4, 6, generator=generator).t()),
        "transposed parameter": (torch.ones(4, 6).t(), g),
        "transposed gradient": (torch.ones(6, 4), torch.randn(4, 6, generator=generator).t()),
        "channels last": (torch.ones_like(image).contiguous(memory_format=last), image.contiguous(memory_format=last)),
        "channels last parameter": (torch.ones_like(image).contiguous(memory_format=last), image),
        "channels last gradient": (torch.ones_like(image), image.contiguous(memory_format=last)),
        "expanded gradient": (torch.ones(6, 4), torch.tensor(2.0).expand(6, 4)),
        "gradient with gaps": (torch.ones(6, 4), torch.randn(6, 8, generator=generator)[:, ::2]),
        "empty": (torch.ones(0, 4), torch.ones(0, 4)),
    }


@pytest.mark.parametrize("name", layouts())
def test_layouts_are_taken_as_they_lie(name, path):
    start, g = layouts()[name]
    kept = g.clone()
    (theta,) = both(optim.Adam, path, [start], [[g], [g]])
    assert theta.stride() == start.stride()
    assert torch.equal(g, kept)


def test_gradients_that_are_negated_lazily(path):
    """As autograd leaves them behind imaginary parts."""
    both(
        optim.Adam, path, [torch.ones(6, 4), torch.ones(())], [[torch._neg_view(torch.ones(6, 4)), torch._neg_view(torch.tensor(2.0))]] * 2
    )
    (theta,) = both(optim.AdaMax, path, [torch.ones(3)], [[torch._neg_view(torch.ones(3))]], lr=0.5)
    assert theta.tolist() == [1.5, 1.5, 1.5]
    (theta,) = both(
        optim.AdaMax, path, [torch.ones(3, dtype=torch.complex64)], [[torch.ones(3, dtype=torch.complex64).mul(1j).conj()]], lr=0.5
    )
    torch.testing.assert_close(theta.detach(), torch.full((3,), 1 + 0.5j))


def test_members_as_numbers_on_the_device(path):
    """Every hyper-parameter one per member, and t a tensor."""
    grid = {key: torch.tensor(values, dtype=torch.float64) for key, values in GRID[optim.Adam].items()}
    starts, gradients = random([(3, 4), (3, 2, 2)], 20, torch.float32)
    expected = both(optim.Adam, path, starts, gradients, **grid)
    got = both(optim.Adam, path, starts, gradients, capturable=True, **grid)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def each(change):
    """A change of both averages of Adam."""
    return lambda theta, state: [change(state, name) for name in ("exp_avg", "exp_avg_sq")]


def average_becomes(change):
    return lambda theta, state: setattr(state["exp_avg"], "data", change(state["exp_avg"].data))


# What may become of a parameter and its state between two steps. The last three leave the address of an average as it was.
CHANGES = {
    "parameter given other data": lambda theta, state: setattr(theta, "data", theta.data.clone()),
    "t replaced": lambda theta, state: state.update(step=state["step"].clone()),
    "given other data": each(lambda state, name: setattr(state[name], "data", state[name].data.clone())),
    "shared": each(lambda state, name: state[name].share_memory_()),
    "swapped": each(lambda state, name: torch.utils.swap_tensors(state[name], state[name].clone())),
    "set": each(lambda state, name: state[name].set_(state[name].clone())),
    "replaced": each(lambda state, name: state.update({name: state[name].clone()})),
    "transposed": average_becomes(lambda m: m.t()),
    "negated": average_becomes(torch._neg_view),
    "narrower": average_becomes(lambda m: m.view(torch.float16)[:32].view(64, 64).copy_(m.half())),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_parameter_and_its_state_may_change_between_steps(name, path):
    """What an earlier step found out about addresses must not outlive them, nor what it found there."""

    def change(machine):
        ((theta, state),) = machine.state.items()
        if state["step"] == 2:
            with torch.no_grad():
                CHANGES[name](theta, state)
        machine.param_groups[0]["fused"] = machine.param_groups[0]["fused"] and None  # True refuses state with gaps
        return [torch.full((64, 64), 7.0) for _ in range(4)]  # takes the memory that was let go

    both(optim.Adam, path, *random([(64, 64)], 5, torch.float32), between=change)


def test_a_reshaped_parameter_is_refused(path):
    theta = torch.zeros(2, 3, requires_grad=True)
    theta.grad = torch.ones(2, 3)
    machine = optim.Adam([theta], lr=torch.tensor([0.1, 0.2]), **path)
    machine.step()
    theta.data = theta.data.view(3, 2)
    with pytest.raises(ValueError, match=r"one per member, but a parameter of shape \(3, 2\)|a gradient has shape \(2, 3\)"):
        machine.step()
    theta.grad = None
    theta.grad = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"one per member, but a parameter of shape \(3, 2\)"):
        machine.step()


def test_state_of_another_dtype_or_device_is_not_taken_for_numbers():
    theta = torch.ones(1000, requires_grad=True)
    theta.grad = torch.ones(1000)
    machine = optim.Adam([theta])
    machine.step()
    machine.state[theta]["exp_avg_sq"] = machine.state[theta]["exp_avg_sq"].bfloat16()
    machine.step()
    assert machine.paths() == {"plain": 1}
    assert theta.isfinite().all()
    machine.state[theta]["exp_avg"] = machine.state[theta]["exp_avg"].to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        machine.step()


def test_tensors_that_only_wrap_numbers_run_on_tensors():
    class Wrapped(torch.Tensor):
        """A subclass, which may keep its numbers anywhere."""

    theta = torch.ones(3).as_subclass(Wrapped).requires_grad_()
    theta.grad = torch.ones(3).as_subclass(Wrapped)
    machine = optim.AdaMax([theta], lr=0.25)
    machine.step()
    assert machine.paths() == {"plain": 1}
    assert theta.tolist() == [0.75, 0.75, 0.75]


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True)])
def test_a_gradient_of_another_shape_is_refused(choice):
    theta = torch.zeros(4, requires_grad=True)
    theta.grad = torch.ones(4)
    theta.data = torch.zeros(8)
    with pytest.raises(ValueError, match=r"a gradient has shape \(4,\) on cpu, its parameter \(8,\) on cpu"):
        optim.Adam([theta], **choice).step()


def test_parameters_with_gaps_run_on_tensors():
    whole = torch.ones(6, 8)
    theta = whole[:, ::2].requires_grad_()
    theta.grad = torch.ones(6, 4)
    machine = optim.AdaMax([theta], lr=0.25)
    assert machine.paths() == {"plain": 1}
    machine.step()
    np.testing.assert_allclose(whole[:, ::2].detach(), 0.75, rtol=1e-6)
    assert torch.equal(whole[:, 1::2], torch.ones(6, 4))
    with pytest.raises(
        RuntimeError, match=r"fused=True needs a compiler, and .* one of shape \(6, 4\) with strides \(8, 2\) is torch.float32 on cpu"
    ):
        optim.AdaMax([theta], fused=True).step()


@pytest.mark.parametrize("choice", [{}, dict(fused=False), dict(foreach=True)])
def test_expanded_parameters_are_refused(choice):
    theta = torch.ones(1).expand(3).detach().requires_grad_()
    theta.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"):
        optim.Adam([theta], **choice).step()


def test_the_choice_of_path_is_visible():
    thetas = [torch.ones(3, requires_grad=True), torch.ones(6, 8)[:, ::2].requires_grad_(), torch.ones(3, requires_grad=True)]
    for theta in thetas[:2]:
        theta.grad = torch.ones_like(theta)
    fused = "fused" if fused_cpu.kernel(SIGNATURE) else "plain"
    assert optim.Adam(thetas[::2]).paths() == {fused: 1}
    assert optim.Adam(thetas, foreach=True).paths() == {"foreach": 2}
    assert optim.Adam(thetas, fused=False).paths() == {"plain": 2}


def test_without_a_compiler_everything_still_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(paths, "_compiled", lambda *description: fused_cpu.kernel.__wrapped__(Signature(*description[:-1])))
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.ones(3)
    machine = optim.AdaMax([theta], lr=0.25)
    fused_cpu._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="take 2 to 4 times as long as torch.s on a CPU.*install a C compiler"):
        machine.step()
    np.testing.assert_allclose(theta.detach(), 0.75, rtol=1e-6)
    assert machine.paths() == {"plain": 1}  # and is said once
    with pytest.raises(RuntimeError, match="fused=True needs a compiler"):
        optim.AdaMax([theta], fused=True).step()


@needs_compiler
def test_autograd_notices_that_parameters_have_changed():
    theta = torch.ones(3, requires_grad=True)
    loss = (theta**2).sum()
    theta.grad = torch.ones(3)
    optim.Adam([theta], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_state_moves_between_the_paths(path):
    starts, gradients = random([(5, 3)], 9, torch.float64)
    whole = both(optim.Adam, path, starts, gradients)[0]
    theta = starts[0].clone().requires_grad_()
    machine = optim.Adam([theta], **path)
    choices = (path, dict(fused=False, foreach=None), path)
    for number, (gradient,) in enumerate(gradients):
        if number % 3 == 0:
            state = copy.deepcopy(machine.state_dict())
            machine = optim.Adam([theta])
            state["param_groups"][0] |= choices[number // 3]
            machine.load_state_dict(state)
        theta.grad = gradient
        machine.step()
    torch.testing.assert_close(theta, whole, rtol=1e-14, atol=0)


def nvrtc_is_there() -> bool:
    try:
        fused_cuda._nvrtc()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not nvrtc_is_there(), reason="torch came without NVRTC")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("dtype", STORAGE)
def test_nvrtc_takes_the_cuda_source(dtype, architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for rule, states, letters in (
        (adam, 2, ("alpha", "beta1", "beta2", "eps")),
        (optim.adamax.lp_adam, 2, ("alpha", "beta1", "beta2", "p")),
    ):
        signature = Signature(rule, states, letters, dtype, torch.float32, dtype is torch.bfloat16)
        assert fused_cuda._cubin(fused_cuda.source(trace(signature), signature), architecture)[:4] == b"\x7fELF"


def test_the_table_of_a_launch_fits_into_the_arguments_of_a_kernel():
    for states, letters in ((3, 8), (2, 8), (1, 4)):
        assert ctypes.sizeof(fused_cuda._table(2 + states, letters)) <= 4096


def test_what_a_gpu_gets_when_a_gradient_has_overflowed(path):
    """found_inf on the device: nothing moves, nothing counts, nobody waits. Here the device is the CPU."""
    theta = torch.ones(3, requires_grad=True)
    theta.grad = torch.ones(3)
    machine = optim.Adam([theta], **path)
    (group,) = machine.param_groups
    for found, t in ((0.0, 1), (1.0, 1), (0.0, 2)):
        before = theta.detach().clone()
        settings = machine.settings(group)
        step = machine._step_settings(settings, torch.tensor(4.0), torch.tensor(found))
        with torch.no_grad():
            for move, plans in machine._group_by_path(settings, step).items():
                move(step, plans)
        assert torch.equal(before, theta) == bool(found)
        assert machine.state[theta]["step"] == t


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_same_numbers_as_the_rule_on_tensors(case, dtype):
    optimizer, _, arguments = CASES[case]
    starts, gradients = random(ODD_SHAPES, 20, dtype)
    starts, gradients = [x.cuda() for x in starts], [[x.cuda() for x in gradient] for gradient in gradients]
    both(optimizer, dict(fused=True), starts, gradients, relative=None if dtype in RELATIVE else torch.finfo(dtype).eps, **arguments)


@pytest.mark.gpu
@pytest.mark.parametrize("choice", [dict(fused=True), dict(foreach=True, capturable=True), dict(fused=False, capturable=True)])
@pytest.mark.parametrize("members", [False, True])
def test_on_a_gpu_a_graph_captures_the_step(choice, members):
    lr = torch.tensor([1e-3, 1e-2, 1e-1] if members else 1e-2, dtype=torch.float64, device="cuda")
    starts, gradients = random([(3, 5), (3,)], 10, torch.float32)
    eager, captured = ([start.cuda().requires_grad_() for start in starts] for _ in range(2))
    machines = [optim.Adam(thetas, lr=lr, **choice) for thetas in (eager, captured)]
    for theta in captured:
        theta.grad = torch.zeros_like(theta)

    def feed(thetas, gradient):
        for theta, g in zip(thetas, gradient, strict=True):
            if theta.grad is None:
                theta.grad = torch.empty_like(theta)
            theta.grad.copy_(g)

    for gradient in gradients[:3]:
        for thetas, machine in zip((eager, captured), machines, strict=True):
            feed(thetas, gradient)
            machine.step()
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        machines[1].step()
    for gradient in gradients[3:]:
        feed(eager, gradient)
        feed(captured, gradient)
        machines[0].step()
        graph.replay()
    for ours, theirs in zip(captured, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
        assert machines[1].state[ours]["step"].item() == 10


@pytest.mark.gpu
@pytest.mark.parametrize("choice", [{}, dict(foreach=True), dict(fused=False)])
def test_on_a_gpu_no_step_waits_for_the_device(choice):
    starts, gradients = random([(33, 5), (7,)], 3, torch.float32)
    thetas = [start.cuda().requires_grad_() for start in starts]
    machine = optim.Adam(thetas, lr=torch.tensor(0.01, device="cuda"), **choice)
    for number, gradient in enumerate(gradients):
        for theta, g in zip(thetas, gradient, strict=True):
            theta.grad = g.cuda()
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            machine.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
