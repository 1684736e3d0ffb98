"""The registry of data sets, and `load`, which loads them."""

import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from data.cifar10 import load_cifar10
from data.download import DataUnavailable
from data.imdb import check_bag_of_words, load_imdb
from data.mnist import load_mnist
from data.standins import bag_of_words, colour_images, digit_images
from data.types import Dataset, check_option
from data.whitening import Whitening


class Entry(NamedTuple):
    """The functions that load a data set.

    Attributes:
        real: reads the data from a data root; gets the options.
        standin: generates the embedded stand-in; gets the options.
        options: validates the options, which are its arguments. `Whitening` also stores them and is applied after loading.
    """

    real: Callable[..., Dataset]
    standin: Callable[..., Dataset]
    options: Callable[..., Whitening | None] = lambda: None


REGISTRY = {
    "mnist": Entry(load_mnist, digit_images),
    "imdb": Entry(load_imdb, bag_of_words, check_bag_of_words),
    "cifar10": Entry(load_cifar10, colour_images, Whitening),
}
SOURCES = ("auto", "real", "standin")


def data_root(root: str | None = None) -> Path:
    """Returns the folder of the data sets: `root`, else the environment variable ADAM_DATA, else data/downloads in the project."""
    return Path(root or os.environ.get("ADAM_DATA") or Path(__file__).parent / "downloads").expanduser()


def check_options(name: str, source: str = "auto", root: str | None = None, examples: int | None = None, **options) -> Whitening | None:
    """Validates the arguments of `load` before anything is read; returns the whitening to apply, if any.

    Raises:
        ValueError: an unknown key or an invalid value.
    """
    check_option("name", name, isinstance(name, str) and name in REGISTRY, f"one of {', '.join(REGISTRY)}")
    check_option("source", source, source in SOURCES, f"one of {', '.join(SOURCES)}")
    check_option("root", root, root is None or (isinstance(root, str) and root != ""), "the path of a folder, or null for the default")
    # type() instead of isinstance(): True is an int.
    whole = type(examples) is int and examples > 0
    check_option("examples", examples, examples is None or whole, "a whole number above 0, or null for all")
    known = inspect.signature(REGISTRY[name].options).parameters.keys()
    for key in options.keys() - known:
        raise ValueError(f"data.{key} is unknown to {name}: expected one of {', '.join(sorted({'source', 'root', 'examples', *known}))}")
    return REGISTRY[name].options(**options)


def load(
    name: str, source: str = "auto", root: str | None = None, examples: int | None = None, device: torch.device | None = None, **options
) -> Dataset:
    """Loads a data set, after downloading it if necessary. Computes whitening on the device.

    Args:
        name: `mnist`, `imdb` or `cifar10`.
        source: `real`, `standin` (the embedded stand-in), or `auto`: the real data if they exist or can be downloaded, else the stand-in,
            with a warning.
        root: the data root; see `data_root`.
        examples: use only the first training examples, this many; None: all.
        device: the device of the returned data; None: the CPU.
        options: `words` and `features` of imdb; `whitening`, `regulariser` and `contrast` of cifar10, see `data.whitening`.

    Raises:
        DataError: source=real and the data cannot be downloaded, or a file is corrupt.
        ValueError: an unknown key or an invalid value.
    """
    whitening = check_options(name, source, root, examples, **options)
    entry, reading, dataset = REGISTRY[name], {} if whitening else options, None
    if source != "standin":
        try:
            dataset = entry.real(data_root(root), **reading)
        except DataUnavailable as error:
            if source == "real":
                raise
            _warn(f"The {name} data are not in {data_root(root)} and cannot be downloaded.", str(error))
    dataset = (dataset or entry.standin(**reading)).to(device or torch.device("cpu"))
    check_option(
        "examples", examples, (examples or 0) <= len(dataset.train), f"a whole number from 1 to {len(dataset.train)}, or null for all"
    )
    if whitening:
        dataset = whitening(dataset, data_root(root) / "whitening" if dataset.source == "real" else None)
    return replace(dataset, train=dataset.train.first(examples)) if examples else dataset


def _warn(*sentences: str) -> None:
    sentences = (*sentences, "Using the embedded STAND-IN instead: its results say nothing about the paper.")
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, 100)]
    edge = f"+{'-' * 102}+"
    print(edge, *(f"| {line:<100} |" for line in lines), edge, sep="\n", file=sys.stderr)
