"""What is stored: a checkpoint as a header and a map of encoded parts, and a commit as what changed in it.

A checkpoint's content is a flat map from part keys to encoded values. A key is a tuple of strings whose first item
names the section it belongs to:

    ("messages",)                      messages in flight, one JSON list
    ("fan_in", group_id)               messages that wait in a fan-in until every source has sent one
    ("shared_state", key)              one shared key
    ("executor_states", id, key)       one key of an executor's own scope
    ("scopes", name, key)              one key of a named scope
    ("requests", request_id)           a question that waits for its answer
    ("intercepted", request_id)        a sub-workflow's question that an executor around it answers
    ("replies", request_id)            such an answer, on its way in
    ("timers", timer_id)               a message that is delivered at a given time
    ("sub_workflows", path)            a run of a sub-workflow inside this one
    ("sub_state", path, key)           one shared key of it
    ("sub_scopes", path, name, key)    one key of a named scope of it
    ("answered",)                      every question of the lineage that has ended: a list part, which only grows
    ("outputs",)                       every output of the lineage: a list part, which only grows
    ("graph",)                         the structure of the workflow that wrote the checkpoint

Inside a sub-workflow an executor is named by its path: the run of the sub-workflow, a slash, its own id
(`review#3/writer`: the writer of the run that node `review` began in superstep 3).

The engine hands over only the parts that a superstep changed; how unchanged ones are kept is the storage's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from time import time_ns
from typing import Any, TypeAlias

import msgspec

from supersteps._process_fork import forkable_lock
from supersteps.checkpoint.owner import Owner
from supersteps.errors import CheckpointVersionError
from supersteps.ids import new_id

FORMAT_VERSION = "1.0"
"""Version of the stored format; the major number changes when older libraries could misread it."""


def check_version(version: str, where: str) -> None:
    """Refuse what a newer library wrote.

    Args:
        version: The stored `version`.
        where: What carries it, for the message ("checkpoint 'x'", "file /a/b.json").

    Raises:
        CheckpointVersionError: Its major number is above this library's, or it is no version at all.
    """
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit()) or int(major) > int(
        FORMAT_VERSION.partition(".")[0]
    ):
        raise CheckpointVersionError(
            f"{where} has format version {version!r}; this library reads versions up to {FORMAT_VERSION}. "
            "Upgrade supersteps to read it."
        )


PartKey: TypeAlias = tuple[str, ...]
"""A section's name followed by the names inside it."""

MESSAGES: PartKey = ("messages",)
OUTPUTS: PartKey = ("outputs",)
GRAPH: PartKey = ("graph",)
FAN_IN = "fan_in"
SHARED = "shared_state"
EXECUTORS = "executor_states"
SCOPES = "scopes"
REQUESTS = "requests"
INTERCEPTED = "intercepted"
REPLIES = "replies"
TIMERS = "timers"
SUB_WORKFLOWS = "sub_workflows"
SUB_STATE = "sub_state"
SUB_SCOPES = "sub_scopes"
ANSWERED: PartKey = ("answered",)

SECTION_DEPTHS: Mapping[str, int] = {
    "messages": 0,
    FAN_IN: 1,
    SHARED: 1,
    EXECUTORS: 2,
    SCOPES: 2,
    REQUESTS: 1,
    INTERCEPTED: 1,
    REPLIES: 1,
    TIMERS: 1,
    SUB_WORKFLOWS: 1,
    SUB_STATE: 2,
    SUB_SCOPES: 3,
    "answered": 0,
    "outputs": 0,
    "graph": 0,
}
"""How many names follow a section's own in a part key."""


_second = (0, "")
"""The second in which somebody last asked for the time, and its text: one replaces the other as a whole."""


