"""Sums up grids: one line for each member with its final training cost and its distance to the published curve.

Reads the runs of `settings=search`, `grid` and whatever else begins with `grid`, writes results/tuning/<experiment>.csv and prints, for
each optimizer, the members that come closest to the paper and those that end lowest. Most `paper` and `best` settings of the experiment
files come from there. The column `candidate` has what tells a run apart from the optimizer's tracked one, besides the hyper-parameters of
its members.
"""

import argparse
from pathlib import Path

import pandas as pd

from curves import REFERENCE, RESULTS, RUNS, as_read, configuration, log_ratios, provenance, read_run, read_tuning, rms, short, wiggle

COLUMNS = (
    "experiment",
    "optimizer",
    "settings",
    "candidate",
    "hyperparameters",
    "seed",
    "passes",
    "rms_log_ratio",
    "wiggle",
    "cost",
    "train_cost",
    "objective",
)
# What one member's line tells apart from all others.
KEYS = ["optimizer", "settings", "candidate", "hyperparameters", "seed", "passes"]
# Keys of a configuration that make no candidate.
NOT_OPEN = ("experiment", "settings", "seed", "passes", "evaluate_every", "device", "shard", "precision", "second_moments")


def candidate(config: dict, configured: dict[str, str]) -> str:
    """The keys in which a run differs from the tracked one, and its values: `schedule=constant data.features=counts`.

    Lists are left out: their values stand with the members.

    Args:
        config: of the run.
        configured: of the tracked run, as from `configuration`.
    """
    flat = pd.json_normalize(config).iloc[0].items()
    differing = {key: value for key, value in flat if not isinstance(value, list) and str(value) != configured.get(short(key))}
    if differing.get("schedule", configured.get("schedule")) != "exponential_pass":
        differing.pop("decay", None)  # has no effect
    return " ".join(f"{key}={value}" for key, value in differing.items() if not (key.startswith(NOT_OPEN) or key.endswith("_target_")))


def summarise(path: Path) -> pd.DataFrame:
    """One line per member of the grid whose CSV is at `path`; costs are those of the last pass.

    The objective is what the optimizer minimises: cost with the noise on, plus penalty. The wiggle is the standard deviation
    of the cost from pass to pass around its trend, relative to the cost.
    """
    table, config = read_run(path), provenance(path)["config"]
    paper = as_read(config["experiment"])
    paper = paper[paper["optimizer"] == table["optimizer"].iloc[0]]
    lines = []
    for _, member in table.groupby("member"):
        last = member.iloc[-1]
        lines.append(
            {
                "experiment": config["experiment"],
                "optimizer": last["optimizer"],
                "settings": last["settings"],
                "hyperparameters": last["hyperparameters"],
                "seed": last["seed"],
                "passes": last["pass"],
                "rms_log_ratio": rms(log_ratios(member.set_index("x")["cost"], paper)),
                "wiggle": wiggle(member["cost"]).std(),
                "cost": last["cost"],
                "train_cost": last["train_cost"],
                "objective": last["cost"] + last["penalty"],
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    """Writes the table of each experiment named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder of the runs")
    parser.add_argument("--keep", action="store_true", help="keep the lines that the tables have, but for those of the same candidates")
    arguments = parser.parse_args()
    for experiment in arguments.experiments:
        folders = [*(arguments.runs / experiment).glob("grid*"), arguments.runs / experiment / "search"]
        paths = [path for folder in sorted(folders) for path in sorted(folder.glob("*.csv")) if path.with_suffix(".json").exists()]
        if not paths:
            parser.error(f"there are no finished grids of {experiment}: run make tune-fig1, tune-fig2 or tune-fig3")
        tables = []
        for optimizer in sorted({provenance(path)["optimizer"] for path in paths}):
            of_it = [path for path in paths if provenance(path)["optimizer"] == optimizer]
            configured = configuration(REFERENCE, experiment, optimizer)
            tables += [summarise(path).assign(candidate=candidate(provenance(path)["config"], configured)) for path in of_it]
        out = RESULTS / "tuning" / f"{experiment}.csv"
        table = pd.concat(tables)[list(COLUMNS)]
        if (twice := table[table.duplicated(KEYS)]).size:
            parser.error(f"two runs of {experiment} are of the same candidate, {twice.iloc[0][KEYS].to_dict()}: keep one of them")
        if arguments.keep and out.exists():
            table = pd.concat([read_tuning(out), table]).drop_duplicates(KEYS, keep="last")
        table = table.sort_values(["optimizer", "settings"], kind="stable")
        table.to_csv(out, index=False, float_format="%.6g")
        print(f"wrote {out}")
        for optimizer, lines in table.groupby("optimizer"):
            for criterion, found in (("rms_log_ratio", lines), ("objective", lines[lines["settings"] != "grid_l2"])):
                best = found.sort_values(criterion).head(3).drop(columns=["experiment", "optimizer", "seed"])
                print(f"\n{optimizer}: lowest {criterion}\n{best.to_string(index=False)}")


if __name__ == "__main__":
    main()
