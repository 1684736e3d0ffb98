"""The contestants of `make bench`: an epoch of each kind of experiment, by this project, by torch's usual loops and by JAX.

`python -m scripts.benchmarks.contestants CONTESTANT WORK` trains an epoch for every line of standard input and prints its seconds. It runs
on the CPU cores that its parent process allows.
"""

import experiments.process  # isort: skip  # before torch

import argparse
import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.functional import to_tensor

import optim
from data.loading import load
from data.rows import SparseBatch
from data.types import Dataset
from experiments.models import products
from experiments.models.base import Model
from experiments.models.convolutional_network import ConvolutionalNetwork
from experiments.models.logistic_regression import LogisticRegression
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.models.variational_autoencoder import VariationalAutoencoder
from experiments.training import loop
from experiments.training.plan import Plan, Training
from experiments.training.state import TrainState
from experiments.training.threads import Threads

DROPOUT, INPUT_DROPOUT = 0.5, 0.2
WIDTHS = (784, 1000, 1000, 10)  # of the network of figure 2
CHANNELS = (3, 64, 64, 128)  # of the network of figure 3
# Inputs and outputs of fully connected layers.
LAYERS = {
    "multilayer": list(pairwise(WIDTHS)),
    "autoencoder": [(784, 500), (500, 100), (50, 500), (500, 784)],
    "convolutional": [(2048, 1000), (1000, 10)],
}


@dataclass(frozen=True)
class Work:
    """An epoch of one kind of experiment.

    Attributes:
        model: `logistic`, `multilayer`, `autoencoder` or `convolutional`.
        examples: training examples in the epoch.
        batch_size: examples per minibatch.
        members: of the population.
    """

    model: str
    examples: int
    batch_size: int
    members: int = 1


WORKS = {
    "logistic regression": Work("logistic", 60_000, 128),
    "logistic regression, 32 members": Work("logistic", 60_000, 128, 32),
    "multilayer network": Work("multilayer", 6_000, 128),
    "autoencoder": Work("autoencoder", 6_000, 100),
    "autoencoder, 12 members": Work("autoencoder", 1_200, 100, 12),
    "convolutional network": Work("convolutional", 512, 128),
}


def dataset_of(work: Work) -> Dataset:
    """Loads MNIST, or for the convolutional network stand-in images of CIFAR-10's size."""
    if work.model != "convolutional":
        return load("mnist", examples=work.examples)
    images = load("cifar10", "standin", examples=work.examples, whitening="none")
    return replace(images, test=images.test.first(128))


# This project.


def our_epoch(work: Work, device: torch.device, precision: str = "float32") -> Callable[[], None]:
    """Returns a function that trains an epoch with this project's loop, models and Adam; threads and products are chosen as in run.py."""
    experiments.process.prepare_process()
    products.use("auto")
    dataset = dataset_of(work).to(device)
    models: dict[str, Callable[[], Model]] = {
        "logistic": partial(LogisticRegression, 784, 10),
        "multilayer": partial(MultilayerNetwork, 784, 10, dropout=DROPOUT, input_dropout=INPUT_DROPOUT),
        "autoencoder": partial(VariationalAutoencoder, 784, 10),
        "convolutional": partial(ConvolutionalNetwork, 3072, 10, dropout=DROPOUT, input_dropout=INPUT_DROPOUT),
    }
    plan = Plan(epochs=1, batch_size=work.batch_size, schedule="constant", precision=precision)
    lr = torch.logspace(-4, -2, work.members, dtype=torch.float64, device=device) if work.members > 1 else 1e-3
    training = Training(models[work.model](), partial(optim.Adam, lr=lr), dataset, [0], work.members, plan, device)
    threads = Threads("auto" if device.type == "cpu" else torch.get_num_threads(), lambda: loop.seconds_per_epoch(training))
    state = TrainState(training)

    def epoch() -> None:
        start = time.perf_counter()
        loop.train_epoch(training, state)
        if not state.depends_on_threads:
            threads.review(time.perf_counter() - start)

    return epoch


