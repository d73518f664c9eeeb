"""`CallPort`: what a `WorkflowContext` needs of the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from supersteps.checkpoint.sections.question import Terms
    from supersteps.events import WorkflowEvent


class CallPort(Protocol):
    """What a context needs of its call; the engine's backends provide it."""

    @property
    def executor_id(self) -> str:
        """Id of the executor in its own workflow."""

    @property
    def source_ids(self) -> tuple[str, ...]:
        """Ids of the senders of the message, as the executor sees them."""

    @property
    def run_id(self) -> str:
        """Id of the run."""

    @property
    def workflow_id(self) -> str:
        """Name of the workflow."""

    @property
    def step_number(self) -> int:
        """Number of the superstep."""

    @property
    def idempotency_key(self) -> str:
        """Identifies the call, also after a crash."""

    @property
    def attempt(self) -> int:
        """Number of the attempt at this call, from 1."""

    @property
    def is_replaying(self) -> bool:
        """Whether the handler is run again for debugging only."""

    def send(self, message: Any, target_id: str | None) -> None:
        """Record a message to be routed at the barrier."""

    def output(self, value: Any) -> None:
        """Record an output of the workflow."""

    def emit(self, event: WorkflowEvent) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Send a live event; return a function that waits if the stream's consumer is too slow."""

    def read(self, scope: str | None, key: str, default: Any) -> Any:
        """Return a key's value as this executor sees it, or the default."""

    def write(self, scope: str | None, key: str, value: Any) -> None:
        """Record a new value of a key."""

    def append(self, key: str, item: Any) -> None:
        """Record an item to be appended to a shared list."""

    def delete(self, scope: str | None, key: str) -> None:
        """Record the deletion of a key."""

    def read_own(self) -> dict[str, Any] | None:
        """Return the executor's own scope, None if it was never written."""

    def replace_own(self, state: dict[str, Any]) -> None:
        """Record a new value of the executor's whole own scope."""

    def ask(self, request_id: str, data: Any, source_executor_id: str) -> None:
        """Record a question to the outside world."""

    def leads_to_sub_workflow(self, executor_id: str | None) -> bool:
        """Return whether an edge of the executor leads to this one and it is a sub-workflow's."""

    def request_info(self, request_data: Any, terms: Terms) -> str:
        """Record a question whose answer comes back to the executor; return its id."""

    def schedule(self, message: Any, due: datetime, target_id: str | None) -> None:
        """Record a message to be sent at a later time."""

    def sleep(self, due: datetime) -> Awaitable[None]:
        """Return an awaitable that completes at a time, which a restarted process keeps."""
