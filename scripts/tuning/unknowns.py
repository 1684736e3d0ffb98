"""Settings that the paper does not state, inferred from its curves: results/unknowns.csv.

For each setting in the tuning tables, every value tried gets the smallest distance to the published curve, over the same learning rates and
with equal other settings. The sharpness, the second smallest distance over the smallest, tells how well the curve determines the setting.
"""

from functools import reduce
from pathlib import Path

import pandas as pd

from scripts.analysis import figure4
from scripts.analysis.published import main_panel, panels, published
from scripts.analysis.runs import REFERENCE, configuration
from scripts.analysis.tuning import TUNING, read_tuning, settings_columns

COLUMNS = (
    "panel", "optimizer", "setting", "unit", "epochs", "used", "with", "closest", "distance", "next", "next_distance", "sharpness",
    "candidates", "evidence",
)  # fmt: skip
# Configuration keys that the paper leaves open, per panel and per optimizer; SAID: exceptions that it states.
OF_PANELS = ("examples", "features", "start", "initial_std", "contrast", "regulariser", "dropout", "input_dropout", "l2", "shuffle")
OF_OPTIMIZERS = ("schedule", "lr", "beta1", "beta2", "eps", "rho", "momentum", "minibatches")
SAID = {("fig1_right", "dropout")}
# The moments at which the published cost may be taken, by column of agreement.csv; needs at least ENOUGH evaluated points.
ENOUGH = 5
READINGS = {
    "rms_evaluated": "during the epoch",
    "rms_with_penalty": "during the epoch, with the penalty",
    "rms_after_the_epoch": "after the epoch, noise off",
}
# The same for figure 4, by column of the runs.
READINGS_4 = {"cost": "during the last epoch", "train_cost": "after it, training images", "test_cost": "after it, test images"}
# A grid tuned for low final costs, not a candidate for the paper's settings.
ANNEALED = "grid_annealed"


def normal(settings: dict[str, str]) -> dict[str, str]:
    """Returns the settings in normal form: numbers by %g, None as `all`, the decay joined to schedule=exponential_epoch."""
    settings = {key: "all" if value == "None" else _number(value) for key, value in settings.items()}
    decay = settings.pop("decay", "")
    if settings.get("schedule") == "exponential_epoch":
        settings["schedule"] += f" {decay}"
    return settings


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def varied_columns(given: pd.DataFrame) -> pd.DataFrame:
    """Returns the columns that vary; columns that always vary together become one: `stage2, stage3`."""
    columns: dict[tuple, list[str]] = {}
    for column in given:
        codes = tuple(pd.factorize(given[column])[0])
        if any(codes):
            columns.setdefault(codes if column != "lr" else ("lr",), []).append(column)
    return pd.DataFrame({", ".join(names): given[names].agg(", ".join, axis=1) for names in columns.values()}, index=given.index)


def profile(given: pd.DataFrame, distances: pd.Series, used: dict[str, str]) -> list[dict]:
    """Returns a row for each setting with several values: the smallest distance of each value, with equal other settings.

    Prefers other settings that agree with `used`, then those with which most values were tried. Compares values at their common learning
    rates, or, if there are none, each at its best.

    Args:
        given: a row per trained member, a column of strings per setting.
        distances: of the members.
        used: the tracked run's settings.
    """
    alone, used_alone, lines = given, used, []
    given = varied_columns(given)
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
    """Returns the closest value, the next one, and all candidates, from distances by value in ascending order."""
    return {
        "closest": least.index[0],
        "distance": least.iloc[0],
        "next": least.index[1],
        "next_distance": least.iloc[1],
        "candidates": "; ".join(f"{value}: {distance:.3g}" for value, distance in least.items()),
    }


def of_line_panel(path: Path) -> list[dict]:
    """Returns the unknowns of an experiment with line panels, from its tuning table; excludes annealed grids.

    Compares members with the same number of epochs.
    """
    table = read_tuning(path).query("settings != @ANNEALED")
    names = settings_columns(table)
    found = {}
    for (optimizer, epochs), rows in table.dropna(subset="rms_log_ratio").groupby(["optimizer", "epochs"]):
        configured = configuration(REFERENCE, path.stem, optimizer)
        given = pd.DataFrame([normal(row[names].dropna().to_dict()) for _, row in rows.iterrows()], index=rows.index)
        for line in profile(given, rows["rms_log_ratio"], normal(configured)):
            line |= {"panel": path.stem, "optimizer": optimizer, "unit": "rms log ratio", "epochs": epochs}
            # A setting varied in runs of different lengths: the longest counts.
            found[optimizer, line["setting"]] = line | {"evidence": f"tuning/{path.name}"}
    return list(found.values())


