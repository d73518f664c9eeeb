"""The format of an exported run: a file of JSON lines with a checksum.

    {"format": "supersteps-run/1", "run": {...}}   the run's record
    {"header": {...}, "puts": [...], ...}          a checkpoint, as differences from its parent
    {"journal": [...], "inbox": [...]}             what followed the head
    {"checksum": "..."}                            over all lines before

Later versions of the library can tell a newer format from damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path

import msgspec

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, check_version
from supersteps.errors import CheckpointVersionError, CorruptCheckpointError, StorageError
from supersteps.ids import checkpoint_id
from supersteps.storage.records import InboxEntry, RunRecord

FORMAT = "supersteps-run/1"


class _Format(msgspec.Struct):
    format: str


class Head(msgspec.Struct, omit_defaults=True):
    """The first line; `queue` is the run's place in the queue, if it has one."""

    format: str
    run: RunRecord
    queue: QueueEntry | None = None


class Step(msgspec.Struct):
    """The line of a checkpoint."""

    header: CheckpointHeader
    puts: list[tuple[PartKey, msgspec.Raw]] = []
    appends: list[tuple[PartKey, list[msgspec.Raw]]] = []
    deletes: list[PartKey] = []

    def changes(self) -> Changes:
        """Return the differences from the parent."""
        return Changes(
            puts={key: bytes(raw) for key, raw in self.puts},
            appends={key: [bytes(raw) for raw in items] for key, items in self.appends},
            deletes=self.deletes,
        )


class Tail(msgspec.Struct):
    """The second to last line."""

    journal: list[bytes]
    inbox: list[InboxEntry]


class End(msgspec.Struct):
    """The last line."""

    checksum: str


class RunFile(msgspec.Struct):
    """The checked content of an exported file."""

    run: RunRecord
    queue: QueueEntry | None
    steps: list[Step]
    tail: Tail


def encode_line(line: Head | Step | Tail | End) -> bytes:
    """Return a line of the file."""
    return msgspec.json.encode(line) + b"\n"


def new_digest() -> blake2b:
    """Return the checksum of zero lines."""
    return blake2b(digest_size=16)


# ------------------------------------------------------------------------------------------ writing


def step_between(parent: Mapping[PartKey, Part], record: CheckpointRecord) -> Step:
    """Return a checkpoint as differences from its parent's parts."""
    changes = Changes.between(parent, record.parts)
    parts = dict(parent)
    changes.apply(parts)
    if _in_sections(parts) != _in_sections(record.parts):
        # A key that was deleted and written again between two checkpoints has another position
        # now, if only these two are left.
        changes = Changes.between({}, record.parts)
        changes.deletes = list(parent)
    return Step(
        record.header,
        [(key, msgspec.Raw(part)) for key, part in changes.puts.items()],
        [(key, [msgspec.Raw(item) for item in items]) for key, items in changes.appends.items()],
        changes.deletes,
    )


def _in_sections(keys: Iterable[PartKey]) -> list[PartKey]:
    """Return keys ordered inside each section; the order of sections has no meaning."""
    return sorted(keys, key=itemgetter(0))


# ------------------------------------------------------------------------------------------ reading


def read_run_file(path: Path) -> RunFile:
    """Return the content of an exported file.

    Raises:
        CorruptCheckpointError: It is damaged or not an exported run.
        CheckpointVersionError: A newer version of the library wrote it.
        StorageError: It cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise StorageError(
            f"the exported run {path} cannot be read: {error.strerror or error}"
        ) from error
    try:
        return _decode(lines, path)
    except CheckpointVersionError:
        raise
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(
            f"{path} is not a complete exported run: {error}. Export the run again; nothing was "
            "written."
        ) from error


def _decode(lines: list[bytes], path: Path) -> RunFile:
    if not lines:
        raise ValueError("it is empty")
    version = msgspec.json.decode(lines[0], type=_Format).format
    if version != FORMAT:
        if version.startswith(FORMAT.partition("/")[0] + "/"):
            raise CheckpointVersionError(
                f"{path} was exported by a newer version of supersteps ({version}; this one reads "
                f"{FORMAT}): upgrade supersteps, then import it again. Nothing was written."
            )
        raise ValueError(f"its format is {version!r}")
    if len(lines) < 4:
        raise ValueError(f"it ends after {len(lines)} lines")
    head, *middle, tail, end = lines
    digest = new_digest()
    for line in lines[:-1]:
        digest.update(line)
    if msgspec.json.decode(end, type=End).checksum != digest.hexdigest() or not end.endswith(b"\n"):
        raise ValueError("its checksum does not match")
    first = msgspec.json.decode(head, type=Head)
    run = first.run
    steps = [msgspec.json.decode(line, type=Step) for line in middle]
    _check(run, steps, path)
    return RunFile(run, first.queue, steps, msgspec.json.decode(tail, type=Tail))


def _check(run: RunRecord, steps: list[Step], path: Path) -> None:
    """Refuse checkpoints that could not be committed in their order."""
    last = -1
    known: set[str] = set()
    for header in (step.header for step in steps):
        check_version(header.version, f"checkpoint {header.checkpoint_id!r} in {path}")
        if header.run_id != run.run_id or header.checkpoint_id != checkpoint_id(
            run.run_id, header.sequence
        ):
            raise ValueError(
                f"checkpoint {header.checkpoint_id!r} does not belong to run {run.run_id!r}"
            )
        if header.sequence <= last or header.sequence > run.sequence:
            raise ValueError(f"checkpoint {header.checkpoint_id!r} is out of order")
        if header.parent_id is not None and header.parent_id not in known:
            raise ValueError(
                f"checkpoint {header.checkpoint_id!r} follows {header.parent_id!r}, which is not "
                "in it"
            )
        if header.parent_id is None and known and not steps[0].header.sequence:
            raise ValueError(f"checkpoint {header.checkpoint_id!r} has no parent")
        last = header.sequence
        known.add(header.checkpoint_id)
    if run.head not in known:
        raise ValueError(f"the head {run.head!r} is not in it")
