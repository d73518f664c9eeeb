"""`Execution`: executors side by side, an executor's messages one by one, records of what
finished.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from supersteps import Executor, WorkflowBuilder, WorkflowContext, WorkflowEvent, handler
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.values import Sealer
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.event_loops import LoopEvent
from supersteps.engine.execution import Execution
from supersteps.engine.executors import Executors
from supersteps.engine.journal import Recorded
from supersteps.engine.levels import Levels
from supersteps.engine.plan import plan
from supersteps.engine.setting import Setting
from supersteps.engine.state import State
from supersteps.engine.user_code import UserCodeError
from supersteps.engine.view import View
from supersteps.events import Note
from tests.unit.support import kinds, until

SEALER = Sealer(Codec(), encoding=True)


class Worker(Executor):
    """Logs the beginning and end of each call and fails on negative numbers."""

    def __init__(self, id: str, log: list[str], turns: int = 1) -> None:
        super().__init__(id)
        self.log = log
        self.turns = turns

    @handler
    async def work(self, number: int, ctx: WorkflowContext[Any, Any]) -> None:
        self.log.append(f"{self.id}{number} begins")
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if number < 0:
            raise ValueError(f"{self.id} got {number}")
        await ctx.queue_state_update("n", number + await ctx.read_state("n", default=0))
        await ctx.yield_output(number)
        self.log.append(f"{self.id}{number} ends")


class Hooked(Worker):
    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.log.append(f"{self.id} hook")
        await ctx.queue_state_update("hooked", await ctx.read_state("n"))


class Records:
    """Stands for the journal."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.ended: list[str] = []

    is_used = True

    def record(self, record: bytes) -> None:
        effects = Effects.from_record(record, SEALER)
        self.kept.append((effects.executor_id, effects.key))

    async def flush(self) -> None:
        self.ended.append("flush")

    async def settle(self) -> None:
        self.ended.append("settle")

    async def abandon(self) -> None:
        self.ended.append("abandon")


class Setup:
    def __init__(self, *executors: Executor, messages: Sequence[tuple[str, int]]) -> None:
        start = executors[0]
        builder = WorkflowBuilder().set_start_executor(start)
        for other in executors[1:]:
            builder.add_edge(start, other)
        self.graph = builder.build().graph
        self.levels = Levels(self.graph)
        self.state = State(
            messages=[Message(SEALER.seal(n, ""), ("x",), (target,)) for target, n in messages]
        )
        self.records = Records()
        self.events: list[WorkflowEvent] = []
        roots = {executor.id: executor for executor in executors}
        self.setting = Setting(
            run_id="r",
            incarnation=lambda: "another",
            sealer=SEALER,
            emit=self.events.append,
            workflow_id="w",
            max_iterations=100,
            levels=self.levels,
            executors=Executors(self.levels, roots, "w"),
            store=None,
            replay=None,
            backend=LocalBackend(),
            notes=self,
        )

    async def run(self, replayed: Mapping[tuple[str, str], Effects] | None = None) -> list[Any]:
        records: Any = self.records
        execution = Execution(
            plan(self.levels, self.state, []),
            self.setting,
            site=lambda post, _: self.site(post.address),
            recorded=Recorded(finished=dict(replayed or {})),
            journal=records,
            restore=self.restored,
            asleep=LoopEvent(),
        )
        results = await execution.run()
        return [(e.executor_id, e.key, [o.open() for o in e.outputs]) for e in results]

    @property
    def sink(self) -> "Setup":
        return self

    def note(self, note: Note) -> None:
        self.events.append(note.event())

    async def restored(self, address: str, view: View) -> None:
        pass

    def site(self, executor_id: str) -> CallSite:
        post = self.setting.executors[executor_id]
        view = View(self.state.scopes, {}, SEALER)
        return CallSite(post, self.setting, view, step_number=1, branch=0)


async def test_executors_run_concurrently_and_each_handles_its_messages_in_order() -> None:
    log: list[str] = []
    setup = Setup(
        Worker("a", log, 3), Worker("b", log), messages=[("b", 1), ("a", 2), ("a", 3), ("b", 4)]
    )

    results = await setup.run()

    assert results == [("a", "0", [2]), ("a", "1", [3]), ("b", "0", [1]), ("b", "1", [4])]
    assert log[:2] == ["a2 begins", "b1 begins"]
    assert log.index("a2 ends") < log.index("a3 begins")
    assert log.index("b4 ends") < log.index("a2 ends")
    assert (
        kinds(setup.events).count("ExecutorInvoked")
        == kinds(setup.events).count("ExecutorCompleted")
        == 4
    )


