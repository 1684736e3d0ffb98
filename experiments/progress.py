"""Messages about a run: the forecast before training and the summary after it."""

import math

import numpy as np
import pandas as pd


def announce(name: str, members: int, passes: int, done: float, seconds: float) -> None:
    """Prints a forecast if a run takes more than a minute.

    Args:
        name: of the run.
        members: number of members.
        passes: number of epochs.
        done: share of the work that earlier sessions did, in [0, 1].
        seconds: estimate for the remaining work.
    """
    if seconds > 60:
        rest = f"; {done:.0%} is done, the rest" if done else ""
        print(f"{name}: {members} member{'s' * (members > 1)}, {passes} epochs{rest}: about {duration(seconds)} here", flush=True)


def summary(table: pd.DataFrame, seconds: float) -> str:
    """Returns one line on a finished run: its size, its training time, and the lowest cost of the last epoch."""
    last = table[table["pass"] == table["pass"].max()]
    best = last.sort_values("cost").iloc[0]
    return (
        f"{len(last)} members, {best['pass']:.0f} epochs, {seconds:.1f} s of training, {len(diverged_members(table))} diverged; "
        f"best cost {best['cost']:.4f}, its test cost {best.get('test_cost', math.nan):.4f}"
    )


def diverged_members(table: pd.DataFrame) -> list[int]:
    """Returns the members whose cost was infinite or NaN in any epoch."""
    return sorted(table.loc[~np.isfinite(table["cost"]), "member"].unique().tolist())


def duration(seconds: float) -> str:
    """Returns a duration in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minute{'s' * (minutes > 1)}" if minutes < 100 else f"{seconds / 3600:.1f} hours"
