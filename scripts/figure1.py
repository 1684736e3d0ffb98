"""Draws figure 1: training cost of logistic regression on MNIST (left) and on IMDB reviews (right)."""

import argparse
from pathlib import Path

import plots
from curves import REFERENCE

PANELS = (
    plots.Panel("fig1_left", "MNIST Logistic Regression", ("AdaGrad", "SGDNesterov", "Adam"), (0, 45), (0.2, 0.7)),
    plots.Panel(
        "fig1_right",
        "IMDB BoW feature Logistic Regression",
        ("AdaGrad", "RMSProp", "SGDNesterov", "Adam"),
        (0, 175),
        (0.2, 0.5),
        "+dropout",
    ),
)


def main() -> None:
    """Draws the figure for each of the settings that has runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="a folder of your own runs, drawn over the tracked ones; the figure goes there too")
    arguments = parser.parse_args()
    for settings in ("paper", "best"):
        plots.draw("fig1", PANELS, settings, REFERENCE, arguments.runs)


if __name__ == "__main__":
    main()
