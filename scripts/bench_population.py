"""Prints how long a member's pass of figure 4 takes in a population, and one by one, measured side by side in this run.

The members of the sweep train as one population (in shards of 12 on a CPU, all 84 on a GPU) on a part of MNIST. Against them one
member trains with torch.optim.Adam: with this project's loop and cost, and as a user would write it, from torch.nn's parts. The
population trains with products in bfloat16 too, as for 100 passes.
"""

import argparse
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.nn import functional

import data
import optim
from experiments.process import prepare_process
from experiments.training import Plan, train
from experiments.variational_autoencoder import VariationalAutoencoder
from timing import medians, timed

SETTINGS = list(product((3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.9), (0.99, 0.999, 0.9999), (1.0, 0.0)))
BATCH = 100


def population_pass(dataset: data.Dataset, settings: list[tuple], device: torch.device, precision: str) -> float:
    """Seconds of a pass of a population with these step sizes, betas and corrections; the second, which on a GPU replays the first."""
    lr, beta1, beta2, corrected = torch.tensor(settings, dtype=torch.float64, device=device).T
    make = partial(optim.Adam, lr=lr, beta1=beta1, beta2=beta2, bias_correction=corrected)
    return _pass(dataset, make, len(settings), device, precision)


def solo_pass(dataset: data.Dataset, device: torch.device) -> float:
    """Seconds of a pass of one member with torch.optim.Adam, in the same loop."""
    return _pass(dataset, partial(torch.optim.Adam, lr=1e-3, fused=True), 1, device)


def _pass(dataset: data.Dataset, make_optimizer, members: int, device: torch.device, precision: str = "float32") -> float:
    plan = Plan(passes=2, batch_size=BATCH, schedule="constant", evaluate_every=2, precision=precision)
    model = VariationalAutoencoder(784, 10, initial_std=0.003)
    first, both = train(model, make_optimizer, dataset, [0], members, plan, device)[1]
    return both - first


class UsersAutoencoder(nn.Module):
    """The same network as in torch's examples."""

    def __init__(self):
        super().__init__()
        self.encode, self.mean, self.log_variance = nn.Linear(784, 500), nn.Linear(500, 50), nn.Linear(500, 50)
        self.decode, self.image = nn.Linear(50, 500), nn.Linear(500, 784)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the lower bound, in nats per image."""
        hidden = functional.softplus(self.encode(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        logits = self.image(functional.softplus(self.decode(z)))
        fit = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (fit - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())) / len(x)


def users_pass(pixels: torch.Tensor) -> None:
    """One pass as a user would write it, on images that are on the device already."""
    model = UsersAutoencoder().to(pixels.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for index in torch.randperm(len(pixels), device=pixels.device).split(BATCH):
        optimizer.zero_grad()
        loss = model(pixels[index])
        loss.backward()
        optimizer.step()
    loss.item()  # waits for the device


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    prepare_process()
    device = torch.device(arguments.device)
    dataset = data.load("mnist", examples=arguments.images, device=device)
    pixels = dataset.train.inputs.take(torch.arange(arguments.images, device=device).unsqueeze(0))[0]
    settings = SETTINGS if device.type == "cuda" else SETTINGS[:: len(SETTINGS) // 12]
    scale = 60_000 / arguments.images
    together, rounded, solo, user = (
        seconds * scale
        for seconds in medians(
            partial(population_pass, dataset, settings, device, "float32"),
            partial(population_pass, dataset, settings, device, "bfloat16"),
            partial(solo_pass, dataset, device),
            partial(timed, partial(users_pass, pixels)),
            rounds=arguments.rounds,
        )
    )
    each = together / len(settings)
    print(f"{torch.get_num_threads()} threads, {device}, medians of {arguments.rounds}; seconds for a member's pass over 60,000 images")
    print(f"population of {len(settings):>2}                       {each:7.3f}")
    print(
        f"the same with bfloat16 products          {rounded / len(settings):7.3f}   float32 takes {together / rounded:5.2f} times as long"
    )
    print(f"one by one, torch.optim.Adam, our loop   {solo:7.3f}   population {solo / each:5.2f} times as fast")
    print(f"one by one, torch.optim.Adam, torch.nn   {user:7.3f}   population {user / each:5.2f} times as fast")


if __name__ == "__main__":
    main()
