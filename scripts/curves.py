"""Reading curves, ours and the paper's, and measuring how far apart they are. Reads CSV only; no torch."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).resolve().parent.parent / "results"
REFERENCE = RESULTS / "reference"
RUNS = RESULTS / "runs"
# The paper's line panels, as their files are named, and the experiments whose curves they show.
PANELS = {
    "fig1_left": ("fig1_left",),
    "fig1_right": ("fig1_right",),
    "fig2a": ("fig2a",),
    "fig2b_top": ("fig2b",),
    "fig2b_bottom": ("fig2b",),
    "fig3_left": ("fig3", "fig3_dropout"),
    "fig3_right": ("fig3", "fig3_dropout"),
}
# Costs whose ln(one / other) is smaller, about what seeds do, count as equal.
EQUAL = 0.05
# The panel whose abscissa is time, in passes of Adam.
BY_TIME = "fig2b_bottom"
# Published curves of an experiment whose file has another name.
PUBLISHED = {"fig2b": "fig2b_top", "fig3": "fig3_right", "fig3_dropout": "fig3_right"}
# Experiments whose file has the series of another one too: `Adam` and `Adam+dropout`.
WITH_DROPOUT = {"fig3": False, "fig3_dropout": True}
# A run that overrides nothing else is a part of the experiment, or more of it, not another setting.
EXTENT = re.compile(r"(,(passes=\d+|seed=\[?[\d,]+\]?|shard=\w+))*")
_EXTENT_KEYS = ("passes", "seed", "shard", "device")


def published(experiment: str, panel: str = "") -> pd.DataFrame:
    """The paper's curves for one experiment: `optimizer`, `x`, `y`, `kind` (see results/README.md); empty if the
    paper does not show it.

    Series are named by their optimizer alone: `Adam+dropout` in figure 1 right becomes `Adam`.

    Args:
        experiment: its name in conf/experiment.
        panel: one of PANELS, where the paper shows the experiment in several.
    """
    path = RESULTS / "published" / f"{panel or PUBLISHED.get(experiment, experiment)}.csv"
    curves = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["series", "x", "y", "kind"], dtype=object)
    if experiment in WITH_DROPOUT:
        curves = curves[curves["series"].str.endswith("+dropout") == WITH_DROPOUT[experiment]]
    return curves.assign(optimizer=curves["series"].str.split("+").str[0])


def other_reading(experiment: str) -> pd.DataFrame:
    """The paper's curves for one panel in another reading, where there is one, as from `published`; else empty.

    From x = 8 on, the published values of Adam in figure 2b are exactly 2.3 (x - 7) times smaller than their smooth continuation:
    here they are multiplied by that (see results/README.md).
    """
    if experiment != "fig2b":
        return pd.DataFrame(columns=["x", "y", "kind", "optimizer"], dtype=object)
    table = pd.read_csv(RESULTS / "published" / "fig2b_adam_rescaling.csv")
    return pd.DataFrame({"x": table["x"], "y": table["y_times_divisor"], "kind": "plotted", "optimizer": "Adam", "series": "Adam"})


def as_read(experiment: str, panel: str = "") -> pd.DataFrame:
    """The paper's curves as from `published`, but in the other reading where there is one."""
    curves, other = published(experiment, panel), other_reading(experiment)
    return pd.concat([curves[~curves["optimizer"].isin(other["optimizer"])], other]) if len(other) else curves


def runs(root: Path, experiment: str, settings: str) -> pd.DataFrame:
    """The run of each optimizer of a panel under `root` that `chosen` names, one below the other; empty where there are none.

    `x` is the paper's abscissa: its x = 0 is the first pass, not the initial parameters.
    """
    tables = [read_run(path) for path in chosen(root / experiment / settings)]
    return pd.concat(tables) if tables else pd.DataFrame()


