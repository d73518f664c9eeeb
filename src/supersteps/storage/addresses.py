"""`open_storage`: any storage by its address."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from supersteps.checkpoint.codec.codec import Codec
from supersteps.errors import StorageError
from supersteps.storage._paths import settled_path
from supersteps.storage.ports import CheckpointStorage

GROUP = "supersteps.storages"
"""Entry points of this group add schemes: the name is the scheme, the object an `Opener`."""

Opener = Callable[..., CheckpointStorage]
"""Called with the address and `codec=`; built-in ones with a path, if any, and `codec=`."""

# In the form of entry points, and like those imported when used.
_CLASSES = {
    "sqlite": EntryPoint(
        "sqlite", "supersteps.storage.sqlite.storage:SqliteCheckpointStorage", GROUP
    ),
    "file": EntryPoint("file", "supersteps.storage.files.storage:FileCheckpointStorage", GROUP),
    **{
        scheme: EntryPoint(
            scheme, "supersteps.storage.postgres.storage:PostgresCheckpointStorage.open", GROUP
        )
        for scheme in ("postgresql", "postgres")  # libpq knows both
    },
    "memory": EntryPoint("memory", "supersteps.storage.memory:InMemoryCheckpointStorage", GROUP),
}
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)  # a single letter is a drive
_DATABASE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def open_storage(url: str | os.PathLike[str], *, codec: Codec | None = None) -> CheckpointStorage:
    """Return the storage of an address; nothing is created before it is used.

    Args:
        url: `sqlite:///runs.db` (relative to the working directory), `sqlite:////var/lib/runs.db`
            (absolute), `postgresql://user@host:5432/database` (`?schema=name` for a schema other
            than `supersteps`), `file:///var/lib/checkpoints` (absolute), `memory:`, an address of a
            scheme that another package registers, or a path: of a database if it ends in .db,
            .sqlite or .sqlite3, otherwise of a folder of JSON files.
        codec: Encodes and decodes values.

    Raises:
        StorageError: The scheme is unknown, or the address is not valid.
    """
    match = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        path = os.fspath(url)
        if not path:
            raise StorageError(
                "the address of a storage is empty; see open_storage for valid addresses"
            )
        if path == ":memory:":
            raise _senseless(path, "memory:")
        return _built_in("sqlite" if path.lower().endswith(_DATABASE_SUFFIXES) else "file")(
            path, codec=codec
        )
    scheme, rest = match[1].lower(), match[2]
    address = str(url)
    if scheme == "memory":
        if rest.strip("/"):
            raise _senseless(address, "memory:")
        return _built_in(scheme)(codec=codec)
    if scheme == "sqlite":
        return _built_in(scheme)(_sqlite_path(address, rest), codec=codec)
    if scheme == "file":
        return _built_in(scheme)(_file_path(address, rest), codec=codec)
    if scheme in _CLASSES:
        return _built_in(scheme)(address, codec=codec)
    return _registered(scheme, address)(address, codec=codec)


def storage_path(url: str | os.PathLike[str]) -> Path | None:
    """Return the file or folder that contains a storage, None if there is no such thing.

    Args:
        url: See `open_storage`.

    Raises:
        StorageError: The address is not valid.
    """
    match = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        return settled_path(url, "a storage")
    scheme, rest = match[1].lower(), match[2]
    if scheme == "sqlite":
        return settled_path(_sqlite_path(str(url), rest), "a storage")
    return settled_path(_file_path(str(url), rest), "a storage") if scheme == "file" else None


def _built_in(scheme: str) -> Opener:
    return cast(Opener, _CLASSES[scheme].load())


def _registered(scheme: str, address: str) -> Opener:
    others = entry_points(group=GROUP)
    if scheme not in others.names:
        known = ", ".join(sorted({*_CLASSES, *others.names}))
        raise StorageError(
            f"no storage is known for {address!r}: the scheme {scheme!r} is not registered. Known: "
            f"{known}. Install the package that provides it (entry point group {GROUP!r}), or pass "
            "a path."
        )
    return cast(Opener, others[scheme].load())


def _sqlite_path(address: str, rest: str) -> str:
    """Return the path of `sqlite:///relative` or `sqlite:////absolute`, as SQLAlchemy reads it."""
    if not rest.startswith("///") or len(rest) == 3:
        raise _senseless(
            address, "sqlite:///runs.db (relative) or sqlite:////var/lib/runs.db (absolute)"
        )
    path = rest[3:]
    if path == ":memory:":
        raise _senseless(address, "memory:")
    return path


def _file_path(address: str, rest: str) -> str:
    """Return the path of `file:///absolute`, as RFC 8089 reads it."""
    if not rest.startswith("///") or len(rest) == 3:
        raise _senseless(
            address, "file:///var/lib/checkpoints (absolute), or for a relative one the path alone"
        )
    path = unquote(rest[2:])
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def _senseless(address: str, sense: str) -> StorageError:
    return StorageError(f"the storage address {address!r} is not valid: write {sense}")
