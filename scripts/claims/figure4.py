"""The claims of section 6.4 on bias correction, judged in each cell of figure 4."""

import numpy as np
import pandas as pd

from scripts.analysis.figure4 import BETA2S, DIVERGED, LOSSES, NOISE, mean_losses

# Values of the column `whose`.
OURS, PAPER = "ours, Adam", "the paper's points, Adam"


def claims(losses: pd.DataFrame) -> pd.DataFrame:
    """Judges the claims of section 6.4 in every cell of betas and epochs of one optimizer.

    Args:
        losses: the columns of SETTINGS and `loss`, in nats; infinite or 400 after divergence.

    Returns:
        `claim`, `epochs`, `beta1`, `beta2`, `alpha`, `corrected`, `uncorrected`, `holds`. The claim compares `corrected` with
        `uncorrected`: losses in nats, or for stability the largest alpha with a loss on the paper's axis. Losses within NOISE are equal.
    """
    losses = losses.assign(loss=losses["loss"].mask(losses["loss"] >= DIVERGED - 1, np.inf))
    lines = []

    def judge(claim, cell, corrected, uncorrected, holds, alpha=None):
        epochs, beta1, beta2 = cell
        given = {"epochs": epochs, "beta1": beta1, "beta2": beta2, "alpha": alpha, "corrected": corrected, "uncorrected": uncorrected}
        lines.append({"claim": claim, **given, "holds": bool(holds)})

    for (epochs, beta1), row in losses.groupby(["epochs", "beta1"]):
        most_before = 1.0  # largest ratio of stable alphas, with correction over without, at smaller beta2
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
    """Returns `claims` on the paper's points and on ours for Adam and AdaMax, with further columns `whose` and `seeds`."""
    kinds = {PAPER: paper.assign(seed=0)}
    kinds |= {f"ours, {name}": ours[ours["optimizer"] == name] for name in ("Adam", "AdaMax")}
    judged = {whose: claims(mean_losses(losses)) for whose, losses in kinds.items() if len(losses)}
    table = pd.concat([lines.assign(whose=whose, seeds=kinds[whose]["seed"].nunique()) for whose, lines in judged.items()])
    return table[["whose", *(column for column in table if column != "whose")]]
