"""Messages about a run: the forecast before training, progress during it and the summary after it."""

import io
import math
import sys
import threading

import numpy as np
import pandas as pd
from tqdm import tqdm

_RISE = 1.05  # a relative rise that exceeds the differences between seeds
_INTERVAL = 60.0  # seconds between two lines without a terminal

tqdm.set_lock(threading.RLock())  # its default would leak a semaphore, with a warning, where Ctrl-C ends the workers of a sweep


def announce(name: str, members: int, epochs: int, done: float, seconds: float) -> None:
    """Prints a forecast if the remaining work takes more than a minute.

    Args:
        name: of the run.
        members: number of members.
        epochs: number of epochs.
        done: share of the work that earlier sessions did, in [0, 1].
        seconds: estimate for the remaining work.
    """
    if seconds > 60:
        rest = f"; {done:.0%} is done, the rest" if done else ""
        print(f"{name}: {count(members, 'member')}, {count(epochs, 'epoch')}{rest}: about {duration(seconds)} on this machine", flush=True)


def progress_bar(name: str, total: int, done: int, position: int) -> tqdm:
    """Returns a bar that counts epochs on a terminal. Elsewhere, such as in a log, it prints a line per minute with time left and cost.

    Args:
        name: of the run.
        total: number of epochs.
        done: number of epochs that earlier sessions trained.
        position: the line of the terminal, from 0.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, initial=done, desc=name, unit="epoch", position=position)
    every = dict(mininterval=_INTERVAL, maxinterval=_INTERVAL, delay=_INTERVAL, miniters=1)
    line = "{desc}: {n_fmt} of {total_fmt} epochs, {elapsed} so far, {remaining} left{postfix}"
    return tqdm(total=total, initial=done, desc=name, bar_format=line, file=_Lines(), **every)


class _Lines(io.TextIOBase):
    """Standard error for a tqdm bar: prints each state on its own line instead of overwriting the last one."""

    def write(self, text: str) -> int:
        if state := text.strip():
            print(state, file=sys.stderr, flush=True)
        return len(text)


def summary(table: pd.DataFrame, seconds: float, classes: int) -> str:
    """Returns one line on a finished run: its size and time, the members that failed, and the lowest final cost of the others.

    Args:
        table: as from `train`.
        seconds: training time.
        classes: number of classes. A classifier's first value is at most ln(classes), the cost of a uniform guess.
    """
    epochs, chance = table["epoch"].max(), math.log(classes) if "train_error" in table else math.inf
    last = table[table["epoch"] == epochs].set_index("member")
    first = table[table["epoch"] == 1].set_index("member")["cost"].clip(upper=chance)
    diverged = diverged_members(table)
    well = last.drop(diverged)
    rising = well[well["cost"] > _RISE * first[well.index]]
    parts = [f"{count(len(last), 'member')}, {count(epochs, 'epoch')}, {seconds:.1f} s of training, {len(diverged)} diverged"]
    if len(rising):
        named = ", ".join(map(str, rising.index[:5])) + ", ..." * (len(rising) > 5)
        worst = rising["cost"].idxmax()
        parts.append(
            f"diverging: member{'s' * (len(rising) > 1)} {named}, whose cost rose above its first value, to {rising['cost'][worst]:.4g}"
        )
    if len(well := well.drop(rising.index)):
        best = well.loc[well["cost"].idxmin()]
        parts.append(f"best cost {best['cost']:.4f}, its test cost {best.get('test_cost', math.nan):.4f}")
    return "; ".join(parts)


def diverged_members(table: pd.DataFrame) -> list[int]:
    """Returns the members whose cost was infinite or NaN in any epoch."""
    return sorted(table.loc[~np.isfinite(table["cost"]), "member"].unique().tolist())


def duration(seconds: float) -> str:
    """Returns a duration in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    return count(minutes, "minute") if minutes < 100 else f"{seconds / 3600:.1f} hours"


def count(number: int, noun: str) -> str:
    """Returns a number and its noun, singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
