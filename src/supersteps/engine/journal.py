"""`Journal`: records finished calls while their siblings still run.

It also records when a call that must not run twice starts, and until when a handler sleeps.

The first record starts a write. Calls that finish while it lasts are the next batch. Only the
superstep itself waits for writes, at its end. Its last call needs no record: the commit is its
record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from supersteps.checkpoint.stored import decode_stored
from supersteps.checkpoint.values import Sealer
from supersteps.engine.effects import Effects
from supersteps.engine.run_store import RunStore
from supersteps.errors import RunFencedError, RunNotFoundError


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """A remark in the journal about a call that has not finished.

    Attributes:
        note: What is noted.
            "started": the call must not run twice, and has started.
            "sleep": its handler sleeps.
            "void": calls that finished before this are to run again, because their superstep could
            not be merged; calls that must not run twice are not.
            "graph": the records that follow use the names of another graph than the head's; its
            fingerprint is the key.
        executor_id: The executor, by path.
        key: Which of its calls.
        number: Which of the call's sleeps, from 1.
        due: Until when it sleeps: ISO 8601, UTC.
    """

    note: Literal["started", "sleep", "void", "graph"]
    executor_id: str = ""
    key: str = ""
    number: int = 0
    due: str = ""


class Recorded(msgspec.Struct):
    """What the journal holds of an earlier attempt at a superstep.

    Attributes:
        finished: Effects of finished calls, by executor and key.
        started: Calls that must not run twice and had started.
        sleeps: Until when handlers were to sleep, by executor, key and number.
        graph: Whose names the last records use: a fingerprint, empty for the graph of the head.
    """

    finished: dict[tuple[str, str], Effects] = {}
    started: set[tuple[str, str]] = set()
    sleeps: dict[tuple[str, str, int], str] = {}
    graph: str = ""

    @property
    def begun(self) -> set[str]:
        """The keys of all calls that are named: they belong to the superstep, whatever the time."""
        return {key for _, key in (*self.finished, *self.started)} | {k for _, k, _ in self.sleeps}

    @classmethod
    def read(
        cls,
        records: Iterable[bytes],
        sealer: Sealer,
        graph: str = "",
        translate: Callable[[Recorded], Recorded] | None = None,
    ) -> Recorded:
        """Take records apart.

        Args:
            records: The records.
            sealer: Loads their values.
            graph: The fingerprint of the graph to which the run is being migrated; empty if it is
                not.
            translate: Gives records with the names of the head's graph those of that one.
        """
        by_graph = {"": cls()}
        found = by_graph[last := ""]
        for record in records:
            if not record.startswith(b'{"note"'):
                effects = Effects.from_record(record, sealer)
                found.finished[effects.executor_id, effects.key] = effects
                continue
            note = decode_stored(record, Note, "a remark in the journal")
            if note.note == "started":
                found.started.add((note.executor_id, note.key))
            elif note.note == "graph":
                found = by_graph.setdefault(last := note.key, cls())
            elif note.note == "void":
                for before in by_graph.values():
                    before.finished.clear()
                    before.sleeps.clear()
            else:
                found.sleeps[note.executor_id, note.key, note.number] = note.due
        own = by_graph.get(graph, cls())
        if graph and translate is not None:
            early = translate(by_graph[""])
            own = cls(
                early.finished | own.finished,
                early.started | own.started,
                early.sleeps | own.sleeps,
            )
        own.graph = last
        return own


class Journal:
    """Writes records of finished calls in the background.

    Attributes:
        written: How many records are durable.
    """

    def __init__(self, store: RunStore) -> None:
        """Be the journal of whatever superstep follows the store's head."""
        self._store = store
        self._waiting: list[bytes] = []
        self._writer: asyncio.Task[None] | None = None
        self.written = 0

    def begin(self) -> None:
        """Begin the records of another superstep; an earlier one may have been cut short."""
        if self._writer is not None or self._waiting:
            self._waiting, self._writer = [], None

    @property
    def is_used(self) -> bool:
        """Whether anything has been recorded."""
        return self._writer is not None or bool(self._waiting)

    def record(self, record: bytes) -> None:
        """Have a record written; return at once."""
        self._waiting.append(record)
        if self._writer is None or self._writer.done():
            before, self._writer = self._writer, asyncio.create_task(self._write())
            if before is not None:
                # Raises what a write failed with: a lost record must not go unnoticed.
                before.result()

    @property
    def is_quiet(self) -> bool:
        """Whether every record is durable."""
        return not self._waiting and (self._writer is None or self._writer.done())

    async def note(self, note: Note) -> None:
        """Have a remark written, and wait until it is durable.

        Raises:
            CheckpointError: The write failed.
        """
        self.record(msgspec.json.encode(note))
        await self.flush()

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._append(batch)
            self.written += len(batch)

    async def _append(self, batch: Sequence[bytes]) -> None:
        store = self._store
        try:
            await store.storage.append_journal(
                store.run_id,
                store.epoch,
                store.base.checkpoint_id,
                batch,
                incarnation=store.incarnation,
            )
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
        self._writer = None

    async def settle(self) -> None:
        """Drop what is not being written yet, because a commit makes it void, and wait for what is.

        Raises:
            CheckpointError: A write failed.
        """
        self._waiting = []
        if self._writer is not None:
            await self._writer
            self._writer = None

    async def abandon(self) -> None:
        """Wait for the write in progress and ignore its outcome: the superstep was cancelled."""
        self._waiting = []
        if self._writer is not None:
            await asyncio.wait({self._writer})
            if not self._writer.cancelled():
                self._writer.exception()
            self._writer = None
