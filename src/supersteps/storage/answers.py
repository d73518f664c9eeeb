"""Questions without the workflow's code: list, answer and cancel them.

An answer given here is plain JSON. It is checked against the schema that is stored with the
question, and waits in the run's inbox. The process that resumes the run converts it to the type
that the executor expects.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from supersteps.checkpoint.inbox import CANCELLED, json_entry, read_entry
from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint.sections.answered import ANSWERED, StoredAnswer, find_answer
from supersteps.checkpoint.sections.question import (
    REQUESTS,
    PendingRequest,
    StoredRequest,
    describe_request,
    read_request,
)
from supersteps.checkpoint.sections.section import ValueReader
from supersteps.errors import (
    AlreadyAnsweredError,
    CheckpointVersionError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    LateResponseError,
    NoSchemaError,
    RequestError,
    ResponseTypeError,
    RunNotFoundError,
    StaleRequestError,
    StorageError,
    UnknownRequestError,
)
from supersteps.ids import new_id
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage import rules
from supersteps.storage.listings import RunFilter
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import DurableStorage, is_managed, name_of
from supersteps.storage.records import LEASE_SECONDS, InboxEntry, RunRecord
from supersteps.typing.schema import misfit, violation

_SEARCHED = 200
"""Maximum number of checkpoints to search for an unknown request."""


def _now() -> datetime:
    return datetime.now(UTC)


class Answering:
    """Methods of storages for questions, without the workflow's code."""

    async def list_requests(
        self: DurableStorage, run_id: str | None = None, workflow_id: str | None = None
    ) -> list[PendingRequest]:
        """Return the questions that wait, oldest first; see `answers.list_requests`."""
        return await list_requests(self, run_id, workflow_id)

    async def answer(self: DurableStorage, run_id: str, request_id: str, value: Any) -> None:
        """Answer a question in plain JSON; see `answers.answer`.

        Raises:
            RequestError: The answer was refused; nothing was changed.
        """
        await answer(self, run_id, request_id, value)

    async def cancel_request(self: DurableStorage, run_id: str, request_id: str) -> None:
        """Cancel a question; see `answers.cancel_request`.

        Raises:
            RequestError: The question does not wait; nothing was changed.
        """
        await cancel_request(self, run_id, request_id)

    async def cancel_run(self: DurableStorage, run_id: str) -> None:
        """Cancel a run; see `answers.cancel_run`.

        Raises:
            RunBusyError: Another process is advancing it.
        """
        await cancel_run(self, run_id)


# ------------------------------------------------------------------------------------------ listing


async def list_requests(
    storage: DurableStorage, run_id: str | None = None, workflow_id: str | None = None
) -> list[PendingRequest]:
    """Return the questions that wait for an answer at the heads of runs.

    Answered questions are left out, even if no superstep has consumed the answer yet, and so are
    those of cancelled runs. Runs with a damaged head are skipped with a
    `CorruptCheckpointWarning`.

    Args:
        storage: The storage of the runs.
        run_id: Only those of this run.
        workflow_id: Only those of this workflow's runs.

    Returns:
        The questions, oldest first, each with its `run_id`.

    Raises:
        RunNotFoundError: There is no run `run_id`.
        CorruptCheckpointError: The head of the run `run_id` is damaged.
        StorageError: No run is named, and the storage cannot list its runs.
    """
    if run_id is not None:
        found = await _waiting_in(storage, run_id, workflow_id)
    elif is_managed(storage):
        found = []
        async for run in all_runs(storage, RunFilter(workflow_id=workflow_id)):
            if not run.requests:
                continue
            try:
                found += await _waiting_in(storage, run.run_id, workflow_id)
            except RunNotFoundError:
                pass  # it was deleted in the meantime
            except CorruptCheckpointError as error:
                warnings.warn(str(error), CorruptCheckpointWarning, stacklevel=2)
    else:
        raise StorageError(f"{name_of(storage)} cannot list its runs; pass run_id=")
    return sorted(found, key=lambda request: (request.timestamp, request.run_id))


async def _waiting_in(
    storage: DurableStorage, run_id: str, workflow_id: str | None
) -> list[PendingRequest]:
    # The inbox first: a commit in between has consumed its entries, and its head no longer has the
    # questions.
    answered = {entry.request_id for entry in await storage.read_inbox(run_id)}
    run, head = await _look(storage, run_id)
    if run.status == WorkflowRunState.CANCELLED or workflow_id not in (None, run.workflow_id):
        return []
    reader = ValueReader(storage.codec, f"checkpoint {run.head!r}")
    return [
        replace(describe_request(part, reader), run_id=run_id)
        for key, part in head.parts.items()
        if key[0] == REQUESTS and key[1] not in answered
    ]


