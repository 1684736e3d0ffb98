"""The table of optimizers and options that drives the shared tests, with an independent oracle in NumPy for each.

An oracle takes (theta, gradients, **arguments), all float64, and returns the parameters after every step. It is written from
the publications, in another arrangement than `optim/`, and knows no shortcuts.
"""

from __future__ import annotations

import numpy as np

import optim


def _descend(theta, gradients, direction, lr, weight_decay=0.0, decoupled_weight_decay=False, maximize=False):
    """The options common to all: `direction(t, g)` is what the optimizer makes of a gradient, before the step size."""
    path = []
    for t, g in enumerate(gradients, 1):
        g = (-1) ** maximize * g
        if decoupled_weight_decay:
            theta = theta - lr * weight_decay * theta
        else:
            g = g + weight_decay * theta
        theta = theta - lr * direction(t, g)
        path.append(theta)
    return path


def _averages(decay):
    """Exponential moving averages from zero, by their closed sum (equation 1)."""
    seen = []

    def average(x):
        seen.append(x)
        weights = decay ** np.arange(len(seen) - 1, -1, -1)
        return (1 - decay) * np.einsum("t,t...->...", weights, np.stack(seen))

    return average


def adam(
    theta, gradients, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_hat=None, amsgrad=False, beta1_decay=1.0, bias_correction=True, **o
):
    """Algorithm 1 and its variants."""
    second, largest, m = _averages(beta2), 0.0, 0.0

    def direction(t, g):
        nonlocal largest, m
        b = beta1 * beta1_decay ** (t - 1)
        m, v = m * b + g - b * g, second(g**2)
        largest = np.fmax(largest, v)
        c1, c2 = (1 - beta1**t, 1 - beta2**t) if bias_correction else (1, 1)
        if eps_hat is not None:
            return np.sqrt(c2) / c1 * m / (np.sqrt(v) + eps_hat)
        return m / c1 / (np.sqrt((largest if amsgrad else v) / c2) + eps)

    return _descend(theta, gradients, direction, lr, **o)


def adamax(theta, gradients, lr=2e-3, beta1=0.9, beta2=0.999, eps=0.0, beta1_decay=1.0, bias_correction=True, **o):
    """Algorithm 2, u by its closed form (below equation 11)."""
    seen, m = [], 0.0

    def direction(t, g):
        nonlocal m
        b = beta1 * beta1_decay ** (t - 1)
        m = m * b + g - b * g
        seen.append(np.abs(g) + eps)
        u = np.max(np.stack([size * beta2 ** (t - 1 - i) for i, size in enumerate(seen)]), axis=0)
        return np.divide(m, u, out=np.zeros_like(u), where=u != 0) / (1 - bias_correction * beta1**t)

    return _descend(theta, gradients, direction, lr, **o)


def lp_adam(theta, gradients, lr=1e-3, beta1=0.9, beta2=0.999, p=2.0, **o):
    """Equations 6 and 7."""
    first, second = _averages(beta1), _averages(beta2**p)

    def direction(t, g):
        mhat, vhat = first(g) / (1 - beta1**t), second(np.abs(g) ** p) / (1 - beta2 ** (p * t))
        return np.divide(mhat, vhat ** (1 / p), out=np.zeros_like(vhat), where=vhat != 0)

    return _descend(theta, gradients, direction, lr, **o)


def adagrad(theta, gradients, lr=1e-2, eps=1e-10, **o):
    """Duchi, Hazan & Singer 2011."""
    total = 0.0

    def direction(t, g):
        nonlocal total
        total = total + g**2
        return g / (np.sqrt(total) + eps)

    return _descend(theta, gradients, direction, lr, **o)


def rmsprop(theta, gradients, lr=1e-3, rho=0.9, momentum=0.0, eps=1e-8, **o):
    """Tieleman & Hinton 2012, momentum on the rescaled gradient."""
    second, d = _averages(rho), 0.0

    def direction(t, g):
        nonlocal d
        d = momentum * d + g / (np.sqrt(second(g**2)) + eps)
        return d

    return _descend(theta, gradients, direction, lr, **o)


def sgd_nesterov(theta, gradients, lr=1e-2, momentum=0.9, **o):
    """Sutskever et al. 2013 in the parameters after the look-ahead."""
    d = 0.0

    def direction(t, g):
        nonlocal d
        before, d = d, momentum * d + g
        return d + momentum * (d - before)

    return _descend(theta, gradients, direction, lr, **o)


