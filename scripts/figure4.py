"""Draws figure 4, the loss of a variational autoencoder over the step size, and measures how far it is from the published points.

The layout is the paper's: a row for each beta1, a column for each beta2, after 10 passes on the left and after 100 on the right. A
run of 100 passes gives both. A published loss of 400 stands for a run that diverged. Next to the figure goes fig4_points.csv, with
a line for each published point and the difference in nats.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import plots
from curves import REFERENCE, RESULTS, runs

EPOCHS, BETA1S, BETA2S = (10, 100), (0.0, 0.9), (0.99, 0.999, 0.9999)
LOSSES = (95, 140)
DIVERGED = 400.0
SETTINGS = ["epochs", "beta1", "beta2", "bias_correction", "alpha"]
COLOURS = {True: "#D55E00", False: "#009E73"}


def published() -> pd.DataFrame:
    """The paper's points: the columns of SETTINGS, `loss` and `kind`."""
    table = pd.read_csv(RESULTS / "published" / "fig4.csv")
    return table.assign(bias_correction=table["bias_correction"].astype(bool), alpha=[float(f"{alpha:.0e}") for alpha in table["alpha"]])


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Ours in the same columns, from the rows of a run: the loss after 10 and after 100 passes, not a number where it diverged."""
    table = table[table["pass"].isin(EPOCHS)].reset_index(drop=True)
    given = pd.DataFrame([dict(item.split("=") for item in text.split()) for text in table["hyperparameters"]])
    return pd.DataFrame(
        {
            "epochs": table["pass"],
            "beta1": given["beta1"].astype(float),
            "beta2": given["beta2"].astype(float),
            "bias_correction": given["bias_correction"] == "True",
            "alpha": given["lr"].astype(float),
            "seed": table["seed"],
            "loss": table["cost"].where(np.isfinite(table["cost"])),
        }
    )


def points(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """A line for each published point within our epochs: both losses (ours the mean over seeds), which diverged, the difference in nats.

    The difference is taken where neither diverged and the published point is a plotted one.
    """
    mean = ours.groupby(SETTINGS)["loss"].agg(lambda seeds: seeds.mean(skipna=False)).rename("ours").reset_index()
    both = paper.rename(columns={"loss": "published"}).merge(mean, on=SETTINGS)
    both["published_diverged"] = np.isclose(both["published"], DIVERGED, atol=0.1)  # recovered from the direction of a line
    both["ours_diverged"] = both["ours"].isna()
    judged = both["kind"].str.startswith("plotted") & ~both["published_diverged"]
    both["difference"] = (both["ours"] - both["published"]).where(judged)
    return both


def summary(both: pd.DataFrame) -> str:
    """The table of points in a sentence."""
    distances = both["difference"].abs().dropna()
    agree = (both["published_diverged"] == both["ours_diverged"]).mean()
    return (
        f"{len(both)} points, {len(distances)} of them to compare: median difference {distances.median():.2f} nats, "
        f"largest {distances.max():.2f}; divergence agrees in {agree:.0%}"
    )


def draw_panel(axis: Axes, ours: pd.DataFrame, paper: pd.DataFrame) -> None:
    """One cell of betas after so many epochs: ours in colour, the paper's points black; what diverged stands on the upper edge."""
    for corrected, colour in COLOURS.items():
        for table, style in (
            (
                paper,
                dict(color="black", marker="o", fillstyle="full" if corrected else "none", markersize=3, linewidth=0.6, linestyle="--"),
            ),
            (ours, dict(color=colour, linewidth=1.6, marker="." if len(ours) else None)),
        ):
            losses = table[table["bias_correction"] == corrected].groupby("alpha")["loss"].agg(lambda seeds: seeds.mean(skipna=False))
            losses = losses.fillna(DIVERGED)
            axis.plot(np.log10(losses.index), losses, **style)
            lost = losses.index[losses >= DIVERGED]
            axis.plot(
                np.log10(lost),
                np.full(len(lost), LOSSES[1]),
                linestyle="",
                marker="x",
                color=style["color"],
                clip_on=False,
                in_layout=False,
            )
    axis.set(xlim=(-5, -1), ylim=LOSSES)
    axis.grid(alpha=0.3)


def draw(table: pd.DataFrame, title: str, stem: Path) -> None:
    """Draws all panels to stem.png and stem.svg."""
    ours, paper = measured(table), published()
    figure, axes = plots.plt.subplots(2, 6, figsize=(14, 5.5), sharex=True, sharey=True, layout="constrained")
    for row, beta1 in enumerate(BETA1S):
        for column, (epochs, beta2) in enumerate((epochs, beta2) for epochs in EPOCHS for beta2 in BETA2S):
            cell = [t[(t["epochs"] == epochs) & (t["beta1"] == beta1) & (t["beta2"] == beta2)] for t in (ours, paper)]
            draw_panel(axes[row, column], *cell)
            if row == 0:
                axes[1, column].set_xlabel("$\\log_{10}\\alpha$")
                axes[row, column].set_title(f"after {epochs} passes\n$\\beta_2$={beta2}", fontsize=9)
        axes[row, 0].set_ylabel(f"$\\beta_1$={beta1}\nloss, nats per image")
    handles = [plots.plt.Line2D([], [], color=COLOURS[corrected]) for corrected in (True, False)]
    handles += [plots.plt.Line2D([], [], color="black", marker="o", fillstyle=style, linestyle="--") for style in ("full", "none")]
    labels = ["bias corrected", "not corrected", "the paper's, corrected", "the paper's, not corrected"]
    figure.legend(handles, labels, ncols=4, loc="outside lower center", fontsize=8)
    figure.suptitle(title, fontsize=9)
    plots.save(figure, stem)


def main() -> None:
    """Draws Adam's sweep, if there is one, and writes its points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, instead of the tracked ones; figure and points go there too")
    arguments = parser.parse_args()
    for settings in ("paper", "quick"):
        report(arguments.runs or REFERENCE, arguments.runs or RESULTS, settings)


def report(source: Path, folder: Path, settings: str) -> None:
    """Draws the sweep with these settings into folder/figures, and writes the points of one at full scale on real data."""
    table, suffix = runs(source, "fig4", settings), "" if settings == "paper" else f"_{settings}"
    standin = table.empty
    if standin:
        table, suffix = runs(source / "standin", "fig4", settings), f"{suffix}_standin"
    table = table[table["optimizer"] == "Adam"] if not table.empty else table
    if table.empty:
        print(f"fig4: no complete run of optimizer=adam settings={settings} without overrides in {source}: nothing to draw")
        return
    seeds = table["seed"].nunique()
    title = f"Adam, settings={settings}, {seeds} seed{'s' * (seeds > 1)}{'; STAND-IN DATA' * standin}"
    draw(table, title, folder / "figures" / f"fig4{suffix}")
    if not suffix:
        both = points(measured(table), published())
        both.to_csv(folder / "fig4_points.csv", index=False, float_format="%.6g")
        print(summary(both))


if __name__ == "__main__":
    main()
