"""The rules of a run's inbox: which answers wait, which are accepted."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from supersteps.checkpoint.record import utc_now
from supersteps.errors import AlreadyAnsweredError, UnknownRequestError
from supersteps.storage.records import InboxEntry, RunRecord


def unread_entries(run: RunRecord, inbox: Iterable[InboxEntry]) -> list[InboxEntry]:
    """Return the inbox entries that were neither consumed by a commit nor dropped by a restore."""
    return [entry for entry in inbox if entry.number > run.inbox_read]


def accept_answers(
    run: RunRecord, inbox: Sequence[InboxEntry], answers: Iterable[tuple[str, bytes]]
) -> list[InboxEntry]:
    """Return new inbox entries for answers: for all of them, or raise.

    Args:
        run: The run.
        inbox: Its inbox, in order; consumed entries may be missing.
        answers: Request ids and encoded values.

    Raises:
        AlreadyAnsweredError: The inbox, or an earlier one of `answers`, answers one of
            the requests.
        UnknownRequestError: The run's head does not wait for one of the requests.
    """
    waiting = frozenset(run.requests)
    answered = {entry.request_id for entry in unread_entries(run, inbox)}
    last = max(run.inbox_read, inbox[-1].number if inbox else 0)
    entries = []
    for number, (request_id, value) in enumerate(answers, last + 1):
        check_answer(run, request_id, answered, waiting)
        answered.add(request_id)
        entries.append(InboxEntry(number, request_id, value, utc_now()))
    return entries


def check_answer(
    run: RunRecord,
    request_id: str,
    answered: Container[str],
    waiting: Container[str] | None = None,
) -> None:
    """Refuse an answer for which the run does not wait.

    Args:
        run: The run.
        request_id: The request of the answer.
        answered: Requests with unconsumed answers in the inbox.
        waiting: The run's requests, as a set or dict; pass it when checking many answers.

    Raises:
        AlreadyAnsweredError: The inbox already has an answer.
        UnknownRequestError: The run's head does not wait for this request.
    """
    if request_id in answered:
        raise AlreadyAnsweredError(
            f"request {request_id!r} of run {run.run_id!r} was already answered; its answer waits "
            "for the next superstep"
        )
    if request_id not in (run.requests if waiting is None else waiting):
        listed = ", ".join(map(repr, run.requests)) or "none"
        raise UnknownRequestError(
            f"run {run.run_id!r} does not wait for request {request_id!r} at its head "
            f"{run.head!r}; waiting requests: {listed}. Nothing was changed."
        )
