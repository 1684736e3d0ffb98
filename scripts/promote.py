"""Tracks runs: `python -m scripts.promote [CSV or folder ...]` copies them to results/reference.

From a folder it takes the canonical runs that can be tracked. The default folder is results/runs.
"""

import argparse
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from data.files import atomic_write
from experiments.errors import one_sentence_errors
from experiments.provenance import is_in_history
from experiments.records import RecordError, Run, display_path
from scripts.analysis.runs import REFERENCE, RUNS, canonical_measurements, canonical_runs
from scripts.arguments import runs_in

# Settings at full scale, used by figures and claims.
SETTINGS = ("paper", "best", "all_images")


def problem(run: Run) -> str | None:
    """Returns why a run cannot be tracked; None if it can."""
    if run.data != "real":
        return "it was trained on stand-in data"
    changes = {session.get("uncommitted_changes") for session in run.facts["sessions"]}
    if True in changes:
        return "the code had uncommitted changes: commit them and rerun with force=true"
    if changes != {False}:
        return "its commit is unknown, because git did not answer: rerun with force=true where `git status` works"
    for session in run.facts["sessions"]:
        if not is_in_history(session["commit"]):
            return f"its commit {session['commit'][:12]} is not in the history of this branch: merge it first"
    if not run.measured and run.settings not in SETTINGS:
        return f"settings={run.settings} cannot be tracked: expected one of {', '.join(SETTINGS)}"
    if not run.has_default_settings:
        return "it overrides the experiment's configuration: put the values into conf/experiment first"
    return None


def candidates(folder: Path) -> list[Run]:
    """Returns the canonical runs and measured properties below a folder that can be tracked."""
    runs = runs_in(folder)
    labels = product(sorted({run.experiment for run in runs if run.experiment}), SETTINGS)
    canonical = [run for experiment, settings in labels for run in canonical_runs(folder, experiment, settings)]
    return [run for run in [*canonical, *canonical_measurements(folder).values()] if problem(run) is None]


def reasons(runs: Iterable[Run]) -> list[str]:
    """Returns a sentence for each reason why runs of a folder are not tracked, with one of the runs."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[problem(run) or "another run with the same optimizer and settings takes precedence"].append(run)
    return [f"{alike[0]}{f' and {len(alike) - 1} more' if alike[1:] else ''}: {why}" for why, alike in found.items()]


def track(run: Run) -> Path:
    """Copies a run's files to results/reference, in place of the tracked run with the same labels; returns the new CSV."""
    folder = REFERENCE / ("properties" if run.measured else f"{run.experiment}/{run.settings}")
    target = folder / f"{run.measured or run.optimizer}.csv"
    with atomic_write(target.with_suffix(".json")) as json_part, atomic_write(target) as csv_part:
        shutil.copyfile(run.csv, csv_part)
        shutil.copyfile(run.csv.with_suffix(".json"), json_part)
        target.with_suffix(".json").unlink(missing_ok=True)
    for other in folder.glob(f"{target.stem},*"):  # tracked runs with another extent
        other.unlink()
    return target


def main() -> None:
    """Copies all given runs, or none if one cannot be tracked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[RUNS], help="CSV files of runs, or folders; default: results/runs")
    with one_sentence_errors():
        paths = parser.parse_args().paths
        runs = [run for path in paths for run in (candidates(path) if path.is_dir() else runs_in(path))]
        if problems := [f"{run}: {why}" for run in runs if (why := problem(run))]:
            raise RecordError(f"nothing was tracked: {'; '.join(problems)}")
        others = reasons(run for path in paths if path.is_dir() for run in runs_in(path) if run not in runs)
        if not runs:
            raise RecordError(f"nothing was tracked: {'; '.join(others)}")
        for run in runs:
            print(f"tracked {display_path(track(run))}")
        for reason in others:
            print(f"not tracked: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
