"""From configuration to what it stands for: hyper-parameters of the chosen settings, populations, models, optimizers."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import hydra
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

import optim
from experiments.errors import ConfigError

# The settings of an optimizer that an experiment has no values for: those of the optimizer's own library.
DEFAULTS = "defaults"


def _setting(key: str, default, *, _root_: DictConfig):
    """What the experiment gives the chosen optimizer for `key` under the chosen settings, else the default; see `label_settings`."""
    tables = {name: table for name, table in _root_.hyperparameters.items() if table is not None} | {DEFAULTS: {}}
    name, settings = optimizer_name(_root_), _root_.settings
    if settings not in tables:
        raise ConfigError(f"settings={settings} is unknown to {_root_.experiment}: choose one of {', '.join(tables)}")
    if settings not in ("paper", DEFAULTS) and name not in tables[settings]:
        raise ConfigError(f"settings={settings} has nothing for {name} in {_root_.experiment}: it knows {', '.join(tables[settings])}")
    return tables[settings].get(name, {}).get(key, default)


OmegaConf.register_new_resolver("setting", _setting, replace=True)


def optimizer_name(cfg) -> str:
    """The optimizer's class name, which is also its name in tables and figures."""
    return cfg["optimizer"]["_target_"].rpartition(".")[2]


def label_settings(cfg: DictConfig) -> None:
    """Changes settings=paper to `defaults`, in place and with a message, for an optimizer that the experiment has no values for."""
    name = optimizer_name(cfg)
    if cfg.settings == "paper" and name not in cfg.hyperparameters.paper:
        cfg.settings = DEFAULTS
        print(f"{cfg.experiment} has no settings for {name}: it runs with its own defaults, settings={DEFAULTS}", file=sys.stderr)


def choose_device(name: str, precision: str = "float32") -> torch.device:
    """The torch device of that name; `auto` is a GPU where there is one.

    Also says whether a GPU may round the factors of products to TF32.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where CUDA graphs are recorded
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name} is not available here ({str(error).splitlines()[0]}): use device=cpu or device=auto") from error
    return device


def check_threads(threads: int | str) -> None:
    """Raises ConfigError for what is neither a number of threads nor `auto`."""
    if threads != "auto" and not (isinstance(threads, int) and not isinstance(threads, bool) and threads > 0):
        raise ConfigError(f"threads={threads} is invalid: expected a whole number above 0, or auto for the fastest")


@dataclass(frozen=True)
class Population:
    """Members that train together: every setting under every seed, all settings of the first seed first.

    Attributes:
        seeds: each its own stream of data and noise.
        settings: the hyper-parameters in which members of a seed differ, such as {"optimizer.lr": 0.001}.
    """

    seeds: list[int]
    settings: list[dict]

    @classmethod
    def of(cls, config: dict) -> Population:
        """The population that a resolved configuration describes: the product of its list-valued keys."""
        seeds = config["seed"] if isinstance(config["seed"], list) else [config["seed"]]
        if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
            raise ConfigError(f"seed={config['seed']} should be a whole number from 0 up, or a list of them")
        lists = {
            f"{group}.{key}": value
            for group in ("optimizer", "model")
            for key, value in config[group].items()
            if isinstance(value, list) and not (group == "optimizer" and _is_tuple(key, optimizer_class(config)))
        }
        for key, values in lists.items():
            if not values or not all(isinstance(value, (int, float)) for value in values):
                raise ConfigError(f"{key}={values} should be a number, or a list of numbers that are trained as a population")
        return cls(seeds, [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())])

    @property
    def members(self) -> int:
        """How many there are."""
        return len(self.seeds) * len(self.settings)

    def shards(self, size: int | None) -> list[Population]:
        """Populations of at most `size` members, of one seed each, that together are this one; None: this one itself."""
        if not (size is None or (isinstance(size, int) and size > 0)):
            raise ConfigError(f"shard={size} should be a whole number above 0, or null for all members at once")
        if size is None or size >= self.members:
            return [self]
        return [
            Population([seed], self.settings[first : first + size]) for seed in self.seeds for first in range(0, len(self.settings), size)
        ]

    def describe(self, table: pd.DataFrame) -> pd.DataFrame:
        """Adds to a table with a column `member` each member's seed and the hyper-parameters in which members differ."""
        members = pd.DataFrame(
            [
                (seed, " ".join(f"{key.partition('.')[2]}={value}" for key, value in setting.items()))
                for seed in self.seeds
                for setting in self.settings
            ],
            columns=["seed", "hyperparameters"],
        )
        return table.join(members, on="member")

    def arguments(self, config: dict, group: str, device: torch.device) -> dict:
        """The arguments for the `group` (`optimizer` or `model`): numbers, or where members differ one float64 per member."""
        arguments = {key: value for key, value in config[group].items() if key != "_target_"}
        for key in arguments:
            values = [setting[f"{group}.{key}"] for setting in self.settings if f"{group}.{key}" in setting]
            if values:
                same = len(set(values)) == 1
                arguments[key] = values[0] if same else torch.tensor(values, dtype=torch.float64, device=device).repeat(len(self.seeds))
        return arguments


