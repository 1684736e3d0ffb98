"""Draws the figures of the tracked runs, or of your runs over them: `python -m scripts.figures [--runs results/runs] [fig1 ...]`."""

from collections.abc import Callable
from pathlib import Path

from experiments.errors import one_sentence_errors
from scripts.analysis.published import panels
from scripts.analysis.runs import REFERENCE
from scripts.analysis.tuning import TUNING, read_tuning
from scripts.arguments import parser, places
from scripts.figures import figure4, moments, paper, properties, sensitivity, sfo
from scripts.figures.panels import draw


def fig1(root: Path, folder: Path) -> None:
    """Draws figure 1: logistic regression on MNIST and on IMDB reviews."""
    for settings in ("paper", "best"):
        draw("fig1", panels("fig1"), settings, root, folder)


def fig2(root: Path, folder: Path) -> None:
    """Draws figure 2: the multilayer network with dropout (a), and without, against SFO (b), by epochs and by time."""
    for settings in ("paper", "best", "quick"):
        draw("fig2", panels("fig2"), settings, root, folder, columns=1)
    draw("fig2", panels("fig2")[1:], "all_images", root, folder, columns=2)
    sfo.draw_sfo(root, folder / "fig2_sfo")


def fig3(root: Path, folder: Path) -> None:
    """Draws figure 3: the convolutional network, first and all epochs, without dropout (top) and with (bottom); and vhat by layer."""
    for settings in ("paper", "best", "quick"):
        draw("fig3", panels("fig3"), settings, root, folder, columns=2)
    moments.draw_moments(root, folder / "fig3_moments")


def fig4(root: Path, folder: Path) -> None:
    """Draws figure 4: the variational autoencoder over the learning rate."""
    for settings in ("paper", "quick"):
        figure4.draw(root, settings, folder)


def all_properties(root: Path, folder: Path) -> None:
    """Draws the properties that the paper claims without a figure."""
    properties.draw(root, folder / "properties")


def all_sensitivity(root: Path, folder: Path) -> None:
    """Draws the final cost over the learning rate, from the tracked tuning tables."""
    if root == REFERENCE:
        tables = {path.stem: read_tuning(path) for path in sorted(TUNING.glob("fig[123]*.csv"))}
        sensitivity.draw(tables, folder / "sensitivity")


FIGURES: dict[str, Callable[[Path, Path], None]] = {
    "fig1": fig1, "fig2": fig2, "fig3": fig3, "fig4": fig4, "properties": all_properties, "sensitivity": all_sensitivity,
}  # fmt: skip


def main() -> None:
    """Draws the figures named on the command line, or all."""
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; default: all")
    style = "overlaid: ours over the paper's curves; paper: both side by side, drawn as in the paper"
    arguments.add_argument("--style", choices=("overlaid", "paper"), default="overlaid", help=style)
    with one_sentence_errors():
        given = arguments.parse_args()
        drawable = FIGURES if given.style == "overlaid" else [*paper.LAYOUTS, "fig4"]
        if unknown := [name for name in given.names if name not in drawable]:
            raise ValueError(f"{unknown[0]} is not a figure: choose from {', '.join(drawable)}")
        root, results = places(given.runs)
        for name in given.names or drawable:
            if given.style == "paper":
                paper.draw(name, root, results / "figures")
            else:
                FIGURES[name](root, results / "figures")


if __name__ == "__main__":
    main()
