"""The numbers in the report's text, from the tables and the runs."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from experiments.records import catalogue
from scripts.analysis import figure4
from scripts.analysis.distances import EQUAL, geometric_mean
from scripts.analysis.published import RESULTS, last_shown, main_panel, panels, paper_curves, published
from scripts.analysis.runs import REFERENCE, configuration, read_runs, sfo_memory
from scripts.claims.judging import FAILS, HOLDS, LEARNING_RATES, OPEN, SEEDS, stated
from scripts.report.oddities import oddities

# Titles of panels, by the files of their published curves.
PANELS = {
    "fig1_left": "Figure 1, MNIST",
    "fig1_right": "Figure 1, IMDB",
    "fig2a": "Figure 2a",
    "fig2b_top": "Figure 2b, by epochs",
    "fig2b_bottom": "Figure 2b, by time",
    "fig3_left": "Figure 3, first epochs",
    "fig3_right": "Figure 3, all epochs",
}
# Our targets: the number of seeds, and rms log ratios for half of the series and for all.
ENOUGH_SEEDS, AIM, LIMIT = 5, 0.045, 0.25
WORDS = {HOLDS: "holds", FAILS: "fails", LEARNING_RATES: "depends on tuning", SEEDS: "depends on the seed", OPEN: "untested"}


def context(tables: dict[str, pd.DataFrame]) -> dict:
    """Returns the variables of the templates, from the tables of the tracked runs (`scripts.tables.all_tables`)."""
    agreement, points, verdicts = tables["agreement"], tables["fig4_points"], tables["verdicts"]
    unknown = tables["unknowns"].set_index(["panel", "optimizer", "setting"])
    memory = sfo_memory()
    return {
        **tables,
        "main_claims": main_claims(tables["claims"], verdicts),
        "verdicts": verdicts.assign(word=verdicts["verdict"].map(WORDS)),
        "counted": counted(verdicts),
        "by_panel": by_panel(agreement),
        "distinct": len(distinct(agreement)),
        "median": distinct(agreement)["rms_log_ratio"].median(),
        "aim": AIM,
        "limit": LIMIT,
        "missed": missed(agreement),
        "lacking": missing(tables),
        "range_of": partial(range_of, agreement),
        "of_epochs": {epochs: figure4.agreement(part) for epochs, part in points.groupby("epochs")},
        "by_cell": by_cell(points),
        "lost": lost_points(points),
        "final": partial(final, tables["final_costs"]),
        "survival": survival(tables["claims"]),
        "candidates": lambda *setting: unknown.loc[setting, "candidates"],
        "distance": partial(distance, agreement),
        "ours": ours,
        "theirs": theirs,
        "setting": partial(configuration, REFERENCE),
        "moments": moments_by_layer(REFERENCE),
        "sfo_memory": memory.assign(MiB=(memory["bytes"] / 2**20).round(), minibatches=memory["minibatches"].astype(float)),
        "oddities": oddities(),
        "speedups": speedups(),
        "properties": list(stated("properties")),
        "equal": EQUAL,
        "noise": figure4.NOISE,
    }


def markdown_table(frame: pd.DataFrame, names: dict[str, str]) -> str:
    """Returns a Markdown table with numbers to three digits; `names` are headings by column, in order."""
    rows = [list(names.values()), ["---"] * len(names), *([cell(row[column]) for column in names] for _, row in frame.iterrows())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cell(value: object) -> str:
    """Returns the text of a table's cell; empty for a missing value."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"
    return "" if value is None or pd.isna(value) else str(value).replace("|", "\\|")


