"""The queue of the JSON storage: claims of the runs in a folder.

A run's place in the queue is in its run.json. There is no index on the disk: a worker that claims
checks the times of all of these files, and reads those that have changed since its last claim. So
use this storage for some thousands of runs, and a database for more.

    runs/.queue        held while a worker claims, so that limits are kept
    runs/.changes      grows by a byte when a run may have become ready, for those who wait
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from msgspec.structs import replace

from supersteps._process_fork import keep_forever, restart_in_child
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import CheckpointError, RunNotFoundError
from supersteps.storage import _files, claims, rules
from supersteps.storage.claims import Candidate, Claim, Claimed, Judge, Outcome
from supersteps.storage.files.folder import CheckpointFolder
from supersteps.storage.files.locks import ProcessLock
from supersteps.storage.files.run_folder import RunFolder, RunState
from supersteps.storage.records import RunRecord

_MOST_BYTES = 1 << 16
"""How long the file may get that tells of changes."""

_Stamp = tuple[int, int, int]


class FolderQueue:
    """Claims runs of a folder; every method may be called from any thread, and may block.

    Args:
        folder: The folder of the storage.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self._lock = ProcessLock(folder.runs_path / ".queue")
        self._marker = folder.runs_path / ".changes"
        self._known: dict[str, tuple[_Stamp, RunState]] = {}
        restart_in_child(self)

    def restart(self) -> None:
        """Have a lock of its own: in a forked child the one that is here is the parent's."""
        keep_forever(self._lock)  # to close a lock's file could unlock it there
        self._lock = ProcessLock(self._folder.runs_path / ".queue")

    # ----------------------------------------------------------------------------- what workers do

    def claim(self, claim: Claim) -> Claimed:
        """Take runs for a worker."""
        if not _files.exists(self._folder.runs_path):
            return Claimed()
        with self._lock.held():
            return claims.claim_runs(
                _Shelf(self._folder, self.states()), claim, self._folder.clock()
            )

    def put_back(
        self, run_id: str, epoch: int, ready_at: float | None, incarnation: str | None
    ) -> None:
        """Give a claimed run back."""
        with self._folder.fence(run_id, epoch, incarnation) as (folder, state):
            run = rules.release_run(state.run, None, None)
            entry = state.queue
            if entry is not None:
                entry = claims.put_back(
                    run,
                    entry,
                    ready_at,
                    is_answered=bool(folder.unread(run)),
                    now=self._folder.clock(),
                )
            folder.store(replace(state, run=run, queue=entry))

    def enqueue(self, run_id: str, entry: QueueEntry, incarnation: str | None) -> None:
        """Give a run its place in the queue."""
        with self._folder.hold(run_id) as folder:
            state = folder.load()
            if state is None:
                raise rules.no_such_run(run_id)
            rules.check_incarnation(state.run, incarnation)
            folder.store(replace(state, queue=replace(entry, is_claimed=False)))

    def entry_of(self, run_id: str) -> QueueEntry | None:
        """Return a run's place in the queue."""
        state = self._folder.run(run_id).peek_state()
        return None if state is None else state.queue

    def next_ready_at(self, workflow_ids: Sequence[str], queues: Sequence[str]) -> float | None:
        """Return when the first run of these is ready."""
        moments = [
            state.queue.ready_at
            for state in self.states()
            if state.queue is not None
            and state.queue.ready_at is not None
            and state.queue.queue in queues
            and state.run.workflow_id in workflow_ids
        ]
        return min(moments, default=None)

    def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        """Return the workflows of runs that are ready in these queues, now or later."""
        found = {
            state.run.workflow_id
            for state in self.states()
            if state.queue is not None
            and state.queue.ready_at is not None
            and state.queue.queue in queues
        }
        return sorted(found)

    def held_runs(self) -> list[RunRecord]:
        """Return the runs that have a lease."""
        return [state.run for state in self.states() if state.run.lease is not None]

    # ------------------------------------------------------------------------------- who is waiting

    def tell(self, *, is_first: bool = False) -> None:
        """Have waiting workers of other processes look again.

        Args:
            is_first: Whether there may have been no queue so far; otherwise its file exists, or
                no process uses it.
        """
        flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT if is_first else 0)
        # Where it cannot be written they learn nothing, but they also look now and then.
        with suppress(OSError), open(os.open(self._marker, flags, _files.FILE_MODE), "ab") as file:
            if file.tell() > _MOST_BYTES:
                file.truncate(0)
            file.write(b".")

    def look(self) -> tuple[int, int]:
        """Return a value that changes whenever a change was reported."""
        try:
            found = os.stat(self._marker)
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    # -------------------------------------------------------------------------------------- reading

    def states(self) -> list[RunState]:
        """Return what run.json of each intact run says; only those that have changed are read."""
        known: dict[str, tuple[_Stamp, RunState]] = {}
        for folder in self._folder.run_folders():
            found = self._state(folder)
            if found is not None:
                known[folder.path.name] = found
        self._known = known
        return [state for _, state in known.values()]

    def _state(self, folder: RunFolder) -> tuple[_Stamp, RunState] | None:
        try:
            status = os.stat(folder.record_path)
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        before = self._known.get(folder.path.name)
        if before is not None and before[0] == stamp:
            return before
        try:
            state = folder.peek_state()
        except CheckpointError:  # listing the runs tells of it
            return None
        return None if state is None else (stamp, state)


class _Shelf:
    """The runs of a folder, as a claim looks at them with the queue's lock held."""

    def __init__(self, folder: CheckpointFolder, states: list[RunState]) -> None:
        self._folder = folder
        self._states = states

    def held(self) -> list[Candidate]:
        return [
            claims.candidate(state.run, state.queue)
            for state in self._states
            if state.run.lease is not None or (state.queue is not None and state.queue.is_claimed)
        ]

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        found = [
            claims.candidate(state.run, state.queue)
            for state in self._states
            if state.queue is not None
            and state.queue.queue == queue
            and state.run.workflow_id == workflow_id
            and state.queue.ready_at is not None
            and state.queue.ready_at <= now
        ]
        return iter(sorted(found))

    def claimed(self) -> list[tuple[str, str | None]]:
        return [
            (state.run.workflow_id, state.queue.concurrency_key)
            for state in self._states
            if state.queue is not None and state.queue.is_claimed
        ]

    def change(self, run_id: str, judge: Judge) -> Outcome | None:
        try:
            return self._folder.judge(run_id, judge)
        except RunNotFoundError:  # deleted since it was read
            return None
