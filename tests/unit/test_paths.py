"""A storage means the same place for as long as it lives, whatever its path was written like."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supersteps import FileCheckpointStorage, SqliteCheckpointStorage, open_storage
from supersteps.errors import StorageError
from supersteps.storage._paths import settled_path
from supersteps.storage.addresses import storage_path
from supersteps.testing.writer import Writer, content_of, shared

KINDS: dict[str, Callable[[Any], Any]] = {
    "sqlite": SqliteCheckpointStorage,
    "file": FileCheckpointStorage,
    "address": open_storage,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_stays_what_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    storage = KINDS[kind]("runs.db")
    monkeypatch.chdir(tmp_path / "second")

    asyncio.run(Writer(storage).put(n=b"1"))
    asyncio.run(storage.aclose())

    assert (tmp_path / "first" / "runs.db").exists()
    assert os.listdir() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", ["to the place", "to its folder", "to what is not there yet"])
def test_links_are_followed_once(tmp_path: Path, kind: str, link: str) -> None:
    real, other = tmp_path / "real" / "runs.db", tmp_path / "other" / "runs.db"
    other.parent.mkdir()
    if link != "to what is not there yet":
        real.parent.mkdir()
    if link == "to its folder":
        (tmp_path / "link").symlink_to(real.parent)
        path = tmp_path / "link" / "runs.db"
    else:
        path = tmp_path / "link.db"
        path.symlink_to(real)
    storage = KINDS[kind](path)
    asyncio.run(Writer(storage).put(n=b"1"))
    if link == "to its folder":
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(other.parent)
    else:
        path.unlink()
        path.symlink_to(other)

    assert asyncio.run(content_of(storage, "run-000000")) == {shared("n"): b"1"}
    asyncio.run(storage.aclose())
    assert real.exists()
    assert not other.exists()


def test_the_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    assert SqliteCheckpointStorage("~/runs.db").path == tmp_path / "runs.db"
    assert FileCheckpointStorage(Path("~/runs")).storage_path == tmp_path / "runs"
    for address in ("~/runs.db", "sqlite:///~/runs.db"):
        storage = open_storage(address)
        assert isinstance(storage, SqliteCheckpointStorage)
        assert storage.path == storage_path(address) == tmp_path / "runs.db"


@pytest.mark.parametrize("kind", ["sqlite", "file"])
@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("", "must not be empty"),
        (":memory:", r"InMemoryCheckpointStorage\(\)"),
        ("file::memory:?cache=shared", r"InMemoryCheckpointStorage\(\)"),
        ("file:runs.db?mode=ro", r"open_storage\(\), or pass the path alone"),
        ("sqlite:///runs.db", r"open_storage\(\), or pass the path alone"),
        ("a\0b", "cannot use the path"),
    ],
)
def test_what_is_not_a_path_is_refused_at_once(kind: str, path: str, advice: str) -> None:
    with pytest.raises(StorageError, match=advice):
        KINDS[kind](path)


def test_a_file_may_be_named_like_an_address() -> None:
    assert settled_path("./file:runs.db", "X") == Path.cwd() / "file:runs.db"


def test_a_working_directory_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(StorageError, match=r"cannot use the path 'runs\.db'"):
        SqliteCheckpointStorage("runs.db")
