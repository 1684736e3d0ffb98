"""Sums up the candidates for what the paper does not say of figure 4: one line for each member that `make tune-fig4` trained.

Reads the runs of `settings=search`, writes results/tuning/fig4.csv, whose column `candidate` holds what was changed of
conf/experiment/fig4.yaml, and prints how far each candidate is from the published losses.
"""

import argparse
from pathlib import Path

import pandas as pd

from curves import RESULTS, RUNS, read_run
from figure4 import measured, points, published


def summarise(path: Path) -> pd.DataFrame:
    """The published points of one candidate, whose CSV is at `path`, and how far it is from each, in nats."""
    both = points(measured(read_run(path)), published())
    return both.assign(candidate=path.stem.partition(",")[2], difference=both["ours"] - both["published"])


def main() -> None:
    """Writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "tuning" / "fig4.csv")
    arguments = parser.parse_args()
    paths = [path for path in sorted((arguments.runs / "fig4" / "search").glob("*,*.csv")) if path.with_suffix(".json").exists()]
    if not paths:
        parser.error("there are no finished candidates of figure 4: run make tune-fig4")
    table = pd.concat([summarise(path) for path in paths])
    columns = ["candidate", "beta1", "beta2", "bias_correction", "alpha", "published", "ours", "difference"]
    table[columns].to_csv(arguments.out, index=False, float_format="%.6g")
    print(f"wrote {arguments.out}")
    distance = table.assign(distance=table["difference"].abs()).groupby("candidate")["distance"]
    print(distance.agg(["median", "mean", "max"]).sort_values("median").to_string(float_format="%.2f"))


if __name__ == "__main__":
    main()
