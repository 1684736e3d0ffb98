"""Files of tensors that end in their SHA-256, which detects flipped bits, truncation and foreign files before the content is used."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch


class DamagedFile(OSError):
    """A file's content has changed since it was written. The message is one sentence that names the file."""


def save_tensors(value: Any, path: Path) -> None:
    """Writes `value` as torch.save does, followed by the digest.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w+b") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:  # torch wraps errors of the file
            raise error.__context__ or OSError(str(error)) from None
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(digest)


def load_tensors(path: Path, device: torch.device | str = "cpu", lazily: bool = False) -> Any:
    """Checks the digest of a file and returns what `save_tensors` wrote.

    Args:
        path: the file.
        device: the device of the tensors.
        lazily: whether to memory-map tensors, which are then read when used.

    Raises:
        DamagedFile: the digest does not match, or the file holds anything but tensors and plain values.
        OSError: the file cannot be read.
    """
    size = hashlib.sha256().digest_size
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    if hashlib.sha256(content[:-size].data).digest() != content[-size:].tobytes():
        raise DamagedFile(f"{path} is damaged: its content does not match its digest")
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=lazily)
    except Exception as error:  # a manipulated file with a valid digest can raise anything
        raise DamagedFile(f"{path} is damaged: torch cannot load it") from error
