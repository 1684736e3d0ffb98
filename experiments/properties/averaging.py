"""Averages of the parameters over the steps (section 7.2).

Polyak and Ruppert's mean of all iterates, and the exponential average, which forgets early ones:

    thetabar_t = beta2 thetabar_(t-1) + (1 - beta2) theta_t,    thetahat_t = thetabar_t / (1 - beta2^t).
"""

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch

import optim
from data.loading import load
from experiments.models.base import Model
from experiments.models.logistic_regression import LogisticRegression
from experiments.models.multilayer_network import MultilayerNetwork
from experiments.properties.trajectories import learn
from experiments.training.loop import evaluate


def measure(
    seeds: Sequence[int], epochs: int, batch_size: int, lr: dict[str, float], beta: float, hidden: int, snapshots: int, examples: int
) -> pd.DataFrame:
    """Measures the costs of the averages and of the last iterate, on MNIST.

    Args:
        seeds: of initial weights and the order of the data.
        epochs: number of epochs.
        batch_size: images per minibatch; small, so that gradients are noisy.
        lr: Adam's constant learning rate, for `logistic regression` and `multilayer network`.
        beta: decay rate of the exponential averages.
        hidden: units of each of the network's two layers.
        snapshots: number of logarithmically spaced steps at which to measure.
        examples: number of training images.

    Returns:
        `seed`, `data`, `model`, `estimate`, `t`, and means over all images: `train_cost`, `test_cost` and `test_error`.
    """
    dataset = load("mnist", examples=examples)
    steps = epochs * math.ceil(len(dataset.train) / batch_size)
    at = {round(value) for value in torch.logspace(1, math.log10(steps), snapshots).tolist()} | {steps}
    features = dataset.train.inputs.shape[1]
    models: dict[str, Model] = {
        "logistic regression": LogisticRegression(features, dataset.classes),
        "multilayer network": MultilayerNetwork(features, dataset.classes, hidden=hidden),
    }
    lines = []
    for name, model in models.items():
        averages = {}
        for t, parameters, optimizer in learn(model, partial(optim.Adam, lr=lr[name]), dataset, seeds, epochs, batch_size):
            if t == 0:
                averages = {
                    "exponential": optim.ExponentialAverage(optimizer, beta),
                    "exponential, uncorrected": optim.ExponentialAverage(optimizer, beta, bias_correction=False),
                    "Polyak-Ruppert": optim.PolyakRuppert(optimizer),
                }
            if t not in at:
                continue
            measured = {"last iterate": evaluate(model, parameters, dataset)}
            for estimate, average in averages.items():
                with average.swapped_in():
                    measured[estimate] = evaluate(model, parameters, dataset)
            for estimate, costs in measured.items():
                for member, seed in enumerate(seeds):
                    line = {"seed": seed, "data": dataset.source, "model": name, "estimate": estimate, "t": t}
                    lines.append(line | {key: costs[key][member] for key in ("train_cost", "test_cost", "test_error")})
    return pd.DataFrame(lines)
