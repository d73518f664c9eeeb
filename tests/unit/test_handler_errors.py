"""What a handler raises is its own failure, of whatever type; what comes from outside is not."""

import asyncio
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    CheckpointSaveError,
    Executor,
    ExecutorFailedEvent,
    ExecutorFailure,
    FailurePolicy,
    HandlerError,
    HandlerTimeoutError,
    InMemoryCheckpointStorage,
    InterruptedCallError,
    RequestError,
    RunBusyError,
    RunClosedError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    SqliteCheckpointStorage,
    StreamBusyError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowFailedEvent,
    executor,
    handler,
)
from supersteps._error_texts import MESSAGE_LIMIT, TRACEBACK_LIMIT, message_of, traceback_of
from supersteps.engine.user_code import UserCodeError
from supersteps.secrets import Secret
from tests.unit.support import (
    FailingStorage,
    Tally,
    built,
    collect,
    collect_into,
    no_task_left,
    outputs,
)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # a mistake of the user's


class Rigid(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("nothing can be set")


class OddNotes(Exception):
    __notes__ = 5  # type: ignore[assignment]  # a mistake of the user's


class Unequal(Exception):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")


class Empty(Exception):
    def __len__(self) -> int:
        return 0


class Outrage(BaseException):
    pass


def cyclic() -> Exception:
    error = ValueError("cyclic")
    error.__cause__ = error
    return error


KINDS: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "SystemExit": lambda: SystemExit(3),
    "Outrage": Outrage,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]),
    "ExceptionGroup": lambda: ExceptionGroup("g", [ValueError(), TypeError()]),
    "RequestError": lambda: RequestError("mine"),
    "AlreadyAnsweredError": lambda: AlreadyAnsweredError("mine"),
    "RunFencedError": lambda: RunFencedError("mine"),
    "RunBusyError": lambda: RunBusyError("mine"),
    "RunExistsError": lambda: RunExistsError("mine"),
    "RunNotFoundError": lambda: RunNotFoundError("mine"),
    "RunClosedError": lambda: RunClosedError("mine"),
    "StreamBusyError": lambda: StreamBusyError("mine"),
    "CheckpointSaveError": lambda: CheckpointSaveError("mine"),
    "InterruptedCallError": lambda: InterruptedCallError("mine"),
    "HandlerTimeoutError": lambda: HandlerTimeoutError("mine"),
    "TimeoutError": TimeoutError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "Frozen": lambda: Frozen(3),
    "Unprintable": Unprintable,
    "NoText": NoText,
    "Rigid": lambda: Rigid("x"),
    "OddNotes": lambda: OddNotes("x"),
    "Unequal": lambda: Unequal("x"),
    "Empty": lambda: Empty("x"),
    "cyclic": cyclic,
    "surrogate": lambda: ValueError("a\ud800b"),
    "huge": lambda: ValueError("x" * 2_000_000),
}
Kinds = pytest.mark.parametrize("kind", KINDS)
Modes = pytest.mark.parametrize("mode", ["async", "plain"])
STAND_INS = {
    "StopAsyncIteration",
    "GeneratorExit",
    "CancelledError",
    "SystemExit",
    "Outrage",
    "BaseExceptionGroup",
}


def raised_by(kind: str, mode: str) -> type[Exception]:
    """What the consumer gets for what a handler raises."""
    if kind == "StopIteration":
        return RuntimeError if mode == "async" else HandlerError  # the former by Python itself
    made = KINDS[kind]()
    return HandlerError if kind in STAND_INS or not isinstance(made, Exception) else type(made)


