"""Computes a small part of the tracked results anew, from the real data, and says whether it agrees with what is tracked.

On the same machine and versions the numbers are the same to the digit. Elsewhere sums are taken in another order, and training multiplies
the difference: so each part has a tolerance, relative, of the costs of single passes.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from curves import REFERENCE, RESULTS, chosen, read_run


@dataclass(frozen=True)
class Part:
    """The first passes of a tracked run.

    Attributes:
        experiment: its name.
        optimizer: its choice on the command line.
        passes: how many are computed.
        tolerance: relative difference of a cost that is still agreement.
        overrides: what else is different from the tracked run, such as fewer seeds.
        member: the hyper-parameters of the one member that is computed, as the tracked run describes it; empty: those of all are the same.
    """

    experiment: str
    optimizer: str
    passes: int
    tolerance: float
    overrides: tuple[str, ...] = ()
    member: str = ""


def _figure_4(correction: str) -> Part:
    settings = {"lr": "0.001", "beta1": "0.9", "beta2": "0.999", "bias_correction": correction}
    overrides = tuple(f"optimizer.{key}={value}" for key, value in settings.items())
    return Part("fig4", "adam", 1, 1e-3, overrides, " ".join(f"{key}={value}" for key, value in settings.items()))


PARTS = (
    Part("fig1_left", "adam", 5, 1e-3),
    Part("fig1_left", "adamax", 5, 1e-3),
    Part("fig1_left", "sgd_nesterov", 5, 1e-3),
    Part("fig1_right", "adam", 5, 1e-3),
    Part("fig2b", "adam", 3, 1e-2, ("seed=0",)),
    Part("fig2b", "sfo", 2, 1e-2, ("seed=0",)),
    Part("fig2a", "adam", 1, 1e-2),
    Part("fig3", "adam", 1, 2e-2),
    _figure_4("True"),
    _figure_4("False"),
)


def compare(computed: pd.DataFrame, tracked: pd.DataFrame, part: Part) -> tuple[int, float]:
    """How many costs both have, and their largest relative difference: infinite where one is no number and the other is.

    Args:
        computed: the rows of the run, as from `curves.read_run`.
        tracked: those of the tracked run.
        part: what was computed.
    """
    if part.member:
        tracked = tracked[tracked["hyperparameters"] == part.member]
    both = computed.merge(tracked, on=["seed", "pass"], suffixes=("", "_tracked"))
    ours, theirs = both["cost"].to_numpy(), both["cost_tracked"].to_numpy()
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(ours - theirs) / np.abs(theirs))
    return len(both), float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def tracked_run(part: Part) -> Path:
    """The CSV of the tracked run of a part."""
    name = part.optimizer.replace("_", "")
    return next(path for path in chosen(REFERENCE / part.experiment / "paper") if path.stem.partition(",")[0].lower() == name)


def compute(part: Part, folder: Path, further: list[str]) -> Path:
    """Runs a part into the folder and returns its CSV.

    Raises:
        SystemExit: the run failed, or had no real data.
    """
    overrides = [f"experiment={part.experiment}", f"optimizer={part.optimizer}", f"passes={part.passes}", *part.overrides]
    command = [sys.executable, "run.py", *overrides, "evaluate_every=1000", f"results={folder}", "data.source=real", *further]
    if subprocess.run(command, cwd=RESULTS.parent, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"error: {' '.join(command[1:])} failed: nothing was verified after that")
    (path,) = folder.rglob("*.csv")
    return path


def main() -> None:
    """Computes all parts, prints a line for each, and fails if one does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="further settings for run.py, such as threads=2 or device=cuda")
    overrides = parser.parse_args().overrides
    missed = 0
    for part in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            computed = read_run(compute(part, Path(folder), overrides))
        costs, difference = compare(computed, read_run(tracked_run(part)), part)
        agrees = costs == len(computed) and difference <= part.tolerance
        missed += not agrees
        what = f"{part.experiment} {part.optimizer} {part.member}".strip()
        print(f"{'agrees ' if agrees else 'DIFFERS'}  {what}: {costs} costs, {difference:.1e} apart at most ({part.tolerance:g} allowed)")
    if missed:
        sys.exit(f"error: {missed} of {len(PARTS)} parts do not agree with what is tracked")
    print(f"all {len(PARTS)} parts agree with what is tracked")


if __name__ == "__main__":
    main()