def utc_now() -> str:
    """Return the present as ISO 8601 with microseconds, in UTC: text order is time order."""
    global _second
    seconds, micros = divmod(time_ns() // 1000, 1_000_000)
    known, text = _second
    if known != seconds:
        text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        _second = seconds, text
    return f"{text}.{micros:06d}+00:00"


class _StoredElements:
    """The elements that a list part begins with, read when somebody looks at one."""

    __slots__ = ("_items", "_load", "length")

    def __init__(self, length: int, load: Callable[[], list[bytes]]) -> None:
        self.length = length
        self._load = load
        self._items: list[bytes] | None = None

    def items(self) -> list[bytes]:
        items = self._items
        if items is None:  # two threads may both read; they get the same
            items = self._items = self._load()
        return items


class ListPart(Sequence[bytes]):
    """A part that is a growing list of encoded elements; checkpoints of one branch share the elements.

    Appending to the newest view costs what is appended. Appending to an older one (after a restore) copies first,
    so a list part that somebody holds never changes. Views may be extended from several threads.
    """

    __slots__ = ("_items", "_length", "_stored")

    # One lock for all: it is held for an append. Two threads that extend one view must not both think it the newest.
    _lock = forkable_lock()

    def __init__(self, items: Iterable[bytes] = ()) -> None:
        self._stored: _StoredElements | None = None
        self._items = list(items)  # those after the stored ones
        self._length = len(self._items)

    @classmethod
    def stored(cls, length: int, load: Callable[[], list[bytes]]) -> ListPart:
        """Return a list part whose elements are read from a storage when somebody looks at one.

        Args:
            length: How many there are.
            load: Reads them all, and may block; it is called once, not for appending.
        """
        part = cls()
        part._stored = _StoredElements(length, load)
        part._length = length
        return part

    def extended(self, items: Iterable[bytes]) -> ListPart:
        """Return a list part with `items` after this one's."""
        more = list(items)
        longer = ListPart.__new__(ListPart)
        longer._stored = self._stored
        longer._length = self._length + len(more)
        own = self._length - (self._stored.length if self._stored else 0)
        with ListPart._lock:
            longer._items = self._items if len(self._items) == own else self._items[:own]
            longer._items.extend(more)
        return longer

    @classmethod
    def from_json(cls, data: bytes) -> ListPart:
        """Return the list part that a JSON array describes.

        Raises:
            ValueError: It is not a JSON array.
        """
        try:
            return cls(bytes(item) for item in msgspec.json.decode(data, type=list[msgspec.Raw]))
        except RecursionError:
            raise ValueError("the JSON is nested too deeply to be read") from None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        if self._stored is None:
            return islice(self._items, self._length)
        return chain(self._stored.items(), islice(self._items, self._length - self._stored.length))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        place: int = index if index >= 0 else self._length + index
        before = self._stored.length if self._stored else 0
        if self._stored is not None and place < before:
            return self._stored.items()[place]
        return self._items[place - before]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListPart) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares by content, like the list it stands for

    def to_json(self) -> bytes:
        """Return the whole list as one JSON array."""
        return b"[" + b",".join(self) + b"]"


Part: TypeAlias = bytes | ListPart
"""The typed JSON of one value, or of a list that grows element by element."""


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The small facts of a checkpoint; everything else is parts.

    Attributes:
        checkpoint_id: Id of the checkpoint, unique in its storage.
        run_id: The run it belongs to; empty for a checkpoint that was saved by hand.
        workflow_id: Name of the workflow.
        parent_id: The checkpoint it follows, None for iteration 0.
        sequence: Position in the order of the run's commits, over all branches, from 0.
        branch: Number of the run's branch: 0 until a restore, one more after each.
        iteration_count: Supersteps done on this lineage.
        max_iterations: The limit in force when it was written.
        steps_since_input: Supersteps since the last input from outside, which the limit counts.
        timestamp: ISO 8601, UTC, microseconds; strictly increasing within a run.
        status: A `WorkflowRunState` value.
        metadata: The user's own remarks about the run, JSON values.
        version: `FORMAT_VERSION` of the writer.
        incarnation: What tells its run from others of the same id; see `RunRecord`. Empty for a
            checkpoint that was made by hand.
    """

    checkpoint_id: str
    workflow_id: str
    timestamp: str
    run_id: str = ""
    parent_id: str | None = None
    sequence: int = 0
    branch: int = 0
    iteration_count: int = 0
    max_iterations: int = 100
    steps_since_input: int = 0
    status: str = "IN_PROGRESS"
    metadata: dict[str, Any] = {}
    version: str = FORMAT_VERSION
    incarnation: str = ""

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint's handle."""
        return CheckpointInfo(self.run_id, self.checkpoint_id, self.iteration_count, self.parent_id)


