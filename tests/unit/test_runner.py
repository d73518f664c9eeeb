"""The runner: supersteps, limits, failures, journal, saves, hooks, isolation, determinism."""

import asyncio
import gc
import random
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Never
from uuid import UUID

import pytest

from supersteps import (
    Case,
    CheckpointEncodeError,
    CheckpointSaveError,
    Default,
    Executor,
    ExecutorCompletedEvent,
    ExecutorFailedEvent,
    HandlerContextError,
    InMemoryCheckpointStorage,
    ReducerError,
    RequestInfoExecutor,
    RequestResponse,
    RoutingError,
    RunFencedError,
    StateConflictError,
    SuperStepCompletedEvent,
    UndeliveredMessageWarning,
    UnknownTargetError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowConvergenceError,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowRunState,
    WorkflowRuntimeError,
    WorkflowWarningEvent,
    executor,
    handler,
)
from supersteps.checkpoint.owner import Owner
from tests.unit.support import (
    CountingStorage,
    FailingStorage,
    Question,
    SlowStorage,
    Tally,
    built,
    collect,
    collect_into,
    counter_workflow,
    kinds,
    outputs,
    shout_workflow,
    states,
    take,
)

MakeStorage = Callable[[], Any]
OnOff = pytest.mark.parametrize(
    "make_storage", [lambda: None, InMemoryCheckpointStorage], ids=["off", "on"]
)


@executor
async def start(text: str, ctx: WorkflowContext[str]) -> None:
    await ctx.send_message(text)


# ----------------------------------------------------------------------------------- max_iterations


@OnOff
@pytest.mark.parametrize(("steps", "converges"), [(3, True), (4, True), (5, False)])
async def test_the_limit_counts_supersteps_after_the_very_first(
    make_storage: MakeStorage, steps: int, converges: bool
) -> None:
    workflow = counter_workflow(max_iterations=3, storage=make_storage())
    if converges:
        assert len((await workflow.run(steps - 1)).get_outputs()) == steps
        return
    with pytest.raises(
        WorkflowConvergenceError, match=r"did not converge after 3 iterations.*'counter'"
    ):
        await workflow.run(steps - 1)


async def test_a_higher_limit_continues_from_the_saved_checkpoint() -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.raises(
        WorkflowConvergenceError, match="resume it with a workflow whose max_iterations is higher"
    ):
        await counter_workflow(max_iterations=3, storage=storage).run(6, run_id="r")
    cps = await storage.list_checkpoints(run_id="r")
    assert [cp.iteration_count for cp in cps] == [0, 1, 2, 3, 4]
    assert {cp.max_iterations for cp in cps} == {3}
    stored = await storage.get_run("r")
    assert stored is not None
    assert stored.status == "FAILED"
    assert stored.error is not None
    assert "did not converge" in stored.error

    with pytest.raises(WorkflowConvergenceError):  # the same limit is used up already
        await counter_workflow(max_iterations=3, storage=storage).run_from_checkpoint("r-000004")
    with pytest.raises(WorkflowConvergenceError):  # one superstep more
        await counter_workflow(max_iterations=4, storage=storage).run_from_checkpoint("r-000004")
    result = await counter_workflow(max_iterations=6, storage=storage).run_from_checkpoint(
        "r-000005"
    )
    assert result.get_outputs() == [6, 5, 4, 3, 2, 1, 0]
    last = (await storage.list_checkpoints(run_id="r"))[-1]
    assert (last.max_iterations, last.status) == (6, "IDLE")


