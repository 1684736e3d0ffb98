"""Resolves a configuration and builds what it describes: populations, models, optimizers."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import cast

import hydra
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

import optim
from data.types import Dataset
from experiments.errors import ConfigError, unknown_key
from experiments.models.base import Model
from experiments.progress import count
from experiments.records import COLUMNS, DEFAULTS, PROJECT, key_of
from experiments.schema import check, spelled, validate
from experiments.training.plan import MakeOptimizer, Plan, Training
from experiments.training.streams import generator

# ${project:results/runs} is relative to the project. Hydra alone would resolve paths against the working directory.
OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)

# Each member costs Python objects and CSV rows, however small its model.
_MOST_MEMBERS = 100_000
# float32 parameters, gradients and the two moments of Adam.
_BYTES_PER_PARAMETER = 4 * 4


def resolve(cfg: DictConfig, overrides: Sequence[str]) -> dict:
    """Applies the experiment's row for the chosen settings and optimizer, and validates the result.

    Command-line overrides take precedence over the row, and the row over all configuration files.

    Args:
        cfg: the configuration that Hydra composed.
        overrides: the command line, as key=value.

    Returns:
        The configuration of one run, without `hyperparameters`.

    Raises:
        ConfigError: a key is unknown, a value is invalid, or a row has no effect.
    """
    config = cast(dict, OmegaConf.to_container(cfg, resolve=True))
    target, name = optimizer_class(config), optimizer_name(config)
    given = [key_of(override) for override in overrides]
    row = _choose_row(config, name, given)
    named = "optimizer._target_" in given
    if named:  # the optimizer file's values belong to the class it names
        config["optimizer"] = {key: value for key, value in config["optimizer"].items() if f"optimizer.{key}" in given}
    for key, value in row.items():
        # A key without a dot, such as optimizer=adam, chooses a file and overrides none of its keys.
        if any(key == other or ("." in other and key.startswith(f"{other}.")) for other in given):
            continue
        *groups, leaf = key.split(".")
        parent: dict | None = config
        for group in groups:
            parent = parent.get(group) if isinstance(parent, dict) else None
        path = f"hyperparameters.{config['settings']}.{name}"
        if not isinstance(parent, dict) or not (leaf in parent or (named and groups == ["optimizer"])):
            raise ConfigError(f"{path}: {unknown_key(key, parent if isinstance(parent, dict) else config)}")
        if isinstance(parent.get(leaf), dict) or leaf in ("experiment", "settings", "_target_"):
            raise ConfigError(f"{path}: {key} cannot be set by a row, which holds values such as optimizer.lr: 0.001")
        parent[leaf] = value
    validate(config, target)
    for key in ("batch_size", "shuffle"):
        if key in given and optim.chooses_minibatches(target):
            raise ConfigError(f"{key} has no effect on {name}: it chooses among optimizer.minibatches fixed minibatches")
    if config["force"] and config["part"] is not None:
        raise ConfigError(f"force=true cannot be combined with part={config['part']}: train the whole run again, without part")
    adapt_optimizer(config)
    _plan(config)  # raises if keys conflict
    for group, known in (("optimizer", target), ("model", model_class(config))):
        _refuse_unknown_keys(group, config[group], known)
    return config


def _choose_row(config: dict, name: str, given: Sequence[str]) -> dict:
    """Removes `hyperparameters` from the configuration; returns the row for the optimizer `name` and the chosen settings, by full keys.

    Without such a row, settings=paper becomes settings=defaults, with a message.
    """
    check("settings", config["settings"])
    tables = config.pop("hyperparameters")
    for key, table in {"hyperparameters": tables, **(tables if isinstance(tables, dict) else {})}.items():
        if not isinstance(table, dict | None):
            path = key if table is tables else f"hyperparameters.{key}"
            raise ConfigError(f"{path}={spelled(table)} is invalid: expected a row per optimizer")
    tables = {settings: table for settings, table in (tables or {}).items() if table is not None} | {DEFAULTS: {}}
    if config["settings"] == "paper" and name not in tables.get("paper", {}):
        config["settings"] = DEFAULTS
        print(f"{config['experiment']} has no settings for {name}: it runs with its own defaults, settings={DEFAULTS}", file=sys.stderr)
    settings, experiment = config["settings"], config["experiment"]
    if settings not in tables:
        raise ConfigError(f"settings={settings} is unknown to {experiment}: choose one of {', '.join(tables)}")
    if settings != DEFAULTS and name not in tables[settings]:
        raise ConfigError(f"settings={settings} has no row for {name} in {experiment}: choose one of {', '.join(tables[settings])}")
    path = f"hyperparameters.{settings}.{name}"
    for key in given:
        if key.startswith("hyperparameters.") and not f"{key}.".startswith(f"{path}.") and not f"{path}.".startswith(f"{key}."):
            raise ConfigError(f"{key} has no effect: this run reads {path}")
    row = tables[settings].get(name) or {}
    if not isinstance(row, dict):
        raise ConfigError(f"{path}={spelled(row)} is invalid: expected keys and values, such as {{optimizer.lr: 0.001}}")
    return dict(_flatten(row))


def _flatten(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        yield from _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]


def optimizer_name(config: Mapping) -> str:
    """Returns the optimizer's class name, which is also its name in tables, figures and paths.

    Adds the library to a class that differs from one of ours only in case (Adagrad_torch): some file systems ignore case.
    """
    library, _, name = config["optimizer"]["_target_"].rpartition(".")
    ours = {own.casefold() for own in optim.__all__ if own != name}
    return f"{name}_{library.partition('.')[0]}" if name.casefold() in ours else name


def choose_device(name: str, precision: str = "float32") -> torch.device:
    """Returns the torch device of that name; `auto` prefers a GPU.

    Also allows or forbids TF32 on GPUs, according to `precision`.

    Raises:
        ConfigError: the device is not available.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
        if device.type == "cuda":
            torch.cuda.set_device(device)  # CUDA graphs are recorded on the current device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name} is not available here ({str(error).splitlines()[0]}): use device=cpu or device=auto") from error
    return device


