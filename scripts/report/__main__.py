"""Builds the report from the tracked tables and figures alone: results/report.md, and results/report.html in one file for reading.

What stands in it is in scripts/report.md.jinja, how the HTML looks in scripts/report.html.jinja.
"""

import argparse
import base64
import re
from functools import cache, partial
from pathlib import Path

import jinja2
import markdown
import numpy as np
import pandas as pd

from data.files import atomic_write
from experiments.records import display_path
from scripts.analysis import figure4
from scripts.analysis.distances import EQUAL, geometric_mean, log_ratios
from scripts.analysis.published import RESULTS, panels, paper_curves, published
from scripts.analysis.runs import REFERENCE, canonical_runs, configuration, read_runs
from scripts.analysis.tuning import TUNING, read_tuning
from scripts.arguments import one_sentence_errors
from scripts.claims.figure4 import OURS, PAPER
from scripts.claims.judging import FAILS, HOLDS, LEARNING_RATES, OPEN, SEEDS
from scripts.report.oddities import all_oddities
from scripts.tables import all_tables

# A large margin is at least this lead.
LARGE = 0.1
# Distances that this project aims at: of half of the series, and of every one.
AIM, LIMIT = 0.05, 0.25
# Other bounds than figure4.EXPLODED for what exploded, in nats: beyond the last lies what has diverged alone.
BOUNDS = (1e3, 1e9, 1e11, 1e12)
# The last passes of figure 2a, over which its wiggle averages out.
LATE = 30
PANEL_COLUMNS = {
    "panel": "panel",
    "series": "series run",
    "points": "points compared",
    "seeds": "seeds",
    "lowest": "closest series",
    "median": "median",
    "highest": "farthest",
}


