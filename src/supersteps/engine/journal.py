"""The journal of a superstep: finished calls are recorded while their siblings still run.

The first record starts a write; those that finish meanwhile make up the next batch. Nobody waits for a write except the
superstep itself, at its end. The last call of a superstep needs no record: the commit is its record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from supersteps.engine.store import RunStore
from supersteps.errors import RunFencedError, RunNotFoundError


class Journal:
    """Writes records of finished calls in the background.

    Attributes:
        written: How many records are durable.
    """

    def __init__(self, store: RunStore) -> None:
        """Begin the journal of the superstep that follows the store's head."""
        self._store = store
        self._epoch = store.epoch
        self._head = store.base.checkpoint_id
        self._waiting: list[bytes] = []
        self._writer: asyncio.Task[None] | None = None
        self.written = 0

    def record(self, record: bytes) -> None:
        """Have a record written; return at once."""
        self._waiting.append(record)
        if self._writer is None or self._writer.done():
            before, self._writer = self._writer, asyncio.create_task(self._write())
            if before is not None:
                before.result()  # raises what a write failed with: a lost record must not go unnoticed

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._append(batch)
            self.written += len(batch)

    async def _append(self, batch: Sequence[bytes]) -> None:
        store = self._store
        try:
            await store.storage.append_journal(store.run_id, self._epoch, self._head, batch)
        except (RunFencedError, RunNotFoundError):
            raise
        except Exception as error:  # whatever a storage raises, the save has failed
            raise store.save_error("the journal of finished calls", error) from error

    async def flush(self) -> None:
        """Wait until every record is durable.

        Raises:
            CheckpointError: A write failed.
        """
        if self._writer is not None:
            await self._writer
        await self._write()

    async def settle(self) -> None:
        """Drop what is not being written yet, because a commit makes it void, and wait for what is.

        Raises:
            CheckpointError: A write failed.
        """
        self._waiting = []
        if self._writer is not None:
            await self._writer

    async def abandon(self) -> None:
        """Wait for what is being written, whatever becomes of it: the superstep has been cancelled."""
        self._waiting = []
        if self._writer is not None:
            await asyncio.wait({self._writer})
            if not self._writer.cancelled():
                self._writer.exception()
