"""Prints how fast training is, as ratios measured side by side in this run.

1. One pass of figure 1 left, one member, against the loop that users write: a DataLoader over images that become tensors one
   by one, as torchvision's MNIST makes them, nn.Linear, torch.optim.Adam.
2. The same against the leanest form of that loop: a DataLoader over one tensor that is ready.
3. A grid of 32 step sizes on the same task as one population, against the same members one after another.
4. One step of Adam on 1.8 million parameters, compiled to one loop, against torch.optim.Adam(fused=True).
5. The products of sparse minibatches by SciPy, against torch's own, as in a step of figure 1 right.
6. A pass of figure 2a on a tenth of the images, against the lean loop that users write, with torch.optim.Adam(fused=True); and its
   matrix products alone, whose time training cannot go below; and with precision=bfloat16, against float32.
7. A fiftieth of a pass of figure 3, without dropout and with, against the same lean loop with the convolutional network in torch.nn's
   parts; and with precision=bfloat16.
8. Two members of figure 3 as a population, and on a CPU side by side with half of the threads each, against one after another.
"""

import argparse
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms.functional import to_tensor

import data
import optim
from data.rows import linear
from experiments.convolutional_network import ConvolutionalNetwork
from experiments.logistic_regression import LogisticRegression
from experiments.multilayer_network import MultilayerNetwork
from experiments.process import prepare_process
from experiments.training import Plan, train
from timing import medians, timed

MEMBERS = 32
BATCH = 128
WIDTHS = (784, 1000, 1000, 10)  # of the network of figure 2


def row(name: str, left: str, left_seconds: float, right: str, right_seconds: float) -> None:
    """Prints one line of the table."""
    ratio = left_seconds / right_seconds
    print(
        f"{name:<28} {left} {left_seconds * 1e3:9.2f} ms   {right} {right_seconds * 1e3:9.2f} ms   {ratio:6.1f} times as fast", flush=True
    )


class Images(Dataset):
    """Images that become tensors one by one, by the same calls as in torchvision.datasets.MNIST with ToTensor."""

    def __init__(self, pixels: torch.Tensor, targets: torch.Tensor):
        self.pixels, self.targets = pixels.view(-1, 28, 28), targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return to_tensor(Image.fromarray(self.pixels[index].numpy())).flatten(), int(self.targets[index])


def users_loop(loader: DataLoader, device: torch.device, make_model: Callable, **options) -> None:
    """One pass as in torch's tutorials."""
    model = make_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **options)
    for images, labels in loader:
        loss = functional.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()  # waits for the device


def users_network() -> torch.nn.Module:
    """The network of figure 2a, in torch.nn's parts."""
    parts = [torch.nn.Dropout(0.2)]
    for inputs, outputs in pairwise(WIDTHS):
        parts += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU(), torch.nn.Dropout(0.5)]
    return torch.nn.Sequential(*parts[:-2])


