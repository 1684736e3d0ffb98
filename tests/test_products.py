"""Products against float64, whichever library computes them; gradients in closed form against autograd."""

from functools import partial

import numpy as np
import pytest
import torch

from experiments.models import products
from experiments.models.base import Model
from experiments.models.logistic_regression import LogisticRegression
from experiments.models.products import affine
from populations import generators, population

LIBRARIES = ["torch", pytest.param("onednn", marks=pytest.mark.skipif(not products.is_available(), reason="not in this torch"))]


@pytest.fixture(autouse=True)
def torch_afterwards():
    yield
    products.use("torch")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("stacks", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_affine_and_its_gradients_are_those_of_float64(library, stacks, transposed, monkeypatch):
    monkeypatch.setattr(products, "_LARGE", 0)
    assert products.use(library) == library
    generator = torch.Generator().manual_seed(0)
    weight, bias, inputs, pull = (
        torch.randn(stacks, *shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((7, 5), (7, 1), (5, 4), (7, 4))
    )
    exact = weight @ inputs + bias
    exact.backward(pull.detach())
    ours = [tensor.detach().float() for tensor in (weight, bias, inputs)]
    if transposed:  # as the inputs of a first layer are
        ours[2] = ours[2].mT.contiguous().mT
    ours = [tensor.requires_grad_() for tensor in ours]
    product = affine(*ours)
    product.backward(pull.detach().float())
    # float32 sums of at most 7 terms of order 1
    np.testing.assert_allclose(product.detach(), exact.detach(), rtol=1e-5, atol=1e-5)
    for tensor, reference in zip(ours, (weight, bias, inputs), strict=True):
        np.testing.assert_allclose(tensor.grad, reference.grad, rtol=1e-5, atol=1e-5)
        assert tensor.grad.stride() == torch.empty_like(tensor).stride()  # the layout that the optimizers' kernels expect


@pytest.mark.parametrize("library", LIBRARIES)
def test_large_products_are_as_exact_as_those_of_torch(library):
    products.use(library)
    generator = torch.Generator().manual_seed(0)
    weight, inputs, pull = (torch.randn(1, *shape, generator=generator) for shape in ((300, 784), (784, 80), (300, 80)))
    for a, b in ((weight, inputs), (pull, inputs.mT), (weight.mT, pull)):
        exact = a.double() @ b.double()
        ours, torchs = ((product - exact).norm() / exact.norm() for product in (products.matmul(a, b), a @ b))
        assert ours < 2 * torchs
        assert ours < 1e-6  # bfloat16 or TF32 would be off by 1e-4 or more


@pytest.fixture
def measured(tmp_path, monkeypatch) -> list:
    """An empty cache; the list has an entry for each measurement, which finds oneDNN 1.2 times as fast."""
    calls = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(products, "is_available", lambda: True)
    monkeypatch.setattr(products, "speedup", lambda: calls.append(1) or 1.2)
    return calls


def test_the_faster_library_is_measured_once_for_a_processor_and_a_torch(measured, tmp_path, monkeypatch):
    assert [products.use(choice) for choice in ("auto", "auto", "torch", "onednn")] == ["onednn", "onednn", "torch", "onednn"]
    assert len(measured) == 1
    monkeypatch.setattr(products.torch, "__version__", "3.0")
    products.use("auto")
    monkeypatch.setattr(products.cache, "processor", lambda: "another one")
    products.use("auto")
    assert len(measured) == 3
    for path in (tmp_path / "adam-paper").iterdir():
        path.write_text("99")  # not what the digest in its name says
    products.use("auto")
    assert len(measured) == 4


@pytest.mark.parametrize(("speedup", "choice"), [(0.5, "torch"), (1.09, "torch"), (1.11, "onednn")])
def test_near_ties_go_to_torch(measured, monkeypatch, speedup, choice):
    monkeypatch.setattr(products, "speedup", lambda: speedup)
    assert [products.use("auto"), products.use("auto")] == [choice] * 2


@pytest.mark.skipif(not products.is_available(), reason="not in this torch")
def test_measuring_leaves_the_number_of_threads(monkeypatch):
    seen = []
    multiply = products._onednn
    monkeypatch.setattr(products, "_LAYERS", ((3, 4, 5),))
    monkeypatch.setattr(products, "_onednn", lambda a, b: seen.append(torch.get_num_threads()) or multiply(a, b))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert products.speedup(rounds=1) > 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.parametrize("outputs", [1, 3])
def test_products_of_sparse_minibatches_are_those_of_dense_algebra(words, outputs):
    batch = words.train.inputs.take(torch.tensor([[5, 2, 9, 2], [0, 1, 250, 299]]))
    rows = batch.blocks.toarray()
    exact = torch.tensor(np.stack([rows[:4, :40], rows[4:, 40:]]), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    weight, bias, pull = (
        torch.randn(2, outputs, size, dtype=torch.float64, generator=generator, requires_grad=size != 4) for size in (40, 1, 4)
    )
    reference = weight @ exact.mT + bias
    reference.backward(pull)
    ours = [tensor.detach().float().requires_grad_() for tensor in (weight, bias)]
    product = affine(*ours, batch)
    product.backward(pull.float())
    # float32 sums of at most 40 terms of order 1
    np.testing.assert_allclose(product.detach(), reference.detach(), rtol=1e-5, atol=1e-5)
    for tensor, expected in zip(ours, (weight, bias), strict=True):
        np.testing.assert_allclose(tensor.grad, expected.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("l2", [0.0, 0.1, torch.tensor([0.0, 0.1, 1.0, 0.5])])
@pytest.mark.parametrize("source", ["images", "words"])
def test_the_closed_form_of_logistic_regression_is_what_autograd_finds(request, source, classes, l2):
    split = request.getfixturevalue(source).train
    model = LogisticRegression(split.inputs.shape[1], classes, l2=l2, dropout=0.25, initial_std=0.3)
    index = torch.tensor([[5, 2, 9, 2, 7], [0, 1, 250, 299, 3]])
    found = []
    for differentiate in (LogisticRegression.differentiate, Model.differentiate):
        parameters = population(model, 4)
        inputs, targets = split.take(index)
        costs = differentiate(model, parameters, inputs, targets % classes, generators(2))
        found.append([costs, *(parameter.grad for parameter in parameters.values())])
    for closed, automatic in zip(*found, strict=True):
        # The same float32 operations in another order.
        np.testing.assert_allclose(closed, automatic, rtol=1e-5, atol=1e-7)


def test_the_closed_form_is_that_of_autograd_in_bfloat16_too(images):
    model, found = LogisticRegression(12, 3, initial_std=0.3), []
    for differentiate in (LogisticRegression.differentiate, Model.differentiate):
        parameters = population(model, 2)
        autocast = partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False)
        costs = differentiate(model, parameters, *images.train.take(torch.arange(100).unsqueeze(0)), generators(1), autocast)
        found.append([costs, *(parameter.grad for parameter in parameters.values())])
    for closed, automatic in zip(*found, strict=True):
        assert closed.dtype == torch.float32
        np.testing.assert_allclose(closed, automatic, rtol=0.02, atol=2e-3)  # products of 8 bits


def test_the_autoencoder_costs_what_its_definition_says_at_large_logits():
    """-log p of grey pixels against float64, where log(1 - sigmoid) would overflow."""
    from experiments.models.variational_autoencoder import _BernoulliMisfit

    logits = torch.tensor([-200.0, -30.0, -1.0, 0.0, 1.0, 30.0, 200.0]).view(1, 1, 7, 1).requires_grad_()
    pixels = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.75, 0.0, 1.0]).view(1, 1, 7, 1)
    misfit = _BernoulliMisfit.apply(logits, pixels)
    x, t = logits.detach().double().flatten(), pixels.double().flatten()
    assert misfit.item() == pytest.approx((torch.logaddexp(torch.zeros(()).double(), x) - x * t).sum().item(), rel=1e-6)
    misfit.sum().backward()
    np.testing.assert_allclose(logits.grad.flatten(), x.sigmoid() - t, atol=1e-7)


def test_a_torch_without_onednn_multiplies_by_itself(monkeypatch):
    monkeypatch.setattr(products, "_onednn", lambda a, b: torch.ops.mkldnn.no_such_operation(a, b))
    assert not products.is_available()
    assert products.use("auto") == products.use("onednn") == "torch"
    with pytest.raises(ValueError, match="products=blas is invalid: expected auto, torch or onednn"):
        products.use("blas")


def test_bfloat16_products_do_not_take_the_float32_path(monkeypatch):
    monkeypatch.setattr(products, "_LARGE", 0)
    monkeypatch.setattr(products, "_onednn", None)  # would raise when called
    monkeypatch.setattr(products, "_library", "onednn")
    with torch.autocast("cpu", torch.bfloat16):
        assert affine(torch.ones(1, 2, 3), torch.zeros(1, 2, 1), torch.ones(1, 3, 4)).dtype == torch.bfloat16