@dataclass(frozen=True)
class Population:
    """Members that train together: every setting with every seed, ordered by seed, then setting.

    Attributes:
        seeds: one per stream of data and noise.
        settings: for each member of a seed, the hyper-parameters that vary, such as {"optimizer.lr": 0.001}.
    """

    seeds: list[int]
    settings: list[dict]

    @classmethod
    def of(cls, config: dict) -> Population:
        """Returns the product of a resolved configuration's list-valued keys.

        Raises:
            ConfigError: the product has more than _MOST_MEMBERS members.
        """
        seeds = config["seed"] if isinstance(config["seed"], list) else [config["seed"]]
        lists = {
            f"{group}.{key}": value
            for group in ("optimizer", "model")
            for key, value in config[group].items()
            if isinstance(value, list) and not _is_tuple(key, optimizer_class(config) if group == "optimizer" else model_class(config))
        }
        if (members := math.prod(map(len, [seeds, *lists.values()]))) > _MOST_MEMBERS:
            sizes = ", ".join(f"{key} of {len(values):,}" for key, values in {"seed": seeds, **lists}.items())
            raise ConfigError(f"{sizes} values give {members:,} members: expected at most {_MOST_MEMBERS:,}")
        return cls(seeds, [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())])

    @property
    def members(self) -> int:
        """The number of members."""
        return len(self.seeds) * len(self.settings)

    def shards(self, size: int | None) -> list[Population]:
        """Splits the population into shards of one seed and at most `size` members each; None keeps it whole."""
        if size is None or size >= self.members:
            return [self]
        return [
            Population([seed], self.settings[first : first + size]) for seed in self.seeds for first in range(0, len(self.settings), size)
        ]

    def columns(self) -> list[str]:
        """Returns the CSV columns of the hyper-parameters that vary: the last part of each key, or the full key if that is ambiguous."""
        leaves = {key: key.rpartition(".")[2] for key in self.settings[0]}
        taken = [*leaves.values(), *COLUMNS]
        return [leaf if taken.count(leaf) == 1 else key for key, leaf in leaves.items()]

    def describe(self, table: pd.DataFrame) -> pd.DataFrame:
        """Joins each member's seed and varying hyper-parameters to a table with a column `member`."""
        rows = [(seed, *setting.values()) for seed in self.seeds for setting in self.settings]
        members = pd.DataFrame(rows, columns=["seed", *self.columns()], dtype=object)  # object: to_csv writes all digits
        return table.join(members, on="member")

    def arguments(self, config: dict, group: str, device: torch.device) -> dict:
        """Returns the arguments of `group`, `optimizer` or `model`; those that vary are float64 tensors, shape [members]."""
        arguments = {key: value for key, value in config[group].items() if key != "_target_"}
        for key in arguments:
            values = [setting[f"{group}.{key}"] for setting in self.settings if f"{group}.{key}" in setting]
            if values:
                same = len(set(values)) == 1
                arguments[key] = values[0] if same else torch.tensor(values, dtype=torch.float64, device=device).repeat(len(self.seeds))
        return arguments


def shards(config: dict) -> list[Population]:
    """Returns the populations that train one after another: `shard` members each, or one member if the optimizer is not from optim."""
    return Population.of(config).shards(config["shard"] if issubclass(optimizer_class(config), optim.RuleOptimizer) else 1)


def make_training(config: dict, part: Population, dataset: Dataset, device: torch.device) -> Training:
    """Returns the training of one of `shards`."""
    model = make_model(config, part, dataset.train.inputs.shape[1], dataset.classes, device)
    return Training(model, optimizer_maker(config, part, device), dataset, part.seeds, len(part.settings), _plan(config), device)


