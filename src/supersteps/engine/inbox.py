"""`Inbox`: accepted answers of a run on their way to the superstep that consumes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from supersteps._schema import from_json
from supersteps.checkpoint.inbox import CANCELLED, DEFAULTED, read_entry
from supersteps.checkpoint.record import utc_now
from supersteps.checkpoint.stored import Outcome
from supersteps.engine.answers import check_response, response_type
from supersteps.engine.levels import Levels
from supersteps.engine.plan import Answer, expired_requests
from supersteps.engine.state import State
from supersteps.engine.store import RunStore
from supersteps.engine.values import Sealed, Sealer
from supersteps.errors import (
    AlreadyAnsweredError,
    LateResponseError,
    RequestError,
    StaleRequestError,
    UnknownRequestError,
)
from supersteps.storage.answering import refusal
from supersteps.storage.runs import InboxEntry


class Inbox:
    """The answers that a run has accepted and not consumed.

    Attributes:
        answers: They, in the order of their acceptance.
    """

    def __init__(self, levels: Levels, sealer: Sealer, store: RunStore | None, run_id: str) -> None:
        self.answers: list[Answer] = []
        self._levels = levels
        self._sealer = sealer
        self._store = store
        self._run_id = run_id
        self._ended: dict[
            str, Outcome
        ] = {}  # of a run without storage, to tell a repeated answer from a stray one

    async def load(self, state: State, store: RunStore) -> None:
        """Learn which answers the storage holds."""
        self.answers = [self._take(state, entry) for entry in await store.read_inbox()]

    async def refresh(self, state: State) -> None:
        """Learn of answers that others have put in since, and of those that a restore has dropped."""
        if self._store is None or not state.requests:
            return
        known = {answer.number: answer for answer in self.answers}
        self.answers = [
            known.get(e.number) or self._take(state, e) for e in await self._store.read_inbox()
        ]

    def _take(self, state: State, entry: InboxEntry) -> Answer:
        """Return an entry as what the superstep is to do with it."""
        kind, data = read_entry(entry.value)
        request = state.requests.get(entry.request_id)
        if (
            request is None
        ):  # the run's record and its checkpoint disagree: nothing to do but pass over it
            return Answer(entry.number, entry.request_id, None, None, "nobody waits for it")
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
        """Forget answers: they are consumed."""
        gone = {answer.number for answer in answers}
        self.answers = [answer for answer in self.answers if answer.number not in gone]
        if self._store is None:
            self._ended.update(
                {answer.request_id: answer.outcome for answer in answers if answer.outcome}
            )

    def pass_over(self, request_ids: Collection[str]) -> None:
        """Have answers count for nothing: others inside the run were first."""
        self.answers = [
            Answer(answer.number, answer.request_id, None, None, "it has been answered before")
            if answer.request_id in request_ids
            else answer
            for answer in self.answers
        ]
        if self._store is None:
            self._ended |= dict.fromkeys(request_ids, "intercepted")

    def waiting(self, state: State) -> list[str]:
        """Return the ids of the questions that still wait for an answer."""
        answered = {answer.request_id for answer in self.answers if answer.outcome is not None}
        return [request_id for request_id in state.requests if request_id not in answered]

    # --------------------------------------------------------------------------------------- taking

    async def accept(self, state: State, responses: Mapping[str, Any]) -> None:
        """Take answers, durably.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        for request_id, value in responses.items():
            await self._check_waiting(state, request_id)
            request = state.requests[request_id]
            if expired_requests((request,), utc_now()):
                raise LateResponseError(
                    f"request {request_id!r} of run {self._run_id!r} was to be answered by {request.deadline}; its "
                    "default counts now. Nothing was changed."
                )
            check_response(self._levels, request, value, self._run_id)
        sealed = {
            request_id: self._sealer.seal(value, "the answer to request {!r}", request_id)
            for request_id, value in responses.items()
        }
        await self._put(
            state, {request_id: (value, "answered") for request_id, value in sealed.items()}
        )

    async def cancel(self, state: State, request_id: str) -> None:
        """Take a question back, durably.

        Raises:
            RequestError: It does not wait.
        """
        await self._check_waiting(state, request_id)
        await self._put(state, {request_id: (None, "cancelled")})

    async def expire(self, state: State) -> None:
        """Let the defaults answer questions whose deadline has passed; whoever has answered before, has."""
        waiting = [state.requests[request_id] for request_id in self.waiting(state)]
        for request in expired_requests(waiting, utc_now()):
            try:
                await self._add(state, {request.request_id: (request.default, "defaulted")})
            except AlreadyAnsweredError:
                await self.refresh(state)

    async def _put(
        self, state: State, entries: Mapping[str, tuple[Sealed | None, Outcome]]
    ) -> None:
        try:
            await self._add(state, entries)
        except (
            UnknownRequestError,
            AlreadyAnsweredError,
        ) as error:  # others were first: say what they have done
            raise await self._refusal(next(iter(entries)), error) from error

    async def _add(
        self, state: State, entries: Mapping[str, tuple[Sealed | None, Outcome]]
    ) -> None:
        if self._store is None:
            number = self.answers[-1].number if self.answers else 0
            self.answers += [
                Answer(number + i, key, value, outcome)
                for i, (key, (value, outcome)) in enumerate(entries.items(), 1)
            ]
            return
        await self._store.accept(
            [(key, _encoded(value, outcome)) for key, (value, outcome) in entries.items()]
        )
        # Another handle may have put answers in before these; consuming these must not pass over them.
        known = {answer.number for answer in self.answers}
        self.answers += [
            Answer(entry.number, entry.request_id, *entries[entry.request_id])
            if entry.request_id in entries
            else self._take(state, entry)
            for entry in await self._store.read_inbox()
            if entry.number not in known
        ]

    async def _check_waiting(self, state: State, request_id: str) -> None:
        """Refuse what concerns a question that does not wait.

        Raises:
            RequestError: It is unknown, has been answered, or is stale.
        """
        if any(answer.request_id == request_id for answer in self.answers):
            await self.refresh(state)  # a restore by somebody else may have dropped it
        for answer in self.answers:
            if answer.request_id == request_id and answer.outcome is not None:
                if answer.outcome == "defaulted":
                    raise LateResponseError(
                        f"request {request_id!r} of run {self._run_id!r} has passed its deadline, and its default "
                        "counts. Nothing was changed."
                    )
                if answer.outcome == "cancelled":
                    raise StaleRequestError(
                        f"request {request_id!r} of run {self._run_id!r} was taken back; the next superstep takes note "
                        "of that. Nothing was changed."
                    )
                raise AlreadyAnsweredError(
                    f"request {request_id!r} of run {self._run_id!r} is answered already; that waits for the next "
                    "superstep. Nothing was changed."
                )
        if request_id in state.requests:
            return
        waiting = ", ".join(map(repr, self.waiting(state))) or "none"
        raise await self._refusal(
            request_id,
            UnknownRequestError(
                f"run {self._run_id!r} does not wait for request {request_id!r}; requests that wait: {waiting}. "
                "Nothing was changed."
            ),
        )

    async def _refusal(self, request_id: str, unknown: RequestError) -> RequestError:
        """Return the error that says most about why a question does not wait."""
        if self._store is not None:
            found = await refusal(self._store.storage, self._run_id, request_id)
            return unknown if isinstance(found, UnknownRequestError) else found
        match self._ended.get(request_id):
            case None:
                return unknown
            case "cancelled":
                return StaleRequestError(
                    f"request {request_id!r} of run {self._run_id!r} was taken back. Nothing was changed."
                )
            case "defaulted":
                return LateResponseError(
                    f"request {request_id!r} of run {self._run_id!r} passed its deadline and took its default. "
                    "Nothing was changed."
                )
            case "answered" | "intercepted":
                return AlreadyAnsweredError(
                    f"request {request_id!r} of run {self._run_id!r} has been answered. Nothing was changed."
                )


def _encoded(value: Sealed | None, outcome: Outcome) -> bytes:
    if outcome == "cancelled":
        return CANCELLED
    if outcome == "defaulted":
        return DEFAULTED
    assert value is not None
    return value.encode()