def table(frame: pd.DataFrame, names: dict[str, str]) -> str:
    """A Markdown table of the columns that `names` names, under the names that it gives; numbers to three digits, empty where missing."""
    rows = [list(names.values()), ["---"] * len(names), *([cell(row[column]) for column in names] for _, row in frame.iterrows())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cell(value) -> str:
    """The text of a table's cell."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"
    return "" if pd.isna(value) else str(value).replace("|", "\\|")


def headline(agreement: pd.DataFrame, verdicts: pd.DataFrame, points: pd.DataFrame) -> dict:
    """Numbers of the report's text, named as in the template."""
    distinct = agreement[agreement["panel"] != "fig2b_bottom"].drop_duplicates(["experiment", "optimizer"], keep="last")
    distance = distinct["rms_log_ratio"]
    drawn = [(panel.experiment, name) for panel in panels() for name in published(panel)["optimizer"].unique()]
    return {
        "series": len(drawn),
        "of_distinct": len(set(drawn)),
        "with_runs": len(agreement),
        "distinct": len(distinct),
        "median": distance.median(),
        "within_aim": int((distance <= AIM).sum()),
        "beyond_limit": ", ".join(distinct.loc[distance > LIMIT, "series"]) or "none",
        "parts": int((agreement["panel"] == "fig3_right").sum()),
        "of_figure_3": int(agreement.loc[agreement["panel"] == "fig3_right", "passes"].max()),
        "aim": AIM,
        "limit": LIMIT,
        "figure4": figure4.summary(points),
        "figure4_passes": " and ".join(str(passes) for passes in sorted(points["epochs"].unique())),
        "claims": counted(verdicts),
    }


def counted(verdicts: pd.DataFrame) -> str:
    """How many of the paper's claims hold, in a sentence; our own are left out."""
    papers = verdicts[~verdicts["claim"].str.startswith("Ours")]
    holds, fails, learning_rates, seeds, waiting = (
        int((papers["verdict"] == each).sum()) for each in (HOLDS, FAILS, LEARNING_RATES, SEEDS, OPEN)
    )
    return (
        f"Of {len(papers)} claims, {holds} hold under every setting, {fails} fail, {learning_rates} depend on the learning rates, "
        f"{seeds} depend{'s' * (seeds == 1)} on the seed, and {waiting} were not run far enough."
    )


def by_panel(agreement: pd.DataFrame) -> pd.DataFrame:
    """A line for each panel: how many of its series and plotted points we have run, with how many seeds, and their distances."""
    lines = []
    for panel in dict.fromkeys(panel.published for panel in panels()):
        ours = agreement[agreement["panel"] == panel]
        if ours.empty:
            continue
        paper = pd.concat([published(one) for one in panels() if one.published == panel])
        points = f"{ours['points'].sum()} of {(paper['kind'] == 'plotted').sum()}"
        line = {
            "panel": panel,
            "series": f"{len(ours)} of {paper['series'].nunique()}",
            "points": points,
            "seeds": int(ours["seeds"].min()),
        }
        distance = ours["rms_log_ratio"]
        lines.append(line | {"lowest": distance.min(), "median": distance.median(), "highest": distance.max()})
    return pd.DataFrame(lines)


def distance(agreement: pd.DataFrame, panel: str, optimizer: str, reading: str = "rms_log_ratio") -> float:
    """How far our curve of one series is from the paper's.

    Args:
        agreement: results/agreement.csv.
        reading: the column; rms_evaluated, rms_with_penalty and rms_after_the_pass tell when the cost may have been taken.
    """
    series = agreement[(agreement["panel"] == panel) & (agreement["optimizer"] == optimizer)]
    return series[reading].item()


@cache
def our_curve(root: Path, experiment: str, optimizer: str, settings: str) -> pd.Series:
    """The costs of a run under `root` by x; geometric mean over seeds."""
    return geometric_mean(read_runs(root, experiment, settings).query("optimizer == @optimizer"))


def ours(experiment: str, optimizer: str, x: int | None = None, settings: str = "paper") -> float:
    """The cost of a tracked run at x, or at its end."""
    curve = our_curve(REFERENCE, experiment, optimizer, settings)
    return curve.iloc[-1] if x is None else curve[x]


def theirs(experiment: str, optimizer: str, x: int | None = None) -> float:
    """The paper's cost at x, or at the end of the curve; Adam's in figure 2b in its second reading."""
    curve = paper_curves(experiment).query("optimizer == @optimizer").set_index("x")["y"].sort_index()
    return curve.iloc[-1] if x is None else curve[x]


def apart(experiment: str, optimizer: str, first: int, last: int) -> str:
    """How far a tracked run is from the paper's curve at most between two x, as a percentage of the curve."""
    return f"{max(abs(ours(experiment, optimizer, x) / theirs(experiment, optimizer, x) - 1) for x in range(first, last + 1)):.0%}"


def dropouts_share(root: Path) -> str:
    """How many times the cost with the noise on is that with it off in figure 2a, over its optimizers, after 10 passes and at the end."""
    table = read_runs(root, "fig2a", "paper").query("optimizer != 'SFO'")
    shares = (table["cost"] / table["train_cost"]).groupby(table["pass"]).agg(["min", "max"])
    return " and of ".join(f"{least:.0f} to {most:.0f} after {passes} passes" for passes, least, most in shares.iloc[[9, -1]].itertuples())


def late_gaps(root: Path) -> dict[str, float]:
    """By optimizer of figure 2a, the mean of ln(ours / paper) over the last LATE passes, for the runs under `root`."""
    ours, paper = (table.groupby("optimizer") for table in (read_runs(root, "fig2a", "paper"), published("fig2a")))
    return {name: log_ratios(geometric_mean(ours.get_group(name)), curve)[-LATE:].mean() for name, curve in paper}


def separable() -> pd.DataFrame:
    """AdaGrad's final cost on IMDB without dropout, by its constant step size `lr`."""
    table = read_tuning(TUNING / "fig1_right_no_dropout.csv").query("optimizer == 'AdaGrad'")
    grid = table[table["schedule"].isna()]  # as it is tracked
    return grid.assign(lr=grid["lr"].astype(float))


def chance_in_figure_3() -> str:
    """How far the runs of `best` are from the members of the grid with the same step size, at most, as a percentage of the cost."""
    apart = []
    for experiment in ("fig3", "fig3_dropout"):
        grid = read_tuning(TUNING / f"{experiment}.csv").query("settings == 'grid'")
        for optimizer, members in grid.groupby("optimizer"):
            step_size = float(configuration(REFERENCE, experiment, optimizer, "best")["lr"])
            same = members[members["lr"].astype(float) == step_size]
            apart += list((ours(experiment, optimizer, same["passes"].max() - 1, "best") / same["cost"] - 1).abs())
    return f"{max(apart):.0%}"


def moments_by_layer(root: Path) -> pd.DataFrame:
    """Adam's vhat by layer after the last pass of the runs of figure 3 under `root`: its median, and the share that eps decides."""
    tables = []
    for experiment in ("fig3", "fig3_dropout"):
        adam = read_runs(root, experiment, "paper").query("optimizer == 'Adam'")
        last = adam[adam["pass"] == adam["pass"].max()]
        layers = pd.wide_to_long(last, ["vhat", "below_eps"], i=["seed", "pass"], j="layer", sep="_", suffix=".+")
        means = layers.groupby(["pass", "layer"], sort=False)[["vhat", "below_eps"]].mean()
        tables.append(means.reset_index().assign(experiment=experiment))
    return pd.concat(tables)


def sweep_in_numbers(points: pd.DataFrame, judged: pd.DataFrame) -> dict:
    """Numbers of the text on figure 4, named as in the template.

    Args:
        points: fig4_points.csv.
        judged: fig4_claims.csv.
    """
    lost = points[points["published_diverged"]]
    came_back = ~points["ours_diverged"] & (points["ours_peak"] > figure4.EXPLODED)
    at_best = judged[judged["claim"] == "never worse, each at its best alpha"]
    at_best = at_best.assign(gain=at_best["corrected"] - at_best["uncorrected"])
    return {
        "farthest": points.loc[points["difference"].abs().idxmax()],
        "lost": len(lost),
        "lost_too": int(lost["ours_diverged"].sum()),
        "lost_and_back": int((came_back & points["published_diverged"]).sum()),
        "back": int((came_back & ~points["published_diverged"]).sum()),
        "lost_alone": int((points["ours_diverged"] & ~points["published_diverged"]).sum()),
        "explosion": figure4.agreement(points)["explosion"],
        "by_bound": {bound: (points["published_diverged"] == (points["ours_peak"] > bound)).mean() for bound in BOUNDS},
        "left": ", ".join(f"{loss:.0f}" for loss in sorted(lost["ours"]) if np.isfinite(loss)),
        "at_best": {who: at_best[at_best["whose"] == who] for who in (OURS, PAPER)},
        "adamax_gains": at_best.query("whose == 'ours, AdaMax' and epochs == 10 and gain > @figure4.NOISE"),
    }


def moved_by_precision(root: Path) -> pd.DataFrame:
    """Adam's losses after 10 passes in the runs of 10 passes, beside those in the runs of 100, whose products are bfloat16.

    Returns:
        `apart`: the distance in nats, where neither diverged; `alone`: whether one diverged and the other did not. Empty where one of
        the two was not run.
    """
    runs = [run for experiment in figure4.EPOCHS for run in canonical_runs(root, experiment, "paper") if run.optimizer == "Adam"]
    if len(runs) < 2:
        return pd.DataFrame()
    short, long = (figure4.measured(figure4.rows_after(run, 10)) for run in runs)
    both = short.merge(long, on=["seed", *figure4.SETTINGS], suffixes=("", "_rounded"))
    lost, lost_rounded = np.isinf(both["loss"]), np.isinf(both["loss_rounded"])
    return both.assign(alone=lost != lost_rounded, apart=(both["loss_rounded"] - both["loss"]).abs().where(~lost & ~lost_rounded))


def by_cell(points: pd.DataFrame) -> pd.DataFrame:
    """How far figure 4 is from the paper's, for each number of passes and for each of its panels."""
    keys = ["epochs", "beta1", "beta2"]
    tables = [points.groupby(keys[:depth])[list(points)].apply(figure4.agreement).reset_index() for depth in (1, 3)]
    table = pd.concat(tables)[[*keys, *tables[0].columns.drop("epochs")]]
    return table.assign(**{beta: table[beta].map("{:g}".format, na_action="ignore") for beta in keys[1:]})


def survival(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims on rankings that were judged with both settings, side by side, each beside the paper's own number at the same pass."""
    ranked = claims[claims["quantity"].str.startswith(("lead", "training cost over")) & claims["settings"].isin(["paper", "best"])]
    wide = ranked.pivot(index="claim", columns="settings", values=["paper", "value", "verdict"])
    wide.columns = [f"{settings}_{what}" for what, settings in wide.columns]
    wide = wide.dropna(subset=["paper_verdict", "best_verdict"]).reset_index()
    return ranked.drop_duplicates("claim")[["section", "claim"]].merge(wide, on="claim")


def render(tables: dict[str, pd.DataFrame]) -> str:
    """Returns the report in Markdown.

    Args:
        tables: from `all_tables`, of the tracked runs.
    """
    read = {
        name: tables[name]
        for name in ("agreement", "ranks", "passes_to_cost", "claims", "verdicts", "unknowns", "fig4_points", "final_costs")
    }
    read["race"] = tables["fig2b_race"]
    memory = pd.read_csv(RESULTS / "sfo_memory.csv")
    read["sfo_memory"] = memory.assign(MiB=(memory["bytes"] / 2**20).round(), minibatches=memory["minibatches"].astype(float))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"table": table, "digits": "{:.2g}".format}
    unknown = read["unknowns"].set_index(["panel", "optimizer", "setting"])
    return environment.get_template("report.md.jinja").render(
        **read,
        headline=headline(read["agreement"], read["verdicts"], read["fig4_points"]),
        by_panel=table(by_panel(read["agreement"]), PANEL_COLUMNS),
        survival=survival(read["claims"]),
        chance_in_figure_3=chance_in_figure_3(),
        separable=separable(),
        by_cell=by_cell(read["fig4_points"]),
        distance=partial(distance, read["agreement"]),
        ours=ours,
        theirs=theirs,
        apart=apart,
        unknown=lambda *setting: unknown.loc[setting],
        dropouts_share=dropouts_share(REFERENCE),
        late_gaps=late_gaps(REFERENCE),
        moments_by_layer=moments_by_layer(REFERENCE),
        sweep=sweep_in_numbers(read["fig4_points"], tables["fig4_claims"]),
        moved=moved_by_precision(REFERENCE),
        setting=partial(configuration, REFERENCE),
        equal=EQUAL,
        noise=figure4.NOISE,
        exploded=figure4.EXPLODED,
        large=LARGE,
        oddities=all_oddities(),
    )


def to_html(text: str, folder: Path) -> str:
    """The report as one HTML file: figures embedded, tables to be sorted by a click, nothing loaded from elsewhere.

    Args:
        text: in Markdown; links are relative to `folder`.
        folder: the report's own.
    """
    text = text.replace("\n## ", "\n[TOC]\n\n## ", 1)
    body = markdown.markdown(text, extensions=["tables", "toc", "sane_lists"], extension_configs={"toc": {"toc_depth": "2-3"}})
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")

    def embed(match: re.Match) -> str:
        return f'src="data:image/png;base64,{base64.b64encode((folder / match[1]).read_bytes()).decode()}"'

    body = re.sub(r'src="([^":]+\.png)"', embed, body)
    template = jinja2.Template((Path(__file__).parent / "report.html.jinja").read_text())
    return template.render(title=text.partition("\n")[0].removeprefix("# "), body=body)


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    with one_sentence_errors():
        text = render(all_tables(REFERENCE))
        for name, content in (("report.md", text), ("report.html", to_html(text, RESULTS))):
            with atomic_write(RESULTS / name) as part:
                part.write_text(content)
            print(f"wrote {display_path(RESULTS / name)}")


if __name__ == "__main__":
    main()
