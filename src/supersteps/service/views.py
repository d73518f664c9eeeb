"""Plain values of the service, ready to be shown or sent as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from supersteps.service.questions import Question


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        run_id: The run.
        workflow_id: Name of its workflow.
        status: A `WorkflowRunState` value.
        step: The head's superstep.
        head: Id of the head.
        branch: Number of the current branch.
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC.
        requests: Ids of the waiting questions.
        answered: Those of them whose answer waits for the next superstep; None if not determined.
        queue: The queue in which it waits for a worker; None if it does not, or not determined.
        error: The last failure, None once the run has continued.
        owner: The process that drives it now, in words; None if none does.
        is_abandoned: Whether its owner has died (or has been silent for longer than its lease), so
            that the run has to be resumed.
        tags: The user's tags.
        parent_run: The run it was forked from.
        parent_checkpoint: The checkpoint it was forked from.
    """

    run_id: str
    workflow_id: str
    status: str
    step: int
    head: str
    branch: int
    created_at: str
    updated_at: str
    requests: tuple[str, ...] = ()
    answered: tuple[str, ...] | None = None
    queue: str | None = None
    error: str | None = None
    owner: str | None = None
    is_abandoned: bool = False
    tags: tuple[str, ...] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process that drives runs.

    Attributes:
        process: The process, in words.
        is_alive: Whether it lives, as far as can be told.
        runs: Ids of the runs that it has.
        last_seen: When it last gave a sign of life: ISO 8601, UTC.
    """

    process: str
    is_alive: bool
    runs: tuple[str, ...]
    last_seen: str


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A failed call that waits for its next attempt.

    Attributes:
        executor_id: The executor.
        attempt: Number of the next attempt.
        due: Time of the next attempt: ISO 8601, UTC.
    """

    executor_id: str
    attempt: int
    due: str


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in a history.

    Attributes:
        checkpoint_id: The checkpoint.
        run_id: Its run.
        parent: The checkpoint before it; for the first of a fork, the one it was forked from.
        step: Supersteps done.
        branch: Number of its branch.
        timestamp: ISO 8601, UTC.
        status: A `WorkflowRunState` value, or "DAMAGED" if the checkpoint cannot be read; the other
            fields are then derived from its neighbours.
        is_head: Whether it is its run's head.
        ran: Executors that ran in its superstep, as far as known.
        retries: Calls that failed in that superstep and wait for their next attempt.
        messages: How many messages are in flight.
        outputs: How many outputs were added since the parent.
        asked: Ids of questions asked since the parent.
        closed: Ids of questions that ended since the parent.
        error: The failure that stopped the run here, if it is the head of a failed run; for a
            damaged checkpoint, the damage.
    """

    checkpoint_id: str
    run_id: str
    parent: str | None
    step: int
    branch: int
    timestamp: str
    status: str
    is_head: bool = False
    ran: tuple[str, ...] = ()
    retries: tuple[Retry, ...] = ()
    messages: int = 0
    outputs: int = 0
    asked: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    error: str | None = None


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The history of a run and of its forks.

    Attributes:
        run: The run.
        forks: Its forks, and forks of forks, in order of creation.
        entries: Checkpoints of all of them, newest first; a child always comes before its parent.
        is_complete: Whether all are included; if not, older ones were left out.
    """

    run: RunSummary
    forks: tuple[RunSummary, ...]
    entries: tuple[LogEntry, ...]
    is_complete: bool = True


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A run in detail.

    Attributes:
        run: The summary.
        metadata: The user's metadata.
        checkpoints: Number of checkpoints on all branches.
        outputs: Every output of the lineage, as typed JSON.
        questions: The waiting questions.
        waiting: How many messages are in flight for each executor.
        timers: When delayed messages are due: ISO 8601, UTC.
        retries: Those of them that are further attempts of failed calls.
        latest: The newest checkpoints of the head's lineage, newest first.
        forks: Ids of runs that were forked from it.
    """

    run: RunSummary
    metadata: dict[str, Any]
    checkpoints: int
    outputs: list[Any]
    questions: list[Question]
    waiting: dict[str, int]
    timers: list[str]
    retries: list[Retry]
    latest: list[LogEntry]
    forks: list[str]


class CheckpointDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in detail.

    Attributes:
        entry: The summary.
        workflow_id: Name of the workflow.
        metadata: The user's metadata of the run.
        content: The whole content as typed JSON: sections, names, values; without the stored graph.
    """

    entry: LogEntry
    workflow_id: str
    metadata: dict[str, Any]
    content: dict[str, Any]


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning deleted from a run, or would delete.

    Attributes:
        run_id: The run.
        checkpoints: Ids of the checkpoints, oldest first.
        kept: Number of checkpoints kept.
    """

    run_id: str
    checkpoints: list[str]
    kept: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of driving a run.

    Attributes:
        run_id: The run.
        status: A `WorkflowRunState` value, or "DRAINED" if a signal stopped it between two
            supersteps.
        step: The superstep of its head.
        checkpoint: Id of its head; None without a storage.
        outputs: Every output of the lineage, JSON-ready.
        questions: The waiting questions.
        signal: Number of the signal that stopped it, if one did.
    """

    run_id: str
    status: str
    step: int
    checkpoint: str | None
    outputs: list[Any]
    questions: list[Question]
    signal: int | None = None
