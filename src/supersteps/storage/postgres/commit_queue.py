"""Commits of several runs that wait at the same time, in one transaction.

Whoever commits while others do waits in a queue. A thread takes what is queued: a single commit is
a statement of its own, several are sent together and committed together, so that they share round
trips and one write of the server's log. Each has its own fence: one that is refused finds no row,
and leaves the others alone. If the transaction as a whole fails, each commit is made alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from supersteps._process_fork import forkable_lock, restart_in_child
from supersteps.checkpoint.record import Commit
from supersteps.errors import CheckpointError
from supersteps.storage._workers import Workers, outlast
from supersteps.storage.postgres._driver import psycopg
from supersteps.storage.postgres.commits import Advance, PostgresCommits
from supersteps.storage.postgres.connections import Link, statements
from supersteps.storage.postgres.database import Database

_TOGETHER = 64
"""So many commits share a transaction at most."""

_WRITERS = 2
"""So many threads commit at once: while one waits for the server, the other can prepare."""


class _Job(msgspec.Struct, eq=False):
    """A commit, and who waits for it.

    Attributes:
        commit: The commit.
        outcome: The number of the run's newest answer, or why it was refused.
        advance: It as one statement, None where the run has to be read for it.
    """

    commit: Commit
    outcome: Future[int | None]
    advance: Advance | None = None


class CommitQueue:
    """Makes the commits of any number of event loops and threads.

    Args:
        database: Where.
        commits: How.
        workers: The threads.
    """

    def __init__(self, database: Database, commits: PostgresCommits, workers: Workers) -> None:
        self._database = database
        self._commits = commits
        self._workers = workers
        self._sql = statements("database.sql", database.server.schema)
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget what is queued; in a forked child nobody waits for it."""
        self._lock = forkable_lock()
        self._queue: deque[_Job] = deque()
        self._writers = 0
        self._commits.restart()

    async def commit(self, commit: Commit) -> int | None:
        """Make a commit.

        One that has begun is never abandoned: when the waiting task is cancelled, the cancellation
        goes on once the outcome is certain.
        """
        job = _Job(commit, Future())
        with self._lock:
            self._queue.append(job)
            is_new = self._writers < _WRITERS
            self._writers += is_new
        if is_new:
            self._workers.begin(self._write_all)
        waiting = asyncio.wrap_future(job.outcome)
        try:
            await asyncio.wait((waiting,))
        except asyncio.CancelledError:
            with self._lock:
                is_queued = job in self._queue
                if is_queued:
                    self._queue.remove(job)
            if not is_queued:
                await outlast(waiting)
            raise
        return waiting.result()

    def _write_all(self) -> None:
        while True:
            with self._lock:
                jobs = [self._queue.popleft() for _ in range(min(_TOGETHER, len(self._queue)))]
                if not jobs:
                    self._writers -= 1
                    return
            try:
                self._write(jobs)
            except BaseException as error:  # whatever happens, nobody may wait for ever
                for job in jobs:
                    if not job.outcome.done():
                        job.outcome.set_exception(error)

    def _write(self, jobs: Sequence[_Job]) -> None:
        quick: list[_Job] = []
        runs = set()
        for job in jobs:
            run_id = job.commit.header.run_id
            if run_id not in runs:  # one after the other
                runs.add(run_id)
                job.advance = self._commits.advance(job.commit)
                if job.advance is not None:
                    quick.append(job)
        self._advance(quick)
        for job in jobs:
            if not job.outcome.done():
                self._commit(job)

    def _commit(self, job: _Job) -> None:
        """Make a commit in a transaction of its own that reads the run first."""
        try:
            newest = self._database.write(lambda tables: self._commits.commit(tables, job.commit))
        except BaseException as error:
            job.outcome.set_exception(error)
        else:
            job.outcome.set_result(newest)

    def _advance(self, jobs: list[_Job]) -> None:
        """Make commits of runs that are remembered, and leave those that are not as remembered."""
        if not jobs:
            return
        # In one order everywhere: two transactions that lock the same runs do not block each other.
        jobs.sort(key=lambda job: job.advance.head.run.key if job.advance else 0)
        try:
            found = self._database.execute(lambda link: self._send(link, jobs))
        except CheckpointError:
            return  # each alone: it recognizes its own commit if that was made, and says what is
        for job, newest in zip(jobs, found, strict=True):
            if newest is not None and job.advance is not None:
                self._commits.done(job.commit, job.advance)
                job.outcome.set_result(newest)

    def _send(self, link: Link, jobs: Sequence[_Job]) -> list[int | None]:
        advances = [job.advance for job in jobs if job.advance is not None]
        if len(advances) == 1 and link.is_direct:
            (advance,) = advances
            return [_newest(link.execute(advance.statement, advance.values))]
        with link.db.pipeline():
            link.begin(self._sql["begin"])
            cursors = [link.execute(advance.statement, advance.values) for advance in advances]
            ended = link.db.execute("COMMIT")
        if ended.statusmessage != "COMMIT":
            raise psycopg.OperationalError("the transaction was rolled back")
        return [_newest(cursor) for cursor in cursors]


def _newest(cursor: psycopg.Cursor[tuple[int]]) -> int | None:
    row = cursor.fetchone()
    return None if row is None else row[0]
