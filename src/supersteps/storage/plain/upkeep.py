"""The upkeep of a plain storage, with only its five methods."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.ids import split_checkpoint_id
from supersteps.storage import rules
from supersteps.storage.plain.calls import PlainCalls
from supersteps.storage.records import Damage


def headers_of(checkpoints: Sequence[WorkflowCheckpoint]) -> list[CheckpointHeader]:
    """Return the headers of checkpoints of one run in the order of their commits."""
    return sorted(
        (checkpoint.to_header() for checkpoint in checkpoints), key=lambda header: header.sequence
    )


def with_parents(
    checkpoints: Sequence[WorkflowCheckpoint], parents: Mapping[str, str | None]
) -> list[WorkflowCheckpoint]:
    """Return changed copies of the checkpoints that get a new parent."""
    found = {checkpoint.checkpoint_id: checkpoint for checkpoint in checkpoints}
    moved = []
    for checkpoint_id, parent in parents.items():
        twin = copy.copy(found[checkpoint_id])
        twin.parent = parent
        moved.append(twin)
    return moved


async def verify(
    storage: PlainCalls, name_of_storage: str, codec: Codec, run_id: str | None
) -> list[Damage]:
    """Load and encode every checkpoint, without checksums; return those that fail."""
    headers: dict[str, list[CheckpointHeader]] = {}
    damaged: dict[str, str] = {}
    for checkpoint_id in await storage.list_checkpoint_ids():
        try:
            checkpoint = await storage.load_checkpoint(checkpoint_id)
            if checkpoint is not None:
                header = checkpoint.to_record(codec).header
                headers.setdefault(header.run_id, []).append(header)
        except Exception as error:  # whatever a storage raises, the checkpoint is unreadable
            damaged[checkpoint_id] = f"{type(error).__name__}: {error}"
    found = []
    for checkpoint_id, problem in damaged.items():
        name, number = split_checkpoint_id(checkpoint_id) or ("", 0)
        is_of_run = bool(name) and name in headers
        nearest = rules.intact_before(number, headers[name]) if is_of_run else None
        if run_id in (None, name):
            found.append(
                Damage(
                    f"checkpoint {checkpoint_id!r} in {name_of_storage}",
                    problem,
                    name if is_of_run else None,
                    checkpoint_id,
                    nearest.checkpoint_id if nearest else None,
                )
            )
    return found