def of_optimizer(table: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """The rows of one optimizer; the table may be empty and have no columns."""
    return table[table["optimizer"] == optimizer] if not table.empty else table


def chosen(folder: Path) -> list[Path]:
    """A complete run for each optimizer that has plain ones in the folder.

    Those count whose configuration is that of the newest; of these the longest, then the one with most seeds, then the newest.
    """
    plain = [path for path in sorted(folder.glob("*.csv")) if is_plain(path) and path.with_suffix(".json").exists()]
    found: dict[str, list[Path]] = {}
    for path in sorted(plain, key=lambda path: provenance(path).get("started", "")):
        found.setdefault(path.stem.partition(",")[0], []).append(path)
    alike = [[path for path in paths if _setting(path) == _setting(paths[-1])] for paths in found.values()]
    return [paths[0] if len(paths) == 1 else max(paths, key=_extent) for paths in alike]


def _setting(path: Path) -> dict:
    return {key: value for key, value in provenance(path).get("config", {}).items() if key not in _EXTENT_KEYS}


def _extent(path: Path) -> tuple:
    table = pd.read_csv(path, usecols=["pass", "seed"])
    return table["pass"].max(), table["seed"].nunique(), "shard=" not in path.stem, provenance(path).get("started", "")


def is_plain(path: Path) -> bool:
    """Whether the run at `path` overrides nothing of its configuration files but how many passes and seeds it has, and how many at once."""
    return EXTENT.fullmatch(path.stem.removeprefix(path.stem.partition(",")[0])) is not None


def read_run(path: Path) -> pd.DataFrame | None:
    """The table of one run; None where it is not complete.

    It also has `x`, the `seconds` of training per member until the end of the pass, and the `machine` on which they passed. The cost
    of a member is infinite from the pass in which it diverged: the rule for diverged seeds in results/README.md.
    """
    if not path.with_suffix(".json").exists():
        return None
    table, origin = pd.read_csv(path, dtype={"hyperparameters": "string"}).fillna({"hyperparameters": ""}), provenance(path)
    seconds = table["pass"].map(dict(enumerate(origin.get("seconds_after_pass", ()), 1))).astype(float) / table["member"].nunique()
    sessions = [*origin.get("earlier", ()), origin]
    machine = " and ".join(sorted({f"{session.get('processor')}, {session.get('threads')} threads" for session in sessions}))
    lost = (~np.isfinite(table["cost"])).groupby(table["member"]).cummax()
    return table.assign(x=table["pass"] - 1, seconds=seconds, machine=machine, cost=table["cost"].mask(lost, np.inf))


def read_table(path: Path) -> pd.DataFrame | None:
    """The table at `path`; None where it is not there or has no provenance beside it, and so is not complete."""
    return pd.read_csv(path) if path.exists() and path.with_suffix(".json").exists() else None


def read_tuning(path: Path) -> pd.DataFrame:
    """The tuning table at `path`; a line that nothing tells apart has an empty text there."""
    texts = ["candidate", "hyperparameters"]
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str)).fillna(dict.fromkeys(texts, ""))


def provenance(path: Path) -> dict:
    """What is known about the run whose CSV is at `path`."""
    return json.loads(path.with_suffix(".json").read_text())


def configuration(root: Path, experiment: str, optimizer: str, settings: str = "paper") -> dict[str, str]:
    """Every key that the run under `root` was configured with, as `short` has it; empty if there is no such run."""
    paths = [path for path in chosen(root / experiment / settings) if path.stem.partition(",")[0] == optimizer]
    flat = pd.json_normalize(provenance(paths[0])["config"]).iloc[0] if paths else pd.Series(dtype=object)
    return {short(key): str(value) for key, value in flat.items()}


def short(key: str) -> str:
    """A key without the group that it belongs to: lr for optimizer.lr, initial_std.hidden for model.initial_std.hidden."""
    return key.partition(".")[2] or key


def by_time(table: pd.DataFrame) -> pd.DataFrame:
    """The table with training time for `x`, in units of the mean time of Adam's passes; the first point at 0, as in the paper.

    Empty where Adam was not run, or not all on one machine: their seconds say nothing of each other.
    """
    adam = of_optimizer(table, "Adam")
    if adam.empty or table["machine"].nunique() > 1:
        return pd.DataFrame()
    unit = (adam["seconds"] / adam["pass"]).iloc[-1]
    return table.assign(x=(table["seconds"] - table.groupby("optimizer")["seconds"].transform("min")) / unit)


def geometric_mean(table: pd.DataFrame, costs: pd.Series | None = None) -> pd.Series:
    """The geometric mean over seeds by `x`, of the cost or of the given costs; infinite where a seed has diverged."""
    costs = table["cost"] if costs is None else costs
    return np.exp(np.log(costs).groupby(table["x"].to_numpy()).agg(lambda at_x: at_x.mean(skipna=False)))


def log_ratios(ours: pd.Series, paper: pd.DataFrame) -> np.ndarray:
    """ln(ours / paper) at the plotted vertices of one published series that lie within our passes.

    Args:
        ours: cost by abscissa x.
        paper: rows of `published` for one optimizer.
    """
    plotted = paper[(paper["kind"] == "plotted") & paper["x"].isin(ours.index)].set_index("x")["y"]
    return np.log(ours.loc[plotted.index].to_numpy() / plotted.to_numpy())


def lead(own: pd.Series, other: pd.Series) -> pd.Series:
    """ln(other / own) of two optimizers' costs: minus infinity where its own has diverged, infinity where the other's alone has."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(other / own).fillna(-np.inf)


def rms(values: np.ndarray) -> float:
    """Root mean square; not a number where there are no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else np.nan


def diverged(table: pd.DataFrame) -> int:
    """How many members have diverged."""
    return int(np.isinf(table["cost"]).groupby(table["member"].to_numpy()).any().sum())


def wiggle(costs: pd.Series) -> pd.Series:
    """ln(cost) against its running mean over 9 passes, from pass 13 on, where curves are nearly straight, until the run diverges.

    Args:
        costs: in the order of the passes.
    """
    late = np.log(costs.iloc[12:].replace(np.inf, np.nan))
    return late - late.rolling(9, center=True, min_periods=1).mean()
