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

from experiments.errors import one_sentence_errors
from experiments.records import PROJECT, RecordError, Run, catalogue
from scripts.analysis.runs import REFERENCE, canonical_run, short


@dataclass(frozen=True)
class Part:
    """The first epochs of a tracked run.

    Attributes:
        experiment, optimizer: its names.
        epochs: number of epochs to train.
        tolerance: largest relative difference of a cost that counts as agreement.
        member: keys of the members to train, such as one seed; empty: all members.
    """

    experiment: str
    optimizer: str
    epochs: int
    tolerance: float
    member: dict = field(default_factory=dict)

    def __str__(self) -> str:
        """Returns the part in words."""
        return " ".join([self.experiment, self.optimizer, *(f"{key}={value}" for key, value in self.member.items())])


_FIGURE_4 = {"optimizer.lr": 0.001, "optimizer.beta1": 0.9, "optimizer.beta2": 0.999}
PARTS = (
    Part("fig1_left", "Adam", 5, 1e-3),
    Part("fig1_left", "AdaMax", 5, 1e-3),
    Part("fig1_left", "SGDNesterov", 5, 1e-3),
    Part("fig1_right", "Adam", 5, 1e-3),
    Part("fig2b", "Adam", 3, 1e-2, {"seed": 0}),
    Part("fig2b", "SFO", 2, 1e-2, {"seed": 0}),
    Part("fig2a", "Adam", 1, 1e-2),
    Part("fig3", "Adam", 1, 2e-2),
    Part("fig4", "Adam", 1, 1e-3, _FIGURE_4 | {"optimizer.bias_correction": True}),
    Part("fig4", "Adam", 1, 1e-3, _FIGURE_4 | {"optimizer.bias_correction": False}),
)


def compare(computed: pd.DataFrame, tracked: pd.DataFrame, part: Part) -> tuple[int, float]:
    """Returns the number of costs common to the tables of a new and of a tracked run, and their largest relative difference.

    The difference is infinite if only one is finite.
    """
    for key, value in part.member.items():
        tracked = tracked[tracked[short(key)] == value]
    both = computed.merge(tracked, on=["seed", "epoch"], suffixes=("", "_tracked"))
    ours, theirs = both["cost"].to_numpy(), both["cost_tracked"].to_numpy()
    with np.errstate(invalid="ignore"):
        difference = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / np.abs(theirs))
    return len(both), float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def train(part: Part, folder: Path, further: list[str]) -> Run:
    """Trains a part and returns its run, whose files go to `folder`; `further` are more arguments of run.py.

    Raises:
        RecordError: the run failed, for example without real data.
    """
    keys = {"experiment": part.experiment, "optimizer": part.optimizer, "epochs": part.epochs} | part.member
    keys |= {"evaluate_every": 1000, "results": folder, "data.source": "real"}
    command = [sys.executable, "run.py", *(f"{key}={value}" for key, value in keys.items()), *further]
    if subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL).returncode:
        raise RecordError(f"{' '.join(command[1:])} failed: this part and the following ones were not verified")
    return catalogue(folder)[0]


def main() -> None:
    """Trains all parts and prints a line for each; exits with an error if one does not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="overrides for run.py, such as threads=2 or device=cuda")
    overrides, missed = parser.parse_args().overrides, 0
    with one_sentence_errors():
        for part in PARTS:
            with tempfile.TemporaryDirectory() as folder:
                computed = train(part, Path(folder), overrides)
                table = computed.table()
            tracked = canonical_run(REFERENCE, part.experiment, part.optimizer)
            if tracked is None:
                raise RecordError(f"{part} is not tracked in results/reference")
            costs, difference = compare(table, tracked.table(), part)
            agrees = costs == len(table) and difference <= part.tolerance
            missed += not agrees
            verdict = f"{'agrees ' if agrees else 'DIFFERS'}  {part}: {costs} costs"
            print(f"{verdict}, largest relative difference {difference:.1e} (allowed {part.tolerance:g})", flush=True)
        if missed:
            raise RecordError(f"{missed} of {len(PARTS)} parts do not agree with the tracked results")
    print(f"all {len(PARTS)} parts agree with the tracked results")


if __name__ == "__main__":
    main()