# torch, as its users write training loops.


class Images(torch.utils.data.Dataset):
    """Images converted one by one, by the calls of torchvision.datasets.MNIST with ToTensor."""

    def __init__(self, pixels: torch.Tensor, targets: torch.Tensor):
        self.pixels, self.targets = pixels.view(-1, 28, 28), targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return to_tensor(Image.fromarray(self.pixels[index].numpy())).flatten(), int(self.targets[index])


class Autoencoder(nn.Module):
    """The autoencoder of figure 4, as in torch's examples."""

    def __init__(self):
        super().__init__()
        self.encode, self.mean, self.log_variance = nn.Linear(784, 500), nn.Linear(500, 50), nn.Linear(500, 50)
        self.decode, self.image = nn.Linear(50, 500), nn.Linear(500, 784)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns minus the lower bound, in nats per image."""
        hidden = functional.softplus(self.encode(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        logits = self.image(functional.softplus(self.decode(z)))
        fit = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (fit - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())) / len(x)


def torch_model(name: str) -> nn.Module:
    """Returns the model, built from torch.nn."""
    if name == "logistic":
        return nn.Linear(784, 10)
    if name == "autoencoder":
        return Autoencoder()
    if name == "multilayer":
        parts: list[nn.Module] = [nn.Dropout(INPUT_DROPOUT)]
        for inputs, outputs in pairwise(WIDTHS):
            parts += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(DROPOUT)]
        return nn.Sequential(*parts[:-2])
    parts = [nn.Dropout(INPUT_DROPOUT), nn.Unflatten(1, (3, 32, 32))]
    for inputs, outputs in pairwise(CHANNELS):
        parts += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(2048, 1000), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(1000, 10))


def torch_epoch(
    work: Work, device: torch.device, usual: bool = False, compiled: bool = False, fused: bool | None = None, foreach: bool | None = None
) -> Callable[[], None]:
    """Returns the leanest usual loop: a DataLoader over a tensor in memory; on a GPU, minibatches indexed from tensors in its memory.

    Args:
        work: with one member.
        device: of the model.
        usual: whether images are converted one by one, as in torch's tutorials.
        compiled: whether torch.compile fuses cost and gradient, on a GPU as CUDA graphs. Minibatches are indexed on any device.
        fused, foreach: arguments of torch.optim.Adam.
    """
    split = dataset_of(work).train
    ready = split.dense.take(torch.arange(len(split)).unsqueeze(0))[0]
    examples = Images(split.dense.values, split.targets) if usual else TensorDataset(ready, split.targets)
    loader = DataLoader(examples, batch_size=work.batch_size, shuffle=True)
    there = (ready.to(device), split.targets.to(device)) if compiled or (device.type != "cpu" and not usual) else None
    model = torch_model(work.model).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused, foreach=foreach)

    def minibatches() -> Iterator[Sequence[Tensor]]:
        if there is None:
            yield from ([tensor.to(device) for tensor in batch] for batch in loader)
        else:
            for index in torch.randperm(len(ready), device=device).split(work.batch_size):
                yield [tensor[index] for tensor in there]

    def cost(images: Tensor, labels: Tensor) -> Tensor:
        return model(images) if work.model == "autoencoder" else functional.cross_entropy(model(images), labels)

    if compiled:
        cost = torch.compile(cost, mode="reduce-overhead", dynamic=False)

    def epoch() -> None:
        for images, labels in minibatches():
            loss = cost(images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device

    return epoch


# JAX: whole epochs compiled, its fastest form.


def jax_epoch(work: Work, device: torch.device) -> Callable[[], None]:
    """Returns an epoch as one compiled scan over minibatches, with members by vmap and optax's Adam, on JAX's default device."""
    import jax
    import optax
    from jax import numpy as jnp
    from jax import random

    split = dataset_of(work).train
    inputs, labels = (jnp.asarray(tensor.numpy()) for tensor in (split.dense.values, split.targets.int()))
    scale, size = split.dense.scale, work.batch_size

    def drop(key, values, rate):
        return jnp.where(random.bernoulli(key, 1 - rate, values.shape), values / (1 - rate), 0)

    def cross_entropy(scores, y):
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

    def dense(p, name, x):
        return x @ p[name][0] + p[name][1]

    def logistic(p, x, y, key):
        return cross_entropy(dense(p, "scores", x), y)

    def multilayer(p, x, y, key):
        keys = random.split(key, 3)
        x = drop(keys[0], x, INPUT_DROPOUT)
        for layer in (1, 2):
            x = drop(keys[layer], jax.nn.relu(dense(p, f"layer{layer}", x)), DROPOUT)
        return cross_entropy(dense(p, "scores", x), y)

    def autoencoder(p, x, y, key):
        mean, log_variance = jnp.split(dense(p, "code", jax.nn.softplus(dense(p, "encode", x))), 2, axis=1)
        z = mean + jnp.exp(log_variance / 2) * random.normal(key, mean.shape)
        logits = dense(p, "image", jax.nn.softplus(dense(p, "decode", z)))
        misfit = optax.sigmoid_binary_cross_entropy(logits, x).sum(1)
        return (misfit + (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(1) / 2).mean()

    def convolutional(p, x, y, key):
        keys = random.split(key)
        x = drop(keys[0], x, INPUT_DROPOUT).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for stage in (1, 2, 3):
            weight, bias = p[f"stage{stage}"]
            x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
            x = jax.nn.relu(jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"))
        hidden = drop(keys[1], jax.nn.relu(dense(p, "hidden", x.reshape(len(x), -1))), DROPOUT)
        return cross_entropy(dense(p, "scores", hidden), y)

    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "logistic": {"scores": (784, 10)},
        "multilayer": dict(zip(("layer1", "layer2", "scores"), pairwise(WIDTHS), strict=True)),
        "autoencoder": {"encode": (784, 500), "code": (500, 100), "decode": (50, 500), "image": (500, 784)},
        "convolutional": {f"stage{k + 1}": (5, 5, *shape) for k, shape in enumerate(pairwise(CHANNELS))}
        | {"hidden": (2048, 1000), "scores": (1000, 10)},
    }
    layers = shapes[work.model]
    loss = locals()[work.model]
    rule = optax.scale_by_adam()

    def step(carry, index, lr):
        p, state, key = carry
        key, noise = random.split(key)
        cost, gradients = jax.value_and_grad(loss)(p, inputs[index].astype(jnp.float32) * scale, labels[index], noise)
        updates, state = rule.update(gradients, state, p)
        return (jax.tree.map(lambda theta, update: theta - lr * update, p, updates), state, key), cost

    # XLA's convolutions are many times slower inside a compiled loop than in a step compiled alone.
    compiled_step = jax.jit(step, donate_argnums=0)

    def stepwise(step, carry, order):
        costs = []
        for index in order:
            carry, cost = compiled_step(carry, index, lr)
            costs.append(cost)
        return carry, jnp.stack(costs)

    def epoch(p, state, key, lr):
        key, shuffling = random.split(key)
        order = random.permutation(shuffling, len(labels))[: len(labels) // size * size].reshape(-1, size)
        loop = stepwise if work.model == "convolutional" else jax.lax.scan
        (p, state, key), costs = loop(lambda carry, index: step(carry, index, lr), (p, state, key), order)
        return p, state, key, costs.mean()

    keys = random.split(random.key(0), len(layers))
    p = {
        name: (random.normal(key, shape) / math.sqrt(math.prod(shape[:-1])), jnp.zeros(shape[-1]))
        for key, (name, shape) in zip(keys, layers.items(), strict=True)
    }
    state, lr, key = rule.init(p), jnp.float32(1e-3), random.key(1)
    if work.members > 1:
        p = jax.tree.map(lambda value: jnp.broadcast_to(value, (work.members, *value.shape)), p)
        state, lr = jax.vmap(rule.init)(p), jnp.logspace(-4, -2, work.members)
        epoch = jax.vmap(epoch, in_axes=(0, 0, None, 0), out_axes=(0, 0, None, 0))
    compiled = epoch if work.model == "convolutional" else jax.jit(epoch, donate_argnums=(0, 1))

    def run() -> None:
        nonlocal p, state, key
        p, state, key, cost = compiled(p, state, key, lr)
        jax.block_until_ready(cost)

    return run


# Limits and single operations.


def products_epoch(work: Work, device: torch.device) -> Callable[[], None]:
    """Returns the matrix products and convolutions of a network's epoch by the fastest libraries, a lower bound for training."""
    experiments.process.prepare_process()
    products.use("auto")
    size, convolutional = work.batch_size, work.model == "convolutional"

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    layers = [[draw(1, outputs, inputs), draw(1, inputs, size), draw(1, outputs, size)] for inputs, outputs in LAYERS[work.model]]
    stages = []
    for number, (inputs, outputs) in enumerate(pairwise(CHANNELS) if convolutional else ()):
        below, above = (draw(size, planes, 32 >> number, 32 >> number) for planes in (inputs, outputs))
        images = [images.contiguous(memory_format=torch.channels_last) for images in (below, above)]
        stages.append([draw(outputs, inputs, 5, 5), *images])

    def epoch() -> None:
        for _ in range(math.ceil(work.examples / size)):
            for number, (weight, below, above) in enumerate(stages):
                wanted = (number > 0, True, False)  # the inputs get no gradient
                functional.conv2d(below, weight, padding=2)
                torch.ops.aten.convolution_backward(above, below, weight, None, [1, 1], [2, 2], [1, 1], False, [0, 0], 1, wanted)
            for number, (weight, below, above) in enumerate(layers):
                products.matmul(weight, below)
                products.matmul(above, below.mT)
                if number or stages:
                    products.matmul(weight.mT, above)

    return epoch


