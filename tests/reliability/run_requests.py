"""The part of the run machine that answers questions, in every right and wrong way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from supersteps import (
    AlreadyAnsweredError,
    LateResponseError,
    RequestError,
    ResponseTypeError,
    RunFencedError,
    StaleRequestError,
    UnknownRequestError,
)
from supersteps.storage.answers import answer, cancel_request
from tests.reliability.run_graph import LabClock
from tests.reliability.run_history import History, Mismatch
from tests.reliability.run_model import Entry

if TYPE_CHECKING:
    from tests.reliability.run_driving import Client, Handle

_ENDED = {
    "answered": AlreadyAnsweredError,
    "cancelled": StaleRequestError,
    "defaulted": LateResponseError,
}


class Requests:
    """What a trial does to questions.

    Attributes:
        told: What was done.
        clock: The time.
        histories: The runs.
        clients: Who does it.
    """

    told: list[str]
    clock: LabClock
    histories: dict[str, History]
    clients: list[Client]

    @property
    def patrons(self) -> set[asyncio.Task[Any] | None]:
        """The tasks that are the lab's own."""
        return {asyncio.current_task()}

    def run_of(self, dice: random.Random) -> History | None:
        raise NotImplementedError

    async def sync(
        self, history: History, handle: Handle | None = None, *, may_be_cancelled: bool = False
    ) -> None:
        """Compare a run with what is stored.

        Args:
            history: The run.
            handle: Who may have gone on with it.
            may_be_cancelled: Whether it was just ended.
        """
        base = None if handle is None else handle.base
        new = await history.read(self.clients[-1].storage, self.clock(), base)
        if handle is None or not history.states:
            return
        for checkpoint_id in new:
            place = [*history.states].index(checkpoint_id)
            before = 0 if place == 0 else len(history.states[handle.base].outputs)
            handle.made += history.states[checkpoint_id].outputs[before:] if place else []
            handle.base = checkpoint_id
        handle.base = handle.base or history.head
        handle.seen = history.position

    async def do_answer(self, client: Client, dice: random.Random) -> None:
        """Answer a question: mostly one that waits, seldom another one, seldom with a value of
        the wrong type.
        """
        history = self.run_of(dice)
        if history is None:
            return
        request_id = self._choose(history, dice)
        value: Any = "three" if dice.random() < 0.1 else dice.randrange(8)
        handle = client.handles.get(history.run_id)
        if handle is None or dice.random() < 0.4:
            self.told.append(f"answer {request_id} {value!r} in the storage")
            expected = self._refusals(history, request_id, value)
            try:
                await answer(
                    client.storage,
                    history.run_id,
                    request_id,
                    value,
                    clock=lambda: datetime.fromisoformat(self.clock()),
                )
            except RequestError as error:
                self._check_refusal(error, expected)
            else:
                self._accepted(history, Entry(request_id, "answered", value), expected)
            await self.sync(history)
        else:
            self.told.append(f"answer {request_id} {value!r} through a handle")
            await self.answer_through(handle, request_id, value)

    async def do_cancel_request(self, client: Client, dice: random.Random) -> None:
        """Take a question back."""
        history = self.run_of(dice)
        if history is None:
            return
        request_id = self._choose(history, dice)
        handle = client.handles.get(history.run_id)
        if handle is None or dice.random() < 0.5:
            self.told.append(f"take {request_id} back in the storage")
            expected = self._refusals(history, request_id, None)
            expected.discard(LateResponseError) if request_id in history.now.asks else None
            try:
                await cancel_request(client.storage, history.run_id, request_id)
            except RequestError as error:
                self._check_refusal(error, expected)
            else:
                self._accepted(history, Entry(request_id, "cancelled", None), expected)
            await self.sync(history)
        else:
            self.told.append(f"take {request_id} back through a handle")
            await self.answer_through(handle, request_id, None)

    async def answer_through(self, handle: Handle, request_id: str, value: Any) -> None:
        """Answer, or with None take back, through a handle that may be at an older checkpoint or
        have lost its run.
        """
        history = handle.history
        is_at_head = not handle.is_stale and handle.base == history.head
        expected = self._refusals(history, request_id, value, at=handle.base)
        if value is None and request_id in history.states[handle.base].asks:
            expected.discard(LateResponseError)
        entry = Entry(request_id, "cancelled" if value is None else "answered", value)
        try:
            if value is None:
                await handle.run.cancel_request(request_id)
            else:
                await handle.run.send_response(request_id, value)
        except RunFencedError:
            if not handle.is_stale:
                raise
        except RequestError as error:
            if is_at_head:
                self._check_refusal(error, expected)
        else:
            if is_at_head:
                self._accepted(history, entry, expected)
            else:
                if not handle.is_stale:
                    history.move(handle.base)
                    handle.seen = history.position
                if request_id not in history.now.asks or request_id in _names(history.inbox):
                    raise Mismatch(
                        f"an answer to {request_id} was accepted, for which the run does not wait"
                    )
                history.inbox.append(entry)
        await self.sync(history)

    def _choose(self, history: History, dice: random.Random) -> str:
        known = {key for state in history.states.values() for key in state.asks}
        waiting = [*history.now.asks]
        if waiting and dice.random() < 0.75:
            return dice.choice(waiting)
        return dice.choice([*sorted(known), "unknown"])

    def _refusals(
        self, history: History, request_id: str, value: Any, at: str | None = None
    ) -> set[type[RequestError]]:
        """Return the errors of which one must be raised, none when the answer must be taken."""
        state = history.states[at] if at else history.now
        inbox = {entry.request_id: entry.outcome for entry in history.inbox}
        if history.is_cancelled and request_id in state.asks and at is None:
            return {StaleRequestError}
        if request_id in inbox:
            refused: set[type[RequestError]] = {_ENDED[inbox[request_id]]}
            if at is not None:  # a handle that has not heard of that yet looks at the answer first
                refused |= {ResponseTypeError} if isinstance(value, str) else set()
                refused |= {LateResponseError} if request_id in state.late(self.clock()) else set()
            return refused
        if request_id in state.asks:
            refusals: set[type[RequestError]] = set()
            if request_id in state.late(self.clock()):
                refusals.add(LateResponseError)
            elif isinstance(value, str):
                refusals.add(ResponseTypeError)
            return refusals
        for ended in reversed(state.ended):
            if ended.request_id == request_id:
                return {_ENDED[ended.outcome]}
        if any(request_id in other.asks for other in history.states.values()):
            return (
                {StaleRequestError, UnknownRequestError}
                if history.is_pruned
                else {StaleRequestError}
            )
        return {UnknownRequestError}

    def _check_refusal(self, error: RequestError, expected: set[type[RequestError]]) -> None:
        if type(error) not in expected:
            raise Mismatch(
                f"{type(error).__name__}: {error}; expected was {_words(expected)}"
            ) from error

    def _accepted(self, history: History, entry: Entry, expected: set[type[RequestError]]) -> None:
        if expected:
            raise Mismatch(f"{entry} was accepted; expected was {_words(expected)}")
        history.inbox.append(entry)


def _names(entries: Iterable[Entry]) -> list[str]:
    return [entry.request_id for entry in entries]


def _words(kinds: set[type[RequestError]]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in kinds)) or "that it is taken"