class Fallible:
    """A workflow in which one of two executors raises for as long as `fails` says."""

    def __init__(self, kind: str, mode: str) -> None:
        self.fails = True
        self.calls: list[str] = []
        self.handled: list[ExecutorFailure] = []
        self._make = KINDS[kind]
        self._mode = mode

    def _work(self) -> None:
        self.calls.append("bad")
        if self.fails:
            raise self._make()

    def build(
        self, storage: Any = None, policy: FailurePolicy | None = None, errors: bool = False
    ) -> Workflow:
        @executor(id="start")
        async def start(text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.send_message(text)

        @executor(id="bad")
        async def in_loop(text: str, ctx: WorkflowContext[Never, str]) -> None:
            self._work()
            await ctx.yield_output("bad")

        @executor(id="bad")
        def in_thread(text: str, ctx: WorkflowContext[Never, str]) -> None:
            self._work()
            ctx.yield_output("bad")

        @executor(id="sibling")
        async def sibling(text: str, ctx: WorkflowContext[Never, str]) -> None:
            await asyncio.sleep(0)
            self.calls.append("sibling")
            await ctx.yield_output("sibling")

        @executor(id="handles")
        async def handles(failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
            self.handled.append(failure)
            await ctx.yield_output(f"{failure.error_type} after {failure.attempts}")

        bad = in_loop if self._mode == "async" else in_thread
        builder = WorkflowBuilder(name="w").add_edge(start, bad).add_edge(start, sibling)
        if policy is not None:
            builder.with_failure_policy(bad, policy)
        if errors:
            builder.add_error_edge(bad, handles)
        return built(builder, start, storage=storage)


@Modes
@Kinds
async def test_the_run_fails_is_let_go_of_and_can_be_resumed(
    kind: str, mode: str, tmp_path: Path
) -> None:
    case = Fallible(kind, mode)
    seen: list[WorkflowEvent] = []
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        workflow = case.build(storage)
        with pytest.raises(raised_by(kind, mode)) as caught:
            await asyncio.wait_for(workflow.run("x", run_id="r"), 30)
        record = await storage.get_run("r")

        assert record is not None
        assert (record.status, record.lease) == ("FAILED", None)
        assert "(executor 'bad', superstep 2 of run 'r')" in (record.error or "")
        assert len(record.error or "") < MESSAGE_LIMIT + 1000
        if isinstance(caught.value, HandlerError):
            assert type(caught.value.__cause__) is type(KINDS[kind]())

        with pytest.raises(raised_by(kind, mode)):
            await collect_into(seen, workflow.run_stream("x", run_id="s"))
        (failed,) = (event for event in seen if isinstance(event, ExecutorFailedEvent))
        (ended,) = (event for event in seen if isinstance(event, WorkflowFailedEvent))
        assert failed.executor_id == "bad"
        assert failed.details.error_type == ended.details.error_type == type(caught.value).__name__
        assert len(ended.details.message) < MESSAGE_LIMIT + 100
        assert len(ended.details.traceback or "") < TRACEBACK_LIMIT + 100
        ended.details.message.encode()

        case.fails = False
        assert record.head is not None
        result = await workflow.run_from_checkpoint(record.head)
        assert sorted(result.get_outputs()) == ["bad", "sibling"]
        assert case.calls.count("sibling") == 2  # once a run: what finished beside it is kept
    assert await no_task_left()


@Modes
@Kinds
async def test_failure_policies_and_error_edges_apply(kind: str, mode: str) -> None:
    case = Fallible(kind, mode)
    policy = FailurePolicy(max_attempts=2, backoff=0)
    workflow = case.build(InMemoryCheckpointStorage(), policy, errors=True)

    events = await asyncio.wait_for(collect(workflow.run_stream("x")), 30)

    assert case.calls.count("bad") == 2
    name = type(KINDS[kind]()).__name__
    if (kind, mode) == ("StopIteration", "async"):
        name = "RuntimeError"
    assert sorted(outputs(events)) == sorted([f"{name} after 2", "sibling"])
    (failure,) = case.handled
    assert not failure.interrupted
    assert len(failure.error_message) < MESSAGE_LIMIT + 100


async def test_a_policy_looks_at_what_was_raised_not_at_its_stand_in() -> None:
    case = Fallible("StopAsyncIteration", "async")
    policy = FailurePolicy(max_attempts=3, backoff=0, retry_on=(StopAsyncIteration,))
    with pytest.raises(HandlerError):
        await case.build(policy=policy).run("x")
    assert case.calls.count("bad") == 3


# ----------------------------------------------------------------------------------------- outside


def leaves(number: int, frame: object) -> None:
    sys.exit(number)


@pytest.fixture
def leaving() -> Iterator[None]:
    """Have SIGUSR1 end the program, as many programs have SIGTERM do."""
    before = signal.signal(signal.SIGUSR1, leaves)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
@pytest.mark.usefixtures("leaving")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_signal_handler_that_exits_ends_the_program_not_the_call(streaming: bool) -> None:
    storage, calls = InMemoryCheckpointStorage(), []

    @executor
    async def interrupted(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGUSR1)
        await ctx.yield_output(text)

    policy = FailurePolicy(max_attempts=3, backoff=0)
    builder = WorkflowBuilder(name="w").with_failure_policy(interrupted, policy)
    workflow = built(builder, interrupted, storage=storage)

    async def main() -> None:
        run = workflow.run_stream("x", run_id="r")
        await (collect(run) if streaming else run.wait_for_completion())

    with pytest.raises(SystemExit):
        asyncio.run(main())
    record = asyncio.run(storage.get_run("r"))
    assert record is not None
    assert (record.status, record.lease) == ("IN_PROGRESS", None)
    assert calls == ["x"]
    assert asyncio.run(workflow.run_from_checkpoint("r-000000")).get_outputs() == ["x"]


async def test_a_timeout_of_the_consumer_is_no_failure_of_the_handler() -> None:
    storage = InMemoryCheckpointStorage()

    @executor
    async def waits(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await asyncio.get_running_loop().create_future()

    run = built(WorkflowBuilder(), waits, storage=storage).run_stream("x", run_id="r")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run.wait_for_completion(), 0.01)
    record = await storage.get_run("r")
    assert record is not None
    assert (record.status, record.lease) == ("IN_PROGRESS", None)


# ---------------------------------------------------------------------------- hooks and factories


class Moody(Tally):
    """Raises in one of its hooks."""

    def __init__(self, hook: str, make: Callable[[], BaseException]) -> None:
        super().__init__()
        self.hook = hook
        self.make = make

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        if self.hook == "checkpointing" and ctx.step_number:
            raise self.make()
        await super().on_checkpointing(ctx)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        if self.hook == "restored":
            raise self.make()
        await super().on_checkpoint_restored(ctx)


@pytest.mark.parametrize(
    "kind", ["StopAsyncIteration", "RequestError", "RunFencedError", "Outrage"]
)
async def test_an_error_of_a_checkpoint_hook_fails_the_run(kind: str) -> None:
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(), Moody("checkpointing", KINDS[kind]), storage=storage)
    with pytest.raises(raised_by(kind, "async")):
        await collect(workflow.run_stream(1, run_id="r"))
    record = await storage.get_run("r")
    assert record is not None
    assert (record.status, record.lease) == ("FAILED", None)


@pytest.mark.parametrize(
    "kind", ["StopAsyncIteration", "RequestError", "RunFencedError", "Outrage"]
)
@pytest.mark.parametrize("way", ["resume", "restore"])
async def test_an_error_of_a_restore_hook_reaches_whoever_restores(kind: str, way: str) -> None:
    storage, moody = InMemoryCheckpointStorage(), Moody("", KINDS[kind])
    workflow = built(WorkflowBuilder(), moody, storage=storage)
    run = workflow.run_stream(1, run_id="r")
    await run.wait_for_completion()
    moody.hook = "restored"
    restoring = (
        run.restore_checkpoint("r-000000")
        if way == "restore"
        else collect(workflow.run_stream_from_checkpoint("r-000000"))
    )
    with pytest.raises(raised_by(kind, "async")) as caught:
        await restoring
    assert not isinstance(caught.value.__context__, UserCodeError)


@pytest.mark.parametrize("kind", ["StopIteration", "RequestError", "SystemExit"])
async def test_an_error_of_a_factory_fails_the_run(kind: str) -> None:
    works = [True]

    def make() -> Executor:
        if not works:
            raise KINDS[kind]()
        return Tally()

    workflow = WorkflowBuilder().set_start_executor(make).build()
    works.clear()
    run = workflow.run_stream(1)
    for _ in range(2):  # an error that is told once is a refused answer, not the end of the run
        with pytest.raises(raised_by(kind, "plain")):
            await collect(run)


# ------------------------------------------------------------------------------------ what is saved


class Deaf(Executor):
    """Sleeps, and goes on whatever that raises."""

    def __init__(self, way: str) -> None:
        super().__init__("deaf")
        self.way = way

    @handler
    async def sleep(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        try:
            await ctx.sleep(0.001)
        except Exception as error:
            if self.way == "raise":
                raise ValueError("something else") from error
        await ctx.yield_output(text)


@pytest.mark.parametrize("way", ["swallow", "raise"])
async def test_a_failed_save_stops_the_run_whatever_the_handler_makes_of_it(way: str) -> None:
    storage = FailingStorage(journal=[0])
    builder = WorkflowBuilder().with_failure_policy(deaf := Deaf(way), FailurePolicy(3, backoff=0))
    with pytest.raises(CheckpointSaveError):
        await built(builder, deaf, storage=storage).run("x", run_id="r")


# -------------------------------------------------------------------------------------------- texts


def test_secrets_are_struck_out_before_a_text_is_cut() -> None:
    value = "s3cret-" * 10
    Secret.of(value)
    for place in range(MESSAGE_LIMIT * 3 // 4 - len(value), MESSAGE_LIMIT * 3 // 4 + 1, 7):
        text = message_of(ValueError("x" * place + value + "y" * MESSAGE_LIMIT))
        assert "s3cret-" not in text


def test_a_long_text_keeps_both_ends() -> None:
    error = ValueError("begin" + "x" * 10**6 + "end")
    for text in (message_of(error), traceback_of(error)):
        assert text.endswith("end\n" if text.startswith("ValueError") else "end")
        assert "begin" in text
        assert "characters left out" in text
