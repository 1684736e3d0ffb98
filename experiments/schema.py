"""The values that configuration keys accept: one table for `validate`, `Plan` and the models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeGuard

import torch

from experiments.errors import ConfigError, unknown_key

_LARGEST = torch.finfo(torch.float32).max  # larger numbers overflow in float32 parameters


class Rule(NamedTuple):
    """The values that a key accepts.

    Attributes:
        accepts: returns whether one value is valid.
        expected: the valid values, in words.
        population: whether a list of distinct values, one per member, is valid too.
        named: whether a mapping with one value per layer or optimizer is valid too.
    """

    accepts: Callable[[object], bool]
    expected: str
    population: bool = False
    named: bool = False


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST  # not nan


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and _is_number(value)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_device(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None


def _is_pair_of_betas(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(part) and 0 <= part < 1 for part in value)


def _choice(*values: str) -> Rule:
    return Rule(lambda value: value in values, f"one of {', '.join(values)}")


def _or(rule: Rule, other: str | None, meaning: str) -> Rule:
    return Rule(lambda value: value == other if isinstance(value, str | None) else rule.accepts(value), f"{rule.expected}, or {meaning}")


def _each(rule: Rule) -> Rule:
    return rule._replace(population=True)


_BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false")
_NUMBER = Rule(_is_number, "a finite number")
_COUNT = Rule(lambda value: _is_whole(value) and value > 0, "a whole number above 0")
_FROM_0 = Rule(lambda value: _is_number(value) and value >= 0, "a finite number from 0 up")
_ABOVE_0 = Rule(lambda value: _is_number(value) and value > 0, "a finite number above 0")
_BELOW_1 = Rule(lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
_UP_TO_1 = Rule(lambda value: _is_number(value) and 0 < value <= 1, "a number in (0, 1]")
_TEXT = Rule(lambda value: isinstance(value, str), "a name")
_SEEDS = Rule(lambda value: _is_whole(value) and value >= 0, "a whole number from 0 up", population=True)

_PROPERTY_COUNTS = ("steps", "epochs", "batch_size", "snapshots", "dimensions", "draws", "coordinates", "hidden", "horizons")

RULES = {
    "experiment": _TEXT,
    "settings": _TEXT,
    "seed": _SEEDS,
    "epochs": Rule(lambda value: _is_whole(value) and 0 < value <= 10**6, "a whole number above 0, at most 1000000"),
    "batch_size": _COUNT,
    "shuffle": _BOOLEAN,
    "schedule": _choice("constant", "inverse_sqrt_step", "inverse_sqrt_epoch", "exponential_epoch"),
    "decay": _UP_TO_1,
    "evaluate_every": _COUNT,
    # Others, such as Apple's mps, lack float64, which evaluation needs.
    "device": Rule(_is_device, "auto, cpu, cuda, or one GPU such as cuda:1"),
    "cuda_graph": _BOOLEAN,
    "precision": _choice("float32", "tf32", "bfloat16"),
    "second_moments": _BOOLEAN,
    "threads": _or(_COUNT, "auto", "auto for the fastest"),
    "products": _choice("auto", "torch", "onednn"),
    "part": _or(Rule(lambda value: _is_whole(value) and value >= 0, "a whole number from 0 up"), None, "null for all shards"),
    "shard": _or(_COUNT, None, "null for all members at once"),
    "results": Rule(_is_path, "the path of a folder"),
    "force": _BOOLEAN,
    "model._target_": _TEXT,
    "model.hidden": _COUNT,
    "model.layers": _COUNT,
    "model.latent": _COUNT,
    "model.planes": _COUNT,
    "model.l2": _each(_FROM_0),
    "model.dropout": _BELOW_1,
    "model.input_dropout": _BELOW_1,
    "model.start": _choice("fan_in_uniform", "fan_in", "he_normal", "normal"),
    "model.initial_std": _FROM_0._replace(named=True),
    "model.pixels": _choice("grey", "resampled"),
    "optimizer._target_": _TEXT,
    "optimizer.lr": _each(_FROM_0),
    "optimizer.eps": _each(_FROM_0),
    "optimizer.eps_hat": _each(_FROM_0),
    "optimizer.weight_decay": _each(_FROM_0),
    "optimizer.beta1": _each(_BELOW_1),
    "optimizer.beta2": _each(_BELOW_1),
    "optimizer.beta1_decay": _each(_UP_TO_1),
    "optimizer.rho": _each(_BELOW_1),
    "optimizer.momentum": _each(_BELOW_1),
    "optimizer.minibatches": _COUNT,
    "seeds": _SEEDS,
    **{f"property.{key}": _COUNT for key in _PROPERTY_COUNTS},
    "property.examples": _or(_COUNT, None, "null for all"),
    "property.lr": _ABOVE_0._replace(named=True),
    **{f"property.{key}": _ABOVE_0 for key in ("alpha", "far", "walk", "noise", "rare")},
    "property.l2": _FROM_0,
    **{f"property.{key}": _BELOW_1 for key in ("beta", "beta2", "lambda_")},
    "property.drifts": _each(_NUMBER),
    "property.eps": _each(_FROM_0),
    "property.one_minus_beta2": _each(_UP_TO_1),
    **{f"property.{key}": _each(_ABOVE_0) for key in ("factors", "lrs", "norms")},
    "property.betas": _each(Rule(_is_pair_of_betas, "a pair of numbers in [0, 1)")),
    "property.kinds": _each(_choice("dense", "sparse", "single", "growing", "shrinking")),
}


def check(key: str, value, rule: Rule | None = None) -> None:
    """Raises ConfigError if the key does not accept the value.

    Args:
        key: the full key.
        value: one value, a list over members, or a mapping with one value per layer or optimizer.
        rule: default: RULES[key].
    """
    rule = rule or RULES[key]
    if isinstance(value, Mapping):
        if not rule.named:
            raise ConfigError(f"{key}={spelled(value)} is invalid: expected {rule.expected}")
        for name, part in value.items():
            check(f"{key}.{name}", part, rule._replace(named=False))
        return
    if not isinstance(value, list):
        if not rule.accepts(value):
            raise ConfigError(f"{key}={spelled(value)} is invalid: expected {rule.expected}")
        return
    if not rule.population:
        raise ConfigError(f"{key}={spelled(value)} is invalid: expected {rule.expected}; sweep a list with -m {key}=...")
    if not value:
        raise ConfigError(f"{key}=[] is invalid: expected {rule.expected}, or a list of them")
    for part in value:
        if not rule.accepts(part):
            raise ConfigError(f"{key}={spelled(part)} is invalid: expected {rule.expected}")
    if len(set(map(spelled, value))) < len(value):
        twice = next(part for place, part in enumerate(value) if part in value[:place])
        raise ConfigError(f"{key}={spelled(twice)} is invalid: expected every value of a list once")


def validate_property(config: Mapping) -> None:
    """Checks the configuration of a measured property.

    Raises:
        ConfigError: a key is unknown, a value is invalid, or a list is expected.
    """
    for key, value in config.items():
        if key == "property":
            continue
        if key not in ("seeds", "threads", "results", "force"):
            raise ConfigError(unknown_key(key, {known: part for known, part in config.items() if known != key}))
        if key == "seeds" and not isinstance(value, list):
            raise ConfigError(f"seeds={spelled(value)} is invalid: expected a list, each {RULES[key].expected}")
        check(key, value)
    arguments = {key: value for key, value in config["property"].items() if key != "_target_"}
    for key, value in arguments.items():
        rule = RULES.get(f"property.{key}")
        if rule is None:
            raise ConfigError(unknown_key(f"property.{key}", {f"property.{known}": None for known in arguments if known != key}))
        if rule.population and not isinstance(value, list):
            raise ConfigError(f"property.{key}={spelled(value)} is invalid: expected a list, each {rule.expected}")
        check(f"property.{key}", value, rule)


def spelled(value) -> str:
    """Returns a value as one types it on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(spelled, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def validate(config: Mapping, target: type) -> None:
    """Checks the resolved configuration of a run, except `data` and model keys without a rule, which their readers check.

    Args:
        config: without `hyperparameters`.
        target: the optimizer's class; the types of its defaults decide what arguments without a rule accept.

    Raises:
        ConfigError: a key is unknown or its value is invalid.
    """
    for key, value in config.items():
        if key == "data":
            continue
        if key == "optimizer":
            for name, argument in value.items():
                _check_argument(f"optimizer.{name}", argument, inspect.signature(target).parameters.get(name))
        elif key == "model":
            for name, argument in value.items():
                if f"model.{name}" in RULES:
                    check(f"model.{name}", argument)
        elif key in RULES:
            check(key, value)
        else:
            raise ConfigError(unknown_key(key, {known: part for known, part in config.items() if known != key}))


def _check_argument(key: str, value, parameter: inspect.Parameter | None) -> None:
    """Checks an optimizer's argument by the rule of its key, or else by the type of its default."""
    default = None if parameter is None else parameter.default
    if isinstance(default, tuple):
        expected = f"{len(default)} numbers, such as {spelled(default)}"
        if not isinstance(value, list) or len(value) != len(default):
            raise ConfigError(f"{key}={spelled(value)} is invalid: expected {expected}")
        for part in value:
            check(key, part, Rule(lambda part: part is None or _is_number(part), expected))
    elif value is None and default is None:
        return
    elif key in RULES:
        check(key, value)
    elif isinstance(default, bool):
        check(key, value, _each(_BOOLEAN))
    elif isinstance(value, list) or isinstance(default, int | float):
        check(key, value, _each(_NUMBER))