def make_model(config: dict, population: Population, features: int, classes: int, device: torch.device):
    """The configured model, for data with that many features and classes."""
    target = hydra.utils.get_class(config["model"]["_target_"])
    arguments = population.arguments(config, "model", device)
    _refuse_unknown_keys("model", arguments, target)
    for key, value in arguments.items():
        if isinstance(value, torch.Tensor) and key not in target.per_member:
            raise ConfigError(f"model.{key}={config['model'][key]} cannot differ within a population: sweep it with -m model.{key}=...")
        if isinstance(value, torch.Tensor):
            arguments[key] = value.to(torch.float32)
    return target(features=features, classes=classes, **arguments)


def optimizer_class(config: dict) -> type[torch.optim.Optimizer]:
    """The class that optimizer._target_ names."""
    target = config["optimizer"]["_target_"]
    try:
        return hydra.utils.get_class(target)
    except Exception as error:  # Hydra raises a different type for each way in which a name can be wrong
        raise ConfigError(
            f"optimizer._target_={target} cannot be imported: name an installed class, such as optim.Adam or torch.optim.NAdam"
        ) from error


def adapt_optimizer(config: dict, overrides: Sequence[str]) -> None:
    """Puts the configuration of an optimizer from elsewhere into its own terms, in place.

    Where the command line (`overrides`) names another class than the chosen file, that file's values are another optimizer's: those that
    the command line or the experiment's settings give take their place. beta1 and beta2 become betas.
    """
    target, settings = optimizer_class(config), config["optimizer"]
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    if "optimizer._target_" in given:
        inferred = config["hyperparameters"].get(config["settings"], {}).get(target.__name__, {})
        for key in [key for key in settings if key != "_target_" and key not in inferred and f"optimizer.{key}" not in given]:
            del settings[key]
        known = inspect.signature(target).parameters
        settings |= {key: value for key, value in inferred.items() if key in known and key not in settings}
    if issubclass(target, optim.RuleOptimizer):
        return
    closure = inspect.signature(target.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty and not optim.chooses_minibatches(target):
        raise ConfigError(f"optimizer._target_={settings['_target_']} needs a closure in every step: choose another")
    betas = inspect.signature(target).parameters.get("betas")
    if betas is not None and {"beta1", "beta2"} & settings.keys():
        settings["betas"] = [settings.pop(key, default) for key, default in zip(("beta1", "beta2"), betas.default, strict=True)]


def optimizer_maker(config: dict, population: Population, device: torch.device) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    """A function that builds the configured optimizer around parameters on the device."""
    target = optimizer_class(config)
    arguments = population.arguments(config, "optimizer", device)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    _refuse_unknown_keys("optimizer", arguments, target)
    for key, value in arguments.items():
        default = inspect.signature(target).parameters[key].default
        numbers = isinstance(value, tuple) and not any(isinstance(part, list) for part in value)
        if isinstance(default, tuple) and not (numbers and len(value) == len(default)):
            raise ConfigError(
                f"optimizer.{key}={value} is invalid for {target.__name__}: expected {len(default)} numbers, such as {default}"
            )

    def make(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        try:
            return target(parameters, **arguments)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"optimizer {target.__name__}: {error}") from error

    return make


def _is_tuple(key: str, target: type) -> bool:
    """Whether the class takes a tuple there, as torch.optim.NAdam for betas."""
    parameter = inspect.signature(target).parameters.get(key)
    return parameter is not None and isinstance(parameter.default, tuple)


def _refuse_unknown_keys(group: str, arguments: dict, target: type) -> None:
    known = [name for name in inspect.signature(target).parameters if name not in ("params", "features", "classes")]
    for key, value in arguments.items():
        if key not in known:
            raise ConfigError(f"{group}.{key}={value} is unknown to {target.__name__}: it takes {', '.join(known)}")