def adadelta(theta, gradients, lr=1.0, rho=0.95, eps=1e-6, **o):
    """Zeiler 2012."""
    second, squares = _averages(rho), _averages(rho)
    d = 0.0

    def direction(t, g):
        nonlocal d
        delta = np.sqrt(d + eps) / np.sqrt(second(g**2) + eps) * g
        d = squares(delta**2)
        return delta

    return _descend(theta, gradients, direction, lr, **o)


DECAY = dict(weight_decay=0.1)
DECOUPLED = dict(weight_decay=0.1, decoupled_weight_decay=True)

# name: (optimizer, its oracle, arguments of both)
CASES = {
    "Adam": (optim.Adam, adam, {}),
    "Adam, large eps": (optim.Adam, adam, dict(eps=1e-2)),
    "Adam, eps_hat": (optim.Adam, adam, dict(eps_hat=1e-2)),
    "Adam, uncorrected": (optim.Adam, adam, dict(bias_correction=False)),
    "Adam, uncorrected eps_hat": (optim.Adam, adam, dict(bias_correction=False, eps_hat=1e-3)),
    "Adam, beta1 = 0": (optim.Adam, adam, dict(beta1=0.0, beta2=0.9)),
    "Adam, lambda": (optim.Adam, adam, dict(beta1_decay=0.9)),
    "Adam, amsgrad": (optim.Adam, adam, dict(amsgrad=True, beta2=0.9)),
    "Adam, weight decay": (optim.Adam, adam, DECAY),
    "Adam, decoupled": (optim.Adam, adam, dict(lr=1e-2, maximize=True, **DECOUPLED)),
    "AdaMax": (optim.AdaMax, adamax, {}),
    "AdaMax, eps": (optim.AdaMax, adamax, dict(eps=1e-2, beta2=0.9)),
    "AdaMax, uncorrected": (optim.AdaMax, adamax, dict(bias_correction=False)),
    "AdaMax, lambda": (optim.AdaMax, adamax, dict(beta1_decay=0.9, maximize=True)),
    "AdaMax, weight decay": (optim.AdaMax, adamax, DECAY),
    "LpAdam, p = 2": (optim.LpAdam, lp_adam, dict(p=2.0)),
    "LpAdam, p = 3": (optim.LpAdam, lp_adam, dict(p=3.0, beta2=0.9)),
    "AdaGrad": (optim.AdaGrad, adagrad, {}),
    "AdaGrad, weight decay": (optim.AdaGrad, adagrad, DECAY),
    "RMSProp": (optim.RMSProp, rmsprop, dict(momentum=0.9)),
    "RMSProp, decoupled": (optim.RMSProp, rmsprop, DECOUPLED),
    "SGDNesterov": (optim.SGDNesterov, sgd_nesterov, dict(lr=1e-4)),
    "SGDNesterov, maximize": (optim.SGDNesterov, sgd_nesterov, dict(lr=1e-4, momentum=0.5, maximize=True)),
    "AdaDelta": (optim.AdaDelta, adadelta, {}),
}

# Hyper-parameters of three members, for each optimizer.
GRID = {
    optim.Adam: dict(
        lr=[1e-4, 1e-3, 1e-2], beta1=[0.0, 0.9, 0.9], beta2=[0.99, 0.999, 0.9999], eps=[1e-8, 1e-2, 1e-8], bias_correction=[1.0, 0.0, 1.0]
    ),
    optim.AdaMax: dict(lr=[1e-4, 1e-3, 1e-2], beta1=[0.0, 0.9, 0.99], beta2=[0.99, 0.999, 0.9999], bias_correction=[1.0, 0.0, 1.0]),
    optim.LpAdam: dict(lr=[1e-4, 1e-3, 1e-2], p=[2.0, 3.0, 4.0], weight_decay=[0.0, 0.1, 0.01]),
    optim.AdaGrad: dict(lr=[1e-3, 1e-2, 1e-1], eps=[1e-10, 1e-8, 1e-2]),
    optim.RMSProp: dict(lr=[1e-4, 1e-3, 1e-2], rho=[0.9, 0.99, 0.999], momentum=[0.0, 0.5, 0.9]),
    optim.SGDNesterov: dict(lr=[1e-3, 1e-2, 1e-1], momentum=[0.0, 0.9, 0.99], weight_decay=[0.0, 0.1, 0.01]),
    optim.AdaDelta: dict(lr=[0.1, 1.0, 2.0], rho=[0.9, 0.95, 0.99], eps=[1e-6, 1e-8, 1e-3]),
}
