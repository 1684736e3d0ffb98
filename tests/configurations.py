"""What run.py makes of a command line, for tests that ask often."""

import copy
import functools

from hydra import compose, initialize
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from experiments.config import resolve
from experiments.records import PROJECT


@functools.cache
def composed(experiment: str) -> DictConfig:
    """An experiment with the defaults of everything else; composing takes Hydra a tenth of a second."""
    with initialize(version_base="1.3", config_path="../conf"):
        return compose("config", [f"experiment={experiment}"])


def resolved(*overrides: str) -> dict:
    """What run.py makes of a command line, in milliseconds: the files of optimizers have no defaults list that needs composing."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = {"experiment": "fig1_left", "optimizer": "adam"} | {one.key_or_group: one.value() for one in parsed}
    cfg = copy.deepcopy(composed(choices["experiment"]))
    cfg.optimizer = OmegaConf.load(PROJECT / f"conf/optimizer/{choices['optimizer']}.yaml")
    for one in parsed:
        if one.key_or_group not in ("experiment", "optimizer"):
            OmegaConf.update(cfg, one.key_or_group, one.value(), merge=False, force_add=True)
    return resolve(cfg, overrides)
