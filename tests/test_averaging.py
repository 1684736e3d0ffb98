"""Averages over steps: against sums written out in NumPy, around optimizers of this package and of torch."""

import copy
import pickle
import weakref

import numpy as np
import pytest
import torch

import optim


def iterates(optimizer, theta, steps: int) -> np.ndarray:
    """The parameters after each of some steps on a bowl."""
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        (theta**2).sum().backward()
        optimizer.step()
        path.append(theta.detach().numpy().copy())
    return np.stack(path)


AVERAGES = {
    "exponential": (
        lambda o: optim.ExponentialAverage(o, beta=0.9),
        lambda x: (0.9 ** np.arange(len(x))[::-1, None] * x).sum(0) / (0.9 ** np.arange(len(x))).sum(),
    ),
    "uncorrected": (
        lambda o: optim.ExponentialAverage(o, beta=0.9, bias_correction=False),
        lambda x: 0.1 * (0.9 ** np.arange(len(x))[::-1, None] * x).sum(0),
    ),
    "Polyak-Ruppert": (optim.PolyakRuppert, lambda x: x.mean(0)),
}


@pytest.mark.parametrize("machine", [optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("name", AVERAGES)
def test_average_of_the_iterates(name, machine):
    make, expected = AVERAGES[name]
    theta = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
    optimizer = machine([theta], lr=0.1)
    average = make(optimizer)
    path = iterates(optimizer, theta, 25)
    with average.swapped_in():
        np.testing.assert_allclose(theta.detach(), expected(path), rtol=1e-13)
    np.testing.assert_array_equal(theta.detach(), path[-1])
    before = iterates(optimizer, theta, 1)  # goes on
    average.swap_in()
    np.testing.assert_allclose(theta.detach(), expected(np.concatenate([path, before])), rtol=1e-13)
    average.swap_out()


def test_parameters_come_back_when_evaluation_fails():
    theta = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([theta])
    average = optim.PolyakRuppert(optimizer)
    path = iterates(optimizer, theta, 3)
    with pytest.raises(KeyError), average.swapped_in():
        raise KeyError
    np.testing.assert_array_equal(theta.detach(), path[-1])


def test_what_makes_no_sense_is_refused():
    theta = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([theta])
    average = optim.PolyakRuppert(optimizer)
    with pytest.raises(RuntimeError, match="no average before the first step"):
        average.swap_in()
    with pytest.raises(RuntimeError, match="not swapped in"):
        average.swap_out()
    iterates(optimizer, theta, 1)
    average.swap_in()
    for act in (average.swap_in, optimizer.step):
        with pytest.raises(RuntimeError, match="the average is swapped in"):
            act()
    with pytest.raises(ValueError, match=r"beta=1 is invalid: expected a number in \[0, 1\)"):
        optim.ExponentialAverage(optimizer, beta=1)


def test_interrupted_and_resumed_is_the_same_to_the_bit():
    theta = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.Adam([theta])
    average = optim.ExponentialAverage(optimizer, beta=0.9)
    iterates(optimizer, theta, 5)
    resumed = theta.detach().clone().requires_grad_()
    second = optim.Adam([resumed])
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other = optim.ExponentialAverage(second, beta=0.9)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    iterates(optimizer, theta, 5)
    iterates(second, resumed, 5)
    with average.swapped_in(), other.swapped_in():
        assert torch.equal(theta, resumed)
    with pytest.raises(ValueError, match=r"shapes \[\(2,\)\]: expected those of the parameters, \[\(3,\)\]"):
        optim.PolyakRuppert(optim.Adam([torch.ones(3, requires_grad=True)])).load_state_dict(average.state_dict())


def test_half_precision_is_averaged_in_float32():
    """In bfloat16 a running mean would stand still: 1 + 1/1000 is 1 there."""
    theta = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.0)
    average = optim.PolyakRuppert(optimizer)
    theta.grad = torch.zeros_like(theta)
    for t in range(1000):
        with torch.no_grad():
            theta.fill_(float(t % 2))
        optimizer.step()
    assert average.thetabars[0].item() == pytest.approx(0.5, abs=1e-3)


def test_removed_it_follows_no_more():
    theta = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([theta])
    average = optim.PolyakRuppert(optimizer)
    iterates(optimizer, theta, 2)
    average.remove()
    iterates(optimizer, theta, 2)
    assert average.t == 2


@pytest.mark.parametrize("make", [optim.PolyakRuppert, optim.ExponentialAverage])
def test_steps_that_grad_scaler_left_out_do_not_count(make):
    theta = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([theta], lr=0.1)
    average, scaler, path = make(optimizer), torch.amp.GradScaler("cpu", init_scale=8.0), []
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(theta.sum() * (float("inf") if step in (0, 2) else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        path.append(theta.detach().clone())
    assert average.t == 2
    with average.swapped_in():
        weights = [0.5, 0.5] if make is optim.PolyakRuppert else [0.999 / 1.999, 1 / 1.999]
        torch.testing.assert_close(theta.detach(), weights[0] * path[1] + weights[1] * path[3])


def test_parameters_that_join_later_have_an_average_of_their_own_steps():
    first, later, gone = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 2.0, 3.0))
    optimizer = optim.AdaMax([{"params": [first]}, {"params": [gone]}], lr=0.25)
    average = optim.PolyakRuppert(optimizer)

    def step(*thetas):
        for theta in thetas:
            theta.grad = torch.ones_like(theta)
        optimizer.step()

    step(first, gone)
    del optimizer.param_groups[1]
    optimizer.add_param_group({"params": [later]})
    step(first, later)
    step(first, later)
    with average.swapped_in():
        assert (first.item(), later.item()) == (pytest.approx(0.5), pytest.approx(1.625))  # means of 0.75, 0.5, 0.25 and 1.75, 1.5
        assert gone.item() == 2.75
    second = optim.PolyakRuppert(optimizer)
    second.load_state_dict(copy.deepcopy(average.state_dict()))
    for _ in range(2):
        step(first, later)
    with average.swapped_in():
        expected = first.item(), later.item()
    with second.swapped_in():
        assert (first.item(), later.item()) == expected
        assert later.item() == pytest.approx(1.375)


def test_parameters_that_do_not_move_and_integers_stay_exactly_as_they_are():
    moving, frozen = torch.ones(1, requires_grad=True), torch.tensor([0.1, 1e-30, 7.3])
    integers = torch.tensor([1, 2, 3])
    optimizer = torch.optim.SGD([moving, frozen, integers], lr=0.1)
    average = optim.ExponentialAverage(optimizer, beta=0.9)
    iterates(optimizer, moving, 7)
    before = frozen.clone()
    with average.swapped_in():
        assert torch.equal(frozen, before)
        assert integers.tolist() == [1, 2, 3]


def test_buffers_are_averaged_with_the_parameters():
    model = torch.nn.BatchNorm1d(1, momentum=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = optim.PolyakRuppert(optimizer, buffers=model.buffers())
    for mean in (1.0, 2.0, 6.0):
        optimizer.zero_grad()
        model(torch.tensor([[mean - 1], [mean + 1]])).sum().backward()
        optimizer.step()
    with average.swapped_in():
        assert model.running_mean.item() == pytest.approx(3)
        assert model.num_batches_tracked == 3
    assert model.running_mean.item() == 6


def test_pickled_with_its_optimizer_it_goes_on():
    theta = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.Adam([theta], lr=0.1)
    average = optim.ExponentialAverage(optimizer, beta=0.5)
    iterates(optimizer, theta, 3)
    other, copied, following = pickle.loads(pickle.dumps((theta, optimizer, average)))
    iterates(optimizer, theta, 3)
    iterates(copied, other, 3)
    with average.swapped_in(), following.swapped_in():
        assert torch.equal(theta, other)
    assert following.t == 6


def test_an_average_that_nobody_holds_is_freed():
    theta = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([theta])
    average = optim.PolyakRuppert(optimizer)
    iterates(optimizer, theta, 1)
    held = weakref.ref(average.thetabars[0])
    del average
    assert held() is None
    iterates(optimizer, theta, 1)
    assert not optimizer._optimizer_step_post_hooks
