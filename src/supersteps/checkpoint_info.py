"""`CheckpointInfo`: names a checkpoint by its ids."""

from __future__ import annotations

import msgspec


class CheckpointInfo(msgspec.Struct, frozen=True, gc=False):
    """Names a checkpoint: ids only, nothing of its content.

    A run's handle lists these, events carry them, and whatever takes a checkpoint takes one: to
    resume from it, to restore it, to fork it or to load it.

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