def without_candidates(known: set[tuple[str, str, str]]) -> list[dict]:
    """Returns a row, with only the value used, for each open key without candidates; `known` are (panel, optimizer, key) with some."""
    lines = []
    for panel in dict.fromkeys(panel.experiment for panel in panels()):
        for optimizer in sorted(published(panel)["optimizer"].unique()):
            used = normal(configuration(REFERENCE, panel, optimizer))
            keys = [key for key in used if key.startswith(OF_PANELS) and _is_open(panel, key, used)] if optimizer == "Adam" else []
            keys += [key for key in OF_OPTIMIZERS if key in used and (key != "schedule" or "lr" in used)]
            missing = [key for key in keys if (panel, optimizer, key) not in known]
            lines += [{"panel": panel, "optimizer": optimizer, "setting": key, "used": used[key]} for key in missing]
    same = {"candidates": "no candidate is tracked"}
    return [line | same | {"evidence": f"reference/{line['panel']}/paper/"} for line in lines]


def _is_open(panel: str, key: str, used: dict[str, str]) -> bool:
    """Returns whether a panel's key has an effect and the paper leaves it open."""
    if key in ("dropout", "input_dropout"):
        return used[key] != "0" and (panel, key) not in SAID
    return not (key == "initial_std" and used.get("start", "normal") != "normal")


def when_costs_are_taken(agreement: pd.DataFrame) -> list[dict]:
    """Returns a row for each series of results/agreement.csv on when the published cost is taken, from evaluated epochs."""
    table = agreement.drop_duplicates(["experiment", "optimizer"], keep="last")
    lines = []
    judged = table[(table["evaluated_points"] >= ENOUGH) & (table["experiment"] != "fig2b")]  # figure 2b's numbers are in doubt
    for _, row in judged.iterrows():
        least = row[list(READINGS)].astype(float).rename(READINGS).drop_duplicates().sort_values()  # no penalty: two are equal
        what = {"panel": row["experiment"], "optimizer": row["optimizer"], "setting": "when the cost is taken"}
        what |= {"unit": "rms log ratio", "epochs": row["epochs"]}
        panel = main_panel(row["experiment"])
        used = READINGS["rms_with_penalty" if panel and panel.penalty else "rms_evaluated"]
        lines.append(what | ranking(least) | {"used": used, "evidence": "agreement.csv"})
    return lines


def of_figure_4(path: Path) -> list[dict]:
    """Returns the unknowns of figure 4, each varied alone; distances are medians over the points, in nats."""
    table = pd.read_csv(path)
    medians = table["difference"].abs().groupby([table["setting"], table["value"]]).median()
    lines, configured = [], configuration(REFERENCE, "fig4", "Adam")
    base = medians["model.initial_std", configured["initial_std"]]  # the candidate with all settings as configured
    for key, least in medians.groupby(level=0, sort=False):
        setting = key.rpartition(".")[2]
        least = least.droplevel(0)
        least[configured[setting]] = base
        line = {"panel": "fig4", "optimizer": "Adam", "setting": setting, "unit": "median nats", "epochs": 10, "used": configured[setting]}
        lines.append(line | ranking(least.sort_values()) | {"evidence": f"tuning/{path.name}"})
    sweep = figure4.sweeps(REFERENCE, "paper")
    both = {words: figure4.points(figure4.measured(sweep, column), figure4.published()) for column, words in READINGS_4.items()}
    least = pd.Series({words: table["difference"].abs().median() for words, table in both.items()}).sort_values()
    epochs = " and ".join(map(str, sorted(sweep["epoch"].unique())))
    line = {"panel": "fig4", "optimizer": "Adam", "setting": "when the cost is taken", "unit": "median nats", "epochs": epochs}
    return [*lines, line | ranking(least) | {"used": READINGS_4["cost"], "evidence": "fig4_points.csv"}]


def ledger(agreement: pd.DataFrame) -> pd.DataFrame:
    """Returns all unknowns, by panel and setting; `agreement` is the table of results/agreement.csv."""
    lines = [line for path in sorted(TUNING.glob("fig[123]*.csv")) for line in of_line_panel(path)]
    known = {(line["panel"], line["optimizer"], setting) for line in lines for setting in line["setting"].split(", ")}
    lines += [*of_figure_4(TUNING / "fig4.csv"), *when_costs_are_taken(agreement), *without_candidates(known)]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table["sharpness"] = table["next_distance"] / table["distance"]
    return table.sort_values(["panel", "setting", "optimizer"], kind="stable", ignore_index=True)
