"""Retrains a small part of the tracked results on real data and reports whether it agrees: `python -m scripts.verify`.

On the same machine with the same versions, all digits agree. Elsewhere the order of summation differs and training amplifies the rounding
errors, so each part has a relative tolerance for the cost of an epoch.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.records import PROJECT, RecordError, Run, catalogue
from scripts.analysis.runs import REFERENCE, canonical_runs
from scripts.arguments import one_sentence_errors


@dataclass(frozen=True)
class Part:
    """The first epochs of a tracked run.

    Attributes:
        experiment: its name on the command line.
        optimizer: its name on the command line.
        epochs: number of epochs to train.
        tolerance: largest relative difference of a cost that counts as agreement.
        overrides: further differences from the tracked run, such as fewer seeds.
        member: hyper-parameters of the one member to train, by column; empty: all members.
    """

    experiment: str
    optimizer: str
    epochs: int
    tolerance: float
    overrides: tuple[str, ...] = ()
    member: dict = field(default_factory=dict)

    def __str__(self) -> str:
        """Returns the part in words."""
        return " ".join([self.experiment, self.optimizer, *(f"{key}={value}" for key, value in self.member.items())])


def _figure_4(bias_correction: bool) -> Part:
    member = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "bias_correction": bias_correction}
    return Part("fig4", "adam", 1, 1e-3, tuple(f"optimizer.{key}={value}" for key, value in member.items()), member)


PARTS = (
    Part("fig1_left", "adam", 5, 1e-3),
    Part("fig1_left", "adamax", 5, 1e-3),
    Part("fig1_left", "sgd_nesterov", 5, 1e-3),
    Part("fig1_right", "adam", 5, 1e-3),
    Part("fig2b", "adam", 3, 1e-2, ("seed=0",)),
    Part("fig2b", "sfo", 2, 1e-2, ("seed=0",)),
    Part("fig2a", "adam", 1, 1e-2),
    Part("fig3", "adam", 1, 2e-2),
    _figure_4(True),
    _figure_4(False),
)


def compare(computed: pd.DataFrame, tracked: pd.DataFrame, part: Part) -> tuple[int, float]:
    """Returns the number of common costs and their largest relative difference, infinite if only one is finite.

    Args:
        computed: the table of the new run.
        tracked: the table of the tracked run.
        part: the part that was trained.
    """
    for column, value in part.member.items():
        tracked = tracked[tracked[column] == value]
    both = computed.merge(tracked, on=["seed", "epoch"], suffixes=("", "_tracked"))
    ours, theirs = both["cost"].to_numpy(), both["cost_tracked"].to_numpy()
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(ours - theirs) / np.abs(theirs))
    return len(both), float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def tracked_run(optimizer: str, part: Part) -> Run:
    """Returns the tracked run of a part.

    Raises:
        RecordError: there is none.
    """
    runs = [run for run in canonical_runs(REFERENCE, part.experiment, "paper") if run.optimizer == optimizer]
    if not runs:
        raise RecordError(f"{part} is not tracked in results/reference")
    return runs[0]


def train(part: Part, folder: Path, further: list[str]) -> Run:
    """Trains a part and returns its run.

    Args:
        part: the part to train.
        folder: for the run's files.
        further: more arguments of run.py.

    Raises:
        RecordError: the run failed, for example without real data.
    """
    overrides = [f"experiment={part.experiment}", f"optimizer={part.optimizer}", f"epochs={part.epochs}", *part.overrides]
    command = [sys.executable, "run.py", *overrides, "evaluate_every=1000", f"results={folder}", "data.source=real", *further]
    if subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL).returncode:
        raise RecordError(f"{' '.join(command[1:])} failed: this part and the following ones were not verified")
    return catalogue(folder)[0]


def main() -> None:
    """Trains all parts and prints a line for each; exits with an error if one does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="overrides for run.py, such as threads=2 or device=cuda")
    overrides, missed = parser.parse_args().overrides, 0
    with one_sentence_errors():
        for part in PARTS:
            with tempfile.TemporaryDirectory() as folder:
                computed = train(part, Path(folder), overrides)
                table = computed.table()
            costs, difference = compare(table, tracked_run(computed.optimizer, part).table(), part)
            agrees = costs == len(table) and difference <= part.tolerance
            missed += not agrees
            verdict = f"{'agrees ' if agrees else 'DIFFERS'}  {part}: {costs} costs"
            print(f"{verdict}, largest relative difference {difference:.1e} (allowed {part.tolerance:g})", flush=True)
        if missed:
            raise RecordError(f"{missed} of {len(PARTS)} parts do not agree with the tracked results")
    print(f"all {len(PARTS)} parts agree with the tracked results")


if __name__ == "__main__":
    main()
