"""Sums up what the paper does not say and what its curves tell about it: results/unknowns.csv, and the figure `sensitivity`.

Reads the tuning tables, of runs that `make tune-fig1`, `tune-fig2`, `tune-fig3` and `tune-fig4` train. For each setting that they vary it
takes the least distance to the published curve for each value tried, over the same step sizes and with all other settings the same: how
much farther the next candidate is tells how sharply the curve determines the setting. The figure shows how the final cost depends on the
step size, each at its best other settings.
"""

import argparse
from functools import reduce
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullFormatter

import figure4
import plots
from curves import REFERENCE, RESULTS, configuration, published, read_tuning, short

COLUMNS = (
    "panel", "optimizer", "setting", "unit", "passes", "used", "with", "closest", "distance", "next", "next_distance", "sharpness",
    "candidates", "evidence",
)  # fmt: skip
# Keys of a configuration that the paper leaves open for all optimizers of a panel, and for each optimizer that has them. What it says of a
# panel, such as half of IMDB's features dropped, is 0 or stands in SAID.
OF_PANELS = ("examples", "features", "start", "initial_std", "contrast", "regulariser", "dropout", "input_dropout", "l2", "shuffle")
OF_OPTIMIZERS = ("schedule", "lr", "beta1", "beta2", "eps", "rho", "momentum", "minibatches")
SAID = {("fig1_right", "dropout")}
# When the published cost is taken, by the column of agreement.csv; judged where as many points were evaluated.
ENOUGH = 5
READINGS = {
    "rms_evaluated": "during the pass",
    "rms_with_penalty": "during the pass, with the penalty",
    "rms_after_the_pass": "after the pass, noise off",
}
# The same for figure 4, by the columns of runs.
READINGS_4 = {"cost": "during the last pass", "train_cost": "after it, training images", "test_cost": "after it, test images"}
# Experiments whose curves the paper shows.
PANELS = ("fig1_left", "fig1_right", "fig2a", "fig2b", "fig3", "fig3_dropout")
# Settings whose members show how the final cost depends on the step size, and what panels are called for them.
ANNEALED = "grid_annealed"
GRIDS = {"grid": "", ANNEALED: " annealed"}
# The candidate of figure 4 that is as conf/experiment/fig4.yaml has it.
CONFIGURED = "model.initial_std=0.003"
# Costs beyond so many times the median are not drawn.
TOO_HIGH = 3


def settings_of(row: pd.Series) -> dict[str, str]:
    """What one line of a tuning table sets: from `candidate` and `hyperparameters`, `key=value` with blanks between."""
    pairs = [pair.partition("=") for pair in f"{row['candidate']} {row['hyperparameters']}".split()]
    return {short(key): value for key, _, value in pairs}


def normal(settings: dict[str, str]) -> dict[str, str]:
    """The same settings with numbers as Python writes them, the decay as a part of the schedule that has one, and no limit as `all`."""
    settings = {key: "all" if value == "None" else _number(value) for key, value in settings.items()}
    decay = settings.pop("decay", "")
    if settings.get("schedule") == "exponential_pass":
        settings["schedule"] += f" {decay}"
    return settings


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def joined(given: pd.DataFrame) -> pd.DataFrame:
    """The columns of settings that were varied, those that were always varied together as one: `stage2, stage3`."""
    columns: dict[tuple, list[str]] = {}
    for column in given:
        codes = tuple(pd.factorize(given[column])[0])
        if any(codes):
            columns.setdefault(codes if column != "lr" else ("lr",), []).append(column)
    return pd.DataFrame({", ".join(names): given[names].agg(", ".join, axis=1) for names in columns.values()}, index=given.index)


