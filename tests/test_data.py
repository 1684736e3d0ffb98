"""Data sets: rows against NumPy, files that are corrupt, half or missing, and the stand-ins."""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data import cifar10, download, files, imdb, loading, mnist, standins, whitening
from data.download import DataError, Limits
from data.rows import DenseRows
from data.tensor_files import load_tensors, save_tensors
from data.types import Dataset, Split
from data.whitening import Whitening

PROJECT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing leaves this machine: a proxy that nobody serves stands between libcurl and every host but this one."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def dense(batch) -> np.ndarray:
    """A sparse batch [streams, batch, features] as an array."""
    streams, rows, features = batch.shape
    blocks = batch.blocks.toarray().reshape(streams, rows, streams, features)
    return np.stack([blocks[s, :, s] for s in range(streams)])


INDEX = torch.tensor([[3, 0, 17, 299], [1, 1, 34, 2]])  # two streams; rows 0, 17, 34 are empty in `words`


def test_dense_rows_are_scaled_pixels(images):
    batch = images.train.inputs.take(INDEX)
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch, images.train.inputs.values.numpy()[INDEX] / 255, rtol=1e-6)


def test_sparse_rows_are_the_rows_of_the_matrix(words):
    matrix = words.train.inputs.matrix.toarray()
    batch = words.train.inputs.take(INDEX)
    np.testing.assert_array_equal(dense(batch), matrix[INDEX])
    assert batch.sizes == [int((matrix[rows] != 0).sum()) for rows in INDEX]


