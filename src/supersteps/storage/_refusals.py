"""What storages refuse, in the same words everywhere."""

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
    """Return the id of a checkpoint that is saved by hand, if it can be kept and read again.

    Raises:
        ValueError: The id is empty, unprintable or too long.
        CheckpointVersionError: This library could not read it.
    """
    check_id(header.checkpoint_id, "checkpoint_id", MAX_ID_LENGTH + 20)  # a run's id and a number
    check_version(header.version, f"checkpoint {header.checkpoint_id!r}")
    return header.checkpoint_id


def id_taken(taken: str) -> StorageError:
    """Return the error of a checkpoint whose id belongs to a different one."""
    return StorageError(
        f"there is another checkpoint {taken!r} in this storage already, and what is committed "
        "does not change; nothing was written. Save yours under an id of its own "
        "(dataclasses.replace(checkpoint, checkpoint_id=...))."
    )


def no_such_run(run_id: str) -> RunNotFoundError:
    """Return the error of a run that is not there."""
    return RunNotFoundError(
        f"run {run_id!r} is not in this storage (any more); nothing was written"
    )


def anew(run_id: str) -> RunFencedError:
    """Return the error of a run that was deleted, and whose id another run has now."""
    return RunFencedError(
        f"run {run_id!r} was deleted, and another run was started under its id since it was looked "
        "at; nothing was written. What was known of the old run does not hold for the new one: "
        "look it up again, or resume it from its head."
    )


def no_such_checkpoint(wanted: str, run_id: str) -> CheckpointNotFoundError:
    """Return the error of a checkpoint that a run does not have."""
    return CheckpointNotFoundError(
        f"run {run_id!r} has no checkpoint {wanted!r}; nothing was changed. Its checkpoints: "
        f"list_checkpoint_ids(run_id={run_id!r})"
    )


def damaged(problem: str, ancestor: str | None) -> CorruptCheckpointError:
    """Return the error of a damaged checkpoint, with what is left to go on from.

    Args:
        problem: What is damaged and how, in whole sentences.
        ancestor: Id of the nearest intact checkpoint before it, None when there is none.
    """
    offer = (
        f"The nearest intact checkpoint before it is {ancestor!r}"
        if ancestor
        else "None before it is intact"
    )
    return CorruptCheckpointError(f"{problem} {offer}.")