def profile(given: pd.DataFrame, distances: pd.Series, used: dict[str, str]) -> list[dict]:
    """A line for each setting with several values: the least distance of each, all other settings being the same.

    Of the other settings, those that are used are preferred, then those with which most values were tried. Step sizes are those at which
    all values were tried; each counts with its best where there is none.

    Args:
        given: a row for each member that was trained, a column of texts for each setting.
        distances: of the members.
        used: the values of the settings that are used.
    """
    alone, used_alone, lines = given, used, []
    given = joined(given)
    used = {column: ", ".join(used.get(name, "") for name in column.split(", ")) for column in given}
    for setting in given:
        others = [column for column in given if column not in (setting, "lr")]
        groups = [rows for _, rows in given.groupby(others)] if others else [given]
        groups = [rows for rows in groups if rows[setting].nunique() > 1]
        if not groups:
            continue
        rows = max(groups, key=lambda rows: (sum(rows[other].iloc[0] == used[other] for other in others), rows[setting].nunique()))
        if setting != "lr" and "lr" in rows:
            shared = reduce(set.intersection, rows.groupby(setting)["lr"].agg(set))
            rows = rows[rows["lr"].isin(shared)] if shared else rows
        least = distances[rows.index].groupby(rows[setting]).min().dropna().sort_values()
        if len(least) > 1:
            first = alone.loc[rows.index[0]].drop(["lr", *setting.split(", ")], errors="ignore")
            unlike = [f"{other}={value}" for other, value in first.items() if value != used_alone.get(other)]
            lines.append({"setting": setting, "with": " ".join(unlike), "used": used[setting], **ranking(least)})
    return lines


def ranking(least: pd.Series) -> dict:
    """The closest value, the next one, and all, from distances by value in ascending order."""
    return {
        "closest": least.index[0],
        "distance": least.iloc[0],
        "next": least.index[1],
        "next_distance": least.iloc[1],
        "candidates": "; ".join(f"{value}: {distance:.3g}" for value, distance in least.items()),
    }


def of_lines(path: Path) -> list[dict]:
    """The unknowns of a line panel, from its tuning table; for Adam in figure 2b in the second reading.

    Only members with as many passes are compared, and a setting that one's table does not name has its configured value. Step sizes
    that are annealed, to end low, tell nothing about the paper's.
    """
    table = read_tuning(path).query("settings != @ANNEALED")
    found = {}
    for (optimizer, passes), rows in table.dropna(subset="rms_log_ratio").groupby(["optimizer", "passes"]):
        configured = configuration(REFERENCE, path.stem, optimizer)
        given = pd.DataFrame([normal(configured | settings_of(row)) for _, row in rows.iterrows()], index=rows.index)
        for line in profile(given, rows["rms_log_ratio"], normal(configured)):
            line |= {"panel": path.stem, "optimizer": optimizer, "unit": "rms log ratio", "passes": passes}
            # Of a setting that was varied over fewer and over more passes, those over more.
            found[optimizer, line["setting"]] = line | {"evidence": f"tuning/{path.name}"}
    return list(found.values())


def untried(tried: set[tuple[str, str, str]]) -> list[dict]:
    """A line, with the value used alone, for each open key of a panel's Adam or of an optimizer that is not among those tried."""
    lines = []
    for panel in PANELS:
        for optimizer in sorted(published(panel)["optimizer"].unique()):
            used = normal(configuration(REFERENCE, panel, optimizer))
            keys = [key for key in used if key.startswith(OF_PANELS) and _is_open(panel, key, used)] if optimizer == "Adam" else []
            keys += [key for key in OF_OPTIMIZERS if key in used and (key != "schedule" or "lr" in used)]
            missing = [key for key in keys if (panel, optimizer, key) not in tried]
            lines += [{"panel": panel, "optimizer": optimizer, "setting": key, "used": used[key]} for key in missing]
    same = {"candidates": "no candidate is tracked"}
    return [line | same | {"evidence": f"reference/{line['panel']}/paper/"} for line in lines]


def _is_open(panel: str, key: str, used: dict[str, str]) -> bool:
    """Whether the paper leaves a key of a panel open, and it has an effect."""
    if key in ("dropout", "input_dropout"):
        return used[key] != "0" and (panel, key) not in SAID
    return not (key == "initial_std" and used.get("start", "normal") != "normal")


def of_readings(path: Path) -> list[dict]:
    """When the cost is taken, from agreement.csv: a line for each series, at the passes that were evaluated."""
    table = pd.read_csv(path).drop_duplicates(["experiment", "optimizer"], keep="last")
    lines = []
    judged = table[(table["evaluated_points"] >= ENOUGH) & (table["experiment"] != "fig2b")]  # where the numbers themselves are in doubt
    for _, row in judged.iterrows():
        least = row[list(READINGS)].astype(float).rename(READINGS).drop_duplicates().sort_values()  # no penalty: as without
        what = {"panel": row["panel"], "optimizer": row["optimizer"], "setting": "when the cost is taken"}
        what |= {"unit": "rms log ratio", "passes": row["passes"]}
        lines.append(what | ranking(least) | {"used": "during the pass", "evidence": path.name})
    return lines


