"""A writer that uses a storage like the engine; a clock; sample values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.owner import Owner, this_process
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint.sections.graph import GRAPH
from supersteps.checkpoint.sections.message import MESSAGES
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.checkpoint.sections.state import SHARED
from supersteps.ids import checkpoint_id
from supersteps.storage.ports import DurableStorage
from supersteps.storage.records import RunRecord

LEASE = 30.0
"""Length of a `Writer`'s lease in seconds."""

ELSEWHERE = Owner(
    host="elsewhere", boot_id="another boot", pid_namespace="", pid=1, started="1", handle="h"
)
"""A process of another machine, of which it is unknown whether it lives."""


class Clock:
    """A clock that moves only when a test advances it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def shared(name: str) -> PartKey:
    """Return the key of a shared value."""
    return (SHARED, name)


def request(request_id: str) -> PartKey:
    """Return the key of a question."""
    return (REQUESTS, request_id)


REQUEST = (
    b'{"request_id":"q","source_executor_id":"asker","request_executor_id":"r","iteration":1,'
    b'"timestamp":"2025-01-01T00:00:00.000000+00:00","response_type":"str","data":"Sure?"}'
)
"""An encoded question."""

EVERYTHING: dict[PartKey, bytes] = {
    MESSAGES: b'[{"data":"hi","source_ids":["a"],"target_ids":["b"]}]',
    ("fan_in", "a,b->c"): b'{"a":[1]}',
    shared("z"): b"1.50",
    shared('a b\n"c"'): '"é \\u00e9 \\n"'.encode(),
    shared(""): b"null",
    ("executor_states", "up", ""): b"null",
    ("executor_states", "up", "count"): b"12345678901234567890123",
    ("executor_states", "down", "count"): b"[]",
    ("scopes", "team", "x"): b"{}",
    request("q"): REQUEST,
    ("intercepted", "i"): REQUEST,
    ("replies", "r"): b'"yes"',
    ("timers", "3.0"): b'{"due":"2025-01-01T00:00:00.000000+00:00",'
    b'"message":{"data":1,"source_ids":[],"target_ids":[]}}',
    ("sub_workflows", "node#3"): b'{"workflow_id":"w","node":"node","started":3}',
    ("sub_state", "node#3", "z"): b"1.50",
    ("sub_scopes", "node#3", "team", "x"): b"{}",
    GRAPH: b'{"nodes":[]}',
}
"""A part of each kind, with values and keys that a careless storage would alter."""

ASK = Changes(puts={request("a"): REQUEST, request("b"): REQUEST, request("c"): REQUEST})
"""Three questions."""


class Writer:
    """The commits of one handle to one run."""

    def __init__(
        self, storage: DurableStorage, run_id: str = "run", workflow_id: str = "flow"
    ) -> None:
        self.storage = storage
        self.run_id = run_id
        self.workflow_id = workflow_id
        self.owner = this_process(f"handle of {run_id} {id(self)}")
        self.epoch = 1
        self.head: str | None = None
        self.sequence = -1
        self.branch = 0
        self.incarnation = f"incarnation of {run_id}"
        self.started = datetime(2025, 1, 1, tzinfo=UTC)

    def next(self, changes: Changes | None = None, **fields: Any) -> Commit:
        """Return the next commit."""
        commit_fields = {k: fields.pop(k) for k in tuple(fields) if k in Commit.__struct_fields__}
        sequence = self.sequence + 1
        header = CheckpointHeader(
            checkpoint_id=checkpoint_id(self.run_id, sequence),
            run_id=self.run_id,
            workflow_id=self.workflow_id,
            parent_id=self.head,
            sequence=sequence,
            branch=self.branch,
            iteration_count=sequence,
            timestamp=(self.started + timedelta(seconds=sequence)).isoformat(
                timespec="microseconds"
            ),
            incarnation=self.incarnation,
        )
        commit = Commit(
            header=replace(header, **fields),
            changes=Changes() if changes is None else changes,
            epoch=self.epoch,
            lease_seconds=LEASE,
            owner=self.owner,
        )
        return replace(commit, **commit_fields)

    async def commit(self, changes: Changes | None = None, **fields: Any) -> str:
        """Commit and advance; return the checkpoint's id."""
        commit = self.next(changes, **fields)
        await self.storage.commit(commit)
        self.head = commit.header.checkpoint_id
        self.sequence = commit.header.sequence
        return self.head

    async def put(self, **values: bytes) -> str:
        """Commit shared keys."""
        return await self.commit(
            Changes(puts={shared(name): value for name, value in values.items()})
        )

    async def take(
        self, storage: DurableStorage | None = None, *, which: str | None = None
    ) -> None:
        """Take over the run; pass `which` if its incarnation is not the writer's own."""
        self.storage = storage or self.storage
        self.incarnation = which or self.incarnation
        run = await self.storage.acquire(
            self.run_id, self.owner, LEASE, incarnation=self.incarnation
        )
        self.epoch, self.head, self.sequence, self.branch = (
            run.epoch,
            run.head,
            run.sequence,
            run.branch,
        )

    async def move(self, target: str) -> None:
        """Restore the run to another checkpoint."""
        run = await self.storage.move_head(self.run_id, self.epoch, target)
        self.head, self.branch = run.head, run.branch


async def record_of(storage: DurableStorage, run_id: str = "run") -> RunRecord:
    """Return the record of an existing run."""
    run = await storage.get_run(run_id)
    assert run is not None, f"run {run_id!r} is not there"
    return run


async def parts_of(storage: DurableStorage, wanted: str) -> dict[PartKey, Part]:
    """Return the parts of an existing checkpoint."""
    record = await storage.load_record(wanted)
    assert record is not None, f"checkpoint {wanted!r} is not there"
    return record.parts


async def content_of(storage: DurableStorage, wanted: str) -> dict[PartKey, list[bytes] | bytes]:
    """Return the parts of an existing checkpoint, list parts as lists."""
    return plain(await storage.load_record(wanted))


def plain(record: CheckpointRecord | None) -> dict[PartKey, list[bytes] | bytes]:
    """Return the parts of an existing record, list parts as lists."""
    assert record is not None, "the checkpoint is not there"
    return {
        key: part if isinstance(part, bytes) else list(part) for key, part in record.parts.items()
    }


def by_hand(checkpoint_id: str, **fields: Any) -> WorkflowCheckpoint:
    """Return a checkpoint for `save_checkpoint`."""
    return WorkflowCheckpoint(
        checkpoint_id=checkpoint_id, workflow_id=fields.pop("workflow_id", "flow"), **fields
    )
