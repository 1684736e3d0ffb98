"""Shared by the entry points: the --runs option, the runs that are named, writing tables."""

import argparse
from pathlib import Path

import pandas as pd

from data.files import atomic_write
from experiments.records import RecordError, Run, catalogue, display_path, read
from scripts.analysis.published import RESULTS
from scripts.analysis.runs import REFERENCE


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option --runs."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--runs", type=Path, help="a folder of your own runs; tables and figures go there. Default: the tracked runs")
    return made


def places(own: Path | None) -> tuple[Path, Path]:
    """Returns the folder of the runs and the folder for tables and figures: `own`, or the tracked ones.

    Raises:
        RecordError: `own` has no finished run.
    """
    if own:
        runs_in(own)
    return own or REFERENCE, own or RESULTS


def runs_in(path: Path) -> list[Run]:
    """Returns the run whose CSV is `path`, or all finished runs below the folder `path`.

    Raises:
        RecordError: there is none.
    """
    found = catalogue(path) if path.is_dir() else [run for run in [read(path.with_suffix(".csv"))] if run is not None]
    if not found:
        raise RecordError(f"{display_path(path)} has no finished run: give a CSV that run.py wrote, with its JSON beside it, or a folder")
    return found


def write_table(table: pd.DataFrame, path: Path, digits: str) -> None:
    """Writes a table as CSV, atomically; `digits` is the format of floats, such as %.4g."""
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format=digits)