def of_figure_4(path: Path) -> list[dict]:
    """The unknowns of figure 4, each varied alone; distances are medians over eight settings."""
    table = pd.read_csv(path)
    medians = table["difference"].abs().groupby(table["candidate"]).median()
    pairs = [(name.rpartition("=")[0], name.rpartition("=")[2], value) for name, value in medians.items() if name != CONFIGURED]
    lines, configured = [], configuration(REFERENCE, "fig4", "Adam")
    for key, of_key in pd.DataFrame(pairs, columns=["key", "value", "distance"]).groupby("key", sort=False):
        setting = key.rpartition(".")[2]
        least = of_key.set_index("value")["distance"]
        least[configured[setting]] = medians[CONFIGURED]
        line = {"panel": "fig4", "optimizer": "Adam", "setting": setting, "unit": "median nats", "passes": 10, "used": configured[setting]}
        lines.append(line | ranking(least.sort_values()) | {"evidence": f"tuning/{path.name}"})
    sweep = figure4.sweeps(REFERENCE, "paper")
    both = {words: figure4.points(figure4.measured(sweep, column), figure4.published()) for column, words in READINGS_4.items()}
    least = pd.Series({words: table["difference"].abs().median() for words, table in both.items()}).sort_values()
    passes = " and ".join(map(str, sorted(sweep["pass"].unique())))
    line = {"panel": "fig4", "optimizer": "Adam", "setting": "when the cost is taken", "unit": "median nats", "passes": passes}
    return [*lines, line | ranking(least) | {"used": READINGS_4["cost"], "evidence": "fig4_points.csv"}]


def draw_sensitivity(tables: dict[str, pd.DataFrame], stem: Path) -> None:
    """Draws the final cost over the step size, a panel for each grid: each optimizer at its best other settings, on the data used."""
    grids = {(panel, grid): table[table["settings"] == grid] for panel, table in tables.items() for grid in GRIDS}
    grids = {name: members for name, members in grids.items() if len(members)}
    rows = -(-len(grids) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12.8, 4.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(grids) :]:
        axis.remove()
    for axis, ((panel, grid), table) in zip(axes.flat, grids.items(), strict=False):
        given = pd.DataFrame([settings_of(row) for _, row in table.iterrows()], index=table.index).reindex(columns=["lr", "features"])
        same_data = given["features"].isna() | (given["features"] == configuration(REFERENCE, panel, "Adam").get("features"))
        table = table.assign(lr=given["lr"].astype(float))[same_data].dropna(subset="lr")
        for optimizer, ours in table.groupby("optimizer"):
            lowest = ours.groupby("lr")["objective"].min()
            lowest = lowest[lowest < TOO_HIGH * table["objective"].median()]
            axis.plot(lowest.index, lowest, marker=".", color=plots.COLOURS[optimizer], label=optimizer)
        title = f"{panel}{GRIDS[grid]}, after {table['passes'].max()} passes, 1 seed"
        axis.set(xscale="log", yscale="log", xlabel="step size", ylabel="training cost with the penalty", title=title)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    plots.save(figure, stem)


def ledger() -> pd.DataFrame:
    """All unknowns, by panel and setting."""
    lines = [line for path in tuning_tables() for line in of_lines(path)]
    tried = {(line["panel"], line["optimizer"], setting) for line in lines for setting in line["setting"].split(", ")}
    lines += [*of_figure_4(RESULTS / "tuning" / "fig4.csv"), *of_readings(RESULTS / "agreement.csv")]
    lines += untried(tried)
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table["sharpness"] = table["next_distance"] / table["distance"]
    return table.sort_values(["panel", "setting", "optimizer"], kind="stable", ignore_index=True)


def tuning_tables() -> list[Path]:
    """Those of line panels, which have a published curve or a sweep of step sizes."""
    return [path for path in sorted((RESULTS / "tuning").glob("*.csv")) if path.stem != "fig4"]


def main() -> None:
    """Writes the ledger and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    table = ledger()
    table.to_csv(RESULTS / "unknowns.csv", index=False, float_format="%.4g")
    columns = ["panel", "optimizer", "setting", "used", "closest", "distance", "sharpness"]
    print(table[columns].to_string(index=False, float_format="%.3g"))
    draw_sensitivity({path.stem: read_tuning(path) for path in tuning_tables()}, RESULTS / "figures" / "sensitivity")


if __name__ == "__main__":
    main()
