"""Compiled code is kept between runs, in the user's cache folder."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(key: str, suffix: str, make: Callable[[Path], Path]) -> Path:
    """The file that belongs to a key: made in a temporary folder by `make`, which returns its path, unless it is there.

    Raises:
        OSError: there is no such folder, or it cannot be written.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adam-paper"
    except RuntimeError as error:
        raise OSError("there is no home directory") from error
    path = folder / (hashlib.sha256(key.encode()).hexdigest()[:16] + suffix)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            os.replace(make(Path(temporary)), path)
    return path
