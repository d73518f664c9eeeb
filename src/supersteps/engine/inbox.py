"""`Inbox`: accepted answers that no superstep has consumed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from supersteps.checkpoint.inbox import CANCELLED, DEFAULTED, read_entry
from supersteps.checkpoint.record import utc_now
from supersteps.checkpoint.schedule import Schedule
from supersteps.checkpoint.sections.answered import Outcome
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.engine.answers import check_response, response_type
from supersteps.engine.levels import Levels
from supersteps.engine.plan import Answer
from supersteps.engine.run_store import RunStore
from supersteps.errors import (
    AlreadyAnsweredError,
    LateResponseError,
    RequestError,
    StaleRequestError,
    UnknownRequestError,
)
from supersteps.storage.answers import refusal
from supersteps.storage.rules import InboxEntry
from supersteps.typing.schema import from_json

Requests: TypeAlias = Schedule[Request]
"""The questions that wait at the last barrier, by id."""


class Inbox:
    """The answers that a run has accepted but not consumed.

    Attributes:
        answers: The answers, in the order of their acceptance.
    """

    def __init__(self, levels: Levels, sealer: Sealer, store: RunStore | None, run_id: str) -> None:
        self.answers: list[Answer] = []
        self._by_request: dict[str, Answer] = {}
        self._useless = 0  # the number of those that leave their questions open
        self._newest = 0  # the highest number of an entry that was read or added
        self._levels = levels
        self._sealer = sealer
        self._store = store
        self._run_id = run_id
        self._ended: dict[
            str, Outcome
        ] = {}  # of a run without storage, to distinguish repeated answers from unknown ones

    async def load(self, requests: Requests, store: RunStore) -> None:
        """Load the answers from the storage; without questions there are none."""
        self.answers = []
        self._newest = 0
        entries = await store.read_inbox() if requests else []
        self._hold([self._take(requests, entry) for entry in entries])

    @property
    def may_have_news(self) -> bool:
        """Whether others may have added answers by the last commit."""
        if self._store is None:
            return False
        newest = self._store.newest_answer
        return newest is None or newest > self._newest

    def is_due(self, requests: Requests) -> bool:
        """Return whether answers or deadlines have to be checked before a superstep."""
        return self.may_have_news or requests.earliest() is not None

    async def refresh(self, requests: Requests) -> None:
        """Read the inbox again: answers may have been added, or dropped by a restore."""
        if self._store is None or not requests:
            return
        known = {answer.number: answer for answer in self.answers}
        self._hold(
            [known.get(e.number) or self._take(requests, e) for e in await self._store.read_inbox()]
        )

    def _hold(self, answers: list[Answer]) -> None:
        """Set the answers."""
        self.answers, self._by_request, self._useless = [], {}, 0
        self._add_all(answers)

    def _add_all(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.answers.append(answer)
            self._by_request[answer.request_id] = answer
            self._useless += answer.outcome is None
            self._newest = max(self._newest, answer.number)

    def _take(self, requests: Requests, entry: InboxEntry) -> Answer:
        """Return an entry as an answer for the superstep."""
        kind, data = read_entry(entry.value)
        request = requests.get(entry.request_id)
        if request is None:  # the run's record and its checkpoint disagree, so it is skipped
            return Answer(entry.number, entry.request_id, None, None, "no question waits for it")
        if kind == "cancelled":
            return Answer(entry.number, entry.request_id, None, "cancelled")
        if kind == "defaulted":
            return Answer(entry.number, entry.request_id, request.default, "defaulted")
        if kind == "typed":
            return Answer(entry.number, entry.request_id, self._sealer.load(data))
        try:
            value = from_json(msgspec.json.decode(data), response_type(self._levels, request))
            return Answer(entry.number, entry.request_id, self._sealer.seal(value, "the answer"))
        except ValueError as error:
            return Answer(entry.number, entry.request_id, None, None, str(error))

    def consume(self, answers: Sequence[Answer]) -> None:
        """Remove consumed answers."""
        gone = {answer.number for answer in answers}
        self._hold([answer for answer in self.answers if answer.number not in gone])
        if self._store is None:
            self._ended.update(
                {answer.request_id: answer.outcome for answer in answers if answer.outcome}
            )

    def pass_over(self, request_ids: Collection[str]) -> None:
        """Void answers, because others inside the run came first."""
        if any(request_id in self._by_request for request_id in request_ids):
            said = "it was answered before"
            self._hold(
                [
                    Answer(answer.number, answer.request_id, None, None, said)
                    if answer.request_id in request_ids
                    else answer
                    for answer in self.answers
                ]
            )
        if self._store is None:
            self._ended |= dict.fromkeys(request_ids, "intercepted")

    def waiting(self, requests: Requests) -> list[str]:
        """Return the ids of the questions that still wait for an answer."""
        return [request_id for request_id in requests if not self._is_answered(request_id)]

    def is_waiting(self, requests: Requests) -> bool:
        """Return whether any question still waits for an answer."""
        return len(requests) > len(self.answers) - self._useless

    def _is_answered(self, request_id: str) -> bool:
        answer = self._by_request.get(request_id)
        return answer is not None and answer.outcome is not None

    # --------------------------------------------------------------------------------------- taking

    async def accept(self, requests: Requests, responses: Mapping[str, Any]) -> None:
        """Accept answers durably.

        Raises:
            RequestError: One of them was refused, so none was accepted.
        """
        for request_id, value in responses.items():
            await self._check_waiting(requests, request_id)
            request = requests[request_id]
            if request.deadline is not None and request.deadline <= utc_now():
                raise LateResponseError(
                    f"request {request_id!r} of run {self._run_id!r} was to be answered by "
                    f"{request.deadline}; its default is the answer now. Nothing was changed."
                )
            check_response(self._levels, request, value, self._run_id)
        sealed = {
            request_id: self._sealer.seal(value, "the answer to request {!r}", request_id)
            for request_id, value in responses.items()
        }
        await self._put(
            requests, {request_id: (value, "answered") for request_id, value in sealed.items()}
        )

    async def cancel(self, requests: Requests, request_id: str) -> None:
        """Cancel a question durably.

        Raises:
            RequestError: The question does not wait.
        """
        await self._check_waiting(requests, request_id)
        await self._put(requests, {request_id: (None, "cancelled")})

    async def expire(self, requests: Requests) -> None:
        """Answer questions whose deadline has passed with their defaults.

        An answer that was accepted earlier still counts.
        """
        for request in requests.due(utc_now()):
            if self._is_answered(request.request_id):
                continue
            try:
                await self._add(requests, {request.request_id: (request.default, "defaulted")})
            except AlreadyAnsweredError:
                await self.refresh(requests)

    async def _put(
        self, requests: Requests, entries: Mapping[str, tuple[Sealed | None, Outcome]]
    ) -> None:
        try:
            await self._add(requests, entries)
        except (
            UnknownRequestError,
            AlreadyAnsweredError,
        ) as error:  # others came first: report what they did
            raise await self._refusal(next(iter(entries)), error) from error

    async def _add(
        self, requests: Requests, entries: Mapping[str, tuple[Sealed | None, Outcome]]
    ) -> None:
        if self._store is None:
            self._add_all(
                Answer(number, key, value, outcome)
                for number, (key, (value, outcome)) in enumerate(entries.items(), self._newest + 1)
            )
            return
        put_in = await self._store.accept(
            [(key, _encoded(value, outcome)) for key, (value, outcome) in entries.items()]
        )
        if not put_in or put_in[0].number != self._newest + 1:
            # Others have added answers before; consuming these must not skip them.
            known = {answer.number for answer in self.answers}
            found = await self._store.read_inbox()
            put_in = [entry for entry in found if entry.number not in known]
        self._add_all(
            Answer(entry.number, entry.request_id, *entries[entry.request_id])
            if entry.request_id in entries
            else self._take(requests, entry)
            for entry in put_in
        )

    async def _check_waiting(self, requests: Requests, request_id: str) -> None:
        """Refuse an operation on a question that does not wait.

        Raises:
            RequestError: It is unknown, has been answered, or is stale.
        """
        if request_id in self._by_request:
            await self.refresh(requests)  # a restore by another handle may have dropped it
        if self._is_answered(request_id):
            raise self._taken(self._by_request[request_id])
        if request_id in requests:
            return
        waiting = ", ".join(map(repr, self.waiting(requests))) or "none"
        raise await self._refusal(
            request_id,
            UnknownRequestError(
                f"run {self._run_id!r} does not wait for request {request_id!r}; waiting "
                f"requests: {waiting}. Nothing was changed."
            ),
        )

    def _taken(self, answer: Answer) -> RequestError:
        """Return the error for a question whose answer waits for the next superstep."""
        question = f"request {answer.request_id!r} of run {self._run_id!r}"
        if answer.outcome == "defaulted":
            return LateResponseError(
                f"the deadline of {question} has passed, and its default is the answer. Nothing "
                "was changed."
            )
        if answer.outcome == "cancelled":
            return StaleRequestError(
                f"{question} was cancelled; the next superstep closes it. Nothing was changed."
            )
        return AlreadyAnsweredError(
            f"{question} was already answered; the answer waits for the next superstep. Nothing "
            "was changed."
        )

    async def _refusal(self, request_id: str, unknown: RequestError) -> RequestError:
        """Return the most specific error for a question that does not wait."""
        if self._store is not None:
            found = await refusal(self._store.storage, self._run_id, request_id)
            return unknown if isinstance(found, UnknownRequestError) else found
        match self._ended.get(request_id):
            case None:
                return unknown
            case "cancelled":
                return StaleRequestError(
                    f"request {request_id!r} of run {self._run_id!r} was cancelled. Nothing was "
                    "changed."
                )
            case "defaulted":
                return LateResponseError(
                    f"the deadline of request {request_id!r} of run {self._run_id!r} has passed, "
                    "and its default became the answer. Nothing was changed."
                )
            case "answered" | "intercepted":
                return AlreadyAnsweredError(
                    f"request {request_id!r} of run {self._run_id!r} was already answered. Nothing "
                    "was changed."
                )


def _encoded(value: Sealed | None, outcome: Outcome) -> bytes:
    if outcome == "cancelled":
        return CANCELLED
    if outcome == "defaulted":
        return DEFAULTED
    assert value is not None
    return value.encode()
