"""What the entry points share: the --runs option and one-sentence errors."""

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

# Whether the user asked for full tracebacks, read before run.py, which may share the process, sets it for Hydra.
_FULL_ERRORS = "HYDRA_FULL_ERROR" in os.environ


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the option --runs, and the description's first paragraph as help."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    made.add_argument("--runs", type=Path, help="a folder of your own runs; tables and figures go there. Default: the tracked runs")
    return made


def places(own: Path | None) -> tuple[Path, Path]:
    """Returns the folder that runs are read from and the folder that tables and figures are written to."""
    return own or REFERENCE, own or RESULTS


def runs_in(path: Path) -> list[Run]:
    """Returns the run whose CSV is at `path`, or all finished runs in the folder `path`, at any depth.

    Raises:
        RecordError: there is none.
    """
    found = catalogue(path) if path.is_dir() else [run for run in [read(path.with_suffix(".csv"))] if run is not None]
    if not found:
        raise RecordError(f"{display_path(path)} has no finished run: give a CSV that run.py wrote, with its JSON beside it, or a folder")
    return found


def write_table(table: pd.DataFrame, path: Path, digits: str) -> None:
    """Writes a table as CSV, whole or not at all.

    Args:
        digits: the format of floats, such as %.4g.
    """
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format=digits)


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Ends the program with one sentence for a damaged or missing file, a full disk or Ctrl-C; HYDRA_FULL_ERROR=1 shows tracebacks."""
    try:
        yield
    except (RecordError, OSError, ValueError, KeyError) as error:
        if _FULL_ERRORS:
            raise
        words = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        sys.exit(f"error: {words}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
