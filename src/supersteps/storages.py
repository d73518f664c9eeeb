"""Storages: where checkpoints are kept, and for how long.

In doubt use `SqliteCheckpointStorage`: one file, all guarantees. `PostgresCheckpointStorage` is for
programs on several machines. `FileCheckpointStorage` keeps each checkpoint as a readable JSON file,
`InMemoryCheckpointStorage` is for tests, and `EncryptedStorage` encrypts what another storage
keeps. `open_storage` opens any of them by its address. For a storage of your own, implement
`CheckpointStorage`, or `DurableStorage` for all guarantees.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supersteps.encryption.storage import EncryptedStorage, Keyring
    from supersteps.storage.addresses import open_storage
    from supersteps.storage.files.storage import FileCheckpointStorage
    from supersteps.storage.listings import RunFilter
    from supersteps.storage.memory import InMemoryCheckpointStorage
    from supersteps.storage.plain.adapter import as_durable
    from supersteps.storage.ports import (
        Capabilities,
        CheckpointStorage,
        DurableStorage,
        ManagedStorage,
    )
    from supersteps.storage.postgres.storage import PostgresCheckpointStorage
    from supersteps.storage.queue import WorkQueue
    from supersteps.storage.records import Seen
    from supersteps.storage.retention import RetentionPolicy
    from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
    from supersteps.storage.transfer import export_run, import_run
else:
    from supersteps._lazy_names import lazy_name

    _SOURCES = {
        "supersteps.encryption.storage": ("EncryptedStorage", "Keyring"),
        "supersteps.storage.addresses": ("open_storage",),
        "supersteps.storage.files.storage": ("FileCheckpointStorage",),
        "supersteps.storage.memory": ("InMemoryCheckpointStorage",),
        "supersteps.storage.plain.adapter": ("as_durable",),
        "supersteps.storage.listings": ("RunFilter",),
        "supersteps.storage.ports": (
            "Capabilities",
            "CheckpointStorage",
            "DurableStorage",
            "ManagedStorage",
        ),
        "supersteps.storage.queue": ("WorkQueue",),
        "supersteps.storage.records": ("Seen",),
        "supersteps.storage.postgres.storage": ("PostgresCheckpointStorage",),
        "supersteps.storage.retention": ("RetentionPolicy",),
        "supersteps.storage.sqlite.storage": ("SqliteCheckpointStorage",),
        "supersteps.storage.transfer": ("export_run", "import_run"),
    }

    def __getattr__(name: str) -> Any:
        value = globals()[name] = lazy_name(__name__, _SOURCES, name)
        return value


__all__ = [
    "Capabilities",
    "CheckpointStorage",
    "DurableStorage",
    "EncryptedStorage",
    "FileCheckpointStorage",
    "InMemoryCheckpointStorage",
    "Keyring",
    "ManagedStorage",
    "PostgresCheckpointStorage",
    "RetentionPolicy",
    "RunFilter",
    "Seen",
    "SqliteCheckpointStorage",
    "WorkQueue",
    "as_durable",
    "export_run",
    "import_run",
    "open_storage",
]


def __dir__() -> list[str]:
    return __all__
