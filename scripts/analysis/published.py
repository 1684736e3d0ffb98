"""The paper's curves and its panels."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from experiments.records import PROJECT

RESULTS = PROJECT / "results"


@dataclass(frozen=True)
class Panel:
    """A line panel of the paper; panels.yaml documents the fields."""

    experiment: str
    published: str
    title: str
    optimizers: tuple[str, ...]
    x: tuple[float, float]
    y: tuple[float, float]
    suffix: str = ""
    log: bool = False
    by_time: bool = False
    penalty: bool = False
    goals: tuple[float, ...] = ()


@cache
def panels(figure: str = "") -> tuple[Panel, ...]:
    """Returns the panels of one figure (fig1, fig2, fig3), or of all."""
    figures = yaml.safe_load(Path(__file__).with_name("panels.yaml").read_text())
    found = [panel for name, drawn in figures.items() if figure in ("", name) for panel in drawn]
    return tuple(map(_panel, found))


def _panel(read: dict[str, Any]) -> Panel:
    fields = read | {key: tuple(map(float, read[key])) for key in ("x", "y", "goals") if key in read}
    return Panel(**fields | {"optimizers": tuple(read["optimizers"])})


def main_panel(experiment: str) -> Panel | None:
    """Returns the panel that shows all epochs of an experiment; None if no line panel shows the experiment."""
    shown = [panel for panel in panels() if panel.experiment == experiment and not panel.by_time]
    return max(shown, key=lambda panel: panel.x[1]) if shown else None


def published(panel: Panel | str | None) -> pd.DataFrame:
    """Returns the paper's curves as plotted: `series`, `optimizer`, `x`, `y`, `kind` (see results/README.md).

    An experiment means its main panel; None gives no rows.
    """
    panel = main_panel(panel) if isinstance(panel, str) else panel
    if panel is None:
        return pd.DataFrame(columns=["series", "x", "y", "kind", "optimizer"], dtype=object)
    curves = pd.read_csv(RESULTS / "published" / f"{panel.published}.csv")
    curves = curves[curves["series"].str.endswith("+dropout") == (panel.suffix == "+dropout")]
    return curves.assign(optimizer=curves["series"].str.partition("+")[0])


def rescaled(panel: Panel | str | None) -> pd.DataFrame:
    """Returns the rescaled curve of Adam in figure 2b by epochs, with the columns of `published`; no rows for other panels.

    From x = 8 on, the plotted values times 2.3 (x - 7) continue the earlier values smoothly (results/details/oddities.md).
    """
    panel = main_panel(panel) if isinstance(panel, str) else panel
    if panel is None or panel.experiment != "fig2b":
        return pd.DataFrame(columns=["series", "x", "y", "kind", "optimizer"], dtype=object)
    table = pd.read_csv(RESULTS / "published" / "fig2b_adam_rescaling.csv")
    return pd.DataFrame({"series": "Adam", "x": table["x"], "y": table["y_times_divisor"], "kind": "plotted", "optimizer": "Adam"})


def paper_curves(panel: Panel | str | None) -> pd.DataFrame:
    """Returns the paper's curves for comparison: rescaled where we rescale them, otherwise as plotted."""
    curves, other = published(panel), rescaled(panel)
    return pd.concat([curves[~curves["optimizer"].isin(other["optimizer"])], other]) if len(other) else curves


def last_shown(panel: Panel) -> float:
    """Returns the abscissa up to which a panel shows all its curves."""
    curves = published(panel)
    return min(panel.x[1], curves[curves["kind"] == "plotted"].groupby("series")["x"].max().min())
