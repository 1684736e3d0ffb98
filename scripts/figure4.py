"""Draws figure 4, the loss of a variational autoencoder over the step size, and judges it against the published points.

The layout is the paper's: a row for each beta1, a column for each beta2, after 10 passes (experiment fig4) on the left and after 100
(fig4_100) on the right; below them, as our addition, AdaMax and RMSProp with momentum after 10 passes. A published loss of 400 stands
for a run that diverged. Beside the figures folder go fig4_points.csv, with a line for each published point and the difference in
nats, and fig4_claims.csv, with what section 6.4 says, judged in every cell.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import plots
from curves import REFERENCE, RESULTS, rms, runs

EXPERIMENTS = {10: "fig4", 100: "fig4_100"}  # by the number of passes
BETA1S, BETA2S = (0.0, 0.9), (0.99, 0.999, 0.9999)
LOSSES = (95, 140)  # the paper's axis
DIVERGED = 400.0
EXPLODED = 1e10  # nats, the mean over a pass; see report.md: a bound that was set after the paper's 400s and ours had been compared
NOISE = 0.5  # nats: two losses nearer than that count as equal, for rounding alone moves single ones as far
SETTINGS = ["epochs", "beta1", "beta2", "bias_correction", "alpha"]
COLOURS = {True: "#D55E00", False: "#009E73"}
COLOURS_ALONE = {("AdaMax", True): plots.COLOURS["AdaMax"], ("AdaMax", False): "#882255", ("RMSProp", False): plots.COLOURS["RMSProp"]}


def published() -> pd.DataFrame:
    """The paper's points: the columns of SETTINGS, `loss` and `kind`."""
    table = pd.read_csv(RESULTS / "published" / "fig4.csv")
    return table.assign(bias_correction=table["bias_correction"].astype(bool), alpha=[float(f"{alpha:.0e}") for alpha in table["alpha"]])


def measured(table: pd.DataFrame, reading: str = "cost") -> pd.DataFrame:
    """Ours in the same columns and `optimizer`, `seed`, `peak`, from the rows of runs; losses are infinite where one diverged.

    They are the means over the last of the passes, before each step, unless `reading` names another column, such as `train_cost`. The
    peak is that of the passes, as `sweeps` has it.
    RMSProp's momentum and rho stand under beta1 and beta2; its alpha is lr / (1 - momentum), the length of its steps in the long run.
    """
    table = table[table["pass"].isin(EXPERIMENTS)].reset_index(drop=True)
    given = pd.DataFrame([dict(item.split("=") for item in text.split()) for text in table["hyperparameters"]])
    given = given.reindex(columns=["lr", "beta1", "beta2", "bias_correction", "momentum", "rho"])
    momentum = given["momentum"].astype(float)
    return pd.DataFrame(
        {
            "optimizer": table["optimizer"],
            "epochs": table["pass"],
            "beta1": given["beta1"].astype(float).fillna(momentum),
            "beta2": given["beta2"].astype(float).fillna(given["rho"].astype(float)),
            "bias_correction": given["bias_correction"] == "True",
            "alpha": [float(f"{alpha:.6g}") for alpha in given["lr"].astype(float) / (1 - momentum.fillna(0))],
            "seed": table["seed"],
            "loss": table[reading].where(np.isfinite(table["cost"]), np.inf),
            "peak": table.get("peak"),
        }
    )


def mean_over_seeds(losses: pd.DataFrame) -> pd.DataFrame:
    """The columns of SETTINGS and `loss`; infinite where a seed has diverged."""
    return losses.groupby(SETTINGS)["loss"].mean().reset_index()


