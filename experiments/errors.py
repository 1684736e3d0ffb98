"""Reports errors in one sentence that names the key, the value and what is valid."""

import contextlib
import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import cast

import hydra
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.download import DataError

# Set in the environment: worker processes of a sweep see that this program, not the user, set HYDRA_FULL_ERROR.
_SENTENCES = "ADAM_PAPER_ERRORS"
_FULL_ERRORS = "HYDRA_FULL_ERROR" in os.environ and _SENTENCES not in os.environ
_EXPECTED = (DataError, OSError, ValueError, OmegaConfBaseException, hydra.errors.HydraException)


class ConfigError(ValueError):
    """An invalid configuration. The message is one sentence with the key, its value and what is valid."""


class JobError(Exception):
    """A job of a sweep failed. The message is one sentence: an error's causes are lost between processes, its message is not."""


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Exits with one sentence for expected errors: of configuration, data, files or Hydra. HYDRA_FULL_ERROR=1 shows the traceback."""
    if not _FULL_ERRORS:
        os.environ[_SENTENCES] = "one sentence"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    try:
        yield
    except _EXPECTED as error:
        if _FULL_ERRORS:
            raise
        sys.exit(f"error: {_sentence(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: rerun the command; training resumes after the last finished epoch")


@contextlib.contextmanager
def job_errors() -> Iterator[None]:
    """Raises a JobError for any error of a sweep's job, for the sweeper to list; prints the traceback if the error is unexpected."""
    try:
        yield
    except Exception as error:
        if _FULL_ERRORS or not isinstance(error, _EXPECTED):
            traceback.print_exc()
        raise JobError(_sentence(error)) from None


def _sentence(error: BaseException) -> str:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, (ConfigError, DataError)):
            return str(link)
        if isinstance(link, MissingConfigException) and link.options:
            group, _, choice = (link.missing_cfg_file or "").rpartition("/")
            return f"{group}={choice} is unknown: choose one of {', '.join(link.options)}"
    for link in chain:
        if (key := getattr(link, "full_key", None)) and isinstance(link, AttributeError):
            node = getattr(link, "parent_node", None)
            sentence = unknown_key(key, cast(dict, OmegaConf.to_container(node)) if isinstance(node, DictConfig) else {})
            # Hydra's message quotes the command line, OmegaConf's does not.
            added = re.search(r"use (\+optimizer\.\S+)", str(error))
            return f"{sentence}; an argument of the class that is not among them needs a plus: {added[1]}" if added else sentence
    if str(error).startswith("Could not override 'property'"):
        return unknown_key("property", {})
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


def unknown_key(key: str, parent: Mapping) -> str:
    """Returns the message for an unknown key.

    Args:
        key: the unknown key.
        parent: the part of the configuration that was searched for it.
    """
    if key == "property":
        return "property is a key of another configuration: run python run.py --config-name properties property=..."
    keys = [str(known) for known in parent if known not in ("hydra", "hyperparameters")]
    places = {known: [known] for known in keys}
    for group in keys:
        for name in parent[group] if isinstance(parent[group], Mapping) else ():
            places.setdefault(name, []).append(f"{group}.{name}")
    name = key.rpartition(".")[2]
    if name in places:
        return f"{key} is not a configuration key: did you mean {' or '.join(places[name])}?"
    close = [place for found in difflib.get_close_matches(name, places, 1) for place in places[found]]
    hint = f"did you mean {' or '.join(close)}, of " if close else "the keys are "
    return f"{key} is not a configuration key: {hint}{', '.join(keys)}"