class CheckpointInfo(msgspec.Struct, frozen=True, gc=False):
    """The small handle of a checkpoint: ids only.

    Attributes:
        run_id: The run.
        checkpoint_id: The checkpoint.
        step_number: Its iteration count; 0 is the checkpoint that holds the raw input.
        parent: Id of the checkpoint it follows, None for the first.
    """

    run_id: str
    checkpoint_id: str
    step_number: int
    parent: str | None = None


class CheckpointRecord(msgspec.Struct, frozen=True):
    """A whole checkpoint as stored.

    Attributes:
        header: The small facts.
        parts: Every part, encoded; the mapping belongs to the receiver, the parts are immutable.
    """

    header: CheckpointHeader
    parts: dict[PartKey, Part]


class Changes(msgspec.Struct, gc=False):
    """What a superstep changed, to be applied in the order deletes, puts, appends.

    Attributes:
        puts: New or replaced parts. A replaced part keeps its place in the order of keys.
        appends: Elements to add at the end of list parts. A missing one begins empty; a JSON array that was put as a
            whole becomes a list part.
        deletes: Parts that are no more.
    """

    puts: dict[PartKey, bytes] = {}
    appends: dict[PartKey, list[bytes]] = {}
    deletes: list[PartKey] = []

    def apply(self, parts: dict[PartKey, Part]) -> None:
        """Change `parts` in place."""
        for key in self.deletes:
            parts.pop(key, None)
        parts.update(self.puts)
        for key, items in self.appends.items():
            old = parts.get(key)
            if not isinstance(old, ListPart):
                old = ListPart() if old is None else ListPart.from_json(old)
            parts[key] = old.extended(items)

    def then(self, other: Changes) -> Changes:
        """Return the changes that do at once what these do and `other` does after them."""
        gone = {*other.deletes}
        replaced = gone | other.puts.keys()
        appends = {key: list(items) for key, items in self.appends.items() if key not in replaced}
        for key, items in other.appends.items():
            appends[key] = [*appends.get(key, ()), *items]
        return Changes(
            puts={key: part for key, part in self.puts.items() if key not in gone} | other.puts,
            appends=appends,
            deletes=list(dict.fromkeys([*self.deletes, *other.deletes])),
        )


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One atomic step of a run: a new checkpoint that becomes the head.

    Attributes:
        header: The new checkpoint's header. `parent_id` must be the run's head (None creates the
            run), `incarnation` the run's (the first commit gives the run its own), and
            `checkpoint_id` is `_ids.checkpoint_id(run_id, sequence)`.
        changes: What differs from the parent.
        epoch: The writer's fencing epoch; it must be the run's.
        inbox_read: Inbox entries up to this number are consumed by the commit.
        lease_seconds: Extends the writer's lease from now; None gives it up.
        owner: The writer, as the lease names it.
        fingerprint: Hash of the graph's structure, when it is new to the run.
        tags: The user's labels, when the commit creates the run.
        parent_run: The run it is forked from, when the commit creates a fork.
        parent_checkpoint: The checkpoint it is forked from.
        commit_id: Identity of this very attempt, by which a commit whose reply was lost is recognised.
    """

    header: CheckpointHeader
    changes: Changes
    epoch: int
    inbox_read: int = 0
    lease_seconds: float | None = None
    owner: Owner | None = None
    fingerprint: str | None = None
    tags: tuple[str, ...] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None
    commit_id: str = msgspec.field(default_factory=new_id)
