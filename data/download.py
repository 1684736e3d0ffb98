"""Downloads files with progress, resumption, checksums, mirrors and time limits, and unpacks archives file by file.

Uses libcurl because it enforces a minimum speed (for headers too) and a total time. requests, and pooch on top of it, do not.
"""

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

import certifi
import pycurl
from tqdm import tqdm

from data.files import atomic_write, locked_part


class Limits(NamedTuple):
    """Limits beyond which a transfer is aborted.

    With two mirrors, a download ends at most 45 s after the last useful byte: `stall` at the first, `connect` + `stall` at the second.

    Attributes:
        connect: seconds to connect, including TLS.
        stall: seconds below the minimum speed.
        speed: minimum speed, in bytes per second.
        total: seconds for one transfer.
        size: bytes of one file; our largest archive has 170 MB.
    """

    connect: int = 15
    stall: int = 15
    speed: int = 1000
    total: int = 3600
    size: int = 2**28


LIMITS = Limits()


class DataError(Exception):
    """A data set is corrupt or cannot be read. The message is one sentence that names the file."""


class DataUnavailable(DataError):
    """A data set is missing and cannot be downloaded."""


def provide(files: Mapping[Path, str], archive: Path, urls: Sequence[str], md5: str) -> None:
    """Verifies files; first unpacks missing ones from an archive, downloading it if necessary.

    Args:
        files: the md5 of each file. A tar archive holds them under their paths relative to its folder, a gzip archive holds one.
        archive: path of the archive, `*.tar.gz` or `*.gz`.
        urls: the archive's URL on each mirror.
        md5: the archive's md5.

    Raises:
        DataUnavailable: the archive cannot be downloaded.
        DataError: a file is corrupt, or the archive cannot be unpacked.
    """
    missing = [path for path in files if not path.exists()]
    if missing:
        fetch(archive, urls, md5)
        verify(archive, md5)
        for path, source in _members(archive, missing):
            try:
                with atomic_write(path) as part, part.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except OSError as error:
                advice = (
                    "free some space"
                    if error.errno in (errno.ENOSPC, errno.EDQUOT)
                    else "make the folder writable, or copy the data to a writable folder and set data.root or ADAM_DATA to it"
                )
                raise DataError(f"cannot unpack {archive} to {path} ({error.strerror or error}): {advice}") from error
    for path, expected in files.items():
        verify(path, expected)


def verify(path: Path, md5: str) -> None:
    """Raises DataError unless the file has this md5."""
    found = _md5(path)
    if found != md5:
        raise DataError(f"{path} is corrupt or incomplete (md5 {found}, expected {md5}): remove it and rerun the command")


def fetch(path: Path, urls: Sequence[str], md5: str, limits: Limits | None = None) -> None:
    """Downloads a file unless it exists, from the first mirror that delivers the right content.

    Interrupted downloads resume at the last byte, from the same mirror or another.

    Raises:
        DataUnavailable: no mirror delivers the file, or it cannot be stored.
    """
    if path.exists():
        return
    try:
        with locked_part(path) as file:
            part = Path(file.name)
            if path.exists():  # another process downloaded it while we waited for the lock
                part.unlink()
                return
            print(f"downloading {path.name}", file=sys.stderr)
            problems = []
            try:
                for url in urls:
                    problem = _download(url, file, md5, limits or LIMITS)
                    if problem is None:
                        os.replace(part, path)
                        return
                    problems.append(f"{url}: {problem}")
            finally:
                if part.exists() and part.stat().st_size == 0:  # nothing to resume
                    part.unlink()
            raise DataUnavailable(f"cannot download {path.name}: {'; '.join(problems)}")
    except OSError as error:
        raise DataUnavailable(f"cannot store {path} ({error.strerror or error}): make room, or set data.root to another folder") from error


def _members(archive: Path, paths: Sequence[Path]) -> Iterator[tuple[Path, IO[bytes] | gzip.GzipFile]]:
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            for path in paths:
                yield path, cast(IO[bytes], tar.extractfile(path.relative_to(archive.parent).as_posix()))  # None for folders only
    else:
        with gzip.open(archive) as source:
            yield paths[0], source


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _download(url: str, file: BinaryIO, md5: str, limits: Limits) -> str | None:
    """Completes the file from this mirror; returns the problem, or None."""
    resumed = os.fstat(file.fileno()).st_size
    if resumed and _md5(Path(file.name)) == md5:  # a process was killed after the download, before it renamed the file
        return None
    code, problem = _transfer(url, file, resumed, limits)
    if code not in (pycurl.E_OK, pycurl.E_RANGE_ERROR, pycurl.E_FILESIZE_EXCEEDED):
        return problem  # the next mirror resumes here
    if code == pycurl.E_OK and _md5(Path(file.name)) == md5:
        return None
    file.truncate(0)
    # The resumed bytes were wrong, or the mirror cannot resume: start again.
    return _download(url, file, md5, limits) if resumed else problem or f"wrong content (md5 is not {md5})"


def _transfer(url: str, file: BinaryIO, offset: int, limits: Limits) -> tuple[int, str]:
    """Appends the content of `url` from byte `offset` on to the file.

    Returns:
        libcurl's error code, 0 for success, and its message.

    Raises:
        OSError: the file cannot be written.
    """
    curl, multi = pycurl.Curl(), pycurl.CurlMulti()
    chunks: list[bytes] = []
    options = {
        pycurl.URL: url,
        pycurl.WRITEFUNCTION: chunks.append,
        pycurl.RESUME_FROM_LARGE: offset,
        pycurl.FAILONERROR: True,
        pycurl.FOLLOWLOCATION: True,
        pycurl.MAXREDIRS: 5,
        pycurl.NOSIGNAL: True,
        pycurl.USERAGENT: "adam-paper",
        pycurl.CAINFO: os.environ.get("SSL_CERT_FILE") or certifi.where(),
        pycurl.CONNECTTIMEOUT: limits.connect,
        pycurl.LOW_SPEED_TIME: limits.stall,
        pycurl.LOW_SPEED_LIMIT: limits.speed,
        pycurl.TIMEOUT: limits.total,
        pycurl.MAXFILESIZE_LARGE: limits.size,
    }
    for option, value in options.items():
        curl.setopt(option, value)
    multi.add_handle(curl)
    running = 1
    # disable=None shows the progress bar only on a terminal.
    with contextlib.closing(curl), tqdm(initial=offset, unit="B", unit_scale=True, disable=None) as bar:
        # curl.perform() would swallow exceptions in callbacks, including Ctrl-C.
        while running:
            _, running = multi.perform()
            bar.total = offset + max(0, curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)) or None
            for chunk in chunks:
                bar.update(file.write(chunk))
            chunks.clear()
            if running and multi.select(1.0) == -1:  # no socket yet
                time.sleep(0.01)
        _, _, failed = multi.info_read()
        multi.remove_handle(curl)
    if not failed:
        return pycurl.E_OK, ""
    _, code, message = failed[0]
    return code, message or f"malformed response (libcurl error {code})"
