"""Draws Adam's second-moment estimates in figure 3 by layer (section 6.3)."""

from pathlib import Path

from matplotlib import pyplot as plt

from scripts.analysis.runs import configuration, of_optimizer, read_runs
from scripts.figures import panels

EXPERIMENTS = {"fig3": "no dropout", "fig3_dropout": "dropout"}
# The axis is logarithmic: a median of 0 is drawn here.
_SMALLEST = 1e-24


def draw_moments(root: Path, stem: Path) -> None:
    """Draws the median of vhat and the share of coordinates with sqrt(vhat) < eps, by layer, if `root` has runs of Adam."""
    tables = {dropout: of_optimizer(read_runs(root, experiment, "paper"), "Adam") for experiment, dropout in EXPERIMENTS.items()}
    tables = {dropout: table for dropout, table in tables.items() if not table.empty}
    if not tables:
        return
    figure, axes = plt.subplots(1, 2, figsize=(12.8, 4.8), layout="constrained")
    for (dropout, table), style in zip(tables.items(), ("-", "--"), strict=False):
        layers = [column.removeprefix("vhat_") for column in table if column.startswith("vhat_")]
        for number, layer in enumerate(layers):
            for axis, name in zip(axes, ("vhat", "below_eps"), strict=True):
                mean = table.groupby("x")[f"{name}_{layer}"].mean().clip(lower=_SMALLEST if name == "vhat" else 0)
                axis.plot(mean.index, mean, style, color=f"C{number}", label=f"{layer}, {dropout}")
    axes[0].set(yscale="log", ylabel="median of vhat, squared units of the gradient", title="Adam's second moments, layer by layer")
    eps = {value for experiment in EXPERIMENTS if (value := configuration(root, experiment, "Adam").get("eps"))}
    axes[1].set(ylim=(0, 1), ylabel="share of the coordinates", title=f"sqrt(vhat) < eps = {' and '.join(sorted(eps))}")
    for axis in axes:
        axis.set_xlabel("iterations over entire dataset")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    panels.save(figure, stem)
