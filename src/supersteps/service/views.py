"""What the service layer tells of runs and checkpoints: plain values, ready to be shown or sent as JSON."""

from __future__ import annotations

from typing import Any

import msgspec


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        run_id: The run.
        workflow_id: Name of its workflow.
        status: A `WorkflowRunState` value.
        step: The head's superstep.
        head: Id of the current checkpoint.
        branch: Number of the current branch.
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC.
        requests: Ids of the questions that wait.
        answered: Those of them whose answer waits for the next superstep; None where nobody has
            looked.
        error: The last failure, None since the run went on.
        owner: Who advances it now, in words; None if nobody does.
        is_abandoned: Whether its owner is gone (dead, or silent for longer than its lease), so that
            it goes on only when somebody resumes it.
        tags: The user's labels.
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
    error: str | None = None
    owner: str | None = None
    is_abandoned: bool = False
    tags: tuple[str, ...] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for an answer.

    Attributes:
        request_id: Its id.
        run_id: The run that asks.
        workflow_id: Name of that run's workflow.
        executor_id: The executor that asks.
        step: The superstep that asked.
        asked_at: ISO 8601, UTC.
        data: The question, as typed JSON.
        response_type: Type of the answer, for people to read.
        response_schema: JSON Schema of the answer; None where only the workflow's own code can take
            it.
        deadline: When the default counts: ISO 8601, UTC.
        default: The answer at the deadline, as typed JSON.
    """

    request_id: str
    run_id: str
    workflow_id: str
    executor_id: str
    step: int
    asked_at: str
    data: Any
    response_type: str
    response_schema: dict[str, Any] | None = None
    deadline: str | None = None
    default: Any = None


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A call that failed and waits to be made again.

    Attributes:
        executor_id: Whose call.
        attempt: Which attempt it will be.
        due: When: ISO 8601, UTC.
    """

    executor_id: str
    attempt: int
    due: str


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in a history.

    Attributes:
        checkpoint_id: The checkpoint.
        run_id: Its run.
        parent: The checkpoint it follows; for the first of a fork the one it was forked from.
        step: Supersteps done.
        branch: Number of its branch.
        timestamp: ISO 8601, UTC.
        status: A `WorkflowRunState` value, or "DAMAGED" where the checkpoint cannot be read; the
            rest of such an entry is what its neighbours tell.
        is_head: Whether it is its run's head.
        ran: Executors that ran in the superstep that led here, as far as that can be told.
        retries: Calls that failed in that superstep and wait to be made again.
        messages: How many messages are in flight.
        outputs: How many outputs were added since the parent.
        asked: Ids of questions asked since the parent.
        closed: Ids of questions that ended since the parent.
        error: The failure that stopped the run here, if it is the head of a failed run; of a
            damaged checkpoint, what is wrong with it.
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
    """The history of a run and of what was forked from it.

    Attributes:
        run: The run.
        forks: Runs that were forked from it, or from one of these, in the order of their creation.
        entries: Checkpoints of all of them, newest first; a child always comes before its parent.
        is_complete: Whether these are all of them; if not, older ones were left out.
    """

    run: RunSummary
    forks: tuple[RunSummary, ...]
    entries: tuple[LogEntry, ...]
    is_complete: bool = True


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A run, looked at closely.

    Attributes:
        run: The small facts.
        metadata: The user's own remarks.
        checkpoints: How many there are, on all branches.
        outputs: Every output of the lineage, as typed JSON.
        questions: What waits for an answer.
        waiting: How many messages are in flight for each executor.
        timers: When messages are due that wait for their time: ISO 8601, UTC.
        retries: Those of them that are calls which failed and are made again.
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
    """A checkpoint, looked at closely.

    Attributes:
        entry: The small facts.
        workflow_id: Name of the workflow.
        metadata: The user's own remarks about the run.
        content: All of it as one document of typed JSON: sections, names, values; without the
            stored structure.
    """

    entry: LogEntry
    workflow_id: str
    metadata: dict[str, Any]
    content: dict[str, Any]


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning removed from a run, or would remove.

    Attributes:
        run_id: The run.
        checkpoints: Ids of the checkpoints, oldest first.
        kept: How many stay.
    """

    run_id: str
    checkpoints: list[str]
    kept: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of driving a run.

    Attributes:
        run_id: The run.
        status: A `WorkflowRunState` value, or "DRAINED" where a signal stopped it between two
            supersteps.
        step: The superstep it stands at.
        checkpoint: Id of its head; None without a storage.
        outputs: Every output of the lineage, JSON-ready.
        questions: What waits for an answer.
        signal: Number of the signal that stopped it, if one did.
    """

    run_id: str
    status: str
    step: int
    checkpoint: str | None
    outputs: list[Any]
    questions: list[Question]
    signal: int | None = None
