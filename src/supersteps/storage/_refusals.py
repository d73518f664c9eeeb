"""Errors that all storages raise with the same messages."""

from __future__ import annotations

from supersteps.checkpoint.record import CheckpointHeader, check_version
from supersteps.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    RunFencedError,
    RunNotFoundError,
    StorageError,
)
from supersteps.ids import MAX_ID_LENGTH, check_id


def check_saved(header: CheckpointHeader) -> str:
    """Return the id of a checkpoint that is saved directly, if it is valid.

    Raises:
        ValueError: The id is empty, unprintable or too long.
        CheckpointVersionError: This version of the library could not read it.
    """
    check_id(header.checkpoint_id, "checkpoint_id", MAX_ID_LENGTH + 20)  # a run's id and a number
    check_version(header.version, f"checkpoint {header.checkpoint_id!r}")
    return header.checkpoint_id


def id_taken(taken: str) -> StorageError:
    """Return the error for a checkpoint whose id belongs to a different one."""
    return StorageError(
        f"there is already another checkpoint {taken!r} in this storage, and a committed "
        "checkpoint does not change; nothing was written. Save yours under its own id "
        "(dataclasses.replace(checkpoint, checkpoint_id=...))."
    )


def no_such_run(run_id: str) -> RunNotFoundError:
    """Return the error for a run that does not exist."""
    return RunNotFoundError(
        f"run {run_id!r} does not exist in this storage, or was deleted; nothing was written"
    )


def replaced(run_id: str) -> RunFencedError:
    """Return the error for a run that was deleted and whose id another run has now."""
    return RunFencedError(
        f"run {run_id!r} was deleted, and another run was started under its id since it was "
        "read; nothing was written. What was read of the old run is not valid for the new one: "
        "read it again, or resume it from its head."
    )


def no_such_checkpoint(wanted: str, run_id: str) -> CheckpointNotFoundError:
    """Return the error for a checkpoint that a run does not have."""
    return CheckpointNotFoundError(
        f"run {run_id!r} has no checkpoint {wanted!r}; nothing was changed. Its checkpoints: "
        f"list_checkpoint_ids(run_id={run_id!r})"
    )


def damaged(problem: str, ancestor: str | None) -> CorruptCheckpointError:
    """Return the error for a damaged checkpoint, with where to continue.

    Args:
        problem: What is damaged, in whole sentences.
        ancestor: Id of the nearest intact checkpoint before it, None if there is none.
    """
    offer = (
        f"The nearest intact checkpoint before it is {ancestor!r}"
        if ancestor
        else "No checkpoint before it is intact"
    )
    return CorruptCheckpointError(f"{problem} {offer}.")
