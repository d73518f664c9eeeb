"""Commits, parts and values drawn at random, for the storage machine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader, Commit
from supersteps.checkpoint.sections.answered import ANSWERED
from supersteps.checkpoint.sections.graph import GRAPH
from supersteps.checkpoint.sections.message import MESSAGES
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.ids import checkpoint_id
from supersteps.testing.writer import REQUEST
from tests.reliability.model import Content, Run

REQUESTS = ("q1", "q2", "q.3 é")
STATUSES = (
    "IN_PROGRESS",
    "IDLE",
    "IDLE_WITH_PENDING_REQUESTS",
    "IN_PROGRESS_PENDING_REQUESTS",
    "FAILED",
)
TAGS = ("red", "blue é")
LISTS: tuple[PartKey, ...] = (OUTPUTS, ANSWERED, ("shared_state", "log"))
KEYS: tuple[PartKey, ...] = (
    MESSAGES,
    GRAPH,
    ("shared_state", "a"),
    ("shared_state", "log b"),
    ("shared_state", ""),
    ("executor_states", "e", "n"),
    ("executor_states", "e", "é\n"),
    ("scopes", "s", "x"),
    ("fan_in", "a,b->c"),
    ("timers", "1.0"),
    ("sub_workflows", "n#3"),
    ("sub_state", "n#3", "k"),
    ("sub_scopes", "n#3", "s", "k"),
)
_BEGUN = datetime(2025, 1, 1, tzinfo=UTC)
_PAGES = [f"page {number} of a long text; ".encode() * 40 for number in range(12)]


def value(dice: random.Random) -> bytes:
    """Return a JSON value as the codec may write it: small, odd, or large and like others of its
    kind.
    """
    if dice.random() < 0.1:
        pages = [
            dice.choice(_PAGES) if dice.random() < 0.2 else page
            for page in _PAGES[: dice.randint(3, 12)]
        ]
        return b'"' + b"".join(pages) + b'"'
    return dice.choice(
        [
            b"null",
            b"%d" % dice.randrange(10**6),
            b"-0.0",
            b"1.50",
            b"12345678901234567890123",
            '"é \\u00e9 \\n, ]"'.encode(),
            b'{"b":1,"a":[1,{"$":"tuple","v":[]}]}',
            b"[]",
            b'""',
        ]
    )


def changes(dice: random.Random, before: Content) -> Changes:
    """Return changes to a content; list parts stay lists."""
    many = dice.random() < 0.3
    puts: dict[PartKey, bytes] = {}
    for key in dice.sample(KEYS, dice.randint(0, 8 if many else 3)):
        puts[key] = b"[]" if key == MESSAGES else b'{"nodes":[]}' if key == GRAPH else value(dice)
    for request_id in dice.sample(REQUESTS, dice.choice([0, 0, 1, 2])):
        puts["requests", request_id] = REQUEST
    appends: dict[PartKey, list[bytes]] = {}
    for key in LISTS:
        if dice.random() < 0.35:
            appends[key] = [value(dice) for _ in range(dice.randint(1, 3))]
        if key[0] == "shared_state" and dice.random() < 0.15:
            puts[key] = (
                b"["
                + b",".join(b"%d" % dice.randrange(100) for _ in range(dice.randint(0, 3)))
                + b"]"
            )
    deletes = [key for key in before if dice.random() < (0.25 if key[0] == "requests" else 0.08)]
    if dice.random() < 0.1:
        deletes.append(("shared_state", "never there"))
    return Changes(puts=puts, appends=appends, deletes=deletes)


def commit(dice: random.Random, run_id: str, run: Run | None, owners: Sequence[Owner]) -> Commit:
    """Return the next commit of a run, or, now and then, one that must be refused."""
    record = None if run is None else run.record
    parent = None if record is None else record.head
    sequence = 0 if record is None else record.sequence + 1
    epoch = 1 if record is None else record.epoch
    incarnation = f"{dice.getrandbits(64):x}" if record is None else record.incarnation
    twist = dice.random()
    if record is None and twist < 0.05:
        parent, sequence = checkpoint_id(run_id, 0), 1
    elif record is not None and run is not None and twist < 0.25:
        kind = dice.choice(["epoch", "incarnation", "parent", "sequence", "create"])
        if kind == "epoch":
            epoch += dice.choice([-1, 1])
        elif kind == "incarnation":
            incarnation = dice.choice(["", "of an earlier run"])
        elif kind == "parent":
            parent = dice.choice([*run.kept, "none"])
        elif kind == "sequence":
            sequence = dice.randint(0, record.sequence)
        else:
            parent, sequence = None, dice.choice([0, sequence])
    before: Content = {} if run is None else run.kept[run.record.head].content
    read = 0
    if run is not None and run.inbox and dice.random() < 0.5:
        read = dice.choice(run.inbox)[0]
    has_lease = dice.random() < 0.4
    moment = _BEGUN + timedelta(seconds=sequence)
    if dice.random() < 0.1 or (record is not None and record.updated_at.startswith("2099")):
        moment = moment.replace(year=2099)
    header = CheckpointHeader(
        checkpoint_id=checkpoint_id(run_id, sequence),
        run_id=run_id,
        workflow_id="flow",
        parent_id=parent,
        sequence=sequence,
        branch=0 if record is None else record.branch,
        iteration_count=dice.choice([sequence, dice.randrange(10)]),
        max_iterations=dice.choice([100, 7]),
        steps_since_input=dice.randrange(3),
        timestamp=moment.isoformat(timespec="microseconds"),
        status=dice.choice(STATUSES),
        metadata=_metadata(dice) if record is None else record.metadata,
        incarnation=incarnation,
    )
    return Commit(
        header=header,
        changes=changes(dice, before),
        epoch=epoch,
        inbox_read=read,
        lease_seconds=30.0 if has_lease else None,
        owner=dice.choice(owners) if has_lease or dice.random() < 0.5 else None,
        fingerprint=dice.choice([None, "f1", "f2"]),
        tags=tuple(dice.sample(TAGS, dice.randint(0, 2))),
        parent_run=dice.choice([None, "another"]),
        parent_checkpoint=dice.choice([None, "another-000003"]),
        commit_id=f"{dice.getrandbits(64):x}",
    )


def _metadata(dice: random.Random) -> dict[str, Any]:
    return dice.choice([{}, {}, {"who": "mé", "n": [1, {"x": None}]}])


def order(content: Content) -> dict[str, list[PartKey]]:
    """Return the keys of each section in their order."""
    return {
        name: list(keys)
        for name, keys in groupby(sorted(content, key=lambda key: key[0]), lambda key: key[0])
    }
