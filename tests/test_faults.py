"""A dozen kills and two dozen flipped bits; `python -m tests.faults` makes hundreds."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_kill_and_no_flipped_bit_changes_a_number_or_leaves_a_file_behind():
    options = ("--kills", "4", "--flips", "7", "--tamperings", "0", "--jobs", "1", "--sweeps", "0")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *options], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