def _plan(config: dict) -> Plan:
    return Plan(**{field.name: config[field.name] for field in fields(Plan)})


def model_class(config: dict) -> type[Model]:
    """Imports the class that model._target_ names."""
    return _import_class("model", config, Model, "a model, such as experiments.models.logistic_regression.LogisticRegression")


def make_model(config: dict, population: Population, features: int, classes: int, device: torch.device) -> Model:
    """Builds the configured model for data with that many features and classes.

    Raises:
        ConfigError: a hyper-parameter varies that the model cannot vary within a population.
    """
    target = model_class(config)
    for key in population.settings[0]:
        group, _, leaf = key.partition(".")
        if group == "model" and leaf not in target.per_member and len({setting[key] for setting in population.settings}) > 1:
            raise ConfigError(f"{key}={spelled(config['model'][leaf])} cannot differ within a population: sweep it with -m")
    arguments = population.arguments(config, "model", device)
    single = {key: value.to(torch.float32) if isinstance(value, torch.Tensor) else value for key, value in arguments.items()}
    return target(features=features, classes=classes, **single)


def check_memory(model: Model, members: int, device: torch.device) -> None:
    """Raises ConfigError if so many members of a model exceed the memory of the device."""
    with torch.device("meta"):  # shapes without memory
        parameters = sum(parameter.numel() for parameter in model.initial_parameters(generator(0, "initial parameters")).values())
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else machine
    if (needed := members * parameters * _BYTES_PER_PARAMETER) > total:
        raise ConfigError(
            f"training {count(members, 'member')} of {parameters:,} parameters takes about {needed / 2**30:,.0f} GiB, {device.type} has"
            f" {total / 2**30:,.0f} GiB: train fewer at once with shard=..., or choose a smaller model"
        )


def optimizer_class(config: dict) -> type[torch.optim.Optimizer]:
    """Imports the class that optimizer._target_ names."""
    return _import_class("optimizer", config, torch.optim.Optimizer, "an optimizer, such as optim.Adam or torch.optim.NAdam")


def adapt_optimizer(config: dict) -> None:
    """Replaces beta1 and beta2 by `betas`, in place, for an optimizer that takes a pair.

    Raises:
        ConfigError: the optimizer's step requires a closure, a beta is a list, or a pair is given too.
    """
    target, settings = optimizer_class(config), config["optimizer"]
    if issubclass(target, optim.RuleOptimizer):
        return
    closure = inspect.signature(target.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty and not optim.chooses_minibatches(target):
        raise ConfigError(f"optimizer._target_={settings['_target_']} is invalid: expected an optimizer that steps without a closure")
    betas = inspect.signature(target).parameters.get("betas")
    if betas is None:
        return
    joined = {key: settings.pop(key) for key in ("beta1", "beta2") if key in settings}
    for key, value in joined.items():
        if isinstance(value, list):
            raise ConfigError(f"optimizer.{key}={spelled(value)} is invalid for {target.__name__}: expected one number; sweep it with -m")
    if joined and "betas" in settings:
        raise ConfigError(f"optimizer.betas={spelled(settings['betas'])} conflicts with optimizer.beta1 and optimizer.beta2: set those")
    if joined:
        settings["betas"] = [joined.get(key, default) for key, default in zip(("beta1", "beta2"), betas.default, strict=True)]


def optimizer_maker(config: dict, population: Population, device: torch.device) -> MakeOptimizer:
    """Returns a function that builds the configured optimizer for parameters on the device."""
    target = optimizer_class(config)
    arguments = population.arguments(config, "optimizer", device)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}

    def make(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        try:
            return target(parameters, **arguments)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"optimizer {target.__name__}: {error}") from error

    return make


def _import_class(group: str, config: dict, base: type, expected: str) -> type:
    target = config[group].get("_target_")
    check(f"{group}._target_", target)
    try:
        found = hydra.utils.get_class(target)
    except Exception as error:  # Hydra raises many types
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise ConfigError(f"{group}._target_={target} cannot be imported ({reason}): expected the class of {expected}") from error
    if not issubclass(found, base):
        raise ConfigError(f"{group}._target_={target} is invalid: expected the class of {expected}")
    return found


def _is_tuple(key: str, target: type) -> bool:
    """Returns whether the class takes a tuple for `key`, such as torch.optim.NAdam for betas."""
    parameter = inspect.signature(target).parameters.get(key)
    return parameter is not None and isinstance(parameter.default, tuple)


def _refuse_unknown_keys(group: str, arguments: dict, target: type) -> None:
    known = [name for name in inspect.signature(target).parameters if name not in ("params", "features", "classes")]
    for key, value in arguments.items():
        if key not in ("_target_", *known):
            raise ConfigError(f"{group}.{key}={spelled(value)} is unknown to {target.__name__}: it takes {', '.join(known)}")
