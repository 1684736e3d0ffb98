"""The cache of compiled code: what is kept, and that nothing is loaded which somebody else may have written."""

import os
import stat
import subprocess
import tempfile

import pytest

from optim import cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "adam-paper"


class Maker:
    """Makes a file and counts how often."""

    def __init__(self, content: bytes = b"right"):
        self.content, self.made = content, 0

    def __call__(self, temporary):
        self.made += 1
        (temporary / "made").write_bytes(self.content)
        (temporary / "made").chmod(0o777)
        return temporary / "made"

    def cached(self, key: str = "key") -> bytes:
        return cache.cached(key, ".so", self, lambda path: path.read_bytes())


def test_made_once_and_for_the_user_alone(folder):
    umask = os.umask(0)
    try:
        maker = Maker()
        assert [maker.cached(), maker.cached(), maker.cached("other")] == [b"right"] * 3
        assert maker.made == 2
        first, second = folder.iterdir()
        assert first.name != second.name
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
    finally:
        os.umask(umask)


SPOILS = {
    "a flipped bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "writable by all": lambda path: path.chmod(0o666),
    "writable by the group": lambda path: path.chmod(0o620),
    "a link": lambda path: (path.rename(path.parent / "elsewhere"), path.symlink_to(path.parent / "elsewhere")),
}


@pytest.mark.parametrize("name", SPOILS)
def test_what_somebody_may_have_changed_is_made_anew(folder, name):
    Maker().cached()
    (path,) = folder.iterdir()
    SPOILS[name](path)
    maker = Maker()
    assert [maker.cached(), maker.cached()] == [b"right"] * 2
    assert maker.made == 1


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_not_used(folder, whose):
    """Their own file, whole and with the right digest in its name."""
    Maker(b"theirs").cached()
    (path,) = folder.iterdir()
    os.chown(path if whose == "file" else folder, 12345, 12345)
    maker = Maker()
    assert maker.cached() == b"right"
    assert maker.made == 1
    assert path.exists() == (whose == "folder")


def test_an_open_folder_is_closed(folder):
    folder.mkdir()
    folder.chmod(0o777)
    assert Maker().cached() == b"right"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    maker = Maker()
    assert [maker.cached(), maker.cached()] == [b"right"] * 2
    assert maker.made == 2


def test_a_relative_folder_is_ignored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Maker().cached() == b"right"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_killed_processes_left_goes(folder):
    Maker().cached()
    dead = subprocess.Popen(["true"])
    dead.wait()
    abandoned, growing = (folder / f"0123456789abcdef-1.{process}.part" for process in (dead.pid, os.getppid()))
    abandoned.touch()
    growing.touch()
    Maker().cached("other")
    assert list(folder.glob("*.part")) == [growing]  # of a live process


@pytest.mark.parametrize("kept", [False, True])
def test_temporary_folders_of_killed_processes_go(folder, tmp_path, monkeypatch, kept):
    """Also if the process was killed after it had stored its file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if kept:
        Maker().cached()
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = [f"adam-paper-{dead.pid}-x", f"adam-paper-{os.getpid()}-x", "adam-paper-notes"]
    for name in names:
        (tmp_path / name / "build").mkdir(parents=True)
    Maker().cached()
    assert sorted(path.name for path in tmp_path.glob("adam-paper-*")) == sorted(names[1:])
