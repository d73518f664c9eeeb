"""Answers given at the same time, to runs that others drive, and waiting for the runs of others."""

import asyncio
import gc
import time
import weakref
from pathlib import Path
from typing import Any, Never

import pytest
from msgspec.structs import replace

from supersteps import (
    AlreadyAnsweredError,
    CalledFromHandlerError,
    CheckpointingDisabledError,
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RunNotFoundError,
    SqliteCheckpointStorage,
    StreamBusyError,
    UnknownRequestError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    WorkflowRuntimeError,
    handler,
    response_handler,
)
from supersteps.run.wait import is_held
from supersteps.storage.records import Lease, RunRecord
from supersteps.testing.writer import ELSEWHERE

from .support import (
    asking_workflow,
    built,
    collect,
    counter_workflow,
    no_task_left,
    outputs,
    questions,
    until,
)


class Asks(Executor):
    """Asks several questions at once and yields each answer, perhaps slowly."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        super().__init__("asks")
        self.gate = gate
        self.answered: list[str] = []

    @handler
    async def go(self, names: list[str], ctx: WorkflowContext) -> None:
        for name in names:
            ctx.request_info(name, str)

    @response_handler
    async def take(self, name: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        self.answered.append(answer)
        if self.gate is not None:
            await self.gate.wait()
        await ctx.yield_output(f"{name}={answer}")


def asks(storage: Any = None, gate: asyncio.Event | None = None) -> tuple[Workflow, Asks]:
    executor = Asks(gate)
    return built(WorkflowBuilder(name="asks"), executor, storage=storage), executor


async def asked(workflow: Workflow, *names: str) -> list[str]:
    """Start a run and return the ids of its questions, in the order of their names."""
    result = await workflow.run(list(names), run_id="r")
    by_name = {event.data: event.request_id for event in result.get_request_info_events()}
    return [by_name[name] for name in names]


# ------------------------------------------------------------------------------- at the same time


@pytest.mark.parametrize("is_stored", [False, True])
async def test_answers_to_different_questions_at_once_are_both_kept(is_stored: bool) -> None:
    workflow, executor = asks(InMemoryCheckpointStorage() if is_stored else None)
    first, second, third = await asked(workflow, "a", "b", "c")

    results = await asyncio.gather(
        workflow.send_responses({first: "1"}), workflow.send_responses({second: "2"})
    )

    assert sorted(executor.answered) == ["1", "2"]
    assert results[0].get_outputs()[:1] == ["a=1"]  # the second one may be taken a superstep later
    assert sorted(results[1].get_outputs()) == ["a=1", "b=2"]
    for result in results:
        assert result.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
    last = await workflow.send_responses({third: "3"})
    assert len(last.get_outputs()) == 3


async def test_so_they_are_where_no_handle_is_left() -> None:
    storage = InMemoryCheckpointStorage()
    ids = await asked(asks(storage)[0], "a", "b", "c")
    workflow, executor = asks(storage)
    gc.collect()

    results = await asyncio.gather(*(workflow.send_responses({i: "x"}) for i in ids))

    assert executor.answered == ["x"] * 3
    for name, result in zip("abc", results, strict=True):
        assert f"{name}=x" in result.get_outputs()
    assert sorted((await workflow.wait("r")).get_outputs()) == ["a=x", "b=x", "c=x"]


async def test_so_they_are_through_different_workflow_objects() -> None:
    storage = InMemoryCheckpointStorage()
    ids = await asked(asks(storage)[0], "a", "b", "c")

    results = await asyncio.gather(
        *(asks(storage)[0].send_responses({request_id: "x"}) for request_id in ids)
    )

    for name, result in zip("abc", results, strict=True):
        assert f"{name}=x" in result.get_outputs()
    assert sorted((await asks(storage)[0].wait("r")).get_outputs()) == ["a=x", "b=x", "c=x"]


async def test_of_two_answers_to_one_question_one_is_refused_and_harms_nobody() -> None:
    workflow, _ = asks(InMemoryCheckpointStorage())
    (only,) = await asked(workflow, "a")

    results = await asyncio.gather(
        *(workflow.send_responses({only: text}) for text in ("1", "2")), return_exceptions=True
    )

    refused = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in refused] == [AlreadyAnsweredError]


# ---------------------------------------------------------------------- to runs that others drive


@pytest.mark.parametrize("is_stored", [False, True])
async def test_an_answer_to_a_run_that_another_task_iterates_is_kept(is_stored: bool) -> None:
    gate = asyncio.Event()
    workflow, executor = asks(InMemoryCheckpointStorage() if is_stored else None, gate)
    run = workflow.run_stream(["a", "b"], run_id="r")
    first, second = questions(await collect(run))
    await run.send_response(first, "1")
    stream = asyncio.create_task(collect(run))
    await until(lambda: executor.answered)

    answering = asyncio.create_task(workflow.send_responses({second: "2"}))
    await asyncio.sleep(0.01)
    gate.set()

    result = await answering
    assert sorted(result.get_outputs()) == ["a=1", "b=2"]
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert len(await stream) > 3


async def test_an_answer_through_a_handle_that_another_process_has_overtaken_is_kept() -> None:
    storage = InMemoryCheckpointStorage()
    here, _ = asks(storage)
    run = here.run_stream(["a", "b"], run_id="r")
    by_name = {e.data: e.request_id for e in await collect(run) if isinstance(e, RequestInfoEvent)}
    await asks(storage)[0].send_responses({by_name["a"]: "1"})  # as another process does

    result = await here.send_responses({by_name["b"]: "2"})

    assert result.get_outputs() == ["a=1", "b=2"]
    with pytest.raises(AlreadyAnsweredError):
        await here.send_responses({by_name["a"]: "3"})


async def test_an_answer_to_a_run_that_another_process_drives_is_kept_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supersteps.run.wait.LOOK_EVERY_SECONDS", 0.001)
    storage, gate = InMemoryCheckpointStorage(), asyncio.Event()
    here, mine = asks(storage)
    first, second = await asked(here, "a", "b")
    there, executor = asks(storage, gate)
    driving = asyncio.create_task(there.send_responses({first: "1"}))
    await until(lambda: executor.answered)

    answering = asyncio.create_task(here.send_responses({second: "2"}))
    await asyncio.sleep(0.02)
    assert not answering.done()
    gate.set()

    assert sorted((await answering).get_outputs()) == ["a=1", "b=2"]
    await driving
    assert len(executor.answered) + len(mine.answered) == 2


async def test_whoever_iterates_a_run_cannot_wait_for_it_inside_the_loop() -> None:
    workflow, _ = asks(InMemoryCheckpointStorage())
    run = workflow.run_stream(["a"], run_id="r")
    refused: list[type] = []
    async for event in run:
        if isinstance(event, RequestInfoEvent):
            for waiting in (
                workflow.send_responses({event.request_id: "1"}),
                workflow.wait("r"),
            ):
                with pytest.raises(StreamBusyError, match="inside the loop") as caught:
                    await waiting
                refused.append(caught.type)
            await run.send_response(event.request_id, "2")

    assert (await workflow.wait("r")).get_outputs() == ["a=2"]


async def test_a_handler_cannot_wait_for_its_own_run() -> None:
    storage = InMemoryCheckpointStorage()

    class Waits(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            async with asyncio.timeout(10):
                await workflow.wait("r")

    workflow = built(WorkflowBuilder(), Waits("waits"), storage=storage)

    with pytest.raises(CalledFromHandlerError):
        await workflow.run("x", run_id="r")


# ---------------------------------------------------------------------------------------- waiting


async def test_waiting_for_a_run_gives_its_result_whoever_drives_it() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    run = workflow.run_stream(3, run_id="r")
    driving = asyncio.create_task(collect(run))
    await until(lambda: run.checkpoints)

    results = await asyncio.gather(
        workflow.wait("r", timeout=10), counter_workflow(storage=storage).wait("r", timeout=10)
    )

    for result in results:
        assert result.get_outputs() == [3, 2, 1, 0]
        assert result.get_final_state() is WorkflowRunState.IDLE
        assert result.run_id == "r"
    await driving


async def test_waiting_for_a_run_that_asks_gives_its_questions() -> None:
    storage = InMemoryCheckpointStorage()
    await asking_workflow(storage=storage).run("a", run_id="r")

    result = await asking_workflow(storage=storage).wait("r")

    assert questions(result) == ["ask-a"]
    assert result.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS


async def test_waiting_drives_nothing_and_ends_in_time() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    await workflow.run("a", run_id="r")
    await storage.answer("r", "ask-a", "yes")
    before = await storage.list_checkpoint_ids()

    with pytest.raises(TimeoutError):
        await workflow.wait("r", timeout=0.01)

    assert await storage.list_checkpoint_ids() == before


async def test_an_answer_that_comes_while_hooks_restore_a_run_is_taken_at_once() -> None:
    storage = InMemoryCheckpointStorage()
    calls: list[str] = []

    class Asks(Executor):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.request_info(text, str, request_id="q")

        @response_handler
        async def answered(
            self, original_request: str, response: str, ctx: WorkflowContext[Never, str]
        ) -> None:
            await ctx.yield_output(response)

        async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
            calls.append("restored")
            await storage.answer("r", "q", "yes")  # as somebody else may do meanwhile

    await built(WorkflowBuilder(name="asks"), Asks("asks"), storage=storage).run("x", run_id="r")
    workflow = built(WorkflowBuilder(name="asks"), Asks("asks"), storage=storage)
    run = workflow.run_stream("x", run_id="r", if_exists="attach")

    assert outputs(await collect(run)) == ["yes"]
    assert calls == ["restored"]


async def test_waiting_for_a_run_that_fails_says_why() -> None:
    class Fails(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            raise ValueError("the well is dry")

    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(), Fails("fails"), storage=storage)
    with pytest.raises(ValueError, match="dry"):
        await workflow.run("x", run_id="r")

    with pytest.raises(WorkflowRuntimeError, match=r"run 'r' has failed: .*the well is dry"):
        await workflow.wait("r")


async def test_waiting_for_a_cancelled_run_says_so() -> None:
    workflow = asking_workflow(storage=InMemoryCheckpointStorage())
    run = workflow.run_stream("a", run_id="r")
    await collect(run)
    await run.cancel()

    result = await workflow.wait("r")

    assert result.get_final_state() is WorkflowRunState.CANCELLED
    assert result.get_request_info_events() == []


async def test_waiting_for_what_is_not_there_is_an_error() -> None:
    with pytest.raises(RunNotFoundError):
        await counter_workflow(storage=InMemoryCheckpointStorage()).wait("nobody")
    with pytest.raises(CheckpointingDisabledError):
        await counter_workflow().wait("nobody")


# ---------------------------------------------------------------------------- storages of one run


async def test_a_runs_own_storage_that_was_closed_stays_closed_and_is_let_go_of(
    tmp_path: Path,
) -> None:
    workflow = asking_workflow()
    storages: list[weakref.ref[SqliteCheckpointStorage]] = []
    for number in range(3):
        storage = SqliteCheckpointStorage(tmp_path / f"{number}.db")
        await workflow.run("a", run_id="r", checkpoint_storage=storage)
        await storage.aclose()
        storages.append(weakref.ref(storage))
        del storage
        (tmp_path / f"{number}.db").unlink()
    gc.collect()

    with pytest.raises(UnknownRequestError):
        await workflow.send_responses({"ask-b": "x"})

    assert [storage() for storage in storages] == [None] * 3
    assert list(tmp_path.iterdir()) == []


async def test_a_runs_own_storage_is_kept_while_the_run_waits_and_no_longer() -> None:
    workflow = asking_workflow()
    storage = InMemoryCheckpointStorage()
    await workflow.run("a", checkpoint_storage=storage)
    kept = weakref.ref(storage)
    del storage
    gc.collect()
    assert kept() is not None

    assert (await workflow.send_responses({"ask-a": "yes"})).get_outputs() == ["a=yes"]

    assert await no_task_left()
    await asyncio.sleep(0)
    gc.collect()
    assert kept() is None


async def test_a_run_without_storage_is_let_go_of_once_it_is_done() -> None:
    workflow = asking_workflow()
    run = workflow.run_stream("a")
    await collect(run)
    await run.send_response("ask-a", "yes")
    await collect(run)
    left = weakref.ref(run)
    del run
    assert await no_task_left()
    await asyncio.sleep(0)
    gc.collect()

    assert left() is None


def test_a_lease_from_before_the_clock_was_set_back_is_not_waited_for() -> None:
    record = RunRecord(
        run_id="r", workflow_id="w", status="IDLE", head="r-000000", sequence=0,
        created_at="t", updated_at="t", lease=Lease(ELSEWHERE, time.time() + 7200),
    )  # fmt: skip
    assert not is_held(record)
    assert is_held(replace(record, lease=Lease(ELSEWHERE, time.time() + 20)))