async def _look(storage: DurableStorage, run_id: str) -> tuple[RunRecord, CheckpointRecord]:
    """Return a run and the checkpoint that is its head.

    Raises:
        RunNotFoundError: There is no such run.
        CheckpointNotFoundError: The head does not exist.
    """
    missing = None
    while (run := await storage.get_run(run_id)) is not None:
        head = await storage.load_record(run.head)
        if head is not None and head.header.incarnation == run.incarnation:
            return run, head
        if head is not None:
            continue  # the run was deleted and another one started after it was read
        if run.head == missing:
            raise rules.no_such_checkpoint(run.head, run_id)
        missing = run.head  # deleted after the run was read, which then has another head
    raise rules.no_such_run(run_id)


# ---------------------------------------------------------------------------------------- answering


async def answer(
    storage: DurableStorage,
    run_id: str,
    request_id: str,
    value: Any,
    *,
    clock: Callable[[], datetime] = _now,
) -> None:
    """Answer a question that waits at the head of a run, durably.

    The run consumes the answer when it is resumed. Use it where the workflow's code is not
    available, for example in a web service; otherwise use `workflow.send_responses`.

    Args:
        storage: The storage of the run.
        run_id: The run.
        request_id: The question.
        value: The answer in plain JSON, as `json.loads` returns it.
        clock: Returns the present time, with a time zone, for deadlines.

    Raises:
        RunNotFoundError: There is no such run.
        UnknownRequestError: The run has never asked this question.
        AlreadyAnsweredError: It has been answered on this branch.
        StaleRequestError: It was cancelled, its run was cancelled, or it is on a branch that the
            run has left.
        LateResponseError: Its deadline has passed.
        NoSchemaError: Only the workflow itself can check the answer.
        ResponseTypeError: The value is not plain JSON or does not fit the schema.
    """
    run, request = await _find_waiting(storage, run_id, request_id)
    _check_deadline(request, run_id, clock())
    _check_value(request, run_id, value)
    await _put(storage, run, request_id, json_entry(value))


async def cancel_request(storage: DurableStorage, run_id: str, request_id: str) -> None:
    """Cancel a question that waits at the head of a run, durably.

    Args:
        storage: The storage of the run.
        run_id: The run.
        request_id: The question.

    Raises:
        RunNotFoundError: There is no such run.
        UnknownRequestError: The run has never asked this question.
        AlreadyAnsweredError: It has been answered on this branch.
        LateResponseError: Its default became the answer.
        StaleRequestError: It was cancelled, its run was cancelled, or it is on a branch that the
            run has left.
    """
    run, _request = await _find_waiting(storage, run_id, request_id)
    await _put(storage, run, request_id, CANCELLED)


async def cancel_run(storage: DurableStorage, run_id: str) -> None:
    """Cancel a run, whose questions no longer wait. A completed run stays completed.

    Its checkpoints are retained, and it continues when it is resumed.

    Args:
        storage: The storage of the run.
        run_id: The run.

    Raises:
        RunNotFoundError: There is no such run.
        RunBusyError: Another process is advancing it.
    """
    run = await storage.get_run(run_id)
    if run is None:
        raise rules.no_such_run(run_id)
    if run.status in ENDED:
        return
    owner = this_process(new_id())
    taken = await storage.acquire(run_id, owner, LEASE_SECONDS, incarnation=run.incarnation)
    # It may have completed after it was read.
    status = None if taken.status == WorkflowRunState.IDLE else WorkflowRunState.CANCELLED.value
    await storage.release(run_id, taken.epoch, status=status, incarnation=run.incarnation)


async def _find_waiting(
    storage: DurableStorage, run_id: str, request_id: str
) -> tuple[RunRecord, StoredRequest]:
    run, head = await _look(storage, run_id)
    part = head.parts.get((REQUESTS, request_id))
    inbox = await storage.read_inbox(run_id, incarnation=run.incarnation)
    answered = any(entry.request_id == request_id for entry in inbox)
    if part is None or answered or run.status == WorkflowRunState.CANCELLED:
        raise await refusal(storage, run_id, request_id)
    return run, read_request(part)


async def _put(storage: DurableStorage, run: RunRecord, request_id: str, entry: bytes) -> None:
    try:
        await storage.add_answers(run.run_id, [(request_id, entry)], incarnation=run.incarnation)
    except UnknownRequestError as error:  # the head has moved after it was read
        raise await refusal(storage, run.run_id, request_id) from error


def _check_deadline(request: StoredRequest, run_id: str, now: datetime) -> None:
    if request.deadline is not None and datetime.fromisoformat(request.deadline) <= now:
        raise LateResponseError(
            f"{_named(run_id, request.request_id)} had to be answered by {request.deadline}, and "
            f"it is now {now.isoformat()}: its default is the answer. Nothing was changed; resume "
            "the run to continue."
        )


def _check_value(request: StoredRequest, run_id: str, value: Any) -> None:
    schema = msgspec.json.decode(request.response_schema)
    named = _named(run_id, request.request_id)
    if schema is None:
        raise NoSchemaError(
            f"{named} needs an answer of type {request.response_type}, which has no JSON Schema: "
            "only the workflow itself can check it. Nothing was changed; answer when resuming the "
            "run with the workflow's code."
        )
    reason = violation(value, schema) or misfit(
        value, request.response_type, bytes(request.response_schema)
    )
    if reason is not None:
        wanted = msgspec.json.encode(schema).decode()
        raise ResponseTypeError(
            f"{named} needs an answer of type {request.response_type}, and this one does not fit: "
            f"{reason}. Nothing was changed; answer with JSON that fits "
            f"{wanted if len(wanted) <= 400 else wanted[:400] + ' ...'}"
        )


