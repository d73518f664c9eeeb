"""The folder of the JSON storage: blocking operations on runs.

    <checkpoint_id>.json     a checkpoint, complete
    runs/<run_id>/           the files of a run, see `run_folder`
    runs/.lock               held while a checkpoint is saved or deleted directly

A commit writes the checkpoint, then the run's record that names it as the head: the second rename
commits both. A checkpoint after the head of its run's record was never committed: it is not
listed, and the run's next owner deletes it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from supersteps._process_fork import keep_forever, restart_in_child
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    StorageError,
)
from supersteps.ids import checkpoint_id, file_stem, split_checkpoint_id
from supersteps.storage import _files, claims, rules
from supersteps.storage.claims import Judge, Outcome
from supersteps.storage.files.checkpoint_files import CheckpointFiles
from supersteps.storage.files.document import check_json
from supersteps.storage.files.locks import ProcessLock
from supersteps.storage.files.run_folder import RunFolder, RunState
from supersteps.storage.records import InboxEntry, RunRecord

_REMEMBERED = 256
"""Maximum number of runs in memory; others are read again."""


class _Extent(NamedTuple):
    """Which checkpoints of a run are visible.

    Attributes:
        newest: The number of its newest commit; None for all numbers.
        incarnation: The incarnation of the present run; None for any.
        strays_count: Whether checkpoints without an existing run are visible: they were copied
            here without their run, like checkpoints that were saved directly.
    """

    newest: int | None
    incarnation: str | None
    strays_count: bool

    def has_committed(self, header: CheckpointHeader) -> bool:
        """Return whether the present run has committed a checkpoint."""
        if self.incarnation not in (None, header.incarnation):
            return False
        return self.newest is None or header.sequence <= self.newest

    def is_stray(self, header: CheckpointHeader) -> bool:
        """Return whether a checkpoint belongs to a run that does not exist."""
        return self.strays_count and self.incarnation != header.incarnation

    def holds(self, header: CheckpointHeader) -> bool:
        """Return whether a checkpoint is visible."""
        return self.has_committed(header) or self.is_stray(header)


class CheckpointFolder:
    """Reads and writes checkpoints and runs, from any thread; every method may block.

    Args:
        path: The folder; it is created when something is written.
        clock: The time by which leases expire, Unix seconds.

    Attributes:
        files: Its checkpoints.
        clock: The clock.
        runs_path: The folder of the runs' folders.
        by_hand: Held while a checkpoint is saved or deleted directly.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.files = CheckpointFiles(path)
        self.clock = clock
        self.runs_path = path / "runs"
        self._begin()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget the runs: in a forked child, the locks and their data belong to the parent."""
        keep_forever(
            (self.by_hand, self._runs)
        )  # closing a lock's file could unlock it in the parent
        self._begin()

    def _begin(self) -> None:
        self.by_hand = ProcessLock(self.runs_path / ".lock")
        self._runs: OrderedDict[str, RunFolder] = OrderedDict()
        self._runs_lock = threading.Lock()

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, whether or not it exists."""
        with self._runs_lock:
            folder = self._runs.get(run_id)
            if folder is None:
                folder = self._runs[run_id] = RunFolder(self.runs_path / (file_stem(run_id) or "%"))
                if (
                    len(self._runs) > _REMEMBERED
                ):  # dropping one in use is safe: its file lock is still held
                    self._runs.popitem(last=False)
            else:
                self._runs.move_to_end(run_id)
            return folder

    def run_folders(self) -> list[RunFolder]:
        """Return the folders of all runs, also of deleted ones."""
        names: list[str] = []
        with _files.explained("list", self.runs_path), contextlib.suppress(FileNotFoundError):
            # A link might lead to a folder of something else.
            names = sorted(
                e.name
                for e in os.scandir(self.runs_path)
                if not (e.name.startswith(".") or e.is_symlink())
            )
        return [RunFolder(self.runs_path / name) for name in names]

    # -------------------------------------------------------------------------------------- reading

    def load(self, wanted: str) -> CheckpointRecord | None:
        """Return a checkpoint that exists and, if a run wrote it, is committed.

        Raises:
            CorruptCheckpointError: It is damaged; the message names the nearest intact checkpoint
                before it.
        """
        try:
            found = self.files.read(wanted)
        except CorruptCheckpointError as error:
            raise rules.damaged(str(error), self._intact_before(wanted)) from error
        if found is None:
            return None
        record, standalone = found
        return record if standalone or self.is_seen(record.header) else None

    def read_parts(self, listed: CheckpointHeader) -> Mapping[PartKey, Part]:
        """Return the parts of a checkpoint of a header that was read before.

        Raises:
            CheckpointNotFoundError: It was deleted or replaced in the meantime.
        """
        record = self.load(listed.checkpoint_id)
        # If it follows another checkpoint now, because its parent was deleted, it is still the same
        # checkpoint.
        if record is None or replace(record.header, parent_id=listed.parent_id) != listed:
            raise CheckpointNotFoundError(
                f"checkpoint {listed.checkpoint_id!r} was {'replaced' if record else 'deleted'} "
                "after it was listed; list the checkpoints again"
            )
        return record.parts

    def list_headers(
        self, workflow_id: str | None, run_id: str | None
    ) -> tuple[list[CheckpointHeader], list[str]]:
        """Return the headers of the checkpoints, oldest first, and the problems of other files."""
        headers: list[CheckpointHeader] = []
        problems: list[str] = []
        known: dict[str, _Extent] = {}
        for path in self.files.paths():
            try:
                found = self.files.read_header(path)
                if found is None:
                    continue
                header, standalone = found
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if not rules.is_selected(header, workflow_id, run_id):
                continue
            if not standalone and header.run_id not in known:
                known[header.run_id] = self._extent(header.run_id, problems)
            if standalone or known[header.run_id].holds(header):
                headers.append(header)
        return sorted(headers, key=rules.listing_order), problems

    def list_lineage(self, newest: str, limit: int) -> tuple[list[CheckpointHeader], list[str]]:
        """Return the headers of a checkpoint and its ancestors, oldest first, and any problem."""
        lineage: list[CheckpointHeader] = []
        next_id: str | None = newest
        while next_id is not None and len(lineage) < limit:
            try:
                found = self.files.read_header(self.files.path(next_id))
            except CheckpointError as error:
                if not lineage:
                    raise
                return lineage[::-1], [f"the lineage of {newest!r} breaks off: {error}"]
            if found is None and lineage:
                again = self.files.read_header(self.files.path(lineage[-1].checkpoint_id))
                if (
                    again is not None and again[0].parent_id != next_id
                ):  # it was pruned at this moment
                    lineage[-1] = again[0]
                    next_id = again[0].parent_id
                    continue
            if found is None or not (found[1] or lineage or self.is_seen(found[0])):
                break
            lineage.append(found[0])
            next_id = found[0].parent_id
        return lineage[::-1], []

    def list_runs(self) -> tuple[list[RunRecord], list[str]]:
        """Return all runs, and the problems of those that cannot be read."""
        found: list[RunRecord] = []
        problems: list[str] = []
        for folder in self.run_folders():
            try:
                run = folder.peek()
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if run is not None:
                found.append(run)
        return found, problems

    def list_run(self, run_id: str) -> tuple[list[CheckpointHeader], list[str]]:
        """Return the headers of a run's checkpoints in the order of commits, and the problems."""
        run = self.run(run_id).peek()
        if run is None:
            return [], []
        return self.files.read_headers(run_id, run.sequence, run.incarnation)

    def read_inbox(self, run_id: str, incarnation: str | None = None) -> list[InboxEntry]:
        """Return the answers that wait to be consumed."""
        folder = self.run(run_id)
        run = folder.peek()
        if run is None or incarnation not in (None, run.incarnation):
            return []
        return folder.unread(run)

    # ------------------------------------------------------------------------------- saving by hand

    def save(self, record: CheckpointRecord) -> None:
        """Write a checkpoint that no run commits."""
        header = record.header
        path = self.files.path(header.checkpoint_id)
        _files.make_folder(self.runs_path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.by_hand.held())
            if header.run_id and (folder := self.run(header.run_id)).exists():
                stack.enter_context(folder.lock.held())
            found = self.files.read_header(path)
            if found is None or found[1] or self.is_stray(found[0]):
                self.files.write(record, standalone=True)
            elif self.load(header.checkpoint_id) != record:
                raise rules.id_taken(header.checkpoint_id)

    # ----------------------------------------------------------------------------------------- runs

    def commit(self, commit: Commit) -> int | None:
        """Write a checkpoint and make it the head; return the number of the run's newest answer."""
        for key, part in commit.changes.puts.items():
            check_json(part, f"part {key!r}")
        for key, items in commit.changes.appends.items():
            for item in items:
                check_json(item, f"an element of part {key!r}")
        header = commit.header
        folder = self.run(header.run_id)
        if header.parent_id is None:
            _files.make_folder(folder.path)
        elif not folder.exists():
            raise rules.no_such_run(header.run_id)
        with folder.lock.held():
            state = folder.load()
            extent = self._extent(header.run_id, [])
            run = rules.apply_commit(state.run if state else None, commit, self.clock())
            if run is None:
                # An earlier attempt has renamed the record but perhaps not synced it: it is durable
                # only now.
                assert state is not None
                folder.store(state)
                return None
            if state is None:
                self._finish_deletion(folder)
                folder.clear()
            elif (
                run.sequence > state.run.sequence + 1
            ):  # an import skips the numbers of pruned checkpoints
                self._sweep(state.run, run.sequence)
            parts = dict(self._head_parts(folder, state.run)) if state else {}
            commit.changes.apply(parts)
            path = self.files.path(header.checkpoint_id)
            found = self.files.read_header(path)
            if found is not None and (found[1] or extent.is_stray(found[0])):
                raise rules.id_taken(header.checkpoint_id)
            self.files.write(CheckpointRecord(header, parts), standalone=False)
            folder.commit(
                replace(state, run=run) if state else RunState(run, queue=commit.queue), parts
            )
            waiting = folder.unread(run) if run.requests else []
            return waiting[-1].number if waiting else 0

    def acquire(
        self,
        run_id: str,
        limit: Callable[[RunRecord], RunRecord],
        take: Callable[[RunRecord], RunRecord],
        incarnation: str | None = None,
    ) -> RunRecord:
        """Acquire a run for a new owner, and delete what the last one left unfinished.

        Args:
            run_id: The run.
            limit: Returns the record with a lease of limited time; always stored.
            take: Returns the record of the run with its new owner.
            incarnation: The incarnation of the run.
        """
        with self.hold(run_id) as folder:
            state = folder.load()
            if state is None:
                raise rules.no_such_run(run_id)
            rules.check_incarnation(state.run, incarnation)
            limited = limit(state.run)
            if limited != state.run:
                state = replace(state, run=limited)
                folder.store(state)
            run = take(limited)
            self._sweep(run, run.sequence + 2)
            folder.store(replace(state, run=run))
            return run

    def judge(self, run_id: str, judge: Judge) -> Outcome | None:
        """Have a claim judge the present state of a run, and store the outcome."""
        with self.hold(run_id) as folder:
            state = folder.load()
            outcome = None if state is None else judge(state.run, state.queue)
            if state is not None and outcome is not None:
                if outcome.is_taken:
                    self._sweep(outcome.run, outcome.run.sequence + 2)
                folder.store(replace(state, run=outcome.run, queue=outcome.entry))
            return outcome

    def update(
        self,
        run_id: str,
        epoch: int,
        change: Callable[[RunRecord], RunRecord],
        incarnation: str | None = None,
    ) -> None:
        """Change a run's record."""
        with self.fence(run_id, epoch, incarnation) as (folder, state):
            folder.store(replace(state, run=change(state.run)))

    def move_head(
        self, run_id: str, epoch: int, target_id: str, incarnation: str | None = None
    ) -> RunRecord:
        """Make an older checkpoint of the run its head."""
        with self.fence(run_id, epoch, incarnation) as (folder, state):
            target = self.load(target_id)
            if target is None or target.header.run_id != run_id:
                raise rules.no_such_checkpoint(target_id, run_id)
            return self.set_head(folder, state, target)

    # ---------------------------------------------------------------------------- journal and inbox

    def append_journal(
        self,
        run_id: str,
        epoch: int,
        head: str,
        records: Sequence[bytes],
        incarnation: str | None = None,
    ) -> None:
        """Append a batch of records that follow the head."""
        with self.fence(run_id, epoch, incarnation) as (folder, state):
            rules.check_head(state.run, head)
            if records:
                folder.append_journal(state, records)

    def discard_journal(self, run_id: str, epoch: int, incarnation: str | None = None) -> None:
        """Void the journal."""
        with self.fence(run_id, epoch, incarnation) as (folder, state):
            folder.void_journal(state)

    def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        """Add answers to the inbox, all or none."""
        with self.hold(run_id) as folder:
            state = folder.load()
            if state is None:
                raise rules.no_such_run(run_id)
            rules.check_incarnation(state.run, incarnation)
            waiting = folder.unread(state.run)
            entries = rules.accept_answers(state.run, waiting, answers)
            if state.queue is not None:
                # First: a run that is ready without its answer does no harm, and is put back.
                ready = claims.made_ready(state.queue, self.clock())
                if ready is not state.queue:
                    folder.store(replace(state, queue=ready))
            folder.write_inbox([*waiting, *entries])
            return entries

    # ----------------------------------------------------------------------------- with a lock held

    @contextlib.contextmanager
    def hold(self, run_id: str) -> Iterator[RunFolder]:
        """Lock a run; raise if it does not exist."""
        folder = self.run(run_id)
        if not folder.exists():  # so that a missing run does not leave files
            raise rules.no_such_run(run_id)
        with folder.lock.held():
            yield folder

    @contextlib.contextmanager
    def fence(
        self, run_id: str, epoch: int, incarnation: str | None
    ) -> Iterator[tuple[RunFolder, RunState]]:
        """Have a run to oneself if `epoch` owns it."""
        with self.hold(run_id) as folder:
            state = folder.load()
            rules.check_epoch(state.run if state else None, run_id, epoch, incarnation)
            assert state is not None
            yield folder, state

    def _head_parts(self, folder: RunFolder, run: RunRecord) -> Mapping[PartKey, Part]:
        if folder.parts is None:
            record = self.load(run.head)
            if record is None:
                raise StorageError(
                    f"{self.files.path(run.head)} is missing, but it is the head of run "
                    f"{run.run_id!r}; nothing was written. Restore it from a backup, or restore "
                    "the run to another of its checkpoints."
                )
            folder.parts = record.parts
        return folder.parts

    def _finish_deletion(self, folder: RunFolder) -> None:
        """Finish the interrupted deletion of an earlier run with the same id."""
        removed = folder.removed()
        if removed is None:
            return
        numbered = self.files.numbered(removed.run_id, removed.sequence + 1)
        _files.remove_durably(
            *(path for path in numbered.values() if not self.files.is_standalone(path))
        )

    def _sweep(self, run: RunRecord, end: int) -> None:
        """Delete what an owner wrote but did not commit, up to number `end`; usually one file."""
        for number in range(run.sequence + 1, end):
            path = self.files.path(checkpoint_id(run.run_id, number))
            _files.remove_durably(_files.draft_of(path))
            found = self.files.read_header(path)
            if found is None or found[1] or found[0].incarnation != run.incarnation:
                continue
            _files.remove_durably(path)

    def set_head(self, folder: RunFolder, state: RunState, target: CheckpointRecord) -> RunRecord:
        """Make a checkpoint the head of a locked run; void its journal and inbox."""
        inbox = folder.read_inbox()
        last = max(state.run.inbox_read, inbox[-1].number if inbox else 0)
        is_journalled = folder.is_journalled(state)
        run = rules.move_head(state.run, target, last, is_journalled=is_journalled)
        entry = None if state.queue is None else claims.made_ready(state.queue, self.clock())
        folder.void_journal(replace(state, run=run, queue=entry))
        folder.parts = target.parts
        return run

    # ---------------------------------------------------------------------------- what is committed

    def _extent(self, run_id: str, problems: list[str]) -> _Extent:
        """Return which checkpoints of a run are visible: all, if its record is unreadable."""
        try:
            run = self.run(run_id).peek()
        except CorruptCheckpointError as error:
            problems.append(str(error))
            return _Extent(None, None, False)
        if run is not None:
            return _Extent(run.sequence, run.incarnation, True)
        return _Extent(-1, None, self._are_without_a_run(run_id))

    def _are_without_a_run(self, run_id: str) -> bool:
        """Return whether checkpoints were copied here without their run.

        A single first checkpoint is one whose commit was interrupted. No checkpoint of a run that
        is being deleted is visible.
        """
        if _files.exists(self.run(run_id).deleted_path):
            return False
        return any(number > 0 for number in self.files.numbered(run_id, None))

    def is_seen(self, header: CheckpointHeader) -> bool:
        """Return whether a checkpoint that a run wrote is visible."""
        return self._extent(header.run_id, []).holds(header)

    def is_stray(self, header: CheckpointHeader) -> bool:
        """Return whether a checkpoint that a run wrote exists without this run."""
        return self._extent(header.run_id, []).is_stray(header)

    def _intact_before(self, damaged: str) -> str | None:
        """Return the id of the nearest intact checkpoint before a damaged one, by its name."""
        place = split_checkpoint_id(damaged)
        if place is None:
            return None
        run_id, number = place
        extent = self._extent(run_id, [])
        headers, _problems = self.files.read_headers(run_id, extent.newest, extent.incarnation)
        nearest = rules.intact_before(number, headers)
        return None if nearest is None else nearest.checkpoint_id