def main_claims(claims: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Returns the table of main_claims.yaml: `claim`, `paper`, `ours`, `tuned` (settings=best), `verdict`, `section`.

    If a claim has several measurements under the same settings, the smallest counts.
    """
    lines = []
    for row in yaml.safe_load(Path(__file__).with_name("main_claims.yaml").read_text()):
        judged, measured = verdicts.set_index("claim").loc[row["claims"]], claims[claims["claim"].isin(row["claims"])]
        if measured["quantity"].str.startswith("lead").all():
            measured = measured.assign(value=np.exp(measured["value"]), paper=np.exp(measured["paper"]))
        tuned = measured["settings"] == "best"
        parts = {"paper": measured.loc[~tuned, "paper"], "ours": measured.loc[~tuned, "value"], "tuned": measured.loc[tuned, "value"]}
        least = {name: part.groupby(measured["claim"]).min().reindex(row["claims"]).dropna() for name, part in parts.items()}
        texts = {name: ", ".join(map(row["format"].format, values)) or "-" for name, values in least.items()}
        texts |= {"paper": row["paper"]} if "paper" in row else {}
        verdict = ", ".join(dict.fromkeys(judged["verdict"].map(WORDS)))
        lines.append({"claim": row["text"], **texts, "verdict": verdict, "section": judged["section"].iloc[0]})
    return pd.DataFrame(lines)


def counted(verdicts: pd.DataFrame) -> str:
    """Returns a sentence with the number of the paper's claims by verdict; excludes our own claims."""
    found = verdicts[~verdicts["claim"].str.startswith("Ours")]["verdict"]
    ends = {HOLDS: " under every setting", FAILS: "", LEARNING_RATES: " on the learning rates", SEEDS: " on the seed", OPEN: " untested"}
    verbs = {HOLDS: ("holds", "hold"), FAILS: ("fails", "fail"), OPEN: ("is", "are")}
    parts = []
    for verdict, end in ends.items():
        number, (singular, plural) = int((found == verdict).sum()), verbs.get(verdict, ("depends", "depend"))
        parts.append(f"{number} {singular if number == 1 else plural}{end}")
    return f"Of {len(found)} claims, {', '.join(parts[:-1])}, and {parts[-1]}."


def by_panel(agreement: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per panel: the series, seeds, epochs and points that we ran, and their distances to the paper's."""
    lines = []
    for name, title in PANELS.items():
        ours, (panel, *others) = agreement[agreement["panel"] == name], [panel for panel in panels() if panel.published == name]
        paper = pd.concat(map(published, (panel, *others)))
        plotted = paper[paper["kind"] == "plotted"]
        if len(ours):
            runs, distance = ours["epochs"].agg(["min", "max"]).unique(), ours["rms_log_ratio"]
            complete = panel.by_time or runs[0] > last_shown(panel)
            facts = {"panel": title, "series": f"{len(ours)} of {paper['series'].nunique()}", "seeds": int(ours["seeds"].min())}
            facts |= {"epochs": " to ".join(map(str, runs)) + f" of {plotted['x'].max() + 1:.0f}" * (not complete), "complete": complete}
            facts |= {"points": f"{ours['points'].sum()} of {len(plotted)}"}
            lines.append(facts | {"lowest": distance.min(), "median": distance.median(), "highest": distance.max()})
    return pd.DataFrame(lines)


def range_of(agreement: pd.DataFrame, *names: str) -> str:
    """Returns the smallest and largest distance in some panels: `0.007 to 0.044`."""
    found = agreement.loc[agreement["panel"].isin(names), "rms_log_ratio"]
    return f"{found.min():.2g} to {found.max():.2g}"


def distinct(agreement: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of each curve once: by epochs, not by time, and figure 3's over all epochs."""
    return agreement[~agreement["panel"].isin(["fig2b_bottom", "fig3_left"])]


def missed(agreement: pd.DataFrame) -> str:
    """Returns the curves whose distance exceeds LIMIT."""
    far = distinct(agreement).query("rms_log_ratio > @LIMIT")
    return ", ".join(f"{row.series} in {PANELS[row.panel]} ({row.rms_log_ratio:.2g})" for row in far.itertuples()) or "none"


def missing(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Returns a sentence each on fewer seeds than ENOUGH_SEEDS, fewer epochs or points than the paper's, and GPUs."""
    shown, best = by_panel(tables["agreement"].query("panel != 'fig3_left'")), tables["final_costs"].query("settings == 'best'")
    shown["panel"] = shown["panel"].map(_plainly)
    seeds = dict(zip(shown["panel"], shown["seeds"], strict=True)) | {"figure 4": figure4.sweeps(REFERENCE, "paper")["seed"].nunique()}
    epochs = {row.panel: row.epochs for row in shown.itertuples() if not row.complete}
    for experiment, tuned in best.groupby("experiment"):
        longest, panel = tuned["epochs"].max(), main_panel(experiment)
        if panel is None:
            continue
        name = f"tuned {_plainly(PANELS[panel.published])}"
        seeds[name] = min(tuned["seeds"].min(), seeds.get(name, ENOUGH_SEEDS))
        if longest <= last_shown(panel):
            epochs[name] = f"{longest} of {published(panel)['x'].max() + 1:.0f}"
    few = [f"{what} ({number})" for what, number in seeds.items() if number < ENOUGH_SEEDS]
    points, published_points = len(tables["fig4_points"]), len(figure4.published())
    devices = {str(session["device"]) for run in catalogue(REFERENCE) for session in run.facts["sessions"]}
    return [
        *([f"Fewer than {ENOUGH_SEEDS} seeds: {', '.join(few)}."] if few else []),
        *([f"Fewer epochs than the paper: {', '.join(f'{what} ({share})' for what, share in epochs.items())}."] if epochs else []),
        *([f"Figure 4: {published_points - points} of the paper's {published_points} points."] if points < published_points else []),
        *([] if any("cuda" in device for device in devices) else ["No run was trained on a GPU."]),
    ]


def _plainly(title: str) -> str:
    return title.removesuffix(", all epochs").replace("Figure", "figure")


def final(costs: pd.DataFrame, experiment: str, settings: str = "best") -> pd.Series:
    """Returns the final costs of the paper's optimizers except SFO in an experiment, lowest first, of the longest runs."""
    table = costs[(costs["experiment"] == experiment) & (costs["settings"] == settings) & ~costs["optimizer"].isin(["AdaMax", "SFO"])]
    return table[table["epochs"] == table["epochs"].max()].set_index("optimizer")["cost"].sort_values()


def distance(agreement: pd.DataFrame, panel: str, optimizer: str, reading: str = "rms_log_ratio") -> str:
    """Returns the distance of one series to the paper's, to two digits; `reading` is a column of `analysis.agreement.agreement`."""
    return f"{agreement[(agreement['panel'] == panel) & (agreement['optimizer'] == optimizer)][reading].item():.2g}"


def ours(experiment: str, optimizer: str, x: int | None = None, settings: str = "paper") -> float:
    """Returns the cost of a tracked run at x, by default the last; geometric mean over seeds."""
    curve = geometric_mean(read_runs(REFERENCE, experiment, settings).query("optimizer == @optimizer"))
    return curve.iloc[-1] if x is None else curve[x]


def theirs(experiment: str, optimizer: str, x: int | None = None) -> float:
    """Returns the paper's cost at x, by default the last; for Adam in figure 2b its apparent rescaling is undone."""
    curve = paper_curves(experiment).query("optimizer == @optimizer").set_index("x")["y"].sort_index()
    return curve.iloc[-1] if x is None else curve[x]


def moments_by_layer(root: Path) -> pd.DataFrame:
    """Returns, by layer after the last epoch of figure 3's runs, the median of Adam's vhat and the share with sqrt(vhat) < eps."""
    tables = []
    for experiment in ("fig3", "fig3_dropout"):
        adam = read_runs(root, experiment, "paper").query("optimizer == 'Adam'")
        last = adam[adam["epoch"] == adam["epoch"].max()]
        layers = pd.wide_to_long(last, ["vhat", "below_eps"], i=["seed", "epoch"], j="layer", sep="_", suffix=".+")
        means = layers.groupby(["epoch", "layer"], sort=False)[["vhat", "below_eps"]].mean()
        tables.append(means.reset_index().assign(experiment=experiment))
    return pd.concat(tables)


def speedups() -> pd.Series:
    """Returns how many times as fast as the leanest loop of torch we train, by kind of work, on all cores of the tracked `make bench`."""
    table = pd.read_csv(RESULTS / "bench.csv")
    leanest = table[(table["contestant"] == "torch") & (table["cores"] == table["cores"].max())]
    return leanest.set_index("work")["ratio"].map("{:.1f}x".format)


def lost_points(points: pd.DataFrame) -> dict[str, int]:
    """Returns how many points of figure 4 the paper plots at 400, and how many of ours there diverged, or exploded and recovered."""
    lost = points[points["published_diverged"]]
    back = ~lost["ours_diverged"] & (lost["ours_peak"] > figure4.EXPLODED)
    return {"points": len(lost), "too": int(lost["ours_diverged"].sum()), "back": int(back.sum())}


def by_cell(points: pd.DataFrame) -> pd.DataFrame:
    """Returns the agreement with the paper's figure 4, for each number of epochs and for each panel."""
    keys = ["epochs", "beta1", "beta2"]
    tables = [points.groupby(keys[:depth])[list(points)].apply(figure4.agreement).reset_index() for depth in (1, 3)]
    table = pd.concat(tables)[[*keys, *tables[0].columns.drop("epochs")]]
    return table.assign(**{beta: table[beta].map("{:g}".format, na_action="ignore") for beta in keys[1:]})


def survival(claims: pd.DataFrame) -> pd.DataFrame:
    """Returns the claims on rankings judged under both settings, side by side, with the paper's values."""
    ranked = claims[claims["quantity"].str.startswith(("lead", "training cost over")) & claims["settings"].isin(["paper", "best"])]
    wide = ranked.pivot(index="claim", columns="settings", values=["paper", "value", "verdict"])
    wide.columns = [f"{settings}_{what}" for what, settings in wide.columns]
    wide = wide.dropna(subset=["paper_verdict", "best_verdict"]).replace({OPEN: WORDS[OPEN]}).reset_index()
    return ranked.drop_duplicates("claim")[["section", "claim"]].merge(wide, on="claim")
