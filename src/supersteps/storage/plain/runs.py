"""Runs of a plain storage that the process keeps in memory."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from supersteps._process_fork import forkable_lock, restart_in_child
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.storage import rules
from supersteps.storage.plain.task_lock import TaskLock
from supersteps.storage.records import InboxEntry, RunRecord


class PlainRun:
    """What the process knows about a run; used by one task at a time.

    Attributes:
        record: Its record, None until it was searched in the storage.
        parts: The parts of its head, if they are known.
        journal: Records of calls that follow the head.
        inbox: Accepted answers.
    """

    def __init__(self) -> None:
        self.lock = TaskLock()
        self.record: RunRecord | None = None
        self.parts: dict[PartKey, Part] | None = None
        self.journal: list[bytes] = []
        self.inbox: list[InboxEntry] = []

    def settle(self, record: RunRecord | None, parts: dict[PartKey, Part] | None) -> None:
        """Set a new head, or none; the journal and inbox of the old one are void."""
        self.record = record
        self.parts = parts
        self.journal = []
        self.inbox = [] if record is None else rules.unread_entries(record, self.inbox)

    def fence(self, run_id: str, epoch: int, incarnation: str | None) -> RunRecord:
        """Return the record if `epoch` owns the run."""
        return rules.check_epoch(self.record, run_id, epoch, incarnation)

    def found(self, incarnation: str | None) -> RunRecord | None:
        """Return the record if it has this incarnation."""
        record = self.record
        return record if record and incarnation in (None, record.incarnation) else None

    @property
    def last_entry(self) -> int:
        """Number of the newest answer that the inbox has ever contained."""
        return self.inbox[-1].number if self.inbox else self.record.inbox_read if self.record else 0


class PlainRuns:
    """The runs of one storage object; records are small and live as long as the object."""

    def __init__(self) -> None:
        self._lock = forkable_lock()
        restart_in_child(self)
        self._runs: dict[str, PlainRun] = {}

    def incarnation_of(self, run_id: str) -> str:
        """Return the incarnation of a run, empty if the process does not know it."""
        with self._lock:
            run = self._runs.get(run_id)
        return run.record.incarnation if run is not None and run.record is not None else ""

    @asynccontextmanager
    async def held(self, run_id: str) -> AsyncIterator[PlainRun]:
        """Lock a run."""
        with self._lock:
            run = self._runs.setdefault(run_id, PlainRun())
        async with run.lock:
            yield run

    def restart(self) -> None:
        """Forget the runs that tasks of the parent were changing: those tasks do not exist here."""
        self._runs = {run_id: run for run_id, run in self._runs.items() if not run.lock.is_taken}


_known: dict[int, PlainRuns] = {}
_known_lock = forkable_lock()
_kept: list[object] = []


def runs_of(storage: object) -> PlainRuns:
    """Return the runs of a storage object, by its identity.

    It may not be hashable, or be equal to another one.

    They do not refer to the storage and are forgotten with it.
    """
    with _known_lock:
        found = _known.get(id(storage))
        if found is None:
            found = _known[id(storage)] = PlainRuns()
            try:
                weakref.finalize(storage, _known.pop, id(storage), None).atexit = False
            except TypeError:
                _kept.append(
                    storage
                )  # a class with __slots__; kept forever, so that no other object gets its id
        return found
