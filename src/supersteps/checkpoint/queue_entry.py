"""`QueueEntry`: a run's place in the queue from which workers take runs."""

from __future__ import annotations

import msgspec

DEFAULT_QUEUE = "default"
"""The queue of runs that name none."""


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When a worker may take a run, and before which others.

    A run has an entry once it is submitted, for as long as it exists. Runs that people drive by
    hand have none.

    Attributes:
        queue: The queue's name; a worker serves the queues that it is told to.
        priority: Runs with a higher one are taken first.
        ready_at: From when on a worker may take the run, in Unix seconds by the storage's clock.
            None while a worker has it, and while only something from outside, such as an answer,
            makes it ready.
        concurrency_key: Runs that share it are limited together, such as those of one customer.
        is_claimed: Whether a worker has taken the run and has not put it back.
        crashes: How many owners of the run have died since its commit `crashed_at`.
        crashed_at: Number of the run's newest commit when its last owner died.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    ready_at: float | None = None
    concurrency_key: str | None = None
    is_claimed: bool = False
    crashes: int = 0
    crashed_at: int = -1
