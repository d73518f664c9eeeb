"""The run of `killable`, with every record sealed.

python -m tests.acceptance.killable_sealed FOLDER STORE
"""

import asyncio
import os
import sys
from pathlib import Path

from supersteps import EncryptedStorage, Keyring, ManagedStorage, open_storage
from tests.acceptance import killable

KEYS = Keyring({"test": bytes(32)}, "test")


def open_sealed(place: str | os.PathLike[str]) -> EncryptedStorage:
    storage = open_storage(place)
    assert isinstance(storage, ManagedStorage)
    return EncryptedStorage(storage, KEYS)


if __name__ == "__main__":
    vars(killable)["open_storage"] = open_sealed
    folder, store = Path(sys.argv[1]), sys.argv[2]
    asyncio.run(killable.drive(killable.build(folder, store), killable.Round(1), killable.RUN))
