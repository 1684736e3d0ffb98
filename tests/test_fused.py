"""Rules compiled to one loop: against the same rules on tensors, on parameters and on state, after every step."""

import copy

import numpy as np
import pytest
import torch
from test_optimizers import GRID

import optim
from optim import fused

# Of the largest element: sqrt is correctly rounded in C, torch's may be off by a unit in the last place (1.2e-7 or 2.2e-16),
# and over 40 steps sums of both signs (d of RMSProp) gather some of these.
RELATIVE = {torch.float32: 2e-6, torch.float64: 4e-15}

needs_compiler = pytest.mark.skipif(fused.kernel(optim.Adam.rule, 2, 5, torch.float32) is None, reason="no C compiler")


def assert_equal_to_rounding(ours: torch.Tensor, plain: torch.Tensor) -> None:
    finite = plain[plain.isfinite()]
    atol = RELATIVE[plain.dtype] * finite.abs().max().item() if finite.numel() else 0
    torch.testing.assert_close(ours, plain, rtol=RELATIVE[plain.dtype], atol=atol, equal_nan=True)


def both(optimizer, starts, gradients, **hyperparameters):
    """Runs the plain and the fused path side by side and compares them after each step; returns the fused parameters."""
    paths = []
    for choice in (False, True):
        thetas = [start.clone(memory_format=torch.preserve_format).requires_grad_() for start in starts]
        paths.append((thetas, optimizer(thetas, fused=choice, **hyperparameters)))
    for gradient in gradients:
        for thetas, machine in paths:
            for theta, g in zip(thetas, gradient, strict=True):
                theta.grad = g
            machine.step()
        (plain, plain_machine), (ours, machine) = paths
        for theta, expected in zip(ours, plain, strict=True):
            assert_equal_to_rounding(theta.detach(), expected.detach())
            for name in machine.state_names if theta in machine.state else ():
                assert_equal_to_rounding(machine.state[theta][name], plain_machine.state[expected][name])
    return paths[1][0]


