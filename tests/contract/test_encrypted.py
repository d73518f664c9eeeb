"""An encrypted storage keeps every promise that the storage inside keeps."""

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from supersteps.encryption.storage import EncryptedStorage, Keyring
from supersteps.testing import Clock
from tests.contract import test_file, test_memory, test_sqlite

KEYS = Keyring({"k1": bytes(range(32))}, "k1")
CHACHA = Keyring({"k1": bytes(range(32))}, "k1", algorithm="ChaCha20-Poly1305")


class TestEncryptedMemory(test_memory.TestMemory):
    def open_storage(self, folder: Path, clock: Clock) -> EncryptedStorage:  # type: ignore[override]
        return EncryptedStorage(super().open_storage(folder, clock), CHACHA)


class TestEncryptedFile(test_file.TestFile):
    def open_storage(self, folder: Path, clock: Clock) -> EncryptedStorage:  # type: ignore[override]
        return EncryptedStorage(super().open_storage(folder, clock), KEYS)


class TestEncryptedSqlite(test_sqlite.TestSqlite):
    def open_storage(self, folder: Path, clock: Clock) -> EncryptedStorage:  # type: ignore[override]
        return EncryptedStorage(super().open_storage(folder, clock), KEYS)
