"""What the engine's tests share: a few executors, storages that count, fail or dawdle, and ways
to look at a stream.
"""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Never

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowStatusEvent,
    handler,
)
from supersteps.checkpoint.record import Commit
from supersteps.errors import StorageError
from supersteps.storage.rules import InboxEntry


class Upper(Executor):
    @handler
    async def shout(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text.upper())


class Reverse(Executor):
    @handler
    async def reverse(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text[::-1])


class Counter(Executor):
    """Counts down to zero by sending to itself, one output per superstep."""

    @handler
    async def count(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        await ctx.yield_output(left)
        if left:
            await ctx.send_message(left - 1)


@dataclass
class Question(RequestInfoMessage):
    prompt: str = ""
    draft: str = ""


class Asker(Executor):
    """Asks one question for each text it gets and yields the answers."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(Question(request_id=f"ask-{text}", prompt=text))

    @handler
    async def answer(
        self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"{answer.original_request.prompt}={answer.data}")


class Tally(Executor):
    """Keeps its count in an attribute and carries it over by the checkpoint hooks."""

    def __init__(self, id: str = "tally") -> None:
        super().__init__(id)
        self.total = 0
        self.calls: list[str] = []

    @handler
    async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        self.calls.append(f"add {number}")
        self.total += number
        if number > 1:
            await ctx.send_message(number - 1)
        else:
            await ctx.yield_output(self.total)

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.calls.append(f"checkpointing {ctx.step_number}")
        await ctx.queue_state_update("total", self.total)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.calls.append("restored")
        self.total = await ctx.read_state("total", default=0)


def shout_workflow(**settings: Any) -> Workflow:
    return built(
        WorkflowBuilder(name="shout").add_edge(up := Upper("up"), Reverse("back")), up, **settings
    )


def counter_workflow(max_iterations: int = 100, **settings: Any) -> Workflow:
    counter = Counter("counter")
    return built(
        WorkflowBuilder(max_iterations, name="count").add_edge(counter, counter),
        counter,
        **settings,
    )


def asking_workflow(**settings: Any) -> Workflow:
    asker, port = Asker("asker"), RequestInfoExecutor("port")
    return built(
        WorkflowBuilder(name="ask").add_edge(asker, port).add_edge(port, asker), asker, **settings
    )


def built(builder: WorkflowBuilder, start: Executor, *, storage: Any = None) -> Workflow:
    if storage is not None:
        builder.with_checkpointing(storage)
    return builder.set_start_executor(start).build()


# ------------------------------------------------------------------------------------------ looking


async def collect(stream: AsyncIterable[WorkflowEvent]) -> list[WorkflowEvent]:
    return [event async for event in stream]


async def collect_into(seen: list[WorkflowEvent], stream: AsyncIterable[WorkflowEvent]) -> None:
    """Collect what comes before an error, too."""
    async for event in stream:
        seen.append(event)


async def until(condition: Callable[[], object]) -> None:
    """Give others turns until something holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise TimeoutError("it never came to that")


def outputs(events: Iterable[WorkflowEvent]) -> list[Any]:
    return [event.data for event in events if isinstance(event, WorkflowOutputEvent)]


def questions(events: Iterable[WorkflowEvent]) -> list[str]:
    return [event.request_id for event in events if isinstance(event, RequestInfoEvent)]


def states(events: Iterable[WorkflowEvent]) -> list[WorkflowRunState]:
    return [event.state for event in events if isinstance(event, WorkflowStatusEvent)]


def kinds(events: Iterable[WorkflowEvent]) -> list[str]:
    return [type(event).__name__.removesuffix("Event") for event in events]


async def take(run: StreamingRun, kind: type[WorkflowEvent]) -> list[WorkflowEvent]:
    """Iterate up to the first event of a kind, then leave the loop."""
    seen = []
    async for event in run:
        seen.append(event)
        if isinstance(event, kind):
            break
    return seen


async def no_task_left() -> bool:
    """Let what is under way finish, then say whether anything but the test itself is left."""
    me = asyncio.current_task()
    for _ in range(200):
        if asyncio.all_tasks() == {me}:
            return True
        await asyncio.sleep(0.001)
    return False


# ----------------------------------------------------------------------------------------- storages


@dataclass
class Writes:
    """What a storage was asked to write."""

    names: list[str] = field(default_factory=list)

    def count(self, name: str) -> int:
        return self.names.count(name)


class CountingStorage(InMemoryCheckpointStorage):
    """Notes every call that writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = Writes()

    async def commit(self, commit: Commit) -> None:
        self.writes.names.append("commit")
        await super().commit(commit)

    async def acquire(self, *args: Any, **kwargs: Any) -> Any:
        self.writes.names.append("acquire")
        return await super().acquire(*args, **kwargs)

    async def release(self, *args: Any, **kwargs: Any) -> None:
        self.writes.names.append("release")
        await super().release(*args, **kwargs)

    async def move_head(self, *args: Any, **kwargs: Any) -> Any:
        self.writes.names.append("move_head")
        return await super().move_head(*args, **kwargs)

    async def append_journal(
        self, run_id: str, epoch: int, head: str, records: Sequence[bytes], **which: Any
    ) -> None:
        self.writes.names.append("journal")
        await super().append_journal(run_id, epoch, head, records, **which)

    async def discard_journal(self, run_id: str, epoch: int, **which: Any) -> None:
        self.writes.names.append("discard")
        await super().discard_journal(run_id, epoch, **which)

    async def add_answers(self, *args: Any, **kwargs: Any) -> list[InboxEntry]:
        self.writes.names.append("answers")
        return await super().add_answers(*args, **kwargs)


class FailingStorage(InMemoryCheckpointStorage):
    """Fails the commits and the journal writes with the given numbers (from 0)."""

    def __init__(
        self,
        commits: Iterable[int] = (),
        journal: Iterable[int] = (),
        error: Exception | None = None,
    ) -> None:
        super().__init__()
        self.bad_commits = set(commits)
        self.bad_journal = set(journal)
        self.error = error or StorageError("the disk is on fire")
        self.commits = 0
        self.journals = 0

    async def commit(self, commit: Commit) -> None:
        number, self.commits = self.commits, self.commits + 1
        if number in self.bad_commits:
            raise self.error
        await super().commit(commit)

    async def append_journal(
        self, run_id: str, epoch: int, head: str, records: Sequence[bytes], **which: Any
    ) -> None:
        number, self.journals = self.journals, self.journals + 1
        if number in self.bad_journal:
            raise self.error
        await super().append_journal(run_id, epoch, head, records, **which)


class SlowStorage(InMemoryCheckpointStorage):
    """Every write takes some turns of the event loop, before and after it has taken effect."""

    def __init__(self, turns: int = 3) -> None:
        super().__init__()
        self.turns = turns
        self.at: str = ""

    async def _dawdle(self, where: str) -> None:
        for _ in range(self.turns):
            self.at = where
            await asyncio.sleep(0)
        self.at = ""

    async def commit(self, commit: Commit) -> None:
        await self._dawdle("before commit")
        await super().commit(commit)
        await self._dawdle("after commit")

    async def acquire(self, *args: Any, **kwargs: Any) -> Any:
        await self._dawdle("before acquire")
        taken = await super().acquire(*args, **kwargs)
        await self._dawdle("after acquire")
        return taken

    async def release(self, *args: Any, **kwargs: Any) -> None:
        await self._dawdle("before release")
        await super().release(*args, **kwargs)

    async def append_journal(
        self, run_id: str, epoch: int, head: str, records: Sequence[bytes], **which: Any
    ) -> None:
        await self._dawdle("before journal")
        await super().append_journal(run_id, epoch, head, records, **which)
        await self._dawdle("after journal")

    async def add_answers(self, *args: Any, **kwargs: Any) -> list[InboxEntry]:
        await self._dawdle("before answers")
        entries = await super().add_answers(*args, **kwargs)
        await self._dawdle("after answers")
        return entries

    async def read_inbox(self, run_id: str, **which: Any) -> list[InboxEntry]:
        await self._dawdle("inbox")
        return await super().read_inbox(run_id, **which)