def users_convolutional_network(dropout: float, input_dropout: float) -> torch.nn.Module:
    """The network of figure 3, in torch.nn's parts."""
    parts, channels = [torch.nn.Dropout(input_dropout), torch.nn.Unflatten(1, (3, 32, 32))], (3, 64, 64, 128)
    for inputs, outputs in pairwise(channels):
        parts += [torch.nn.Conv2d(inputs, outputs, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(3, stride=2, padding=1)]
    parts += [torch.nn.Flatten(), torch.nn.Linear(4 * 4 * 128, 1000), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(1000, 10)]
    return torch.nn.Sequential(*parts)


def our_pass(model, dataset: data.Dataset, steps: list[float], device: torch.device, precision: str = "float32") -> float:
    """The second pass of a population with these step sizes, which on a GPU replays what the first has recorded; its seconds."""
    lr = torch.tensor(steps, dtype=torch.float64, device=device) if len(steps) > 1 else steps[0]
    plan = Plan(passes=2, batch_size=BATCH, schedule="constant", evaluate_every=2, precision=precision)
    first, both = train(model, partial(optim.Adam, lr=lr), dataset, [0], len(steps), plan, device)[1]
    return both - first


def side_by_side(work: Callable[[list[float]], float], members: list[list[float]]) -> float:
    """The seconds of the slowest when all are worked on at once, each with its share of the CPU threads."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(len(members), initializer=torch.set_num_threads, initargs=(max(1, threads // len(members)),)) as pool:
        seconds = max(pool.map(work, members))
    torch.set_num_threads(threads)
    return seconds


def products_of_a_step(device: torch.device) -> Callable[[], object]:
    """All matrix products of one step of figure 2a, forward and backward, and nothing else."""
    layers = [
        (torch.randn(outputs, inputs), torch.randn(inputs, BATCH), torch.randn(outputs, BATCH)) for inputs, outputs in pairwise(WIDTHS)
    ]
    layers = [[matrix.to(device) for matrix in layer] for layer in layers]
    out = [[torch.empty_like(matrix) for matrix in layer] for layer in layers]

    def multiply() -> None:
        for number, ((weight, below, above), (weight_out, below_out, above_out)) in enumerate(zip(layers, out, strict=True)):
            torch.mm(weight, below, out=above_out)
            torch.mm(above, below.T, out=weight_out)
            if number:  # the inputs get no gradient
                torch.mm(weight.T, above, out=below_out)

    return multiply


def ready(split: data.Split) -> TensorDataset:
    """All images as one tensor."""
    return TensorDataset(split.inputs.take(torch.arange(len(split)).unsqueeze(0))[0], split.targets)


def sparse_products(inputs: data.rows.SparseRows) -> tuple[Callable, Callable]:
    """Forward and backward of a minibatch of 128 reviews, by SciPy and by torch."""
    batch = inputs.take(torch.arange(128).unsqueeze(0))
    weight = torch.randn(1, 1, inputs.shape[1], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse tensors a beta
        parts = (torch.from_numpy(part) for part in (batch.blocks.indptr, batch.blocks.indices, batch.blocks.data))
        matrix = torch.sparse_csr_tensor(*parts, batch.blocks.shape)
    column = torch.randn(inputs.shape[1], 1, requires_grad=True)
    return lambda: linear(weight, batch).sum().backward(), lambda: torch.sparse.mm(matrix, column).sum().backward()


def adam_step(make: Callable) -> Callable[[], object]:
    """A step on the parameters of a 784-1000-1000-10 network."""
    shapes = [shape for inputs, outputs in pairwise(WIDTHS) for shape in ((outputs, inputs), (outputs,))]
    parameters = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return make(parameters).step


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    prepare_process()
    device = torch.device(arguments.device)
    dataset = data.load("mnist")
    lean = DataLoader(ready(dataset.train), batch_size=BATCH, shuffle=True)
    usual = DataLoader(Images(dataset.train.inputs.values, dataset.train.targets), batch_size=BATCH, shuffle=True)
    resident = dataset.to(device)
    regression = LogisticRegression(784, 10)
    users_regression = partial(torch.nn.Linear, 784, 10)
    steps = torch.logspace(-4, -1, MEMBERS).tolist()

    print(f"{torch.get_num_threads()} threads, {arguments.device}, medians of {arguments.rounds}")
    for name, loader in (("usual", usual), ("lean", lean)):
        user, ours = medians(
            partial(timed, partial(users_loop, loader, device, users_regression)),
            partial(our_pass, regression, resident, steps[:1], device),
            rounds=arguments.rounds,
        )
        row("pass of figure 1 left", f"{name} loop", user, "ours", ours)
    alone, together = medians(
        lambda: sum(our_pass(regression, resident, [step], device) for step in steps),
        partial(our_pass, regression, resident, steps, device),
        rounds=arguments.rounds,
    )
    row(f"pass of {MEMBERS} members", "in turn", alone, "population", together)
    if device.type == "cpu":
        torchs, ours = medians(
            *(partial(timed, adam_step(make)) for make in (partial(torch.optim.Adam, fused=True), optim.Adam)), rounds=100
        )
        row("Adam, 1.8 million", "torch fused", torchs, "ours", ours)
        scipy, torchs = (partial(timed, work) for work in sparse_products(data.load("imdb", words=10_000, features="binary").train.inputs))
        scipy, torchs = medians(scipy, torchs, rounds=100)
        row("products, 128 sparse rows", "torch", torchs, "SciPy", scipy)
    part = data.load("mnist", examples=6000)
    loader = DataLoader(ready(part.train), batch_size=BATCH, shuffle=True)
    network = MultilayerNetwork(784, 10, dropout=0.5, input_dropout=0.2)
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    user, ours, halved, products = medians(
        partial(timed, partial(users_loop, loader, device, users_network, fused=True)),
        *(partial(our_pass, network, part.to(device), [1e-4], device, precision) for precision in ("float32", "bfloat16")),
        partial(timed, products_of_a_step(device), repeats=len(loader), wait=wait),
        rounds=arguments.rounds,
    )
    row("tenth of a pass of figure 2a", "lean loop", user, "ours", ours)
    row("the same", "float32", ours, "bfloat16", halved)
    print(f"its matrix products alone    {products * len(loader) * 1e3:9.2f} ms, {products * len(loader) / ours:.0%} of ours")
    part = data.load("cifar10", "standin", examples=1000, whitening="none")
    part = replace(part, test=part.test.first(1000))
    resident = part.to(device)
    loader = DataLoader(ready(part.train), batch_size=BATCH, shuffle=True)
    for name, rates in (("figure 3", {"dropout": 0.0, "input_dropout": 0.0}), ("dropout", {"dropout": 0.5, "input_dropout": 0.2})):
        network, users = ConvolutionalNetwork(3072, 10, **rates), partial(users_convolutional_network, **rates)
        user, ours, halved = medians(
            partial(timed, partial(users_loop, loader, device, users, fused=True)),
            *(partial(our_pass, network, resident, [1e-4], device, precision) for precision in ("float32", "bfloat16")),
            rounds=arguments.rounds,
        )
        row(f"fiftieth of a pass, {name}", "lean loop", user, "ours", ours)
        row("the same", "float32", ours, "bfloat16", halved)
    alone, members = partial(our_pass, ConvolutionalNetwork(3072, 10), resident, device=device), [[1e-4], [2e-4]]
    in_turn, together = medians(lambda: sum(map(alone, members)), partial(alone, [1e-4, 2e-4]), rounds=arguments.rounds)
    row("two members of it", "in turn", in_turn, "population", together)
    if device.type == "cpu":
        in_turn, beside = medians(lambda: sum(map(alone, members)), partial(side_by_side, alone, members), rounds=arguments.rounds)
        row("the same", "in turn", in_turn, "side by side", beside)


if __name__ == "__main__":
    main()
