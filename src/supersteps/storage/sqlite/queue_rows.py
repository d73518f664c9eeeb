"""The table of runs in the queue: what a claim reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from zlib import crc32

import msgspec

from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import CorruptCheckpointError
from supersteps.storage._statements import load_statements
from supersteps.storage.claims import Candidate
from supersteps.storage.delta.rows import StoredRun, is_intact
from supersteps.storage.delta.runs import damaged_run
from supersteps.storage.sqlite.run_rows import RunRows

SQL = load_statements("supersteps.storage.sqlite", "queue.sql")

_ABOVE_ALL = 1 << 62
"""More than any priority."""


def _checksum(key: int, entry: QueueEntry) -> int:
    return crc32(msgspec.json.encode((key, entry)))


class QueueRows(RunRows):
    """Reads and writes the places of runs in the queue."""

    __slots__ = ()

    def find_entry(self, run: StoredRun) -> QueueEntry | None:
        """Return a run's place in the queue, None where it has none.

        Raises:
            CorruptCheckpointError: It has been altered.
        """
        row = self.db.execute(SQL["find"], (run.key,)).fetchone()
        if row is None:
            return None
        entry = QueueEntry(
            queue=row[0],
            priority=row[2],
            ready_at=row[3],
            concurrency_key=row[4],
            is_claimed=bool(row[5]),
            crashes=row[6],
            crashed_at=row[7],
        )
        if row[1] != run.record.workflow_id or not is_intact(row[8], _checksum, run.key, entry):
            raise damaged_run(run.record.run_id, f"its row {run.key} in table `queue`")
        return entry

    def put_entry(self, run: StoredRun, entry: QueueEntry) -> None:
        """Give a run its place in the queue, or another one."""
        ready_at = None if entry.ready_at is None else float(entry.ready_at)
        entry = msgspec.structs.replace(entry, ready_at=ready_at)
        self.db.execute(
            SQL["put"],
            (
                run.key,
                entry.queue,
                run.record.workflow_id,
                entry.priority,
                ready_at,
                entry.concurrency_key,
                entry.is_claimed,
                entry.crashes,
                entry.crashed_at,
                _checksum(run.key, entry),
            ),
        )

    def delete_entry(self, key: int) -> None:
        """Take a run out of the queue."""
        self.db.execute(SQL["delete"], (key,))

    def held(self) -> list[Candidate]:
        """Return the runs that have a lease, and those that are claimed."""
        return [
            Candidate((), run_id, workflow_id, key, bool(is_claimed))
            for run_id, workflow_id, key, is_claimed in self.db.execute(SQL["held"])
        ]

    def held_run_ids(self) -> list[str]:
        """Return the ids of the runs that have a lease."""
        return [run_id for (run_id,) in self.db.execute(SQL["held_runs"])]

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        """Yield the runs that may be taken, in the order of their turns, read one by one."""
        for priority in self._priorities(queue, workflow_id):
            with closing(self.db.execute(SQL["due"], (queue, workflow_id, priority, now))) as rows:
                for run_id, ready_at, key in rows:
                    yield Candidate((-priority, ready_at), run_id, workflow_id, key)

    def claimed(self) -> list[tuple[str, str | None]]:
        """Return the workflow and the concurrency key of each run that is claimed."""
        return self.db.execute(SQL["claimed"]).fetchall()

    def next_ready_at(self, workflow_ids: Sequence[str], queues: Sequence[str]) -> float | None:
        """Return when the first run of these is ready."""
        moments: list[float] = []
        for queue in queues:
            for workflow_id in workflow_ids:
                for priority in self._priorities(queue, workflow_id):
                    found = self.db.execute(SQL["next_ready_at"], (queue, workflow_id, priority))
                    moments += [moment for (moment,) in found if moment is not None]
        return min(moments, default=None)

    def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        """Return the workflows of runs that are ready in these queues, now or later."""
        found = {
            workflow_id
            for queue in queues
            for (workflow_id,) in self.db.execute(SQL["queued_workflows"], (queue,))
        }
        return sorted(found)

    def _priorities(self, queue: str, workflow_id: str) -> Iterator[int]:
        """Give the priorities of runs that are ready now or later, the highest first."""
        last: int | None = _ABOVE_ALL
        while last is not None:
            last = self.db.execute(SQL["next_priority"], (queue, workflow_id, last)).fetchone()[0]
            if last is not None:
                yield last

    def problems_of_entry(self, run_id: str) -> list[str]:
        """Return what is wrong with an intact run's place in the queue."""
        stored = self.find_run(run_id)
        try:
            if stored is not None:
                self.find_entry(stored)
        except CorruptCheckpointError as error:
            return [str(error)]
        return []
