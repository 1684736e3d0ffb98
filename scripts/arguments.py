"""Shared by the entry points: the --runs option, writing tables, one-sentence errors."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from data.files import atomic_write
from experiments.records import RecordError, Run, catalogue, display_path, read
from scripts.analysis.published import RESULTS
from scripts.analysis.runs import REFERENCE

# Read at import, before run.py sets it for Hydra in a shared process.
_FULL_ERRORS = "HYDRA_FULL_ERROR" in os.environ


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option --runs; its help is the description's first paragraph."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    made.add_argument("--runs", type=Path, help="a folder of your own runs; tables and figures go there. Default: the tracked runs")
    return made


def places(own: Path | None) -> tuple[Path, Path]:
    """Returns the folder of the runs and the folder for tables and figures: `own`, or the tracked ones."""
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
    """Writes a table as CSV, atomically.

    Args:
        table: the table.
        path: of the CSV.
        digits: the format of floats, such as %.4g.
    """
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format=digits)


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Exits with one sentence for a damaged or missing file, a full disk or Ctrl-C; HYDRA_FULL_ERROR=1 shows the traceback."""
    try:
        yield
    except (RecordError, OSError, ValueError, KeyError) as error:
        if _FULL_ERRORS:
            raise
        words = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        sys.exit(f"error: {words}")
    except KeyboardInterrupt:
        sys.exit("interrupted: rerun the command")