async def test_an_answer_restarts_the_count() -> None:
    class Looping(Executor):
        @handler
        async def begin(self, text: str, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(Question(request_id=text))

        @handler
        async def answer(
            self, answer: RequestResponse[Question, int], ctx: WorkflowContext[int]
        ) -> None:
            await ctx.send_message(answer.data)

        @handler
        async def count(self, left: int, ctx: WorkflowContext[int, str]) -> None:
            await (ctx.send_message(left - 1) if left else ctx.yield_output("done"))

    def build(limit: int) -> Workflow:
        looping, port = Looping("looping"), RequestInfoExecutor("port")
        builder = (
            WorkflowBuilder(limit)
            .add_edge(looping, port)
            .add_edge(port, looping)
            .add_edge(looping, looping)
        )
        return built(builder, looping)

    # After the answer: the superstep that consumes it, then left + 1 countdown supersteps.
    for left, fits in ((1, True), (2, False)):
        workflow = build(3)
        await workflow.run("q")
        if fits:
            assert (await workflow.send_responses({"q": left})).get_outputs() == ["done"]
        else:
            with pytest.raises(WorkflowConvergenceError):
                await workflow.send_responses({"q": left})


# ----------------------------------------------------------------------------------------- failures


def fragile_workflow(storage: Any, calls: list[str], broken: set[str]) -> Workflow:
    """Fans out to a, b and c, whose calls are noted and fail while their name is in `broken`."""

    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            calls.append(self.id)
            if self.id == "c":
                await asyncio.sleep(0.01)  # finishes after its sibling has failed
            await ctx.set_state({"seen": text})
            if self.id in broken:
                await ctx.set_shared_state(self.id, "lost")
                raise ValueError(f"{self.id} is broken")
            await ctx.yield_output(self.id + text)

    parts = [Part(name) for name in "abc"]
    return built(
        WorkflowBuilder(name="fragile").add_fan_out_edges(start, parts), start, storage=storage
    )


async def test_siblings_of_a_failure_finish_are_journalled_and_not_run_again() -> None:
    storage, calls, broken = InMemoryCheckpointStorage(), list[str](), {"b"}
    workflow = fragile_workflow(storage, calls, broken)
    run = workflow.run_stream("!", run_id="r")
    seen: list[WorkflowEvent] = []
    with pytest.raises(ValueError, match="b is broken") as caught:
        await collect_into(seen, run)

    assert calls == ["a", "b", "c"]
    assert "(executor 'b', superstep 2 of run 'r')" in caught.value.__notes__
    assert [e.executor_id for e in seen if isinstance(e, ExecutorCompletedEvent)] == [
        "start",
        "a",
        "c",
    ]
    (failed,) = [e for e in seen if isinstance(e, ExecutorFailedEvent)]
    assert (failed.executor_id, failed.details.error_type, failed.details.extra) == (
        "b",
        "ValueError",
        {"run_id": "r", "superstep": 2},
    )
    assert isinstance(seen[-2], WorkflowFailedEvent)
    assert states(seen)[-1] is WorkflowRunState.FAILED
    assert outputs(seen) == []
    stored = await storage.get_run("r")
    assert stored is not None
    assert (stored.status, stored.lease) == ("FAILED", None)
    assert stored.error == "ValueError: b is broken\n(executor 'b', superstep 2 of run 'r')"

    broken.clear()
    result = await fragile_workflow(storage, calls, broken).run_from_checkpoint("r-000001")
    assert calls == ["a", "b", "c", "b"]
    assert result.get_outputs() == ["a!", "b!", "c!"]
    last = (await storage.list_checkpoints())[-1]
    assert last.executor_states == {name: {"seen": "!"} for name in "abc"}
    assert last.shared_state == {}


async def test_of_several_failures_the_first_in_the_graph_is_raised_and_names_the_others() -> None:
    with pytest.raises(ValueError, match="a is broken") as caught:
        await fragile_workflow(None, [], {"a", "c"}).run("!")

    assert "in the same superstep, also failed: ValueError: c is broken" in caught.value.__notes__


@OnOff
async def test_a_failed_calls_writes_are_dropped(make_storage: MakeStorage) -> None:
    """A resume does not see what the failed call wrote; the call before it is seen within the
    superstep.
    """
    storage = make_storage()
    seen: list[Any] = []
    fail = True

    @executor
    async def twice(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("one")
        await ctx.send_message("two")

    @executor
    async def writer(text: str, ctx: WorkflowContext[Never, str]) -> None:
        seen.append((text, await ctx.get_state(), await ctx.get_shared_state("k", None)))
        await ctx.set_state({"last": text})
        await ctx.set_shared_state("k", text)
        if text == "two" and fail:
            raise ValueError("no")

    run = built(WorkflowBuilder().add_edge(twice, writer), twice, storage=storage).run_stream("x")
    with pytest.raises(ValueError, match="no"):
        await run.wait_for_completion()
    assert seen == [("one", None, None), ("two", {"last": "one"}, "one")]
    if storage is None:
        return
    fail = False
    await run.restore_checkpoint(
        run.checkpoints[-1]
    )  # a restore voids the journal: both calls run again
    await run.wait_for_completion()
    assert seen[2:] == seen[:2]


async def test_a_resume_replays_the_recorded_call_and_hands_its_writes_to_the_next() -> None:
    storage = InMemoryCheckpointStorage()
    seen: list[Any] = []
    fail = True

    @executor
    async def twice(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("one")
        await ctx.send_message("two")

    @executor
    async def writer(text: str, ctx: WorkflowContext[Never, str]) -> None:
        seen.append((text, await ctx.get_state()))
        await ctx.set_state({"last": text})
        if text == "two" and fail:
            raise ValueError("no")

    workflow = built(WorkflowBuilder().add_edge(twice, writer), twice, storage=storage)
    with pytest.raises(ValueError, match="no"):
        await workflow.run("x", run_id="r")
    fail = False
    await workflow.run_from_checkpoint("r-000001")

    assert seen == [("one", None), ("two", {"last": "one"}), ("two", {"last": "one"})]


@pytest.mark.parametrize("how", ["conflict", "condition", "reducer"])
async def test_a_failure_while_merging_discards_the_journal_so_that_a_fixed_program_continues(
    how: str,
) -> None:
    storage = InMemoryCheckpointStorage()
    calls: list[str] = []
    broken = True

    def passes(message: str) -> bool:
        if broken and how == "condition":
            raise KeyError("oops")
        return True

    def add(value: int, update: int) -> int:
        if broken and how == "reducer":
            raise KeyError("oops")
        return value + update

    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[str]) -> None:
            calls.append(self.id)
            await ctx.set_shared_state("same" if broken and how == "conflict" else self.id, text)
            await ctx.set_shared_state("sum", 1)
            await ctx.send_message(text)

    @executor
    async def end(text: str, ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.yield_output(await ctx.get_shared_state("sum"))

    def build() -> Workflow:
        a, b = Part("a"), Part("b")
        builder = (
            WorkflowBuilder(name="w")
            .add_fan_out_edges(start, [a, b])
            .with_reducer("sum", add, initial=0)
        )
        return built(
            builder.add_edge(a, end, condition=passes).add_edge(b, end), start, storage=storage
        )

    expected: dict[str, type[Exception]] = {
        "conflict": StateConflictError,
        "condition": RoutingError,
        "reducer": ReducerError,
    }
    with pytest.raises(expected[how], match="Nothing of this superstep was committed"):
        await build().run("x", run_id="r")
    assert await storage.read_journal("r", "r-000001") == []
    broken = False
    result = await build().run_from_checkpoint("r-000001")

    assert calls == ["a", "b", "a", "b"]
    assert result.get_outputs() == [2, 2]


async def test_the_idempotency_key_is_stable_over_a_crash_and_new_on_another_branch() -> None:
    keys: list[str] = []
    fail = True

    @executor
    async def twice(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("a")
        await ctx.send_message("b")

    @executor
    async def keyed(text: str, ctx: WorkflowContext[Never, str]) -> None:
        keys.append(ctx.idempotency_key)
        if fail:
            raise ValueError("crash")

    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder().add_edge(twice, keyed), twice, storage=storage)
    with pytest.raises(ValueError, match="crash"):
        await workflow.run("x", run_id="r")
    fail = False
    await workflow.run_from_checkpoint("r-000001")
    first, again, second = keys
    assert first == again != second

    await workflow.run_from_checkpoint("r-000001")  # not the head any more: a new branch
    assert len({*keys}) == 4
    assert all(UUID(key).version == 8 for key in keys)


# -------------------------------------------------------------------------------------------- saves


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize(
    "error", [None, OSError(28, "No space left on device"), RuntimeError("driver gave up")]
)
async def test_a_failing_save_stops_the_run_announces_nothing_and_can_be_resumed(
    bad: int, error: Exception | None
) -> None:
    storage = FailingStorage(commits=[bad], error=error)
    run = counter_workflow(storage=storage).run_stream(3, run_id="r")
    seen: list[WorkflowEvent] = []
    with pytest.raises(
        CheckpointSaveError, match=r"run 'r': superstep \d could not be saved to FailingSto"
    ) as caught:
        await collect_into(seen, run)

    assert str(storage.error) in str(caught.value)
    assert caught.value.__cause__ is storage.error
    assert len(outputs(seen)) == max(bad - 1, 0)
    assert kinds(seen).count("SuperStepCompleted") == max(bad - 1, 0)
    assert kinds(seen)[-2:] == ["WorkflowFailed", "WorkflowStatus"]
    assert len(await storage.list_checkpoint_ids()) == bad
    if bad == 0:
        assert "nothing was saved" in str(caught.value)
        assert (await counter_workflow(storage=storage).run(3, run_id="r")).get_outputs() == [
            3,
            2,
            1,
            0,
        ]
        return
    assert f"last good checkpoint is 'r-{bad - 1:06d}'" in str(caught.value)
    result = await counter_workflow(storage=storage).run_from_checkpoint(f"r-{bad - 1:06d}")
    assert result.get_outputs() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    "error", [None, OSError(28, "No space left on device"), RuntimeError("driver gave up")]
)
async def test_a_failing_record_stops_the_run_too(error: Exception | None) -> None:
    storage, calls = FailingStorage(journal=range(10), error=error), list[str]()
    with pytest.raises(CheckpointSaveError, match="journal of finished calls could not be saved"):
        await fragile_workflow(storage, calls, set()).run("!", run_id="r")

    storage.bad_journal.clear()
    result = await fragile_workflow(storage, calls, set()).run_from_checkpoint("r-000001")
    assert result.get_outputs() == ["a!", "b!", "c!"]


async def test_a_handle_that_lost_its_run_writes_nothing() -> None:
    storage = InMemoryCheckpointStorage()
    leave = asyncio.Event()
    stop = True

    @executor
    async def slow(text: str, ctx: WorkflowContext[Never, str]) -> None:
        if stop:
            await leave.wait()
        await ctx.yield_output(text)

    workflow = built(WorkflowBuilder(), slow, storage=storage)
    run = workflow.run_stream("x", run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await asyncio.sleep(0.01)
    # As if the machine had been asleep: another owner takes the run over.
    record = storage._runs["r"].record
    storage._runs["r"].record = type(record)(
        **{f: getattr(record, f) for f in record.__struct_fields__} | {"lease": None}
    )
    taken = await storage.acquire("r", Owner("elsewhere", "", "", 1, ""), 60)
    leave.set()
    with pytest.raises(RunFencedError, match="taken over by process 1 on elsewhere"):
        await waiting

    assert await storage.get_run("r") == taken
    assert await storage.list_checkpoint_ids() == ["r-000000"]


async def test_values_that_cannot_be_saved_are_refused_at_the_users_line() -> None:
    class Strange:
        pass

    seen: list[str] = []

    @executor
    async def begin(text: str, ctx: WorkflowContext[Any, Any]) -> None:
        attempts: list[Callable[[], object]] = [
            lambda: ctx.send_message(Strange()),
            lambda: ctx.yield_output([1, {"deep": Strange()}]),
            lambda: ctx.set_state({"k": Strange()}),
            lambda: ctx.set_shared_state("k", Strange()),
            lambda: ctx.queue_state_update("k", Strange(), "named"),
            lambda: ctx.append_shared_state("k", Strange()),
        ]
        for attempt in attempts:
            with pytest.raises(CheckpointEncodeError, match="'begin'") as caught:
                attempt()
            seen.append(str(caught.value))

    await built(WorkflowBuilder(), begin, storage=InMemoryCheckpointStorage()).run("x")

    assert len(seen) == 6
    assert all("Strange" in text for text in seen)
    assert "[1]['deep']" in seen[1]


# ----------------------------------------------------------------------------------- plain handlers


@OnOff
async def test_plain_handlers_run_in_threads_and_can_do_everything(
    make_storage: MakeStorage,
) -> None:
    threads: list[str] = []

    class Ping(WorkflowEvent):
        pass

    class Plain(Executor):
        @handler
        def work(self, text: str, ctx: WorkflowContext[str, Any]) -> None:
            threads.append(threading.current_thread().name)
            before = ctx.get_state().result() or {"n": 0}
            ctx.set_state({"n": before["n"] + 1})
            ctx.set_shared_state("text", text)
            ctx.add_event(Ping(text))
            if len(text) < 3:
                ctx.send_message(text + ".")
            ctx.yield_output((before["n"], ctx.get_shared_state("text").result()))

    @executor
    def plain(text: str) -> None:
        threads.append(threading.current_thread().name)

    part = Plain("part")
    workflow = built(
        WorkflowBuilder().add_edge(part, part).add_edge(part, plain), part, storage=make_storage()
    )
    result = await workflow.run("x")

    assert result.get_outputs() == [(0, "x"), (1, "x."), (2, "x..")]
    assert [event.data for event in result if isinstance(event, Ping)] == ["x", "x.", "x.."]
    assert len(threads) == 5
    assert all(name.startswith("supersteps-handler") for name in threads)


async def test_plain_handlers_run_concurrently() -> None:
    both = threading.Barrier(2, timeout=10)
    places: list[int] = []

    class Part(Executor):
        @handler
        def work(self, text: str, ctx: WorkflowContext) -> None:
            places.append(both.wait())  # fails unless the other one waits at the same time

    await built(WorkflowBuilder().add_fan_out_edges(start, [Part("a"), Part("b")]), start).run("x")
    assert sorted(places) == [0, 1]


async def test_a_plain_handler_that_raises_fails_like_any_other() -> None:
    @executor
    def bad(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="x"):
        await built(WorkflowBuilder(), bad).run("x")


@OnOff
async def test_a_context_used_after_its_handler_returned_is_an_error(
    make_storage: MakeStorage,
) -> None:
    kept: list[WorkflowContext[str, str]] = []

    @executor
    async def leaky(text: str, ctx: WorkflowContext[str, str]) -> None:
        kept.append(ctx)

    await built(WorkflowBuilder().add_edge(leaky, start), leaky, storage=make_storage()).run("x")
    (ctx,) = kept

    for use in (
        lambda: ctx.send_message("late"),
        lambda: ctx.yield_output("late"),
        lambda: ctx.add_event(WorkflowEvent()),
        lambda: ctx.set_state({}),
        lambda: ctx.get_state(),
        lambda: ctx.set_shared_state("k", 1),
        lambda: ctx.get_shared_state("k"),
        lambda: ctx.read_state("k"),
        lambda: ctx.delete_state("k"),
    ):
        with pytest.raises(HandlerContextError, match="handler of executor 'leaky' has returned"):
            use()


async def test_sending_where_no_edge_leads_is_refused_at_once() -> None:
    @executor
    async def lost(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text, target_id="nowhere")

    with pytest.raises(UnknownTargetError, match=r"target_id='nowhere'.*lead to 'start'"):
        await built(WorkflowBuilder().add_edge(lost, start), lost).run("x")


@OnOff
async def test_target_id_reaches_one_of_several(make_storage: MakeStorage) -> None:
    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(self.id + text)

    @executor
    async def choose(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("1", target_id="b")
        await ctx.send_message("2")

    parts = [Part("a"), Part("b")]
    result = await built(
        WorkflowBuilder().add_fan_out_edges(choose, parts), choose, storage=make_storage()
    ).run("x")
    assert result.get_outputs() == ["a2", "b1", "b2"]


# ------------------------------------------------------------------------------------------- values


@dataclass
class Parcel:
    items: list[Any] = field(default_factory=list)


@OnOff
async def test_messages_and_state_are_values(make_storage: MakeStorage) -> None:
    parcel = Parcel(["sent"])

    @executor
    async def sender(given: Parcel, ctx: WorkflowContext[Parcel]) -> None:
        given.items.append("changed by the handler")
        await ctx.set_shared_state("parcel", parcel)
        await ctx.send_message(parcel)
        await ctx.set_state({"parcel": parcel})
        parcel.items.append("after sending")
        (await ctx.get_shared_state("parcel")).items.append("changed by a reader")
        assert (await ctx.get_shared_state("parcel")).items == ["sent"]
        state = await ctx.get_state()
        assert state is not None
        state["parcel"].items.append("x")

    def meddles(message: Parcel) -> bool:
        message.items.append("changed by a condition")
        return True

    class Receiver(Executor):
        @handler
        async def get(self, message: Parcel, ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.yield_output((message, await ctx.get_shared_state("parcel")))
            message.items.append("changed by a receiver")

    receivers = [Receiver("a"), Receiver("b")]
    builder = (
        WorkflowBuilder()
        .add_edge(sender, receivers[0], condition=meddles)
        .add_edge(sender, receivers[1])
    )
    given = Parcel(["input"])
    run = built(builder, sender, storage=make_storage()).run_stream(given)
    events = await collect(run)
    for event in events:
        if outputs([event]):
            assert outputs([event]) == [(Parcel(["sent"]), Parcel(["sent"]))]
    assert len(outputs(events)) == 2
    assert given == Parcel(["input"])
    outputs(events)[0][0].items.clear()
    assert (await run.wait_for_completion()).get_outputs() == [
        (Parcel(["sent"]), Parcel(["sent"]))
    ] * 2


async def test_storage_on_or_off_delivers_equal_values() -> None:
    class Sub(Parcel):
        pass

    values: list[Any] = [
        {1: "int key", (1, 2): "tuple key"},
        (1, [2, {3}]),
        frozenset({1}),
        b"bytes",
        float("inf"),
        10**30,
        Parcel([Parcel([1]), Sub([2])]),
        {"a": None, "b": True},
        "plain",
        "\ud800 lone",
        None,
    ]
    got: dict[bool, list[Any]] = {True: [], False: []}

    async def run(stored: bool) -> None:
        @executor
        async def sender(text: str, ctx: WorkflowContext[Any]) -> None:
            for value in values:
                await ctx.send_message(value)

        @executor
        async def receiver(message: Any) -> None:
            got[stored].append(message)

        storage = InMemoryCheckpointStorage() if stored else None
        builder = WorkflowBuilder().add_edge(sender, receiver).set_start_executor(sender)
        if storage is not None:
            builder.with_checkpointing(storage, types=[Parcel, Sub])
        await builder.build().run("x")

    await run(True)
    await run(False)
    assert got[True] == got[False] == values
    assert [type(value) for value in got[True]] == [type(value) for value in values]


# -------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("seed", range(8))
@OnOff
async def test_the_result_does_not_depend_on_who_finishes_first(
    make_storage: MakeStorage, seed: int
) -> None:
    dice = random.Random(seed)

    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
            await ctx.send_message(f"{self.id}{text}")
            await ctx.yield_output(f"{self.id}{text}")
            await ctx.set_shared_state("log", [self.id + text])
            await ctx.append_shared_state("list", self.id + text)

    class Join(Executor):
        @handler
        async def join(self, texts: list[str], ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.yield_output(texts)
            await ctx.yield_output(await ctx.get_shared_state("log"))
            await ctx.yield_output(await ctx.get_shared_state("list"))

    @executor
    async def begin(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("1")
        await ctx.send_message("2")

    parts, join = [Part(name) for name in "dbac"], Join("join")
    builder = WorkflowBuilder().with_reducer("log", lambda old, new: old + new)
    builder.add_fan_out_edges(begin, parts).add_fan_in_edges(parts, join)
    result = await built(builder, begin, storage=make_storage()).run("x")

    each = ["d1", "d2", "b1", "b2", "a1", "a2", "c1", "c2"]
    first, second = ["d1", "b1", "a1", "c1"], ["d2", "b2", "a2", "c2"]
    assert result.get_outputs() == [*each, first, each, each, second, each, each]


# ------------------------------------------------------------------------------------------- fan-in


async def test_what_waits_in_a_fan_in_survives_a_resume() -> None:
    @executor
    async def a(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("a")

    @executor
    async def b(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("b", target_id="late")

    @executor
    async def late(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("late")

    @executor
    async def join(texts: list[str], ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.yield_output((texts, sorted(ctx.source_executor_ids)))
        with pytest.raises(RuntimeError, match="a message from 2 executors"):
            ctx.get_source_executor_id()

    storage = InMemoryCheckpointStorage()

    def build() -> Workflow:
        builder = WorkflowBuilder(name="w").add_fan_out_edges(start, [a, b]).add_edge(b, late)
        return built(builder.add_fan_in_edges([a, late], join), start, storage=storage)

    first = await build().run("x", run_id="r")
    assert first.get_outputs() == [(["a", "late"], ["a", "late"])]
    waiting = await storage.load_checkpoint("r-000002")
    assert waiting is not None
    assert list(waiting.fan_in.values()) == [{"a": ["a"]}]

    again = await build().run_from_checkpoint("r-000002")
    assert again.get_outputs() == first.get_outputs()


@OnOff
async def test_a_fan_in_that_is_never_complete_is_a_warning(make_storage: MakeStorage) -> None:
    @executor
    async def silent(text: str, ctx: WorkflowContext[str]) -> None:
        pass

    @executor
    async def join(texts: list[str]) -> None:
        pass

    builder = WorkflowBuilder().add_edge(start, silent).add_fan_in_edges([start, silent], join)
    result = await built(builder, start, storage=make_storage()).run("x")

    (warning,) = [event for event in result if isinstance(event, WorkflowWarningEvent)]
    assert (
        warning.data
        == "fan_in:start+silent->join ended with messages from 'start' that wait for 'silent'"
    )


# -------------------------------------------------------------------------------------- undelivered


@OnOff
async def test_a_message_that_no_edge_accepts_is_an_event_and_a_warning(
    make_storage: MakeStorage,
) -> None:
    @executor
    async def sender(text: str, ctx: WorkflowContext[Any]) -> None:
        await ctx.send_message(3.5)
        await ctx.send_message("fine")

    workflow = built(WorkflowBuilder().add_edge(sender, start), sender, storage=make_storage())
    with pytest.warns(UndeliveredMessageWarning) as caught:
        result = await workflow.run("x", run_id="r")

    texts = [event.data for event in result if isinstance(event, WorkflowWarningEvent)]
    assert len(texts) == 2  # start's own message goes nowhere either
    assert "executor 'sender' sent a message of type float that goes nowhere" in texts[0]
    assert "edge:sender->start" in texts[0]
    assert "executor 'start' sent a message of type str" in texts[1]
    assert "no outgoing edges" in texts[1]
    assert [str(w.message) for w in caught] == [
        f"run 'r', superstep {i + 1}: {text}" for i, text in enumerate(texts)
    ]


async def test_a_warning_made_an_error_comes_after_everything_was_announced() -> None:
    storage = InMemoryCheckpointStorage()

    @executor
    async def sender(text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.yield_output(text)
        await ctx.send_message(text)

    seen: list[WorkflowEvent] = []
    run = built(WorkflowBuilder(), sender, storage=storage).run_stream("x", run_id="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndeliveredMessageWarning)
        with pytest.raises(UndeliveredMessageWarning):
            await collect_into(seen, run)

    assert outputs(seen) == ["x"]
    assert isinstance(
        seen[seen.index(next(e for e in seen if kinds([e]) == ["WorkflowWarning"])) + 1],
        SuperStepCompletedEvent,
    )
    assert len(await storage.list_checkpoint_ids()) == 2


# -------------------------------------------------------------------------------------------- state


@OnOff
async def test_others_see_writes_in_the_next_superstep_and_the_writer_at_once(
    make_storage: MakeStorage,
) -> None:
    seen: list[Any] = []

    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[str]) -> None:
            seen.append((self.id, ctx.step_number, await ctx.get_shared_state("a", "-")))
            if self.id == "a":
                await ctx.set_shared_state("a", ctx.step_number)
            seen.append((self.id, ctx.step_number, await ctx.get_shared_state("a", "-")))
            if len(text) < 2:
                await ctx.send_message(text + "!")

    a, b = Part("a"), Part("b")
    builder = WorkflowBuilder().add_fan_out_edges(start, [a, b]).add_edge(a, a).add_edge(b, b)
    await built(builder, start, storage=make_storage()).run("x")

    assert seen == [
        ("a", 2, "-"),
        ("a", 2, 2),
        ("b", 2, "-"),
        ("b", 2, "-"),
        ("a", 3, 2),
        ("a", 3, 3),
        ("b", 3, 2),
        ("b", 3, 2),
    ]


@OnOff
async def test_a_missing_shared_key_is_a_key_error_unless_there_is_a_default(
    make_storage: MakeStorage,
) -> None:
    @executor
    async def reader(text: str, ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.set_shared_state("known", 1)
        with pytest.raises(KeyError, match=r"no shared state 'missing'.*'known'.*default="):
            await ctx.get_shared_state("missing")
        await ctx.yield_output(await ctx.get_shared_state("missing", 7))
        await ctx.yield_output(await ctx.get_shared_state("missing", default=None))
        await ctx.yield_output(await ctx.read_state("missing"))
        await ctx.delete_shared_state("known")
        await ctx.delete_shared_state("missing")
        await ctx.yield_output(await ctx.get_shared_state("known", "gone"))

    result = await built(WorkflowBuilder(), reader, storage=make_storage()).run("x")
    assert result.get_outputs() == [7, None, None, "gone"]


@OnOff
async def test_scopes_are_apart(make_storage: MakeStorage) -> None:
    @executor
    async def writer(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.queue_state_update("k", "own")
        await ctx.queue_state_update("k", "named", scope="team")
        await ctx.queue_state_update("k", "shared", scope="shared")
        await ctx.send_message(text)

    @executor
    async def reader(text: str, ctx: WorkflowContext[Never, Any]) -> None:
        values = [await ctx.read_state("k", scope) for scope in (None, "team", "shared", "other")]
        await ctx.yield_output([*values, await ctx.get_shared_state("k")])

    storage = make_storage()
    result = await built(WorkflowBuilder().add_edge(writer, reader), writer, storage=storage).run(
        "x"
    )
    assert result.get_outputs() == [[None, "named", "shared", None, "shared"]]
    if storage is not None:
        last = (await storage.list_checkpoints())[-1]
        assert last.executor_states == {"writer": {"k": "own"}}
        assert last.scopes == {"team": {"k": "named"}}
        assert last.shared_state == {"k": "shared"}


@OnOff
async def test_set_state_replaces_and_the_empty_state_is_not_none(
    make_storage: MakeStorage,
) -> None:
    seen: list[Any] = []

    @executor
    async def keeper(step: int, ctx: WorkflowContext[int]) -> None:
        seen.append(await ctx.get_state())
        await ctx.set_state([{"a": 1, "b": 2}, {"b": 3}, {}, {"c": 4}][step])
        seen.append(await ctx.get_state())
        if step < 3:
            await ctx.send_message(step + 1)

    storage = make_storage()
    await built(WorkflowBuilder().add_edge(keeper, keeper), keeper, storage=storage).run(0)
    assert seen == [None, {"a": 1, "b": 2}, {"a": 1, "b": 2}, {"b": 3}, {"b": 3}, {}, {}, {"c": 4}]
    if storage is not None:
        states = [cp.executor_states.get("keeper") for cp in await storage.list_checkpoints()]
        assert states == [None, {"a": 1, "b": 2}, {"b": 3}, {}, {"c": 4}]


@OnOff
async def test_reducers_fold_in_the_order_of_the_graph_and_isolate_their_initial(
    make_storage: MakeStorage,
) -> None:
    initial: list[str] = ["initial"]

    def extend(value: list[str], update: list[str]) -> list[str]:
        value.extend(update)
        return value

    class Part(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[str, Any]) -> None:
            await ctx.set_shared_state("log", [self.id])
            await ctx.yield_output(await ctx.get_shared_state("log"))
            if text == "x":
                await ctx.send_message("y")

    a, b = Part("a"), Part("b")
    builder = WorkflowBuilder().with_reducer("log", extend, initial=initial)
    builder.add_fan_out_edges(start, [b, a]).add_edge(a, a).add_edge(b, b)
    workflow = built(builder, start, storage=make_storage())
    for _ in range(2):
        result = await workflow.run("x")
        assert result.get_outputs() == [
            ["initial", "b"],
            ["initial", "a"],
            ["initial", "b", "a", "b"],
            ["initial", "b", "a", "a"],
        ]
    assert initial == ["initial"]


# -------------------------------------------------------------------------------------------- hooks


async def test_hooks_run_once_at_iteration_zero_and_after_the_last_message_of_a_superstep() -> None:
    tally = Tally()

    @executor
    async def feed(text: str, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(3)
        await ctx.send_message(2)

    storage = InMemoryCheckpointStorage()
    workflow = built(
        WorkflowBuilder().add_edge(feed, tally).add_edge(tally, tally), feed, storage=storage
    )
    result = await workflow.run("x", run_id="r")

    assert tally.calls == [
        "checkpointing 0",
        "add 3",
        "add 2",
        "checkpointing 2",
        "add 2",
        "add 1",
        "checkpointing 3",
        "add 1",
        "checkpointing 4",
    ]
    assert result.get_outputs() == [8, 9]
    totals = [cp.executor_states["tally"]["total"] for cp in await storage.list_checkpoints()]
    assert totals == [0, 0, 5, 8, 9]


async def test_after_a_restore_attributes_come_back_from_the_state() -> None:
    storage = InMemoryCheckpointStorage()

    def build(tally: Tally) -> Workflow:
        return built(WorkflowBuilder(name="w").add_edge(tally, tally), tally, storage=storage)

    assert (await build(Tally()).run(4, run_id="r")).get_outputs() == [10]
    fresh = Tally()
    result = await build(fresh).run_from_checkpoint("r-000002")

    assert fresh.calls == ["restored", "add 2", "checkpointing 3", "add 1", "checkpointing 4"]
    assert result.get_outputs() == [10]
    assert fresh.total == 10


async def test_after_a_journal_replay_attributes_are_those_of_the_recorded_calls() -> None:
    storage = InMemoryCheckpointStorage()
    fail = True

    @executor
    async def bad(text: str) -> None:
        if fail:
            raise ValueError("no")

    def build(tally: Tally) -> Workflow:
        @executor
        async def feed(text: str, ctx: WorkflowContext[int | str]) -> None:
            await ctx.send_message(2)
            await ctx.send_message(text)

        builder = (
            WorkflowBuilder(name="w")
            .add_edge(feed, tally)
            .add_edge(feed, bad)
            .add_edge(tally, tally)
        )
        return built(builder, feed, storage=storage)

    with pytest.raises(ValueError, match="no"):
        await build(Tally()).run("x", run_id="r")
    fail = False
    fresh = Tally()
    result = await build(fresh).run_from_checkpoint("r-000001")

    assert fresh.calls == ["restored", "add 1", "checkpointing 3"]
    assert result.get_outputs() == [3]


async def test_hooks_may_only_touch_state() -> None:
    class Chatty(Tally):
        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            await ctx.send_message(1)

    with pytest.raises(HandlerContextError, match="may only read and write state"):
        await built(WorkflowBuilder(), Chatty()).run(1)

    class Writing(Tally):
        async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
            await ctx.queue_state_update("k", 1)

    storage = InMemoryCheckpointStorage()
    await built(WorkflowBuilder(name="w"), Writing(), storage=storage).run(1, run_id="r")
    with pytest.raises(HandlerContextError, match="may only read state"):
        await built(WorkflowBuilder(name="w"), Writing(), storage=storage).run_from_checkpoint(
            "r-000001"
        )


async def test_a_hook_that_raises_fails_the_superstep() -> None:
    class Broken(Tally):
        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            if ctx.step_number:
                raise LookupError("hook")

    storage = InMemoryCheckpointStorage()
    with pytest.raises(LookupError, match="hook"):
        await built(WorkflowBuilder(), Broken(), storage=storage).run(1)
    assert len(await storage.list_checkpoint_ids()) == 1


# ----------------------------------------------------------------------------------------- resuming


async def test_resuming_a_final_checkpoint_runs_and_writes_nothing() -> None:
    storage = CountingStorage()
    calls: list[str] = []

    @executor
    async def once(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        await ctx.yield_output(text)

    workflow = built(WorkflowBuilder(), once, storage=storage)
    first = await workflow.run("x", run_id="r")
    storage.writes.names.clear()
    run = workflow.run_stream_from_checkpoint("r-000001")
    events = await collect(run)
    await run.aclose()
    again = await workflow.run_from_checkpoint("r-000001")

    assert calls == ["x"]
    assert storage.writes.names == []
    assert outputs(events) == []
    assert states(events) == [WorkflowRunState.IN_PROGRESS, WorkflowRunState.IDLE]
    assert again.get_outputs() == first.get_outputs() == ["x"]
    assert again.get_final_state() is WorkflowRunState.IDLE


async def test_how_many_writes_a_run_costs() -> None:
    storage = CountingStorage()
    await counter_workflow(storage=storage).run(3)

    # A lone call's record is the commit itself; the lease comes with the commits and goes with the
    # last one.
    assert storage.writes.names == ["commit"] * 5


async def test_get_outputs_holds_the_whole_lineage_the_stream_only_what_is_new() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow(storage=storage).run(3, run_id="r")
    run = counter_workflow(storage=storage).run_stream_from_checkpoint("r-000002")
    events = await take(run, SuperStepCompletedEvent)
    rest = await run.wait_for_completion()

    assert outputs(events) == [1]
    assert outputs(rest) == [0]
    assert rest.get_outputs() == [3, 2, 1, 0]
    assert (
        await counter_workflow(storage=storage).run_from_checkpoint("r-000002")
    ).get_outputs() == [3, 2, 1, 0]


async def test_an_unreferenced_run_is_freed() -> None:
    run = shout_workflow(storage=InMemoryCheckpointStorage()).run_stream("x")
    await collect(run)
    gone = weakref.ref(run)
    del run
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


@OnOff
async def test_two_questions_of_one_id_are_an_error(make_storage: MakeStorage) -> None:
    class Twice(Executor):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(Question(request_id="q", prompt="one"))
            await ctx.send_message(Question(request_id="q", prompt="two"))

        @handler
        async def got(self, answer: RequestResponse[Question, str], ctx: WorkflowContext) -> None:
            pass

    twice, port = Twice("twice"), RequestInfoExecutor("port")
    workflow = built(
        WorkflowBuilder().add_edge(twice, port).add_edge(port, twice), twice, storage=make_storage()
    )
    with pytest.raises(WorkflowRuntimeError, match="request 'q'"):
        await workflow.run("x")


async def test_a_question_that_no_annotation_tells_of_is_refused_when_it_is_asked() -> None:
    port = RequestInfoExecutor("port")

    @executor
    async def deaf(text: str, ctx: WorkflowContext[Any]) -> None:
        await ctx.send_message(Question(request_id="q"))

    with pytest.raises(WorkflowRuntimeError, match="no edge leads back"):
        await built(WorkflowBuilder().add_edge(deaf, port), deaf).run("x")


async def test_switch_and_selection_route_as_they_say() -> None:
    class End(Executor):
        @handler
        async def work(self, number: int, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"{self.id}{number}")

    @executor
    async def numbers(text: str, ctx: WorkflowContext[int]) -> None:
        for number in range(4):
            await ctx.send_message(number)

    small, odd, other = End("small"), End("odd"), End("other")
    cases: list[Case | Default] = [
        Case(lambda n: n < 1, small),
        Case(lambda n: n % 2, odd),
        Default(other),
    ]
    result = await built(WorkflowBuilder().add_switch_case_edge_group(numbers, cases), numbers).run(
        "x"
    )
    assert result.get_outputs() == ["small0", "odd1", "odd3", "other2"]

    def select(number: int, targets: list[str]) -> list[str]:
        return targets[number:]

    ends = [End("x"), End("y"), End("z")]
    builder = WorkflowBuilder().add_multi_selection_edge_group(numbers, ends, select)
    with pytest.warns(UndeliveredMessageWarning, match="int that goes nowhere"):
        result = await built(builder, numbers).run("x")
    assert result.get_outputs() == ["x0", "y0", "y1", "z0", "z1", "z2"]


async def test_a_slow_storage_gives_the_same_result() -> None:
    result = await fragile_workflow(SlowStorage(), [], set()).run("!")
    assert result.get_outputs() == ["a!", "b!", "c!"]
