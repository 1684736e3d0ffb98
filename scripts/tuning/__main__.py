"""Summarises the runs of `make tune-*` in results/tuning/EXPERIMENT.csv: `python -m scripts.tuning fig1_left fig4 ...`.

Reads the runs of settings=search* and grid*. Prints, for each optimizer, the members closest to the paper and those with the lowest
final cost, the source of most settings in the experiment files.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from experiments.errors import one_sentence_errors
from experiments.records import RecordError, Run, catalogue, display_path, key_of
from scripts.analysis import figure4
from scripts.analysis.distances import log_ratios, rms, wiggle
from scripts.analysis.published import paper_curves
from scripts.analysis.runs import RUNS, short, shown_costs
from scripts.analysis.tuning import COLUMNS, TUNING, settings_columns
from scripts.arguments import write_table

# Keys of an identity that are not unknowns of the paper.
NOT_OPEN = ("experiment", "settings", "evaluate_every", "precision", "second_moments")


def shared_settings(run: Run) -> dict[str, str]:
    """Returns the settings that all members of a run share, by short keys."""
    flat = pd.json_normalize(run.identity).iloc[0].items()
    shared = {short(key): str(value) for key, value in flat if not isinstance(value, list) and not key.startswith(NOT_OPEN)}
    shared.pop("_target_", None)
    if shared.get("schedule") != "exponential_epoch":
        shared.pop("decay", None)  # has no effect
    return shared


def summarise(run: Run) -> pd.DataFrame:
    """Returns a row per member of a run, with the costs of the last epoch.

    The objective is what the optimizer minimises: cost with noise on plus penalty. The wiggle is the standard deviation of ln(cost) around
    its trend.
    """
    paper, lines = paper_curves(run.experiment), []
    paper = paper[paper["optimizer"] == run.optimizer]
    for _, member in shown_costs(run).groupby("member"):
        last = member.iloc[-1]
        line = {key: last[key] for key in ("experiment", "optimizer", "settings", "seed", "train_cost")}
        line["cost"] = last["without_penalty"]
        line |= {"epochs": last["epoch"], "objective": last["without_penalty"] + last["penalty"], "wiggle": wiggle(member["cost"]).std()}
        line["rms_log_ratio"] = rms(log_ratios(member.set_index("x")["cost"], paper))
        lines.append(line | {key: str(last[key]) for key in run.hyperparameters})
    return pd.DataFrame(lines).assign(**shared_settings(run))


def summarise_figure_4(run: Run) -> pd.DataFrame:
    """Returns the published points that a candidate for figure 4 covers, with the differences in nats."""
    if len(run.overrides) != 1:
        raise RecordError(f"{run} is not a candidate for figure 4: expected one override, such as model.pixels=resampled")
    key = key_of(run.overrides[0])
    value = pd.json_normalize(run.identity | run.extent).iloc[0][key]
    both = figure4.points(figure4.measured(figure4.rows_after(run, figure4.EPOCHS[run.experiment])), figure4.published())
    return both.assign(setting=key, value=value, difference=both["ours"] - both["published"])


def line_panel(experiment: str, runs: list[Run]) -> None:
    """Writes the tuning table of one experiment with line panels from its grids and candidates, and prints its best members.

    Raises:
        RecordError: two runs have the same candidate.
    """
    table = pd.concat([summarise(run) for run in runs], ignore_index=True)
    keys = ["optimizer", "settings", "seed", "epochs", *settings_columns(table)]
    if len(twice := table[table.duplicated(keys)]):
        raise RecordError(f"two runs of {experiment} are of the same candidate, {twice.iloc[0][keys].dropna().to_dict()}: remove one")
    out = TUNING / f"{experiment}.csv"
    table = table.sort_values(["optimizer", "settings"], kind="stable")
    write_table(table[[*COLUMNS, *settings_columns(table)]], out, "%.6g")
    print(f"wrote {display_path(out)}")
    for optimizer, lines in table.groupby("optimizer"):
        for criterion, found in (("rms_log_ratio", lines), ("objective", lines[lines["settings"] != "grid_l2"])):
            shown = [column for column in found if column in COLUMNS[2:] or found[column].nunique(dropna=False) > 1]
            best = found.sort_values(criterion)[shown].head(3).drop(columns="seed")
            print(f"\n{optimizer}: lowest {criterion}\n{best.to_string(index=False)}")


def figure_4(runs: list[Run]) -> None:
    """Writes the tuning table of figure 4, and prints each candidate's distance to the paper."""
    table = pd.concat([summarise_figure_4(run) for run in runs if run.settings == "search"])
    columns = ["setting", "value", "beta1", "beta2", "bias_correction", "alpha", "published", "ours", "difference"]
    write_table(table[columns], TUNING / "fig4.csv", "%.6g")
    print(f"wrote {display_path(TUNING / 'fig4.csv')}")
    distance = table.assign(distance=table["difference"].abs()).groupby(["setting", "value"])["distance"]
    print(distance.agg(["median", "mean", "max"]).sort_values("median").to_string(float_format="%.2f"))


def main() -> None:
    """Writes the tuning table of each experiment named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder of the runs")
    arguments = parser.parse_args()
    with one_sentence_errors():
        for experiment in arguments.experiments:
            runs = [
                run
                for run in catalogue(arguments.runs)
                if (run.experiment, run.data) == (experiment, "real") and run.settings.startswith(("grid", "search"))
            ]
            if not runs:
                place = display_path(arguments.runs)
                sys.exit(f"error: {place} has no finished grid of {experiment} on real data: run make tune-{experiment[:4]}")
            if experiment == "fig4":
                figure_4(runs)
            else:
                line_panel(experiment, runs)


if __name__ == "__main__":
    main()
