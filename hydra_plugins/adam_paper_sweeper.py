"""The sweeper of `run.py -m`. Hydra discovers plugins only in the package `hydra_plugins`."""

import contextlib
import io
import itertools
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from experiments.records import PROJECT, Run, read
from experiments.workers import register_workers


class SweepError(ValueError):
    """Some jobs of a sweep failed. The message says how many and how to retry."""


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Returns the jobs of a sweep, each a list of overrides: the product over all `key=a,b`. The last override of a key wins."""
    choices = {
        override.get_key_element(): [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in OverridesParser.create().parse_overrides(list(overrides))
    }
    return [[str(one) for one in job] for job in itertools.product(*choices.values())]


class ExhaustiveSweeper(Sweeper):
    """Runs every job of a sweep with any launcher, even after failures; ends with a table of the runs and a list of the failed jobs.

    Hydra's own sweeper stops at the first failure or reports only that one, depending on the launcher.

    Args:
        jobs: path of a JSON file with a list of sweeps, each a list of overrides; the command line's overrides are appended to each.
    """

    def __init__(self, jobs: str | None = None):
        self.jobs = jobs

    def setup(self, *, hydra_context, task_function, config) -> None:
        """Creates the launcher; Hydra calls this before `sweep`."""
        self.hydra_context, self.config, self.results = hydra_context, config, config.results
        register_workers(PROJECT / config.results)
        context = {"hydra_context": hydra_context, "task_function": task_function, "config": config}
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(**context)

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Runs the jobs.

        Raises:
            SweepError: a job failed.
        """
        sweeps = json.loads(Path(self.jobs).read_text()) if self.jobs else [[]]
        jobs = [job for sweep in sweeps for job in expand([*sweep, *arguments])]
        self.validate_batch_is_legal(jobs)
        returns = self.launcher.launch(jobs, initial_job_idx=0)
        failures = [failure for job in returns if (failure := _failure(job))]
        runs = [tuple(one for one in job if not one.startswith("part=")) for job in jobs]  # two shards may both find the run finished
        finished = {job: run for job, run in zip(runs, map(_run, returns), strict=True) if run}
        if finished:
            print(table(finished))
        if any(not run.measured for run in finished.values()):
            print(f"make plot RUN={self.results} draws them over the paper's curves")
        if failures:
            print(*failures, sep="\n", file=sys.stderr)
            raise SweepError(
                f"{len(failures)} of {len(jobs)} jobs failed: see above; rerun the command to retry them, finished runs are kept"
            )
        return returns


def _failure(job: JobReturn) -> str | None:
    """Returns a failed job's overrides and error; None if it succeeded."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra prints overrides there before it raises
            job.return_value  # noqa: B018
    except Exception as error:
        return f"failed: {shlex.join(job.overrides or ())}: {error}"
    return None


def _run(job: JobReturn) -> Run | None:
    """Returns the finished run of a job; None if it failed, or trained a shard of a run that others have to finish."""
    return read(job.return_value) if not _failure(job) and job.return_value else None


def table(runs: Mapping[tuple[str, ...], Run]) -> str:
    """Returns a line for each run of a sweep, by its overrides: those that not all share, final cost, distance and file.

    The cost is the mean over seeds after the last epoch, of the best setting of a population. The distance is that setting's rms of
    ln(ours / paper), where the paper has the curve.
    """
    shared = set.intersection(*map(set, runs)) if len(runs) > 1 else set()
    lines = [("run", "final cost", "distance", "file")]
    for job, run in runs.items():
        lines.append((" ".join(one for one in job if one not in shared), *_result(run), str(run)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _result(run: Run) -> tuple[str, str]:
    # Here, because every start of run.py imports this module.
    from scripts.analysis.distances import geometric_mean, log_ratios, rms
    from scripts.analysis.published import paper_curves
    from scripts.analysis.runs import shown_costs

    if run.measured:
        return "-", "-"
    rows = shown_costs(run)
    settings = [part for _, part in rows.groupby(run.hyperparameters)] if run.hyperparameters else [rows]
    cost, best = min(((part.loc[part["x"] == part["x"].max(), "cost"].mean(), part) for part in settings), key=lambda pair: pair[0])
    curve = paper_curves(run.experiment)
    ratios = log_ratios(geometric_mean(best), curve[curve["optimizer"] == run.optimizer])
    return f"{cost:.4g}", f"{rms(ratios):.4f}" if run.data == "real" and len(ratios) else "-"
