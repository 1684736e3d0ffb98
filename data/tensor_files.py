"""Files of tensors that end in their own SHA-256: a flipped bit, a cut end or a foreign file is found before anything is used."""

import hashlib
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import torch


class DamagedFile(OSError):
    """The content of a file is not what was written to it. The message is one sentence that names the file."""


class _HashingWriter:
    """Hashes what is written to a file, so that no byte is read again."""

    def __init__(self, file: BinaryIO):
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


def save_tensors(value: Any, path: Path) -> None:
    """Writes what torch.save would write, and then the digest of it.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb") as file:
        writer = _HashingWriter(file)
        try:
            torch.save(value, cast(IO[bytes], writer))
        except RuntimeError as error:  # torch's words for an error of the writer
            raise error.__context__ or OSError(str(error)) from None
        file.write(writer.sha256.digest())


def load_tensors(path: Path, device: torch.device | str = "cpu", lazily: bool = False) -> Any:
    """Returns what `save_tensors` wrote, after a check of its digest.

    Args:
        path: of the file.
        device: where the tensors are placed.
        lazily: whether tensors stay on disk until they are used.

    Raises:
        DamagedFile: the digest does not match, or the file holds something else than tensors and plain values.
        OSError: the file cannot be read.
    """
    size = hashlib.sha256().digest_size
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    if hashlib.sha256(content[:-size].data).digest() != content[-size:].tobytes():
        raise DamagedFile(f"{path} is damaged: its content does not match its digest")
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=lazily)
    except Exception as error:  # whoever recomputes the digest can make torch.load raise anything
        raise DamagedFile(f"{path} is damaged: torch cannot load it") from error
