"""`workflow.watch`: the committed events of a run that somebody else drives."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointInfo,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RunNotFoundError,
    SqliteCheckpointStorage,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
    handler,
    response_handler,
)
from supersteps.errors import RunFencedError
from tests.unit.support import Counter


class Asking(Executor):
    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        if text == "fail":
            raise ValueError("no")
        await ctx.yield_output(text)
        await ctx.request_info("sure?", str)

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(answer)


def one(executor: Executor, storage: Any) -> Workflow:
    return (
        WorkflowBuilder(name="flow")
        .set_start_executor(executor)
        .add_edge(executor, executor)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


@pytest.fixture(params=["memory", "sqlite", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    kinds: dict[str, Callable[[], Any]] = {
        "memory": InMemoryCheckpointStorage,
        "sqlite": lambda: SqliteCheckpointStorage(tmp_path / "runs.db"),
        "file": lambda: FileCheckpointStorage(tmp_path / "runs"),
    }
    opened = kinds[request.param]()
    yield opened
    asyncio.run(opened.aclose())


async def seen(workflow: Workflow, run_id: str, **options: Any) -> list[WorkflowEvent]:
    async with asyncio.timeout(20):
        return [event async for event in workflow.watch(run_id, **options)]


def brief(events: list[WorkflowEvent]) -> list[Any]:
    """Events in short: a step's number, an output, a state, a question."""
    told: list[Any] = []
    for event in events:
        if isinstance(event, SuperStepCompletedEvent):
            told.append(event.step_number)
        elif isinstance(event, WorkflowOutputEvent):
            told.append(f"output {event.data}")
        elif isinstance(event, WorkflowStatusEvent):
            told.append(event.state)
        elif isinstance(event, RequestInfoEvent):
            told.append(f"asks {event.data}")
        else:
            told.append(type(event))
    return told


async def test_a_run_that_is_done_is_told_from_its_checkpoints(storage: Any) -> None:
    workflow = one(Counter("count"), storage)
    live = [event async for event in workflow.run_stream(2, run_id="run")]
    events = await seen(workflow, "run")
    assert brief(events) == [
        WorkflowStartedEvent,
        *("output 2", 1, "output 1", 2, "output 0", 3),
        WorkflowRunState.IDLE,
    ]
    steps = [event for event in live if isinstance(event, SuperStepCompletedEvent)]
    infos: list[CheckpointInfo | None] = [event.completion_info.checkpoint for event in steps]
    assert infos == [
        event.completion_info.checkpoint
        for event in events
        if isinstance(event, SuperStepCompletedEvent)
    ]


async def test_from_a_step_on(storage: Any) -> None:
    workflow = one(Counter("count"), storage)
    await workflow.run(3, run_id="run")
    events = await seen(workflow, "run", from_step=2)
    assert brief(events) == ["output 1", 3, "output 0", 4, WorkflowRunState.IDLE]
    assert brief(await seen(workflow, "run", from_step=99)) == [WorkflowRunState.IDLE]


async def test_what_is_committed_while_somebody_watches(storage: Any) -> None:
    workflow = one(Asking("asking"), storage)
    run_id = await workflow.submit("hello")
    watching = asyncio.create_task(seen(workflow, run_id))
    await asyncio.sleep(0.1)
    result = await workflow.run("", run_id=run_id, if_exists="attach")
    await asyncio.sleep(0.3)
    assert not watching.done()  # it goes on while the run waits
    (question,) = result.get_request_info_events()
    await workflow.send_responses({question.request_id: "yes"})
    told = brief(await watching)
    assert [one for one in told if one != WorkflowRunState.IN_PROGRESS] == [
        WorkflowStartedEvent,
        *("output hello", "asks sure?", 1),
        WorkflowRunState.IDLE_WITH_PENDING_REQUESTS,
        *("output yes", 2),
        WorkflowRunState.IDLE,
    ]


async def test_a_run_that_has_failed_says_why(storage: Any) -> None:
    workflow = one(Asking("asking"), storage)
    with pytest.raises(ValueError, match="no"):
        await workflow.run("fail", run_id="run")
    *_, failed, status = await seen(workflow, "run")
    assert isinstance(failed, WorkflowFailedEvent)
    assert failed.details.error_type == "ValueError"
    assert failed.details.message.startswith("no")
    assert status == WorkflowStatusEvent(WorkflowRunState.FAILED)


async def test_a_restored_run_tells_of_its_new_branch(storage: Any) -> None:
    workflow = one(Counter("count"), storage)
    run = workflow.run_stream(2, run_id="run")
    await run.wait_for_completion()
    events: list[WorkflowEvent] = []

    async def watch() -> None:
        async for event in workflow.watch("run", from_step=0):
            events.append(event)

    await run.restore_checkpoint(run.checkpoints[1])
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.2)
    await run.wait_for_completion()
    await asyncio.wait_for(watching, 20)
    told = [one for one in brief(events) if one != WorkflowRunState.IN_PROGRESS]
    assert told == [
        WorkflowStartedEvent,
        *("output 2", 1, "output 1", 2, "output 0", 3),
        WorkflowRunState.IDLE,
    ]


async def test_a_run_that_is_not_there_or_goes_away_is_an_error() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = one(Asking("asking"), storage)
    with pytest.raises(RunNotFoundError):
        await seen(workflow, "run")
    await workflow.run("x", run_id="run")
    watching = asyncio.create_task(seen(workflow, "run"))
    await asyncio.sleep(0.05)
    await storage.delete_run("run")
    await workflow.run("x", run_id="run")
    with pytest.raises(RunFencedError):
        await watching


async def test_one_who_leaves_leaves_nothing_behind() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = one(Asking("asking"), storage)
    await workflow.run("x", run_id="run")
    async for event in workflow.watch("run"):
        if event == WorkflowStatusEvent(WorkflowRunState.IDLE_WITH_PENDING_REQUESTS):
            break
    run = await storage.get_run("run")
    assert run is not None
    assert run.lease is None
