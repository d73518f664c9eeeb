"""Storages by their addresses."""

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from supersteps.checkpoint.codec.codec import Codec
from supersteps.errors import StorageError
from supersteps.storage import addresses
from supersteps.storage.addresses import open_storage
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:///some/folder/runs", "some/folder/runs"),
        ("sqlite:////var/lib/my runs.db", "/var/lib/my runs.db"),
        ("SQLite:///runs.db", "runs.db"),
        ("runs.db", "runs.db"),
        ("./some/runs.SQLITE3", "some/runs.SQLITE3"),
        (Path("/var/lib/runs.sqlite"), "/var/lib/runs.sqlite"),
    ],
)
def test_a_database(address: str | Path, path: str) -> None:
    storage = open_storage(address)
    assert isinstance(storage, SqliteCheckpointStorage)
    assert storage.path == Path(path).absolute()


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///var/lib/checkpoints", "/var/lib/checkpoints"),
        ("file:///a%20b", "/a b"),
        ("file:///C:/checkpoints", "C:/checkpoints"),
        ("./checkpoints", "checkpoints"),
        ("C:/checkpoints", "C:/checkpoints"),
        (Path("checkpoints"), "checkpoints"),
    ],
)
def test_a_folder(address: str | Path, path: str) -> None:
    storage = open_storage(address)
    assert isinstance(storage, FileCheckpointStorage)
    assert storage.storage_path == Path(path).absolute()


@pytest.mark.parametrize("address", ["memory:", "memory://", "Memory:"])
def test_memory(address: str) -> None:
    assert isinstance(open_storage(address), InMemoryCheckpointStorage)


@pytest.mark.parametrize(
    "address", ["memory:", "sqlite:///runs.db", "file:///checkpoints", "runs.db", "checkpoints"]
)
def test_the_codec_is_passed_on(address: str) -> None:
    codec = Codec()
    storage: Any = open_storage(address, codec=codec)
    assert storage.codec is codec


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("sqlite://runs.db", "sqlite:///runs.db"),
        ("sqlite:runs.db", "sqlite:///runs.db"),
        ("sqlite://", "sqlite:///runs.db"),
        ("sqlite:///:memory:", "memory:"),
        (":memory:", "memory:"),
        ("file://host/folder", "file:///var/lib/checkpoints"),
        ("file:checkpoints", "the path alone"),
        ("memory:runs", "memory:"),
        ("", "is empty"),
    ],
)
def test_what_makes_no_sense(address: str, advice: str) -> None:
    with pytest.raises(StorageError, match=advice):
        open_storage(address)


def test_an_unknown_scheme() -> None:
    with pytest.raises(
        StorageError,
        match=r"'redis' is not registered\. Known: file, memory, postgres, postgresql, sqlite",
    ):
        open_storage("redis://localhost/1")


class TheirStorage(InMemoryCheckpointStorage):
    """Somebody else's."""

    def __init__(self, url: str, codec: Codec | None = None) -> None:
        super().__init__(codec)
        self.url = url


def test_others_register_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoints([EntryPoint("theirs", f"{__name__}:TheirStorage", addresses.GROUP)])
    monkeypatch.setattr(
        addresses,
        "entry_points",
        lambda group: theirs if group == addresses.GROUP else EntryPoints(),
    )
    monkeypatch.setattr(EntryPoint, "load", lambda self: TheirStorage)

    storage = open_storage("theirs://host/db?x=1")

    assert isinstance(storage, TheirStorage)
    assert storage.url == "theirs://host/db?x=1"
    monkeypatch.undo()
    monkeypatch.setattr(addresses, "entry_points", lambda group: theirs)
    with pytest.raises(
        StorageError, match=r"Known: file, memory, postgres, postgresql, sqlite, theirs"
    ):
        open_storage("other://x")


def test_opening_creates_nothing(tmp_path: Path) -> None:
    for address in (
        f"sqlite:///{tmp_path}/runs.db",
        f"file://{tmp_path}/folder",
        tmp_path / "x.db",
        tmp_path / "y",
    ):
        open_storage(address)
    assert list(tmp_path.iterdir()) == []
