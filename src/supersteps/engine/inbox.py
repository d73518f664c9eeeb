"""`Inbox`: accepted answers of a run on their way to the superstep that consumes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supersteps.engine.answers import check_response
from supersteps.engine.state import State
from supersteps.engine.store import RunStore
from supersteps.engine.superstep import Answer
from supersteps.engine.values import Sealer
from supersteps.errors import AlreadyAnsweredError, UnknownRequestError
from supersteps.graph import Graph


class Inbox:
    """The answers that a run has accepted and not consumed.

    Attributes:
        answers: They, in the order of their acceptance.
    """

    def __init__(self, graph: Graph, sealer: Sealer, store: RunStore | None, run_id: str) -> None:
        self.answers: list[Answer] = []
        self._graph = graph
        self._sealer = sealer
        self._store = store
        self._run_id = run_id

    async def load(self, store: RunStore) -> None:
        """Learn which answers the storage holds."""
        self.answers = [
            Answer(entry.number, entry.request_id, self._sealer.load(entry.value)) for entry in await store.read_inbox()
        ]

    def consume(self, count: int) -> None:
        """Forget the first answers: they are consumed."""
        del self.answers[:count]

    def waiting(self, state: State) -> list[str]:
        """Return the ids of the questions that still wait for an answer."""
        answered = {answer.request_id for answer in self.answers}
        return [request_id for request_id in state.requests if request_id not in answered]

    def check(self, state: State, responses: Mapping[str, Any]) -> None:
        """Refuse answers that cannot be taken, before anything is written.

        Raises:
            RequestError: One of them is unknown, answered already, or of the wrong type.
        """
        for request_id, value in responses.items():
            if any(answer.request_id == request_id for answer in self.answers):
                raise AlreadyAnsweredError(
                    f"request {request_id!r} of run {self._run_id!r} is answered already; the answer waits for the "
                    "next superstep. Nothing was changed."
                )
            request = state.requests.get(request_id)
            if request is None:
                waiting = ", ".join(map(repr, self.waiting(state))) or "none"
                raise UnknownRequestError(
                    f"run {self._run_id!r} does not wait for request {request_id!r}; requests that wait: {waiting}. "
                    "Nothing was changed."
                )
            check_response(self._graph, request, value, self._run_id)

    async def accept(self, state: State, responses: Mapping[str, Any]) -> None:
        """Take answers, durably.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        self.check(state, responses)
        sealed = {
            request_id: self._sealer.seal(value, "the answer to request {!r}", request_id)
            for request_id, value in responses.items()
        }
        if self._store is None:
            number = self.answers[-1].number if self.answers else 0
            self.answers += [Answer(number + i, key, value) for i, (key, value) in enumerate(sealed.items(), 1)]
            return
        await self._store.accept([(key, value.encode()) for key, value in sealed.items()])
        # Another handle may have put answers in before these; consuming these must not pass over them.
        known = {answer.number for answer in self.answers}
        self.answers += [
            Answer(entry.number, entry.request_id, sealed.get(entry.request_id) or self._sealer.load(entry.value))
            for entry in await self._store.read_inbox()
            if entry.number not in known
        ]