# ----------------------------------------------------------------------------------------- refusing


async def refusal(storage: DurableStorage, run_id: str, request_id: str) -> RequestError:
    """Return the error for an answer whose request does not wait at the head of its run.

    Args:
        storage: The storage of the run.
        run_id: The run.
        request_id: The request.

    Returns:
        `AlreadyAnsweredError`, `LateResponseError`, `StaleRequestError` or `UnknownRequestError`,
        for the caller to raise.

    Raises:
        RunNotFoundError: There is no such run.
    """
    run, head, inbox = await _look_at_once(storage, run_id)
    named = _named(run_id, request_id)
    if run.status == WorkflowRunState.CANCELLED and request_id in run.requests:
        return StaleRequestError(
            f"{named} no longer waits: the run was cancelled. Nothing was changed; resume the run "
            f"from its checkpoint {run.head!r}, then it waits again."
        )
    if request_id in inbox:
        return _put_in_already(named, inbox[request_id], run.head)
    ended = find_answer(head.parts.get(ANSWERED), request_id)
    if ended is not None:
        return _has_ended(named, ended)
    elsewhere = await _find_elsewhere(storage, run, request_id)
    if elsewhere is not None:
        return StaleRequestError(
            f"{named} is on a branch that the run has left: in checkpoint "
            f"{elsewhere.checkpoint_id!r} of branch {elsewhere.branch}, while the run's head is "
            f"{run.head!r} of branch {run.branch}. Nothing was changed; restore a checkpoint of "
            "that branch to continue there."
        )
    waiting = ", ".join(repr(asked) for asked in run.requests if asked not in inbox) or "none"
    return UnknownRequestError(
        f"run {run_id!r} does not wait for request {request_id!r} at its head {run.head!r}; "
        f"waiting requests: {waiting}. Nothing was changed; answer one of those."
    )


async def _look_at_once(
    storage: DurableStorage, run_id: str
) -> tuple[RunRecord, CheckpointRecord, dict[str, InboxEntry]]:
    """Return a run, its head, and that head's inbox by request; raises as `_look` does."""
    while True:
        run, head = await _look(storage, run_id)
        inbox = {entry.request_id: entry for entry in await storage.read_inbox(run_id)}
        again = await storage.get_run(run_id)
        if again is None or again.head == run.head:
            return run, head, inbox


def _named(run_id: str, request_id: str) -> str:
    return f"request {request_id!r} of run {run_id!r}"


def _put_in_already(named: str, entry: InboxEntry, head: str) -> RequestError:
    kind, _ = read_entry(entry.value)
    if kind == "cancelled":
        return StaleRequestError(
            f"{named} was cancelled at {entry.received_at}; the next superstep will record it. "
            f"Nothing was changed; restore the checkpoint {head!r}, then it waits again."
        )
    if kind == "defaulted":
        return LateResponseError(
            f"the deadline of {named} has passed, and its default is the answer since "
            f"{entry.received_at}. Nothing was changed."
        )
    return AlreadyAnsweredError(
        f"{named} was answered at {entry.received_at}; the answer waits for the next superstep. "
        f"Nothing was changed; restore the checkpoint {head!r} to answer again."
    )


def _has_ended(named: str, ended: StoredAnswer) -> RequestError:
    when = f"in superstep {ended.iteration}, at {ended.timestamp}"
    if ended.outcome == "cancelled":
        return StaleRequestError(
            f"{named} was cancelled {when}. Nothing was changed; restore a checkpoint from before "
            "that, then it waits again."
        )
    again = "Nothing was changed; restore a checkpoint from before that to answer again."
    if ended.outcome == "defaulted":
        return LateResponseError(
            f"the deadline of {named} has passed, and its default became the answer {when}. {again}"
        )
    return AlreadyAnsweredError(f"{named} was answered {when}. {again}")


async def _find_elsewhere(
    storage: DurableStorage, run: RunRecord, request_id: str
) -> CheckpointHeader | None:
    """Return the newest checkpoint that is not on the lineage but knows a request.

    At most a limited number of checkpoints is searched.
    """
    if not is_managed(storage):
        return None
    headers = await storage.list_headers(run.run_id)
    lineage = {
        info.checkpoint_id for info in await storage.list_lineage(run.head, len(headers) + 1)
    }
    known = [header for header in headers if header.sequence <= run.sequence]  # not later ones
    left = [header for header in reversed(known) if header.checkpoint_id not in lineage]
    for header in left[:_SEARCHED]:
        try:
            record = await storage.load_record(header.checkpoint_id)
        except (CorruptCheckpointError, CheckpointVersionError):
            continue  # it is unknown whether it has the request
        if record is not None and (
            (REQUESTS, request_id) in record.parts
            or find_answer(record.parts.get(ANSWERED), request_id)
        ):
            return header
    return None
