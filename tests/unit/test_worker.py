"""Workers: what they take, drive and give back, how they stop, and whom they leave alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    Worker,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    handler,
    response_handler,
)
from supersteps.errors import StorageError, WorkflowRuntimeError
from supersteps.run.workers import worker as worker_module
from supersteps.storage.claims import Claim, Claimed
from tests.contract.support import ELSEWHERE, PlainStorage
from tests.unit.support import Counter, no_task_left

WAIT = 20.0
"""For how many seconds a test waits at most for what a worker does."""


class Gate(Executor):
    """Counts its calls, and waits for leave in each; what it gets is how often it calls itself."""

    def __init__(self) -> None:
        super().__init__("gate")
        self.leave = asyncio.Event()
        self.calls = 0

    @handler
    async def wait(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        self.calls += 1
        await self.leave.wait()
        await (ctx.send_message(left - 1) if left else ctx.yield_output(left))


class Sleeper(Executor):
    """Sends itself its input later, then asks, and yields the answer."""

    @handler
    async def later(self, seconds: float, ctx: WorkflowContext[str]) -> None:
        ctx.schedule("now", delay=seconds)

    @handler
    async def wake(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info("sure?", str)

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(answer)


class Hasty(Executor):
    """Asks, and goes on with a default."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info(text, str, deadline=timedelta(seconds=0.05), default="nobody")

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(answer)


class Remembering(Executor):
    """Keeps what it got in an attribute, which the hooks carry over; one run at a time."""

    def __init__(self) -> None:
        super().__init__("remembering")
        self.got: int | None = None

    @handler
    async def take(self, number: int, ctx: WorkflowContext[str]) -> None:
        self.got = number
        await asyncio.sleep(0.02)
        await ctx.send_message("give")

    @handler
    async def give(self, text: str, ctx: WorkflowContext[Never, int]) -> None:
        assert self.got is not None
        await ctx.yield_output(self.got)

    async def on_checkpointing(self, ctx: WorkflowContext) -> None:
        ctx.queue_state_update("got", self.got)

    async def on_checkpoint_restored(self, ctx: WorkflowContext) -> None:
        self.got = await ctx.read_state("got")


