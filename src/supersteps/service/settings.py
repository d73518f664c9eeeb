"""Settings: the store and the workflows of a project."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supersteps.errors import StorageError
from supersteps.service.errors import NoStoreError, ServiceError
from supersteps.service.reads import UNREADABLE
from supersteps.storage.addresses import open_storage, storage_path
from supersteps.storage.plain.adapter import as_durable
from supersteps.storage.ports import CheckpointStorage, ManagedStorage, is_managed

STORE_VARIABLE = "SUPERSTEPS_STORE"
APP_VARIABLE = "SUPERSTEPS_APP"
KEYS_VARIABLE = "SUPERSTEPS_KEYS"
"""Keys of an encrypted store; see `Keyring.from_environment`."""
_KEYS = ("app", "store")


class SettingsError(ServiceError):
    """An invalid setting; the message names the file or variable."""


@dataclass(frozen=True)
class Settings:
    """The settings of a project, from all sources.

    Attributes:
        store: Address of the store, None if not set.
        apps: Workflows as `module:name`, in the order they were named.
        folder: The folder that is searched for modules of the project.
    """

    store: str | None
    apps: tuple[str, ...]
    folder: Path


def read_settings(
    folder: Path,
    environment: Mapping[str, str],
    *,
    store: str | None = None,
    apps: Sequence[str] = (),
) -> Settings:
    """Return the settings: arguments, else the environment, else the nearest pyproject.toml.

    Args:
        folder: Where the search for a pyproject.toml with `[tool.supersteps]` starts; parents are
            searched next.
        environment: `SUPERSTEPS_STORE` and `SUPERSTEPS_APP` (several separated by commas).
        store: An address from the command line.
        apps: Workflows from the command line.

    Raises:
        SettingsError: A file cannot be read or a setting is invalid.
    """
    from_variable = [
        name.strip() for name in environment.get(APP_VARIABLE, "").split(",") if name.strip()
    ]
    table, place = _read_table(folder)
    own_store = table.get("store")
    own_apps = [_placed_app(name, place) for name in table.get("app", ())]
    return Settings(
        store=store
        or environment.get(STORE_VARIABLE)
        or (None if own_store is None else _placed(own_store, place)),
        apps=tuple(apps or from_variable or own_apps),
        folder=place,
    )


def open_store(url: str, *, must_exist: bool = True) -> ManagedStorage:
    """Open the store at an address, encrypted if `SUPERSTEPS_KEYS` holds keys.

    Args:
        url: See `open_storage`.
        must_exist: Refuse an address without a store, instead of creating an empty store there.

    Raises:
        NoStoreError: There is no store, or the address is invalid.
    """
    try:
        path, storage = storage_path(url), open_storage(url)
    except StorageError as error:
        raise NoStoreError(str(error)) from error
    if must_exist and path is not None and not path.exists():
        raise NoStoreError(
            f"there is no store at {url}: {path.absolute()} does not exist. Pass the address "
            f"that the runs were started with (--store, {STORE_VARIABLE}, or store in "
            "[tool.supersteps])."
        )
    return managed(_with_keys(storage), url)


async def check_store(storage: ManagedStorage) -> None:
    """Check that a store can be read, before anything is done with it.

    Raises:
        NoStoreError: It is not a store, or cannot be opened.
    """
    try:
        await storage.list_runs(limit=1)
    except UNREADABLE:
        pass  # a damaged run is reported when it is read
    except StorageError as error:
        raise NoStoreError(str(error)) from error


def _with_keys(storage: CheckpointStorage) -> CheckpointStorage:
    """Return the storage, wrapped in encryption if the environment holds keys."""
    if not os.environ.get(KEYS_VARIABLE):
        return storage
    from supersteps.encryption.storage import EncryptedStorage, Keyring  # needs the extra

    return EncryptedStorage(as_durable(storage), Keyring.from_environment(KEYS_VARIABLE))


def managed(storage: CheckpointStorage, name: str) -> ManagedStorage:
    """Return a storage with the methods to list and manage its runs.

    Raises:
        NoStoreError: It does not have these methods.
    """
    durable = as_durable(storage)
    if not is_managed(durable):
        raise NoStoreError(
            f"{name} ({type(storage).__name__}) cannot list its runs, so commands cannot show them"
        )
    return durable


def _read_table(folder: Path) -> tuple[dict[str, Any], Path]:
    """Return the nearest `[tool.supersteps]` and the folder of its file."""
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path} cannot be read: {error}") from error
        tools = content.get("tool")
        table = tools.get("supersteps") if isinstance(tools, dict) else None
        if table is not None:
            return _checked(table, path), place
    return {}, folder


def _checked(table: Any, path: Path) -> dict[str, Any]:
    where = f"[tool.supersteps] in {path}"
    if not isinstance(table, dict):
        raise SettingsError(f"{where} is not a table")
    unknown = sorted(table.keys() - _KEYS)
    if unknown:
        raise SettingsError(
            f"{where} has {', '.join(unknown)}, which is not a setting; known settings: "
            f"{', '.join(_KEYS)}"
        )
    found = dict(table)
    if "app" in found:
        found["app"] = [found["app"]] if isinstance(found["app"], str) else found["app"]
        if not isinstance(found["app"], list) or not all(
            isinstance(app, str) and app.strip() for app in found["app"]
        ):
            raise SettingsError(f'{where}: app is "module:name" or a list of such')
    store = found.get("store", "-")
    if not isinstance(store, str) or not store.strip():
        raise SettingsError(f'{where}: store is an address such as "sqlite:///runs.db"')
    return found


def _placed(url: str, folder: Path) -> str:
    """Resolve the relative path in an address against a folder, so that commands work anywhere."""
    database = re.fullmatch(r"(?i:sqlite):///([^/].*)", url)
    if database is not None:
        return f"sqlite:///{folder / Path(database[1]).expanduser()}"
    if url == ":memory:" or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url):
        return url
    return str(folder / Path(url).expanduser())


def _placed_app(name: str, folder: Path) -> str:
    """Resolve the file in a workflow's name, if it has one, against a folder."""
    is_file = "/" in name or "\\" in name or re.search(r"\.py(:[^:]*)?$", name) is not None
    return str(folder / name) if is_file else name