def random(shapes, steps, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    starts = [1 + torch.rand(shape, dtype=dtype, generator=generator) for shape in shapes]
    gradients = [
        [torch.randn(shape, dtype=dtype, generator=generator) * 10.0 ** (step % 7 - 3) for shape in shapes] for step in range(steps)
    ]
    return starts, gradients


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_same_numbers_as_the_rule_on_tensors(optimizer, dtype, threads, monkeypatch):
    monkeypatch.setattr(fused, "_ELEMENTS_PER_THREAD", 1)
    monkeypatch.setattr(fused.torch, "get_num_threads", lambda: threads)
    shapes = [(7,), (), (1, 1), (33, 5), (0,), (2, 3, 4, 5), (101,)]
    both(optimizer, *random(shapes, 40, dtype), lr=1e-3)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_members_keep_their_own_hyperparameters_wherever_threads_divide_them(optimizer, threads, monkeypatch):
    monkeypatch.setattr(fused, "_ELEMENTS_PER_THREAD", 1)
    monkeypatch.setattr(fused.torch, "get_num_threads", lambda: threads)
    grid = {key: torch.tensor(values, dtype=torch.float64) for key, values in GRID[optimizer].items()}
    both(optimizer, *random([(3, 11, 2), (3,), (3, 0), (3, 5)], 40, torch.float32), **grid)


@needs_compiler
@pytest.mark.parametrize("optimizer", GRID, ids=lambda cls: cls.__name__)
def test_zeros_infinities_and_nans_go_the_same_way(optimizer):
    special = torch.tensor([0.0, -0.0, 1e-45, 1e-30, 3e38, float("inf"), float("-inf"), float("nan")])
    starts = [torch.ones(8)]
    both(optimizer, starts, [[torch.zeros(8)], [special], [torch.zeros(8)], [special.flip(0)], [-special]])


@needs_compiler
def test_a_hyperparameter_may_be_a_tensor_of_one_number():
    starts, gradients = random([(5, 3)], 3, torch.float32)
    both(optim.Adam, starts, gradients, lr=torch.tensor(0.01, dtype=torch.float64))


@needs_compiler
def test_hundreds_of_parameters_and_parameters_without_a_gradient():
    starts, gradients = random([(n % 13 + 1, 3) for n in range(200)], 3, torch.float32)
    for gradient in gradients:
        gradient[5] = None
    both(optim.AdaMax, starts, gradients)


@needs_compiler
def test_channels_last_is_taken_as_it_lies():
    starts, gradients = random([(4, 3, 5, 2)], 5, torch.float32)
    starts = [start.contiguous(memory_format=torch.channels_last) for start in starts]
    gradients = [[g.contiguous(memory_format=torch.channels_last) for g in gradient] for gradient in gradients]
    (theta,) = both(optim.Adam, starts, gradients)
    assert theta.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_fused_runs_on_tensors_or_is_refused_if_fused_was_asked_for():
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    cases = {
        "transposed gradient": (torch.ones(4, 6), gradient.t()),
        "transposed parameter": (torch.ones(6, 4).t(), gradient.t()),
        "bfloat16": (torch.ones(6, 4, dtype=torch.bfloat16), gradient.bfloat16()),
    }
    for start, g in cases.values():
        results = []
        for choice in (None, False):
            theta = start.clone(memory_format=torch.preserve_format).requires_grad_()
            theta.grad = g
            optim.Adam([theta], fused=choice).step()
            results.append(theta.detach())
        assert torch.equal(*results)
        theta = start.clone(memory_format=torch.preserve_format).requires_grad_()
        theta.grad = g
        with pytest.raises(RuntimeError, match=r"fused=True needs a C compiler and dense .* a parameter of shape"):
            optim.Adam([theta], fused=True).step()


def test_without_a_compiler_everything_still_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused.kernel.cache_clear()
    try:
        theta = torch.ones(3, requires_grad=True)
        theta.grad = torch.ones(3)
        optim.AdaMax([theta], lr=0.25).step()
        np.testing.assert_allclose(theta.detach(), 0.75, rtol=1e-6)
        with pytest.raises(RuntimeError, match="needs a C compiler"):
            optim.AdaMax([theta], fused=True).step()
    finally:
        fused.kernel.cache_clear()


@needs_compiler
def test_compiled_code_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        fused.kernel.cache_clear()
        assert fused.kernel(optim.Adam.rule, 2, 5, torch.float64) is not None
        (library,) = (tmp_path / "adam-paper").iterdir()
        made = library.stat().st_mtime_ns
    assert library.stat().st_mtime_ns == made
    fused.kernel.cache_clear()


@needs_compiler
def test_autograd_notices_that_parameters_have_changed():
    theta = torch.ones(3, requires_grad=True)
    loss = (theta**2).sum()
    theta.grad = torch.ones(3)
    optim.Adam([theta], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_compiler
def test_state_moves_between_the_paths():
    starts, gradients = random([(5, 3)], 6, torch.float64)
    whole = both(optim.Adam, starts, gradients)[0]
    theta = starts[0].clone().requires_grad_()
    first = optim.Adam([theta], fused=True)
    second = None
    for number, (gradient,) in enumerate(gradients):
        if number == 3:
            second = optim.Adam([theta], fused=False)
            state = copy.deepcopy(first.state_dict())
            state["param_groups"][0]["fused"] = False
            second.load_state_dict(state)
        theta.grad = gradient
        (second or first).step()
    torch.testing.assert_close(theta, whole, rtol=1e-14, atol=0)


@needs_compiler
def test_the_source_does_scalars_once_and_elements_in_one_loop():
    text = fused.source(optim.Adam.rule, 2, 5, torch.float32)
    before, _, loop = text.partition("for (int64_t i")
    assert before.count("pow(") == 2
    assert "pow(" not in loop
    assert text.count("for (int64_t i") == 1