def sparse_epoch(by_torch: bool) -> Callable[[], None]:
    """Returns 100 products, forward and backward, with a minibatch of 128 reviews (figure 1, right), by SciPy or by torch."""
    batch = load("imdb", words=10_000, features="binary").train.inputs.take(torch.arange(128).unsqueeze(0))
    assert isinstance(batch, SparseBatch)
    if by_torch:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that sparse tensors are in beta
            rows, columns, values = (
                torch.from_numpy(np.asarray(part)) for part in (batch.blocks.indptr, batch.blocks.indices, batch.blocks.data)
            )
            matrix = torch.sparse_csr_tensor(rows, columns, values, batch.blocks.shape)
        column = torch.randn(batch.shape[2], 1, requires_grad=True)
        step = lambda: torch.sparse.mm(matrix, column).sum().backward()  # noqa: E731
    else:
        weight, bias = torch.randn(1, 1, batch.shape[2], requires_grad=True), torch.zeros(1, 1, 1)
        step = lambda: products.affine(weight, bias, batch).sum().backward()  # noqa: E731

    def epoch() -> None:
        for _ in range(100):
            step()

    return epoch


CONTESTANTS: dict[str, Callable[[Work, torch.device], Callable[[], None]]] = {
    "ours": our_epoch,
    "ours, bfloat16": partial(our_epoch, precision="bfloat16"),
    "torch": partial(torch_epoch, fused=True),
    "torch, foreach": partial(torch_epoch, foreach=True),
    "torch, compiled": partial(torch_epoch, fused=True, compiled=True),
    "torch's tutorial": partial(torch_epoch, usual=True),
    "JAX": jax_epoch,
    "products alone": products_epoch,
}


def main() -> None:
    """Trains an epoch for every line of standard input; prints the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=[*CONTESTANTS, "SciPy", "torch.sparse"])
    parser.add_argument("work", choices=[*WORKS, "sparse products"])
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    if arguments.work == "sparse products":
        epoch = sparse_epoch(by_torch=arguments.contestant == "torch.sparse")
    else:
        epoch = CONTESTANTS[arguments.contestant](WORKS[arguments.work], arguments.device)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # keeps messages of training out of the answers
        epoch()  # compiles, allocates
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            epoch()
            print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