async def test_all_but_the_last_call_are_recorded() -> None:
    log: list[str] = []
    setup = Setup(Worker("a", log, 5), Worker("b", log), messages=[("a", 1), ("b", 2), ("b", 3)])
    await setup.run()

    assert setup.records.kept == [("b", "0"), ("b", "1")]
    assert setup.records.ended == ["settle"]


async def test_after_a_failure_the_siblings_finish_and_records_are_flushed() -> None:
    log: list[str] = []
    setup = Setup(
        Worker("a", log), Worker("b", log, 5), messages=[("a", 1), ("a", -1), ("a", 2), ("b", 3)]
    )
    with pytest.raises(UserCodeError, match="a got -1") as caught:
        await setup.run()

    assert "b3 ends" in log
    assert "a2 begins" not in log
    assert setup.records.kept == [("a", "0"), ("b", "0")]
    assert setup.records.ended == ["flush"]
    assert caught.value.error.__notes__ == ["(executor 'a', superstep 1 of run 'r')"]
    assert kinds(setup.events).count("ExecutorFailed") == 1


async def test_replayed_calls_are_not_run_and_their_writes_are_seen_by_later_calls() -> None:
    log: list[str] = []
    first = Setup(Worker("a", log), messages=[("a", 1), ("a", -1)])
    with pytest.raises(UserCodeError, match="got -1"):
        await first.run()
    record = Effects("a", "0")
    record.writes += (await _effects_of(Worker("a", [], 0), 1)).writes
    log.clear()

    second = Setup(Worker("a", log), messages=[("a", 1), ("a", 5)])
    worker = second.setting.executors.roots["a"]
    assert isinstance(worker, Worker)
    results = await second.run({("a", "0"): record})

    assert [r[1] for r in results] == ["0", "1"]
    assert log == ["a5 begins", "a5 ends"]
    assert second.records.kept == []


async def _effects_of(worker: Worker, number: int) -> Effects:
    setup = Setup(worker, messages=[(worker.id, number)])
    planned = plan(setup.levels, setup.state, []).calls[worker.id][0]
    return await LocalBackend().invoke(planned, setup.site(worker.id))


async def test_a_hook_runs_after_the_last_message_and_its_calls_are_recorded_as_one() -> None:
    log: list[str] = []
    setup = Setup(Hooked("h", log), Worker("b", log, 9), messages=[("h", 1), ("h", 2), ("b", 3)])
    await setup.run()

    assert [entry for entry in log if entry.startswith("h")] == [
        "h1 begins",
        "h1 ends",
        "h2 begins",
        "h2 ends",
        "h hook",
    ]
    assert setup.records.kept == [("h", "0"), ("h", "1")]


async def test_nothing_of_a_hooked_executor_is_recorded_when_a_later_call_fails() -> None:
    log: list[str] = []
    setup = Setup(Hooked("h", log), Worker("b", log), messages=[("h", 1), ("h", -2), ("b", 3)])
    with pytest.raises(UserCodeError, match="h got -2"):
        await setup.run()

    assert "h hook" not in log
    assert setup.records.kept == [("b", "0")]


async def test_a_cancelled_superstep_leaves_no_task_and_abandons_the_journal() -> None:
    log: list[str] = []
    setup = Setup(Worker("a", log, 10**6), Worker("b", log, 10**6), messages=[("a", 1), ("b", 2)])
    running = asyncio.create_task(setup.run())
    await until(lambda: len(log) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert setup.records.ended == ["abandon"]
    assert log == ["a1 begins", "b2 begins"]


@pytest.mark.parametrize("inside_first", [False, True])
async def test_being_closed_is_not_a_failure_of_the_handler(inside_first: bool) -> None:
    """So it is at the end of an event loop, when what it leaves is collected in any order."""
    log: list[str] = []
    setup = Setup(Worker("a", log, 10**6), messages=[("a", 1)])
    running: Any = setup.run()
    running.send(None)
    chain = [running]
    while (inner := getattr(chain[-1], "cr_await", None)) is not None:
        chain.append(inner)
    for part in reversed(chain) if inside_first else chain:
        part.close()

    assert log == ["a1 begins"]
    assert kinds(setup.events) == ["ExecutorInvoked"]
