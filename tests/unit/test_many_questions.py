"""What waits costs a superstep nothing: questions and timers are looked at when they change."""

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import supersteps
from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    SuperStepCompletedEvent,
    SuperStepStartedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowOutputEvent,
    handler,
    response_handler,
)
from supersteps.storage.ports import DurableStorage
from supersteps.storage.records import InboxEntry
from tests.unit.support import collect, outputs

PACKAGE = str(Path(supersteps.__file__).parent)


class Asker(Executor):
    """Asks many questions, sets many timers, then counts down."""

    def __init__(self, questions: int, timers: int = 0, deadline: timedelta | None = None) -> None:
        super().__init__("asker")
        self.questions = questions
        self.timers = timers
        self.deadline = deadline
        self.before_step: Callable[[int], Awaitable[object]] | None = None

    @handler
    async def begin(self, steps: str, ctx: WorkflowContext[int]) -> None:
        ends: dict[str, Any] = (
            {} if self.deadline is None else {"deadline": self.deadline, "default": "late"}
        )
        for number in range(self.questions):
            await ctx.request_info(number, str, request_id=f"q{number}", **ends)
        for number in range(self.timers):
            await ctx.schedule(-number, delay=timedelta(days=1))
        await ctx.send_message(int(steps))

    @handler
    async def count(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        if self.before_step is not None:
            await self.before_step(left)
        if left:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output("done")

    @response_handler
    async def answered(self, number: int, answer: str, ctx: WorkflowContext[int, str]) -> None:
        await ctx.yield_output(f"{number}: {answer}")


def workflow(asker: Asker, storage: DurableStorage | None) -> Workflow:
    builder = WorkflowBuilder(1000, name="ask").add_edge(asker, asker).set_start_executor(asker)
    if storage is not None:
        builder.with_checkpointing(storage)
    return builder.build()


class Effort:
    """Counts the bytecode instructions of the library, as a measure that nothing else disturbs."""

    def __init__(self) -> None:
        self.instructions = 0
        self._before: Any = None

    def start(self) -> None:
        self._before = sys.gettrace()
        # Python 3.12 traces instructions only if some frame wanted that before tracing began.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._trace)

    def stop(self) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        elif event == "opcode":
            self.instructions += 1
        return self._trace


async def effort_of_supersteps(asker: Asker, storage: DurableStorage | None) -> int:
    """What ten supersteps cost in which nothing is asked, answered or due."""
    effort = Effort()

    async def at(left: int) -> None:
        if left == 20:
            effort.start()
        elif left == 10:
            effort.stop()

    asker.before_step = at
    async with workflow(asker, storage).run_stream("30") as run:
        async for event in run:
            if isinstance(event, WorkflowOutputEvent):
                break
    return effort.instructions


@pytest.mark.parametrize("make_storage", [lambda: None, InMemoryCheckpointStorage])
@pytest.mark.parametrize("deadline", [None, timedelta(days=1)])
async def test_a_superstep_costs_the_same_however_many_questions_wait(
    make_storage: Callable[[], Any], deadline: timedelta | None
) -> None:
    one = await effort_of_supersteps(Asker(1, deadline=deadline), make_storage())
    many = await effort_of_supersteps(Asker(500, deadline=deadline), make_storage())

    assert one > 1000
    assert many < one * 1.1


async def test_a_superstep_costs_little_more_where_questions_wait_than_where_none_does() -> None:
    none = await effort_of_supersteps(Asker(0), InMemoryCheckpointStorage())
    many = await effort_of_supersteps(Asker(500), InMemoryCheckpointStorage())

    assert many < none * 1.2


async def test_a_superstep_costs_the_same_however_many_timers_are_set() -> None:
    one = await effort_of_supersteps(Asker(0, timers=1), InMemoryCheckpointStorage())
    many = await effort_of_supersteps(Asker(0, timers=500), InMemoryCheckpointStorage())

    assert many < one * 1.1


async def test_questions_asked_in_one_superstep_cost_the_same_each() -> None:
    async def effort_of(questions: int) -> int:
        effort = Effort()
        effort.start()
        try:
            await workflow(Asker(questions), InMemoryCheckpointStorage()).run("0")
        finally:
            effort.stop()
        return effort.instructions

    few, many = await effort_of(50), await effort_of(400)

    assert many < few * 8 * 1.1


async def test_answers_put_in_one_by_one_cost_the_same_each() -> None:
    async def effort_of(questions: int) -> int:
        effort = Effort()
        run = workflow(Asker(questions), None).run_stream("0")
        await collect(run)
        effort.start()
        try:
            for number in range(questions):
                await run.send_response(f"q{number}", "yes")
        finally:
            effort.stop()
        assert len(outputs(await collect(run))) == questions
        return effort.instructions

    few, many = await effort_of(25), await effort_of(200)

    assert many < few * 8 * 1.1


# ---------------------------------------------------------------------------------------- the inbox


class Inboxes(SqliteCheckpointStorage):
    """Counts how often the inbox is read."""

    reads = 0

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        self.reads += 1
        return await super().read_inbox(run_id, incarnation=incarnation)


async def test_the_inbox_is_read_only_when_something_new_may_be_in_it(tmp_path: Path) -> None:
    async with Inboxes(tmp_path / "runs.db") as storage:
        asker, reads = Asker(3), dict[int, int]()

        async def at(left: int) -> None:
            if left == 20:
                await storage.answer("r", "q1", "yes")
            reads[left] = storage.reads

        asker.before_step = at
        answered_at = None
        async for event in workflow(asker, storage).run_stream("30", run_id="r"):
            if outputs([event]) == ["1: yes"]:
                answered_at = min(reads)

    assert answered_at == 19
    assert reads[30] == reads[21]
    assert reads[18] == reads[0]


@pytest.mark.parametrize("moment", [SuperStepStartedEvent, SuperStepCompletedEvent])
@pytest.mark.parametrize("step", [2, 5, 7])
async def test_an_answer_is_found_whenever_it_comes(
    tmp_path: Path, moment: type[WorkflowEvent], step: int
) -> None:
    """Also one that is put in right after a commit has looked into the inbox."""
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        seen: list[str] = []
        async for event in workflow(Asker(1), storage).run_stream("5", run_id="r"):
            seen += outputs([event])
            if isinstance(event, moment) and getattr(event, "step_number", 0) == step:
                await storage.answer("r", "q0", "yes")

    assert sorted(seen) == ["0: yes", "done"]
