"""The journal of a superstep: finished calls are recorded while their siblings still run.

The first record starts a write; those that finish meanwhile make up the next batch. Nobody waits for a write except the
superstep itself, at its end. The last call of a superstep needs no record: the commit is its record.
"""

from __future__ import annotations

import asyncio

from supersteps.storage.base import DurableStorage


class Journal:
    """Writes records of finished calls in the background.

    Attributes:
        written: How many records are durable.
    """

    def __init__(self, storage: DurableStorage, run_id: str, epoch: int, head: str) -> None:
        self._storage = storage
        self._run_id = run_id
        self._epoch = epoch
        self._head = head
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
            await self._storage.append_journal(self._run_id, self._epoch, self._head, batch)
            self.written += len(batch)

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
