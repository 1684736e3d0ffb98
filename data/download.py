"""Getting files: verified, atomic, safe when two runs want the same file, started afresh when interrupted."""

import contextlib
import hashlib
import os
import shutil
import socket
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import utils as torchvision_utils

_TIMEOUT_SECONDS = 20.0


class DataError(Exception):
    """A data set is corrupt or cannot be read. The message is one sentence that names the file."""


class DataUnavailable(DataError):
    """A data set is not there and cannot be fetched."""


def verify(path: Path, md5: str) -> None:
    """Raises DataError unless the file has this md5."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise DataError(f"{path} is corrupt or incomplete (md5 {found}, should be {md5}): remove it and run again")


@contextlib.contextmanager
def landing(path: Path) -> Iterator[Path]:
    """A path to write to, moved to `path` when the block ends well; whatever an error or a kill leaves is never seen there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder / path.name
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch(path: Path, urls: Sequence[str], md5: str) -> None:
    """Makes sure that `path` is there, downloading it from the first of the urls that delivers the right content.

    Raises:
        DataUnavailable: none of them does.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists():
                return
            for stale in path.parent.glob(f".{path.name}.*"):  # of a download that was killed: we hold the lock, so nobody's now
                shutil.rmtree(stale, ignore_errors=True)
            print(f"downloading {path.name}", file=sys.stderr)
            with landing(path) as part, _network():
                problems = [problem for url in urls if (problem := _try_url(url, part, md5))]
                if not part.exists():
                    raise DataUnavailable(f"cannot download {path.name}: {'; '.join(problems)}")
    except OSError as error:  # the folder cannot be written to
        raise DataUnavailable(f"cannot store {path.name}: {error}") from error


def unpack(archive: Path, names: Sequence[str], urls: Sequence[str], md5: str) -> None:
    """Puts the files of these names beside the tar archive that holds them, which is fetched first where it is not there.

    Raises:
        DataUnavailable: it cannot be had.
        DataError: it is corrupt.
    """
    fetch(archive, urls, md5)
    verify(archive, md5)
    with tarfile.open(archive) as tar:
        for name in names:
            with landing(archive.parent / name) as part, part.open("wb") as target:
                shutil.copyfileobj(tar.extractfile(name), target)


def _try_url(url: str, part: Path, md5: str) -> str | None:
    if part.exists():
        return None
    try:
        torchvision_utils.download_url(url, part.parent, part.name, md5)
    except (OSError, RuntimeError) as error:  # no network, a timeout, or a wrong checksum
        part.unlink(missing_ok=True)
        return f"{url}: {error}"
    return None


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Sockets give up after a while instead of never, and progress bars stay off where nobody sees them."""
    timeout, bar = socket.getdefaulttimeout(), torchvision_utils.tqdm
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    torchvision_utils.tqdm = partial(bar, disable=None)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        torchvision_utils.tqdm = bar
