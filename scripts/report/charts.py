"""The charts of the interactive page, as Plotly's JSON: our curves and the paper's, for each of the settings."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import escape

from scripts.analysis import figure4
from scripts.analysis.distances import geometric_mean, log_ratios, rms
from scripts.analysis.published import Panel, panels, paper_curves, published, rescaled
from scripts.analysis.runs import REFERENCE, by_time, of_optimizer, read_runs
from scripts.figures.figure4 import COLOURS as CORRECTED
from scripts.figures.panels import COLOURS, Series

LABELS = ("", "ours: ", "paper: ", "ratio: ", "seeds: ")  # of what a point shows
NAMES = {True: "with bias correction", False: "without"}
TITLES = {
    "fig1": "Figure 1: logistic regression",
    "fig2": "Figure 2: multilayer networks on MNIST",
    "fig3": "Figure 3: convolutional networks on CIFAR-10",
    "fig4": "Figure 4: bias correction in a variational autoencoder",
}


def figures() -> list[dict]:
    """Returns the figures of the tracked runs: `id`, `title`, `views` (what a reader can choose between) and `charts`.

    A chart has `title`, `layout`, whether y is `log`, its `range`, and by view `traces` and `distances`, a row by column for each series.
    """
    found = {name: [panel_chart(panel) for panel in panels(name)] for name in ("fig1", "fig2", "fig3")}
    return [figure(name, TITLES[name], charts) for name, charts in (found | {"fig4": sweep_charts()}).items()]


def figure(name: str, title: str, charts: list[dict]) -> dict:
    """Returns a figure of charts that all have the same views."""
    return {"id": name, "title": title, "views": list(charts[0]["views"]), "charts": charts}


def panel_chart(panel: Panel, own: Sequence[Series] = ()) -> dict:
    """Returns the chart of one panel; `own` are further runs, drawn thick."""
    x = "training time, in epochs of Adam" if panel.by_time else "iterations over entire dataset"
    layout = {"xaxis": {"title": {"text": x}, "range": panel.x}, "yaxis": {"title": {"text": "training cost"}}}
    views = {settings: panel_view(panel, read_runs(REFERENCE, panel.experiment, settings), own) for settings in ("paper", "best")}
    return {"title": panel.title, "layout": layout, "log": panel.log, "range": panel.y, "views": views}


def panel_view(panel: Panel, table: pd.DataFrame, own: Sequence[Series] = ()) -> dict:
    """Returns the traces and distances of one panel and settings."""
    table, traces, distances = by_time(table) if panel.by_time else table, [], []
    plotted, compared, other = published(panel), paper_curves(panel), rescaled(panel)
    known = (*panel.optimizers, "AdaMax")
    shown = [(name, False, Series(name + panel.suffix, COLOURS[name], of_optimizer(table, name))) for name in known]
    for optimizer, yours, (name, colour, ours) in shown + [(series.rows["optimizer"].iloc[0], True, series) for series in own]:
        curves = [of_optimizer(each, optimizer) for each in (plotted, other, compared)]
        as_plotted, rescaling, paper = (curve.set_index("x")["y"].sort_index() for curve in curves)
        mean = geometric_mean(ours) if len(ours) else pd.Series(dtype=float)
        mean, seeds = mean[np.isfinite(mean)], ours["seed"].nunique() if len(ours) else 0
        if len(mean):
            at_x = ours.groupby("x")
            low, high = (at_x["cost"].agg(end).loc[mean.index] for end in ("min", "max"))
            fill = {"fill": "toself", "fillcolor": colour, "opacity": 0.18, "hoverinfo": "skip", "showlegend": False}
            traces.append(trace(pd.concat([low, high[::-1]]), name, colour, width=0) | fill)
            where = at_x["epoch"].first().loc[mean.index].map("epoch {}".format)
            width, dash = (3.5, "solid") if yours else (2.2, "solid" if optimizer in panel.optimizers else "dot")
            traces.append(trace(mean, name, colour, width, dash, hover(where, mean, {} if panel.by_time else paper, seeds)))
        for curve, dash in () if yours else ((as_plotted, "dash"), (rescaling, "longdashdot")):
            where = pd.Series([f"the paper's at x = {x:g}{', rescaled' * (dash != 'dash')}" for x in curve.index], curve.index)
            facts = hover(where, {} if panel.by_time else mean, curve, seeds)
            traces += [trace(curve, name, colour, 1.2, dash, facts) | {"showlegend": not len(mean)}] if len(curve) else []
        if len(mean) and len(paper) and not panel.by_time:
            apart = f"{rms(log_ratios(mean, curves[-1])):.3g}"
            distances.append({"series": name, "distance": apart, "seeds": seeds, "epochs": int(ours["epoch"].max())})
    return {"traces": traces, "distances": distances}


def sweep_charts(own: Sequence[Series] = ()) -> list[dict]:
    """Returns the charts of figure 4, a chart for each cell of betas; `own` are further runs, drawn thick."""
    ours = figure4.measured(figure4.sweeps(REFERENCE, "paper"))
    points = figure4.points(ours, figure4.published())
    return [sweep_chart(beta1, beta2, points, ours, own) for beta1 in figure4.BETA1S for beta2 in figure4.BETA2S]


def sweep_chart(beta1: float, beta2: float, points: pd.DataFrame, ours: pd.DataFrame, own: Sequence[Series]) -> dict:
    """Returns the chart of one cell of figure 4: the loss over the learning rate."""
    views = {}
    for epochs in figure4.EPOCHS.values():
        both, adam = (figure4.in_cell(table, epochs, beta1, beta2) for table in (points, of_optimizer(ours, "Adam")))
        seeds, traces = adam["seed"].nunique(), []
        shown = [(corrected, False, Series(name, CORRECTED[corrected], adam.query("bias_correction == @corrected")))
                 for corrected, name in NAMES.items()]  # fmt: skip
        shown += [(series.rows["bias_correction"].any(), True, series) for series in own]
        for corrected, yours, (name, colour, rows) in shown:
            rows = figure4.in_cell(rows, epochs, beta1, beta2)
            mean = rows.groupby("alpha")["loss"].mean().replace(np.inf, figure4.DIVERGED)
            paper = both[both["bias_correction"] == corrected].set_index("alpha")["published"].sort_index()
            lines = [(mean, 3.5, "solid")] if yours else [(mean, 2.2, "solid"), (paper, 1.2, "dash")]
            for losses, width, dash in lines:
                where = pd.Series([f"learning rate {alpha:g}" for alpha in losses.index], losses.index)
                facts = hover(where, mean, paper, rows["seed"].nunique())
                traces.append(trace(losses, name, colour, width, dash, facts) | {"mode": "lines+markers", "showlegend": dash == "solid"})
        found = figure4.agreement(both)
        distance = {"points compared": f"{found['compared']:.0f} of {len(both)}", "median difference, nats": f"{found['median']:.2g}"}
        distance |= {"divergence agrees": f"{found['divergence']:.0%}", "seeds": seeds}
        views[f"{epochs} epochs"] = {"traces": traces, "distances": [distance]}
    layout = {"xaxis": {"title": {"text": "learning rate"}, "type": "log", "range": [-5, -1]}, "yaxis": {"title": {"text": "loss, nats"}}}
    return {"title": f"beta1 = {beta1:g}, beta2 = {beta2:g}", "layout": layout, "log": False, "range": figure4.LOSSES, "views": views}


def trace(y: pd.Series, name: str, colour: str, width: float = 2.2, dash: str = "solid", facts: list | None = None) -> dict:
    """Returns the trace of `y` over its index; a click on `name` in the legend hides all traces of that name."""
    name = str(escape(name))  # Plotly interprets some HTML
    labelled = "<br>".join(f"{label}%{{customdata[{number}]}}" for number, label in enumerate(LABELS))
    line = {"x": [float(f"{x:.5g}") for x in y.index], "y": [float(f"{value:.5g}") for value in y], "mode": "lines", "name": name}
    style = {"legendgroup": name, "line": {"color": colour, "width": width, "dash": dash}}
    return line | style | {"customdata": facts, "hovertemplate": f"<b>{name}</b><br>{labelled}<extra></extra>"}


def hover(where: pd.Series, ours: Mapping | pd.Series, paper: Mapping | pd.Series, seeds: int) -> list[list[str]]:
    """Returns the hover text of each point: position, our value, the paper's, their ratio, seeds. 400 nats mean divergence."""
    rows = []
    for x, words in where.items():
        values = ours.get(x, np.nan), paper.get(x, np.nan)
        shown = ["-" if np.isnan(value) else "diverged" if value >= figure4.DIVERGED - 1 else f"{value:.4g}" for value in values]
        rows.append([words, *shown, "-" if np.isnan(values).any() else f"{values[0] / values[1]:.3g}", str(seeds)])
    return rows
