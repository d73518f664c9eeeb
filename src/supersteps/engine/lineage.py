"""`Lineage`: a run's head and its ancestors, read on demand."""

from __future__ import annotations

from collections import deque

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.storage.ports import DurableStorage, lineage_reader

LINEAGE_LIMIT = 10_000
"""How many checkpoints of the lineage a handle remembers."""


class Lineage:
    """The newest checkpoints of one handle's lineage.

    A run that this handle has started is known from its first commit. Of a run that it continues,
    only the head is known until `infos` reads the rest; so opening a run costs the same whatever
    came before.

    Args:
        storage: Where the run lives.
    """

    def __init__(self, storage: DurableStorage) -> None:
        self._storage = storage
        self._reader = lineage_reader(storage)
        self._known: deque[CheckpointInfo] | None = deque(maxlen=LINEAGE_LIMIT)
        self._head: CheckpointInfo | None = None

    @property
    def head(self) -> CheckpointInfo | None:
        """The newest one, None while there is none."""
        return self._head

    async def load(self, head: CheckpointHeader) -> None:
        """Continue from a checkpoint; its ancestors are read later if the storage can do that."""
        self._head = head.info
        if self._reader is not None:
            self._known = None
        else:
            found = await self._storage.list_lineage(head.checkpoint_id, LINEAGE_LIMIT)
            self._known = deque(found, maxlen=LINEAGE_LIMIT)

    def append(self, info: CheckpointInfo) -> None:
        """Add a checkpoint that has been committed."""
        self._head = info
        if self._known is not None:
            self._known.append(info)

    def infos(self) -> list[CheckpointInfo]:
        """Return the newest 10,000, oldest first; on the first call this may read the storage.

        Raises:
            StorageError: The storage cannot be read.
        """
        if self._known is None:
            assert self._reader is not None
            assert self._head is not None
            # None are found where the head has been deleted since: what the handle stands at stays.
            found = self._reader(self._head.checkpoint_id, LINEAGE_LIMIT) or [self._head]
            self._known = deque(found, maxlen=LINEAGE_LIMIT)
        return list(self._known)
