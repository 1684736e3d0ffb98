"""Measures the memory of SFO by the number of minibatches, and of Adam, on the network of figure 2.

Each measurement is a process that takes steps until the subspace was full and has been compacted. It reports the peak growth of memory
since before the optimizer was made: resident memory (Linux) or, on a GPU, allocated memory. This includes gradients and activations.
Writes results/sfo_memory.csv, which scripts/figures/sfo.py draws.
"""

import argparse
import multiprocessing
from pathlib import Path

import pandas as pd
import torch

import optim
from experiments.models.multilayer_network import MultilayerNetwork
from scripts.analysis.published import RESULTS

FEATURES, CLASSES, BATCH = 784, 10, 128


def peak_growth(minibatches: int | None, device: str, hidden: int) -> tuple[int, int]:
    """Takes steps of SFO, or of Adam if `minibatches` is None; returns the number of parameters and the peak growth of memory in bytes."""
    model = MultilayerNetwork(FEATURES, CLASSES, hidden=hidden, l2=1e-5)
    generator = torch.Generator().manual_seed(0)
    parameters = {name: start.unsqueeze(0).to(device).requires_grad_() for name, start in model.initial_parameters(generator).items()}
    inputs = torch.rand(minibatches or 1, BATCH, FEATURES, generator=generator).to(device)
    targets = torch.randint(CLASSES, (minibatches or 1, BATCH), generator=generator).to(device)

    def closure(i: int = 0) -> torch.Tensor:
        for parameter in parameters.values():
            parameter.grad = None
        cost = model.losses(parameters, inputs[i : i + 1], targets[i : i + 1], ()).mean() + model.penalty(parameters).sum()
        cost.backward()
        return cost

    before = _in_use(device)
    optimizer = optim.SFO(parameters.values(), minibatches) if minibatches else optim.Adam(parameters.values())
    optimizer.step(closure)
    while isinstance(optimizer, optim.SFO):
        dimensions = optimizer.subspace.dimensions
        optimizer.step(closure)
        if optimizer.subspace.dimensions < dimensions:  # compacted
            break
    return sum(parameter.numel() for parameter in parameters.values()), _in_use(device, at_most=True) - before


def _in_use(device: str, at_most: bool = False) -> int:
    """Returns the bytes in use by this process, now or at their peak."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) if at_most else torch.cuda.memory_allocated(device)
    name = "VmHWM" if at_most else "VmRSS"
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measure(numbers: list[int], device: str, hidden: int) -> pd.DataFrame:
    """Returns a row for Adam and for each number of minibatches; prints each when measured."""
    lines = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for minibatches in (None, *numbers):
            parameters, size = pool.apply(peak_growth, (minibatches, device, hidden))
            lines.append(
                {
                    "device": device,
                    "optimizer": "SFO" if minibatches else "Adam",
                    "minibatches": minibatches,
                    "parameters": parameters,
                    "bytes": size,
                    "numbers_per_parameter": size / 4 / parameters,
                }
            )
            print(f"{lines[-1]['optimizer']:<5} {minibatches or '':>3}   {size / 2**20:8.0f} MiB   "
                  f"{lines[-1]['numbers_per_parameter']:6.1f} numbers per parameter", flush=True)  # fmt: skip
    return pd.DataFrame(lines).astype({"minibatches": "Int64"})


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minibatches", type=int, nargs="+", default=[5, 10, 20, 30, 40])
    parser.add_argument("--hidden", type=int, default=1000, help="units of each hidden layer")
    parser.add_argument("--out", type=Path, default=RESULTS / "sfo_memory.csv")
    arguments = parser.parse_args()
    table = measure(arguments.minibatches, arguments.device, arguments.hidden)
    table.to_csv(arguments.out, index=False, float_format="%.1f")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