def points(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """A line for each published point that Adam has: both losses (ours the mean over seeds), which diverged, the difference in nats.

    `ours_peak` is the largest mean cost of a pass, and tells those too that were as good as lost, and came back.

    The difference is taken where neither diverged and the published point is a plotted one.
    """
    adam = ours[ours["optimizer"] == "Adam"]
    mean = mean_over_seeds(adam).rename(columns={"loss": "ours"})
    both = (
        paper.rename(columns={"loss": "published"})
        .merge(mean, on=SETTINGS)
        .join(adam.groupby(SETTINGS)["peak"].max().rename("ours_peak"), on=SETTINGS)
    )
    both["published_diverged"] = np.isclose(both["published"], DIVERGED, atol=0.1)  # recovered from the direction of a line
    both["ours_diverged"] = np.isinf(both["ours"])
    judged = both["kind"].str.startswith("plotted") & ~both["published_diverged"] & ~both["ours_diverged"]
    both["difference"] = (both["ours"] - both["published"]).where(judged)
    return both


def agreement(both: pd.DataFrame) -> pd.Series:
    """How far a table of points is from the paper's, in numbers.

    Returns:
        `points`; `compared`, those with a difference; `median`, `largest`: of its size, in nats; `rms_log_ratio`, `largest_log_ratio`: of
        ln(ours / paper) at the same points; `divergence`, `on_axis`: shares of the points at which we and the paper agree whether the
        loss has diverged, and whether it lies on the paper's axis; `explosion`: as `divergence`, where a peak above EXPLODED
        counts as diverged.
    """
    differences, ratios = both["difference"].abs().dropna(), np.log(both["ours"] / both["published"]).where(both["difference"].notna())
    return pd.Series(
        {
            "points": float(len(both)),
            "compared": float(len(differences)),
            "median": differences.median(),
            "largest": differences.max(),
            "rms_log_ratio": rms(ratios.dropna()),
            "largest_log_ratio": ratios.abs().max(),
            "divergence": (both["published_diverged"] == both["ours_diverged"]).mean(),
            "explosion": (both["published_diverged"] == (both["ours_peak"] > EXPLODED)).mean(),
            "on_axis": ((both["published"] <= LOSSES[1]) == (both["ours"] <= LOSSES[1])).mean(),
        }
    )


def summary(both: pd.DataFrame) -> str:
    """The table of points in a sentence."""
    found = agreement(both)
    return (
        f"{found['points']:.0f} points, {found['compared']:.0f} of them to compare: median difference {found['median']:.2f} nats, "
        f"largest {found['largest']:.2f}; divergence agrees in {found['divergence']:.1%}, in {found['explosion']:.1%} if runs count that "
        f"exploded and came back; whether the loss lies on the paper's axis in {found['on_axis']:.1%}"
    )


def claims(losses: pd.DataFrame) -> pd.DataFrame:
    """What section 6.4 says of bias correction, judged in every cell of betas and epochs of one optimizer.

    Args:
        losses: the columns of SETTINGS and `loss`; what has diverged is infinite or 400.

    Returns:
        `claim`, `epochs`, `beta1`, `beta2`, `alpha`, `corrected`, `uncorrected`, `holds`. The two numbers are what is compared:
        losses in nats, or for stability the largest alpha whose loss lies within the paper's axis. Losses nearer than NOISE are equal.
    """
    losses = losses.assign(loss=losses["loss"].mask(losses["loss"] >= DIVERGED - 1, np.inf))
    lines = []

    def judge(claim, cell, corrected, uncorrected, holds, alpha=None):
        epochs, beta1, beta2 = cell
        given = {"epochs": epochs, "beta1": beta1, "beta2": beta2, "alpha": alpha, "corrected": corrected, "uncorrected": uncorrected}
        lines.append({"claim": claim, **given, "holds": bool(holds)})

    for (epochs, beta1), row in losses.groupby(["epochs", "beta1"]):
        most_before = 1.0  # how many times as large alpha can be with correction
        for beta2, cell in row.groupby("beta2"):
            place = epochs, beta1, beta2
            with_it, without = (cell[cell["bias_correction"] == c].set_index("alpha")["loss"] for c in (True, False))
            for alpha in with_it.index.intersection(without.index):
                corrected, uncorrected = with_it[alpha], without[alpha]
                judge("never worse, at every alpha", place, corrected, uncorrected, corrected <= uncorrected + NOISE, alpha)
            judge("never worse, each at its best alpha", place, with_it.min(), without.min(), with_it.min() <= without.min() + NOISE)
            largest, other = (max(kind.index[kind <= LOSSES[1]], default=0.0) for kind in (with_it, without))
            stable = largest / other if other else np.inf
            judge("without it the instability grows with beta2", place, largest, other, stable >= most_before)
            most_before = max(most_before, stable)
        small = row[(row["beta2"] > BETA2S[0]) & row["bias_correction"]]
        best, rest = small.loc[small["loss"].idxmin()], row.drop(small.index)["loss"].min()
        judge("best with it and small 1 - beta2", (epochs, beta1, None), best["loss"], rest, best["loss"] <= rest + NOISE)
    return pd.DataFrame(lines)


def all_claims(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The claims judged on the paper's own points, and on ours for Adam and AdaMax, one below the other: with a column `whose`."""
    kinds = {"the paper's points, Adam": paper.assign(seed=0)}
    kinds |= {f"ours, {name}": ours[ours["optimizer"] == name] for name in ("Adam", "AdaMax")}
    judged = {whose: claims(mean_over_seeds(losses)) for whose, losses in kinds.items() if len(losses)}
    table = pd.concat([lines.assign(whose=whose, seeds=kinds[whose]["seed"].nunique()) for whose, lines in judged.items()])
    return table[["whose", *(column for column in table if column != "whose")]]


def draw_losses(axis: Axes, losses: pd.DataFrame, **style) -> None:
    """One line over log10(alpha); what diverged stands as a cross on the upper edge."""
    losses = losses.groupby("alpha")["loss"].mean().replace(np.inf, DIVERGED)
    axis.plot(np.log10(losses.index), losses, **style)
    lost = losses.index[losses >= DIVERGED]
    cross = {"linestyle": "", "marker": "x", "color": style["color"], "clip_on": False, "in_layout": False}
    axis.plot(np.log10(lost), np.full(len(lost), LOSSES[1]), **cross)


def draw_panel(axis: Axes, ours: pd.DataFrame, paper: pd.DataFrame) -> None:
    """One cell of betas after so many epochs: ours in colour, the paper's points black."""
    for corrected, colour in COLOURS.items():
        black = {"color": "black", "marker": "o", "fillstyle": "full" if corrected else "none", "markersize": 3}
        draw_losses(axis, paper[paper["bias_correction"] == corrected], **black, linewidth=0.6, linestyle="--")
        draw_losses(axis, ours[ours["bias_correction"] == corrected], color=colour, linewidth=1.6, marker=".")


def draw_ours_alone(axis: Axes, ours: pd.DataFrame, optimizer: str, beta2: float) -> None:
    """What the paper does not have: AdaMax or RMSProp with one beta2, and Adam's corrected line in grey to compare with."""
    cell = ours[(ours["beta2"] == beta2) & (ours["epochs"] == 10)]
    adam = cell[(cell["optimizer"] == "Adam") & cell["bias_correction"] & (cell["beta1"] == 0.9)]
    draw_losses(axis, adam, color="grey", linewidth=4, alpha=0.4)
    cell = cell[cell["optimizer"] == optimizer]
    for (beta1, corrected), line in cell.groupby(["beta1", "bias_correction"]):
        draw_losses(axis, line, color=COLOURS_ALONE[optimizer, corrected], linewidth=1.6, marker=".", linestyle="-" if beta1 else ":")
    letter = r"$\rho$" if optimizer == "RMSProp" else r"$\beta_2$"
    axis.set_title(f"{optimizer}, after 10 passes\n{letter}={beta2}", fontsize=9)


def draw(ours: pd.DataFrame, title: str, stem: Path) -> None:
    """Draws all panels to stem.png and stem.svg."""
    paper = published()
    others = [optimizer for optimizer in ("AdaMax", "RMSProp") if (ours["optimizer"] == optimizer).any()]
    rows = 3 if others else 2
    figure, axes = plots.plt.subplots(rows, 6, figsize=(14, 0.5 + 2.6 * rows), sharex=True, sharey=True, layout="constrained")
    adam = ours[ours["optimizer"] == "Adam"]
    for row, beta1 in enumerate(BETA1S):
        for column, (epochs, beta2) in enumerate((epochs, beta2) for epochs in EXPERIMENTS for beta2 in BETA2S):
            cell = [t[(t["epochs"] == epochs) & (t["beta1"] == beta1) & (t["beta2"] == beta2)] for t in (adam, paper)]
            draw_panel(axes[row, column], *cell)
            axes[0, column].set_title(f"after {epochs} passes\n$\\beta_2$={beta2}", fontsize=9)
            if row == 1 and cell[0].empty:
                axes[row, column].text(-3, 132, "100 passes: not run yet" if epochs == 100 else "not run", ha="center", fontsize=7)
        axes[row, 0].set_ylabel(f"Adam, $\\beta_1$={beta1}\nloss, nats per image")
    for column, (optimizer, beta2) in enumerate((o, beta2) for o in ("AdaMax", "RMSProp") for beta2 in BETA2S):
        if others:
            draw_ours_alone(axes[2, column], ours, optimizer, beta2)
            axes[2, 0].set_ylabel("not in the paper\nloss, nats per image")
    for axis in axes.flat:
        axis.set(xlim=(-5, -1), ylim=LOSSES)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("$\\log_{10}\\alpha$")
    handles = [plots.plt.Line2D([], [], color=COLOURS[corrected]) for corrected in (True, False)]
    handles += [plots.plt.Line2D([], [], color="black", marker="o", fillstyle=style, linestyle="--") for style in ("full", "none")]
    handles += [plots.plt.Line2D([], [], color="black", marker="x", linestyle="")]
    labels = ["Adam, bias corrected", "Adam, not corrected", "the paper's, corrected", "the paper's, not corrected", "diverged"]
    if others:
        handles += [plots.plt.Line2D([], [], color=colour) for colour in COLOURS_ALONE.values()]
        handles += [plots.plt.Line2D([], [], color="black", linestyle=":"), plots.plt.Line2D([], [], color="grey", linewidth=4, alpha=0.4)]
        labels += ["AdaMax, corrected", "AdaMax, not corrected", "RMSProp", "AdaMax with $\\beta_1$=0", "Adam, $\\beta_1$=0.9, corrected"]
    figure.legend(handles, labels, ncols=5, loc="outside lower center", fontsize=8)
    figure.suptitle(title, fontsize=9)
    plots.save(figure, stem)


def main() -> None:
    """Draws the sweeps that there are, and judges those at full scale on real data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, instead of the tracked ones; figure and tables go there too")
    arguments = parser.parse_args()
    for settings in ("paper", "quick"):
        report(arguments.runs or REFERENCE, arguments.runs or RESULTS, settings)


def report(source: Path, folder: Path, settings: str) -> None:
    """Draws the sweeps with these settings into folder/figures, and judges them if they are the paper's, on real data."""
    table, suffix = sweeps(source, settings), "" if settings == "paper" else f"_{settings}"
    standin = table.empty
    if standin:
        table, suffix = sweeps(source / "standin", settings), f"{suffix}_standin"
    if table.empty:
        print(f"fig4: no complete run of settings={settings} without overrides in {source}: nothing to draw")
        return
    ours = measured(table)
    seeds = ours["seed"].nunique()
    title = f"settings={settings}, {seeds} seed{'s' * (seeds > 1)}{'; STAND-IN DATA' * standin}"
    if settings == "quick":
        title += ": fewer images, not to be compared with the paper's points"
    draw(ours, title, folder / "figures" / f"fig4{suffix}")
    if not suffix:
        both = points(ours, published())
        both.to_csv(folder / "fig4_points.csv", index=False, float_format="%.6g")
        judged = all_claims(ours, published())
        judged.to_csv(folder / "fig4_claims.csv", index=False, float_format="%.6g")
        print(summary(both))
        print(judged.groupby(["claim", "whose", "epochs"])["holds"].agg(["sum", "count"]).to_string())


def sweeps(source: Path, settings: str) -> pd.DataFrame:
    """The rows after 10 passes of the runs of fig4, and those after 100 of fig4_100, with `peak`, the largest cost until then."""
    tables = []
    for passes, experiment in EXPERIMENTS.items():
        table = runs(source, experiment, settings)
        if not table.empty:
            table = table[table["pass"] <= passes]
            members = [table[key] for key in ("optimizer", "seed", "hyperparameters")]
            peak = table["cost"].groupby(members).transform("max")
            tables.append(table.assign(peak=peak)[table["pass"] == passes])
    return pd.concat(tables) if tables else pd.DataFrame()


if __name__ == "__main__":
    main()