class Broken(Executor):
    @handler
    async def fail(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        raise ValueError(f"cannot do {text}")


def one(executor: Executor, storage: Any, name: str | None = None) -> Workflow:
    return (
        WorkflowBuilder(name=name or executor.id)
        .set_start_executor(executor)
        .add_edge(executor, executor)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


@asynccontextmanager
async def at_work(storage: Any, *workflows: Workflow, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs meanwhile, and is drained at the end."""
    async with Worker(storage, workflows, **options) as worker:
        task = asyncio.create_task(worker.run(handle_signals=False))
        yield worker
        worker.drain()
        await asyncio.wait_for(task, WAIT)


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


@pytest.fixture
def memory() -> InMemoryCheckpointStorage:
    return InMemoryCheckpointStorage()


async def until(condition: Callable[[], object]) -> None:
    """Give others time until something holds."""
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it never came to that")


async def status_of(storage: Any, run_id: str) -> str:
    run = await storage.get_run(run_id)
    assert run is not None
    return str(run.status)


# --------------------------------------------------------------------------------- taking, driving


async def test_submitted_runs_are_driven_to_their_end_and_given_back(storage: Any) -> None:
    workflow = one(Counter("count"), storage)
    first = await workflow.submit(3)  # before anybody works
    async with at_work(storage, workflow):
        runs = [first, *[await workflow.submit(number) for number in range(5)]]
        results = [await workflow.wait(run_id, timeout=WAIT) for run_id in runs]
        assert [len(result.get_outputs()) for result in results] == [4, 1, 2, 3, 4, 5]
    for run_id in runs:
        entry = await storage.queue_entry(run_id)
        assert entry is not None
        assert (entry.is_claimed, entry.ready_at) == (False, None)
    assert await storage.held_runs() == []


async def test_a_run_that_waits_takes_up_no_place_and_goes_on_by_itself(storage: Any) -> None:
    sleeper, counter = one(Sleeper("sleeper"), storage), one(Counter("count"), storage)
    async with at_work(storage, sleeper, counter, concurrency=1) as worker:
        asleep = await sleeper.submit(0.2)
        await counter.wait(await counter.submit(1), timeout=WAIT)
        result = await sleeper.wait(asleep, timeout=WAIT)
        (question,) = result.get_request_info_events()
        await until(lambda: worker.held == [])
        await counter.wait(await counter.submit(1), timeout=WAIT)
        await storage.answer(asleep, question.request_id, "yes")
        await _until_status(storage, asleep, WorkflowRunState.IDLE)
        assert (await sleeper.wait(asleep, timeout=WAIT)).get_outputs() == ["yes"]


async def test_a_passed_deadline_makes_a_run_go_on(memory: InMemoryCheckpointStorage) -> None:
    workflow = one(Hasty("hasty"), memory)
    async with at_work(memory, workflow):
        run_id = await workflow.submit("anybody?")
        await _until_status(memory, run_id, WorkflowRunState.IDLE)
        assert (await workflow.wait(run_id)).get_outputs() == ["nobody"]


async def test_a_run_that_fails_is_failed_and_others_go_on(
    memory: InMemoryCheckpointStorage, caplog: pytest.LogCaptureFixture
) -> None:
    broken, counter = one(Broken("broken"), memory), one(Counter("count"), memory)
    async with at_work(memory, broken, counter):
        bad, good = await broken.submit("this"), await counter.submit(1)
        with pytest.raises(WorkflowRuntimeError, match="cannot do this"):
            await broken.wait(bad, timeout=WAIT)
        assert (await counter.wait(good, timeout=WAIT)).get_outputs() == [1, 0]
    assert f"run {bad} has failed: ValueError: cannot do this" in caplog.text
    assert await status_of(memory, bad) == "FAILED"
    assert await memory.next_ready_at(["broken"], ["default"]) is None


async def test_no_more_runs_are_driven_at_once_than_it_may(
    memory: InMemoryCheckpointStorage,
) -> None:
    gate = Gate()
    workflow = one(gate, memory)
    async with at_work(memory, workflow, concurrency=2) as worker:
        runs = [await workflow.submit(0) for _ in range(4)]
        await until(lambda: gate.calls == 2)
        await asyncio.sleep(0.05)
        assert (gate.calls, len(worker.held)) == (2, 2)
        gate.leave.set()
        for run_id in runs:
            await workflow.wait(run_id, timeout=WAIT)


async def test_two_workers_share_the_runs_and_each_runs_once(storage: Any) -> None:
    workflow = one(Counter("count"), storage)
    runs = [await workflow.submit(2) for _ in range(20)]
    async with (
        at_work(storage, workflow, concurrency=3),
        at_work(storage, workflow, concurrency=3),
    ):
        for run_id in runs:
            await workflow.wait(run_id, timeout=WAIT)
    for run_id in runs:
        run = await storage.get_run(run_id)
        assert (run.epoch, run.sequence) == (2, 3)  # taken once, and three supersteps


async def test_a_run_of_a_dead_process_is_taken_up_and_a_parked_one_is_not(
    memory: InMemoryCheckpointStorage,
) -> None:
    workflow = one(Counter("count"), memory)
    for run_id in ("crashed", "parked"):
        async for _event in workflow.run_stream(3, run_id=run_id):
            break
    run = await memory.acquire("crashed", ELSEWHERE, 0.0)
    assert run.lease is not None
    async with at_work(memory, workflow):
        assert len((await workflow.wait("crashed", timeout=WAIT)).get_outputs()) == 4
    assert await status_of(memory, "parked") == "IN_PROGRESS"
    await memory.acquire("parked", ELSEWHERE, 0.0)
    async with at_work(memory, workflow, adopt=False):
        await workflow.wait(await workflow.submit(1), timeout=WAIT)
    assert await status_of(memory, "parked") == "IN_PROGRESS"


# ---------------------------------------------------------------------------------------- stopping


async def test_draining_commits_what_is_under_way_and_another_worker_goes_on(
    storage: Any,
) -> None:
    gate = Gate()
    workflow = one(gate, storage)
    async with Worker(storage, [workflow]) as worker:
        task = asyncio.create_task(worker.run(handle_signals=False))
        run_id = await workflow.submit(0)
        await until(lambda: gate.calls == 1)
        worker.drain()
        later = await workflow.submit(0)
        await asyncio.sleep(0.05)
        assert not task.done()
        gate.leave.set()
        await asyncio.wait_for(task, WAIT)
    assert await status_of(storage, later) == "IN_PROGRESS"
    assert await storage.held_runs() == []
    async with at_work(storage, workflow):
        await workflow.wait(run_id, timeout=WAIT)
        await workflow.wait(later, timeout=WAIT)
    assert gate.calls == 2  # that of the first run was not repeated
    assert await no_task_left()


async def test_a_drain_that_takes_too_long_is_cut_short_and_the_run_is_given_back(
    memory: InMemoryCheckpointStorage,
) -> None:
    gate = Gate()
    workflow = one(gate, memory)
    async with Worker(memory, [workflow], drain_seconds=0.05) as worker:
        task = asyncio.create_task(worker.run(handle_signals=False))
        run_id = await workflow.submit(0)
        await until(lambda: gate.calls == 1)
        worker.drain()
        await asyncio.wait_for(task, WAIT)
    run = await memory.get_run(run_id)
    assert run is not None
    assert (run.lease, run.sequence, run.status) == (None, 0, "IN_PROGRESS")
    gate.leave.set()
    async with at_work(memory, workflow):
        await workflow.wait(run_id, timeout=WAIT)


async def test_a_worker_that_lost_a_run_stops_working_on_it_and_says_so(
    memory: InMemoryCheckpointStorage, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    workflow = one(gate, memory)
    async with at_work(memory, workflow) as worker:
        run_id = await workflow.submit(0)
        await until(lambda: gate.calls == 1)
        run = memory._runs[run_id]  # somebody else takes it, as if the lease had run out
        run.record = _with_owner_elsewhere(run.record)
        gate.leave.set()
        await until(lambda: worker.held == [])
    assert f"run {run_id} was lost, and is left to its new owner" in caplog.text
    left = await memory.get_run(run_id)
    assert left is not None
    assert left.lease is not None
    assert (left.lease.owner, left.sequence) == (ELSEWHERE, 0)


# ------------------------------------------------------------------------------- what does not fit


async def test_runs_of_a_workflow_that_it_lacks_wait_and_one_warning_names_it(
    memory: InMemoryCheckpointStorage, caplog: pytest.LogCaptureFixture
) -> None:
    counter, other = one(Counter("count"), memory), one(Counter("other"), memory)
    strangers = [await other.submit(1) for _ in range(2)]
    async with at_work(memory, counter):
        await counter.wait(await counter.submit(1), timeout=WAIT)
    assert caplog.text.count("runs of workflow 'other' wait in InMemoryCheckpointStorage") == 1
    async with at_work(memory, other):
        for run_id in strangers:
            await other.wait(run_id, timeout=WAIT)


async def test_a_run_of_another_graph_stays_as_it_is(
    memory: InMemoryCheckpointStorage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_AGAIN_SECONDS", 0.05)
    before, after = one(Counter("count"), memory), one(Counter("tally"), memory, "count")
    run_id = await before.submit(1)
    async with at_work(memory, after):
        await until(lambda: "could not be opened" in caplog.text)
        await asyncio.sleep(0.2)  # it has tried again by then
    assert caplog.text.count(f"run {run_id} could not be opened, and stays as it is") == 1
    assert await status_of(memory, run_id) == "IN_PROGRESS"
    async with at_work(memory, before):
        assert (await before.wait(run_id, timeout=WAIT)).get_outputs() == [1, 0]


async def test_runs_that_share_an_instance_with_hooks_take_turns(
    memory: InMemoryCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_BUSY_AGAIN_SECONDS", 0.02)
    workflow = one(Remembering(), memory)
    runs = [await workflow.submit(number) for number in range(3)]
    async with at_work(memory, workflow):
        results = [await workflow.wait(run_id, timeout=WAIT) for run_id in runs]
    assert [result.get_outputs() for result in results] == [[0], [1], [2]]


async def test_a_storage_that_fails_for_a_while_is_tried_again(
    memory: InMemoryCheckpointStorage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_AGAIN_AFTER_ERROR_SECONDS", 0.01)
    real, failures = memory.claim_runs, iter(range(3))

    async def claim_runs(claim: Claim) -> Claimed:
        if next(failures, None) is not None:
            raise StorageError("the disk is away")
        return await real(claim)

    monkeypatch.setattr(memory, "claim_runs", claim_runs)
    workflow = one(Counter("count"), memory)
    async with at_work(memory, workflow):
        await workflow.wait(await workflow.submit(1), timeout=WAIT)
    assert caplog.text.count("tries again in a moment: the disk is away") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workflows": []}, "a list of workflows"),
        ({"queues": []}, "one of queues"),
        ({"queues": "default"}, "one of queues"),
        ({"concurrency": 0}, "how many runs"),
    ],
)
async def test_a_worker_that_makes_no_sense_is_refused(
    options: dict[str, Any], message: str, memory: InMemoryCheckpointStorage
) -> None:
    workflows = options.pop("workflows", [one(Counter("count"), memory)])
    with pytest.raises(ValueError, match=message):
        Worker(memory, workflows, **options)


async def test_two_workflows_of_one_name_and_a_storage_without_a_queue_are_refused(
    memory: InMemoryCheckpointStorage,
) -> None:
    with pytest.raises(ValueError, match="named 'count'"):
        Worker(memory, [one(Counter("count"), memory), one(Counter("count"), memory)])
    with pytest.raises(StorageError, match="no queue"):
        Worker(PlainStorage(), [one(Counter("count"), memory)])


async def test_a_worker_says_when_it_begins_and_ends(
    memory: InMemoryCheckpointStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supersteps.worker")
    workflow = one(Counter("count"), memory)
    async with at_work(memory, workflow) as worker:
        await asyncio.sleep(0)
        with pytest.raises(WorkflowRuntimeError, match="runs already"):
            await worker.run(handle_signals=False)
    assert f"worker {worker.name} takes runs of count" in caplog.text
    assert f"worker {worker.name} has ended" in caplog.text


def _with_owner_elsewhere(record: Any) -> Any:
    from msgspec.structs import replace

    lease = replace(record.lease, owner=ELSEWHERE)
    return replace(record, epoch=record.epoch + 1, lease=lease)


async def _until_status(storage: Any, run_id: str, status: WorkflowRunState) -> None:
    for _ in range(int(WAIT / 0.01)):
        if await status_of(storage, run_id) == status:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{run_id} is {await status_of(storage, run_id)}")