def test_minibatches_are_the_examples_in_order(images, words):
    """Dense rows are gathered several minibatches at a time, sparse ones one by one: neither may show."""
    order = torch.stack([torch.randperm(300, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    for split in (images.train, words.train):
        parts = list(split.minibatches(order, 32))
        assert [targets.shape for _, targets in parts] == [(2, 32)] * 9 + [(2, 12)]
        for (inputs, targets), index in zip(parts, order.split(32, 1), strict=True):
            np.testing.assert_array_equal(targets, split.targets[index])
            expected = split.inputs.take(index)
            np.testing.assert_array_equal(*(part if isinstance(part, torch.Tensor) else dense(part) for part in (inputs, expected)))


def test_sparse_rows_are_dense_on_an_accelerator(words):
    moved = words.train.inputs.to(torch.device("meta"))
    assert isinstance(moved, DenseRows)
    assert moved.values.dtype == torch.uint8
    assert moved.shape == words.train.inputs.shape


@pytest.mark.parametrize("loader", [standins.digit_images, standins.bag_of_words])
def test_standins_are_the_same_every_time(loader):
    first, second = (loader(train=200, test=100) for _ in range(2))
    everything = torch.arange(200).unsqueeze(0)
    for part in ("train", "test"):
        assert torch.equal(getattr(first, part).targets, getattr(second, part).targets)
    one, two = (found.train.inputs.take(everything) for found in (first, second))
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert (one.blocks != two.blocks).nnz == 0
    assert first.source == "standin"


def test_standins_have_the_shapes_of_the_real_data():
    images, bags = standins.digit_images(), standins.bag_of_words()
    assert (images.train.inputs.shape, images.test.inputs.shape, images.classes) == ((60_000, 784), (10_000, 784), 10)
    assert (bags.train.inputs.shape, bags.test.inputs.shape, bags.classes) == ((25_000, 10_000), (25_000, 10_000), 2)
    assert sorted(images.train.targets.unique().tolist()) == list(range(10))
    assert bags.train.targets.float().mean() == pytest.approx(0.5, abs=0.05)


def write_mnist(root: Path, monkeypatch) -> Path:
    """A tiny MNIST in the real format, with checksums to match."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    resources = []
    for name in mnist.MD5:
        count = 6 if name.startswith("train") else 2
        head = [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28] if "images" in name else [0, 0, 8, 1, 0, 0, 0, count]
        raw = bytes(head) + bytes(i % 10 for i in range(count * (784 if "images" in name else 1)))
        packed = gzip.compress(raw, mtime=0)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
        monkeypatch.setitem(mnist.MD5, name, hashlib.md5(raw).hexdigest())
    monkeypatch.setattr(mnist.MNIST, "resources", resources)
    return folder


def test_mnist_archives_that_are_there_are_unpacked_and_used(tmp_path, monkeypatch):
    folder = write_mnist(tmp_path, monkeypatch)
    loaded = loading.load("mnist", "real", str(tmp_path))
    assert loaded.train.inputs.values[1].tolist() == [i % 10 for i in range(784, 2 * 784)]
    assert loaded.test.targets.tolist() == [0, 1]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    for archive in folder.glob("*.gz"):
        archive.unlink()
    assert len(loading.load("mnist", "real", str(tmp_path)).train) == 6


@pytest.mark.parametrize("source", ["real", "auto"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_a_half_file_is_named_and_refused(tmp_path, monkeypatch, source, name):
    folder = write_mnist(tmp_path, monkeypatch)
    if not name.endswith(".gz"):
        loading.load("mnist", "real", str(tmp_path))
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    with pytest.raises(DataError, match=f"{name} is corrupt or incomplete"):
        loading.load("mnist", source, str(tmp_path))


def test_the_data_root_is_the_key_then_the_environment_then_the_projects(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAM_DATA", str(tmp_path))
    assert loading.data_root() == tmp_path
    assert loading.data_root("/elsewhere") == Path("/elsewhere")
    monkeypatch.delenv("ADAM_DATA")
    assert loading.data_root() == Path(loading.__file__).parent / "downloads"


def test_without_network_real_fails_and_auto_warns(tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match=r"cannot download aclImdb_v1.tar.gz: https://ai.stanford.edu\S+: .*Could not connect"):
        loading.load("imdb", "real", str(tmp_path), words=100, features="binary")
    standin_images = Dataset("standin", *[Split(DenseRows(torch.ones(1, 1)), torch.zeros(1))] * 2, classes=10, checksums={})
    monkeypatch.setitem(loading.REGISTRY, "mnist", loading.REGISTRY["mnist"]._replace(standin=lambda: standin_images))
    for root in (tmp_path, "/proc/nowhere"):  # where one can write, and where one cannot
        assert loading.load("mnist", "auto", str(root)).train.inputs.values is standin_images.train.inputs.values
        assert "STAND-IN" in capsys.readouterr().err


CONTENT = b"0123456789" * 500
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = Limits(connect=1, stall=1, speed=1000, total=5, size=10_000)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"


class Mirror:
    """A server on this machine that answers its k-th connection with the k-th answer, and later ones with the last.

    Args:
        answers: bytes that are sent before the connection is closed; or functions of the socket and of the byte from which the
            client asks to resume.
    """

    def __init__(self, *answers):
        self.answers, self.offsets = list(answers), []  # of the requests, as they came
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/file"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self.socket.accept()
            answer = self.answers.pop(0) if self.answers[1:] else self.answers[0]
            threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()

    def _answer(self, connection, answer):
        with connection:
            request = connection.recv(65536).decode()
            self.offsets.append(int(request.partition("Range: bytes=")[2].partition("-")[0] or 0))
            with contextlib.suppress(OSError):  # the client has given up
                connection.sendall(answer) if isinstance(answer, bytes) else answer(connection, self.offsets[-1])


def whole_or_rest(connection, offset):
    """A good mirror."""
    if offset >= 5000:
        connection.sendall(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
        return
    status = f"206 Partial Content\r\nContent-Range: bytes {offset}-4999/5000" if offset else "200 OK"
    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {5000 - offset}\r\n\r\n".encode() + CONTENT[offset:])


def drip(head: bytes):
    """A mirror that sends a byte every tenth of a second for 20 seconds."""

    def answer(connection, _):
        connection.sendall(head)
        for _ in range(200):
            connection.sendall(b"0")
            time.sleep(0.1)

    return answer


def endless(connection, _):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"0" * 1000)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HELLO\r\n\r\n", "HTTP/0.9"),  # BadStatusLine
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", "malformed response"),  # LineTooLong
        (HEAD + CONTENT[:1000], "4000 bytes missing"),  # IncompleteRead
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\nzzz\r\n", "chunk"),
        (b"", "[Ee]mpty reply"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
        (HEAD + b"x" * 5000, "wrong content"),
        (lambda *_: time.sleep(20), "too slow"),
        (drip(HEAD), "too slow"),
        (drip(b"HTTP/1.1 200 OK\r\nX: "), "too slow"),
        (endless, "maximum allowed file size"),
        (b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\n\r\n", "redirects"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "file"),
    ],
    ids=["status", "line", "short", "chunks", "empty", "404", "wrong", "silent", "slow", "slow_header", "endless", "loop", "local_file"],
)
def test_a_mirror_that_misbehaves_is_followed_by_the_next(tmp_path, answer, reason):
    bad, good = Mirror(answer), Mirror(whole_or_rest)
    with pytest.raises(download.DataUnavailable, match=f"cannot download file: {bad.url}: .*{reason}"):
        download.fetch(tmp_path / "file", [bad.url], MD5, QUICK)
    assert not (tmp_path / "file").exists()
    download.fetch(tmp_path / "file", [bad.url, good.url], MD5, QUICK)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    download.fetch(tmp_path / "file", [], "")  # it exists


def test_the_limits_end_every_download_within_60_seconds_of_the_last_useful_byte():
    """The stall at one mirror, and connection and stall at the next; no data set has more than two mirrors."""
    limits = download.LIMITS
    assert max(len(mirrors) for mirrors in (mnist.MNIST.mirrors, imdb.URLS, cifar10.MIRRORS)) <= 2
    assert limits.stall + limits.connect + limits.stall <= 60
    assert limits.size > 170_498_071  # CIFAR-10's archive


def test_an_interrupted_download_resumes_at_the_next_mirror(tmp_path):
    broken, good = Mirror(HEAD + CONTENT[:1234]), Mirror(whole_or_rest)
    download.fetch(tmp_path / "file", [broken.url, good.url], MD5, QUICK)
    assert (broken.offsets, good.offsets) == ([0], [1234])
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("left", "mirror", "offsets"),
    [
        (CONTENT[:1234], whole_or_rest, [1234]),
        (b"x" * 1234, whole_or_rest, [1234, 0]),  # of another file
        (CONTENT[:1234], HEAD + CONTENT, [1234, 0]),  # a mirror that cannot resume
        (CONTENT, whole_or_rest, []),  # killed before the move
    ],
    ids=["resumed", "other_content", "no_ranges", "whole"],
)
def test_what_a_killed_download_left_is_used_if_it_is_right(tmp_path, left, mirror, offsets):
    files.part_path(tmp_path / "file").write_bytes(left)
    server = Mirror(mirror)
    download.fetch(tmp_path / "file", [server.url], MD5, QUICK)
    assert server.offsets == offsets
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_part_longer_than_the_file_is_started_again(tmp_path):
    files.part_path(tmp_path / "file").write_bytes(b"x" * 6000)
    server = Mirror(whole_or_rest)
    download.fetch(tmp_path / "file", [server.url], MD5, QUICK)
    assert server.offsets == [6000, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_two_processes_that_want_the_same_file_download_it_once(tmp_path):
    server = Mirror(lambda connection, offset: (time.sleep(0.3), whole_or_rest(connection, offset)))
    threads = [threading.Thread(target=download.fetch, args=(tmp_path / "file", [server.url], MD5, QUICK)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.offsets == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_download_ends_with_its_process_and_resumes_in_the_next(tmp_path, how):
    """Ctrl-C during a transfer is not taken for a fault of the mirror; a kill releases the lock."""

    def half(connection, _):
        connection.sendall(HEAD + CONTENT[:2500])
        time.sleep(20)

    server, target = Mirror(half, whole_or_rest), tmp_path / "file"
    call = f"from pathlib import Path; from data import download; download.fetch(Path({str(target)!r}), [{server.url!r}] * 2, {MD5!r})"
    process = subprocess.Popen([sys.executable, "-c", call], cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    part = files.part_path(target)
    while process.poll() is None and not (part.exists() and part.stat().st_size == 2500):
        time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate()
    assert process.returncode in ((1, -how) if how == signal.SIGINT else (-how,)), errors
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    assert server.offsets == [0]
    download.fetch(target, [server.url], MD5, QUICK)
    assert server.offsets == [0, 2500]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_download_that_cannot_be_stored_names_the_file(tmp_path, monkeypatch):
    target = tmp_path / "file"
    monkeypatch.setattr(download, "_transfer", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"0"))
    with pytest.raises(download.DataUnavailable, match=r"cannot store \S+/file \(No space left on device\): make room, or .* data.root"):
        download.fetch(target, ["http://127.0.0.1/"], MD5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make the folder writable, or .* data.root or ADAM_DATA")]
)
@pytest.mark.parametrize("source", ["real", "auto"])
def test_an_archive_that_cannot_be_unpacked_is_named_with_what_to_do(tmp_path, monkeypatch, source, fault, advice):
    """Also under source=auto: the data exist, so a stand-in would be a surprise."""
    folder = write_mnist(tmp_path, monkeypatch)
    before = sorted(folder.iterdir())

    def refuse(*_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(download.shutil, "copyfileobj", refuse)
    sentence = rf"cannot unpack \S+/train-images-idx3-ubyte.gz to \S+/train-images-idx3-ubyte \({os.strerror(fault)}\): {advice}"
    with pytest.raises(DataError, match=sentence) as caught:
        loading.load("mnist", source, str(tmp_path))
    assert not isinstance(caught.value, download.DataUnavailable)
    assert sorted(folder.iterdir()) == before


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write_half():
        with files.atomic_write(target) as part:
            part.write_text("ne")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_replaces_what_a_killed_one_left_and_keeps_suffix_and_permissions(tmp_path):
    target, plain = tmp_path / "lr=[0.1].csv", tmp_path / "plain"
    files.part_path(target).write_text("a longer half of a table")
    plain.touch()
    with files.atomic_write(target) as part:
        assert part.suffix == ".csv"
        part.write_text("new")
    assert target.read_text() == "new"
    assert target.stat().st_mode == plain.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [target, plain]


def test_writers_of_the_same_file_take_turns(tmp_path):
    target, order = tmp_path / "file", []

    def write(name: str) -> None:
        with files.atomic_write(target) as part:
            order.append(name)
            part.write_text(name)
            time.sleep(0.05)
            order.append(name)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2]  # each has left before the next enters
    assert target.read_text() == order[-1]
    assert list(tmp_path.iterdir()) == [target]


def test_writes_need_no_locks(tmp_path, monkeypatch):
    """Some network file systems refuse them."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.atomic_write(tmp_path / "file") as part:
        part.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


def test_imdb_reads_the_most_frequent_words_from_the_archive(tmp_path, monkeypatch):
    """An archive in the official layout: feature k is word k of the vocabulary, ratings above 6 are positive."""
    files = {
        "aclImdb/train/labeledBow.feat": b"9 0:2 5:1\n1 1:3 89526:1\n7 2:1\n",
        "aclImdb/test/labeledBow.feat": b"4 0:1 1:1\n",
    }
    source = tmp_path / "made"
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
        monkeypatch.setitem(imdb.MD5, name, hashlib.md5(content).hexdigest())
    archive = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / "aclImdb", "aclImdb")
    monkeypatch.setattr(imdb, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    shutil.rmtree(source)
    counts = loading.load("imdb", "real", str(tmp_path), words=3, features="counts")
    order = imdb.balanced_order(np.array([1, 0, 1]))
    assert order.tolist() in ([0, 1, 2], [2, 1, 0])
    assert counts.train.inputs.matrix.toarray().tolist() == np.array([[2, 0, 0], [0, 3, 0], [0, 0, 1]])[order].tolist()
    assert counts.train.targets.tolist() == [1, 0, 1]
    binary = loading.load("imdb", "real", str(tmp_path), words=3, features="binary")
    assert binary.train.inputs.matrix.toarray().tolist() == np.eye(3, dtype=int)[order].tolist()
    assert binary.test.targets.tolist() == [0]


def write_cifar10(root: Path, monkeypatch) -> None:
    """A tiny CIFAR-10 in the real format, with checksums to match: image k is all k, but its last blue pixel 255."""
    folder, lists, number = root / "cifar-10-batches-py", {"train_list": [], "test_list": []}, 0
    folder.mkdir(parents=True)
    for name in [name for part in lists for name, _ in getattr(cifar10.CIFAR10, part)]:
        pixels = np.repeat(np.arange(number, number + 2, dtype=np.uint8)[:, None], 3072, axis=1)
        pixels[:, -1] = 255
        content = pickle.dumps({"data": pixels, "labels": [number % 10, (number + 1) % 10]})
        (folder / name).write_bytes(content)
        lists["test_list" if name == "test_batch" else "train_list"].append([name, hashlib.md5(content).hexdigest()])
        number += 2
    content = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(content)
    meta = dict(cifar10.CIFAR10.meta, md5=hashlib.md5(content).hexdigest())
    for key, value in (*lists.items(), ("meta", meta)):
        monkeypatch.setattr(cifar10.CIFAR10, key, value)
    named = [*lists["train_list"], *lists["test_list"], ("batches.meta", meta["md5"])]
    monkeypatch.setattr(cifar10, "MD5", {f"cifar-10-batches-py/{name}": md5 for name, md5 in named})


def test_cifar10_is_read_from_its_folder_or_from_the_official_archive(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    options = dict(whitening="none", regulariser=0.1, contrast=False)
    loaded = loading.load("cifar10", "real", str(tmp_path), **options)
    assert loaded.train.inputs.values[:, 0].tolist() == list(range(10))
    assert loaded.train.inputs.values[3, 1023:1025].tolist() == [3, 3]
    assert loaded.train.inputs.values[3, -1] == 255  # planes of red, green, blue
    assert loaded.test.targets.tolist() == [0, 1]
    archive = tmp_path / "elsewhere" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(cifar10.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    again = loading.load("cifar10", "real", str(archive.parent), **options)
    assert torch.equal(again.train.inputs.values, loaded.train.inputs.values)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_3 is corrupt or incomplete"):
        loading.load("cifar10", "auto", str(tmp_path), **options)


def coloured(train: int, test: int, size: int) -> Dataset:
    """Images of strongly correlated pixels, the test images from another distribution."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(size, size)) / size + np.eye(size)
    splits = []
    for count, shift in ((train, 128), (test, 90)):
        pixels = (rng.normal(size=(count, size)) @ mixing * 30 + shift).clip(0, 255).astype(np.uint8)
        splits.append(Split(DenseRows(torch.from_numpy(pixels), 1 / 255), torch.zeros(count, dtype=torch.int64)))
    return Dataset("real", *splits, classes=1, checksums={})


def everything(split: Split) -> np.ndarray:
    return split.inputs.take(torch.arange(len(split)).unsqueeze(0))[0].double().numpy()


def test_zca_makes_the_covariance_of_the_training_set_the_identity():
    plain = coloured(500, 100, 48)
    white = Whitening("zca", 0.0)(plain)
    rows = everything(white.train)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(48), atol=1e-4)  # single precision, a condition of some hundreds
    before, after = everything(plain.train), rows
    assert min(np.corrcoef(before[:, pixel], after[:, pixel])[0, 1] for pixel in range(48)) > 0.5  # the images are still there


def test_the_regulariser_shrinks_directions_of_little_variance_and_the_test_set_has_no_say():
    plain = coloured(500, 100, 48)
    rows = everything(plain.train)
    variances, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
    white = Whitening("zca", 0.01)(plain)
    turned = everything(white.train) @ directions
    np.testing.assert_allclose((turned**2).mean(0), variances / (variances + 0.01), rtol=1e-4)
    expected = (everything(plain.test) - rows.mean(0)) @ directions / np.sqrt(variances + 0.01) @ directions.T
    np.testing.assert_allclose(everything(white.test), expected, atol=1e-4)


def test_contrast_is_normalised_image_by_image_and_a_flat_image_stays_finite():
    plain = coloured(50, 10, 48)
    plain.train.inputs.values[7] = 200
    rows = everything(Whitening("none", 0.1, contrast=True)(plain).train)
    others = np.delete(rows, 7, axis=0)
    np.testing.assert_allclose(others.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(others.std(1), 1, rtol=1e-5)
    np.testing.assert_allclose(rows[7], 0, atol=1e-3)
    centred = Whitening("centred", 0.1)(plain)
    np.testing.assert_allclose(everything(centred.test), everything(plain.test) - everything(plain.train).mean(0), atol=1e-6)


def test_what_whitening_has_fitted_is_kept_for_the_same_images_and_options_alone(tmp_path, monkeypatch):
    plain, fits = coloured(60, 10, 12), []
    zca = whitening.zca
    monkeypatch.setattr(whitening, "zca", lambda *arguments: fits.append(1) or zca(*arguments))
    first = Whitening("zca", 0.1)(plain, tmp_path / "deep")
    again = Whitening("zca", 0.1)(plain, tmp_path / "deep")
    assert torch.equal(first.test.inputs.values, again.test.inputs.values)
    assert len(fits) == 1
    Whitening("zca", 0.2)(plain, tmp_path / "deep")
    Whitening("zca", 0.1, contrast=True)(plain, tmp_path / "deep")
    plain.train.inputs.values[0, 0] += 1
    Whitening("zca", 0.1)(plain, tmp_path / "deep")
    assert len(fits) == 4
    Whitening("zca", 0.1)(plain, Path("/proc/nowhere"))  # where nothing can be kept


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: torch.save(torch.zeros(12, 12), path),  # without a digest
        lambda path: save_tensors(torch.zeros(12, 12), path),
        lambda path: save_tensors(load_tensors(path) | {"key": "of another version of torch"}, path),
        lambda path: save_tensors(load_tensors(path) | {"matrix": torch.zeros(12)}, path),
    ],
)
def test_a_damaged_or_foreign_whitening_matrix_is_fitted_again(tmp_path, spoil):
    plain = coloured(60, 10, 12)
    first = Whitening("zca", 0.1)(plain, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    spoil(path)
    assert torch.equal(Whitening("zca", 0.1)(plain, tmp_path).test.inputs.values, first.test.inputs.values)
    assert path.read_bytes() == content


def test_content_is_on_disk_before_its_name_changes(tmp_path, monkeypatch):
    done = []

    def watch(name, call):
        monkeypatch.setattr(os, name, lambda *arguments: done.append(name) or call(*arguments))

    watch("fsync", os.fsync)
    watch("replace", os.replace)
    with files.atomic_write(tmp_path / "file") as part:
        part.write_text("new")
    assert done == ["fsync", "replace", "fsync"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_on_a_gpu_images_are_whitened_there_as_on_a_cpu(precision):
    plain = coloured(500, 100, 48)
    torch.set_float32_matmul_precision(precision)
    try:
        there = Whitening("zca", 0.01, contrast=True)(plain.to(torch.device("cuda")))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert there.train.inputs.values.device.type == "cuda"
    here = Whitening("zca", 0.01, contrast=True)(plain)
    # Single precision, summed in another order.
    torch.testing.assert_close(there.test.inputs.values.cpu(), here.test.inputs.values, rtol=1e-4, atol=1e-4)


def test_colour_standins_have_the_shape_of_cifar10_and_are_the_same_every_time():
    first, second = (standins.colour_images(train=200, test=100) for _ in range(2))
    assert (first.train.inputs.shape, first.test.inputs.shape, first.classes) == ((200, 3072), (100, 3072), 10)
    assert torch.equal(first.train.inputs.values, second.train.inputs.values)
    planes = first.train.inputs.values.view(200, 3, 32, 32).float()
    assert (planes[:, 0] - planes[:, 1]).abs().mean() > 10  # coloured


WHOLE = "a whole number above 0, or null for all"
FOLDER = "the path of a folder, or null for the default"


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("minst", "source", "auto", "data.name=minst is invalid: expected one of mnist, imdb, cifar10"),
        (None, "source", "auto", "data.name=null is invalid: expected one of mnist, imdb, cifar10"),
        ("mnist", "source", "fake", "data.source=fake is invalid: expected one of auto, real, standin"),
        ("mnist", "source", True, "data.source=true is invalid: expected one of auto, real, standin"),
        ("mnist", "root", 5, f"data.root=5 is invalid: expected {FOLDER}"),
        ("mnist", "root", "", f"data.root= is invalid: expected {FOLDER}"),
        ("mnist", "examples", True, f"data.examples=true is invalid: expected {WHOLE}"),
        ("mnist", "examples", 0, f"data.examples=0 is invalid: expected {WHOLE}"),
        ("mnist", "examples", 10.0, f"data.examples=10.0 is invalid: expected {WHOLE}"),
        ("mnist", "examples", [1, 2], f"data.examples=[1, 2] is invalid: expected {WHOLE}"),
        ("mnist", "words", 5, "data.words is unknown to mnist: expected one of examples, root, source"),
        ("imdb", "foo", 1, "data.foo is unknown to imdb: expected one of examples, features, root, source, words"),
        ("imdb", "features", "bytes", "data.features=bytes is invalid: expected one of binary, counts"),
        ("imdb", "words", -5, "data.words=-5 is invalid: expected a whole number from 1 to 89527"),
        ("imdb", "words", True, "data.words=true is invalid: expected a whole number from 1 to 89527"),
        ("cifar10", "whitening", "pca", "data.whitening=pca is invalid: expected one of zca, centred, none"),
        ("cifar10", "regulariser", -1, "data.regulariser=-1 is invalid: expected a finite number, at least 0"),
        ("cifar10", "regulariser", float("inf"), "data.regulariser=inf is invalid: expected a finite number, at least 0"),
        ("cifar10", "regulariser", float("nan"), "data.regulariser=nan is invalid: expected a finite number, at least 0"),
        ("cifar10", "regulariser", True, "data.regulariser=true is invalid: expected a finite number, at least 0"),
        ("cifar10", "contrast", 1, "data.contrast=1 is invalid: expected true or false"),
    ],
)
def test_invalid_options_are_answered_with_what_would_be_right(name, key, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loading.load(name, **{key: value})


@pytest.mark.realdata("mnist", "imdb")
def test_the_real_data_are_what_the_paper_names():
    images = loading.load("mnist", "real")
    assert (len(images.train), len(images.test), images.train.inputs.shape[1]) == (60_000, 10_000, 784)
    assert images.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    reviews = loading.load("imdb", "real", words=10_000, features="counts")
    assert reviews.train.inputs.shape == reviews.test.inputs.shape == (25_000, 10_000)
    assert int(reviews.train.targets.sum()) == int(reviews.test.targets.sum()) == 12_500
    # "the" (word 0) occurs 9 times in the first review of the file; 3,163,538 different words are counted over all reviews.
    first = imdb.balanced_order(np.repeat([1, 0], 12_500)).tolist().index(0)  # the file has all positive reviews first
    assert reviews.train.inputs.matrix[first, 0] == 9
    assert reviews.train.inputs.matrix.nnz == 3_163_538


def imbalance(split: Split) -> float:
    """The rule of `Dataset.train`: the largest distance of a class's count in a prefix of k from its share, over sqrt(k)."""
    counts = np.eye(int(split.targets.max()) + 1)[split.targets.numpy()].cumsum(0)
    k = np.arange(1, len(split) + 1)[:, None]
    return float((np.abs(counts - k * counts[-1] / len(split)) / np.sqrt(k)).max())


BALANCED = 1.5  # random orders of these sizes came to 0.9 to 1.2; the two halves of IMDB's file to 56
OPTIONS = {"mnist": {}, "imdb": {"words": 10, "features": "binary"}, "cifar10": {"whitening": "none"}}


@pytest.mark.parametrize("name", ["mnist", "imdb"])  # that of cifar10 has the classes of the first
def test_the_classes_of_any_prefix_are_balanced_in_the_standins(name):
    assert imbalance(loading.load(name, "standin", **OPTIONS[name]).train) < BALANCED


@pytest.mark.parametrize(
    ("name", "worst"),
    [pytest.param(name, worst, marks=pytest.mark.realdata(name)) for name, worst in (("mnist", 0.91), ("imdb", 0.5), ("cifar10", 0.98))],
)
def test_the_classes_of_any_prefix_are_balanced_in_the_real_data(name, worst):
    found = imbalance(loading.load(name, "real", **OPTIONS[name]).train)
    assert found == pytest.approx(worst, abs=0.005)
    assert found < BALANCED


def test_the_balanced_order_is_a_fixed_permutation_whose_prefixes_hold_each_class_in_proportion():
    targets = np.repeat([0, 1, 2], [600, 300, 100])  # sorted by class, as IMDB's file is
    order = imdb.balanced_order(targets)
    assert sorted(order) == list(range(1000))
    assert np.abs(np.eye(3)[targets[order]].cumsum(0) - np.outer(np.arange(1, 1001), [0.6, 0.3, 0.1])).max() <= 1
    assert order[:8].tolist() == [476, 775, 574, 19, 720, 952, 167, 237]  # the tracked runs depend on it


@pytest.mark.realdata("cifar10")
def test_the_real_cifar10_is_what_everybody_has():
    colours = loading.load("cifar10", "real", whitening="none", regulariser=0.0, contrast=False)
    assert (colours.train.inputs.shape, colours.test.inputs.shape) == ((50_000, 3072), (10_000, 3072))
    assert (colours.train.targets[:5].tolist(), colours.test.targets[:5].tolist()) == ([6, 9, 9, 4, 1], [3, 8, 8, 0, 6])
    assert (colours.train.targets.bincount() == 5000).all()
    means = colours.train.inputs.values.view(50_000, 3, -1).double().mean((0, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)  # of red, green and blue, as everybody normalises by


@pytest.mark.realdata("cifar10")
def test_whitened_cifar10_has_the_identity_for_its_covariance(tmp_path):
    plain = loading.load("cifar10", "real", whitening="none", regulariser=0.0, contrast=False, examples=10_000)
    rows = Whitening("zca", 0.0)(plain, tmp_path).train.inputs.values
    covariance = (rows.T @ rows / len(rows)).double()
    assert rows.mean(0).abs().max() < 1e-3
    assert (covariance - torch.eye(3072)).square().mean().sqrt() < 1e-4  # single precision, a condition of some hundred thousand


@pytest.mark.parametrize("name", ["mnist", "imdb"])
def test_the_first_examples_alone(name):
    options = {"words": 50, "features": "counts"} if name == "imdb" else {}
    whole, part = (loading.load(name, "standin", examples=examples, **options) for examples in (None, 100))
    assert len(part.train) == 100
    assert len(part.test) == len(whole.test)
    index = torch.arange(100).unsqueeze(0)
    ours, theirs = (split.train.inputs.take(index) for split in (part, whole))
    assert (ours.blocks != theirs.blocks).nnz == 0 if name == "imdb" else torch.equal(ours, theirs)
    with pytest.raises(ValueError, match=f"data.examples=60001 is invalid: expected a whole number from 1 to {len(whole.train)}, or null"):
        loading.load(name, "standin", examples=60_001, **options)
