"""`WorkflowExecutor`: a workflow as a node of another one, as its users see it."""

import asyncio
import warnings
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    Case,
    Default,
    DurableStorage,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    GraphChangedError,
    InMemoryCheckpointStorage,
    RequestClosedEvent,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    ResponseTypeError,
    SqliteCheckpointStorage,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
    UnanswerableRequestError,
    UndeliveredMessageWarning,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowConvergenceError,
    WorkflowExecutor,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowValidationError,
    WorkflowWarningEvent,
    executor,
    handler,
    response_handler,
)
from supersteps.checkpoint.record import Commit
from tests.unit.support import (
    Asker,
    Question,
    Reverse,
    Tally,
    Upper,
    built,
    collect,
    outputs,
    questions,
    shout_workflow,
)

# ---------------------------------------------------------------------------------------- executors


class Pass(Executor):
    @handler
    async def forward(
        self, value: str | int | list[str] | list[int], ctx: WorkflowContext[Any]
    ) -> None:
        await ctx.send_message(value)


class Out(Executor):
    """Yields what it gets, with the sender's id."""

    @handler
    async def take(self, value: str | int | list[Any], ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.yield_output((ctx.get_source_executor_id(), value))


class Plain(Executor):
    @handler
    async def take(self, value: str | int, ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.yield_output(value)


class Burst(Executor):
    """Sends the numbers up to what it gets."""

    @handler
    async def burst(self, count: int, ctx: WorkflowContext[int]) -> None:
        for number in range(count):
            await ctx.send_message(number)


class Double(Executor):
    @handler
    async def double(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number * 2)


class Loop(Executor):
    """Sends to itself until the number is used up, keeping state of every kind."""

    @handler
    async def loop(self, number: int, ctx: WorkflowContext[int, list[Any]]) -> None:
        own = (await ctx.get_state() or {"seen": []})["seen"]
        await ctx.set_state({"seen": [*own, number]})
        await ctx.append_shared_state("log", number)
        await ctx.set_shared_state("sum", number)
        await ctx.queue_state_update("last", number, scope="notes")
        before = await ctx.read_state("last", scope="notes", default=None)
        if number % 10:
            await ctx.send_message(number - 1)
            return
        await ctx.yield_output([[*own, number], await ctx.get_shared_state("log"), before])


def add(value: int, update: int) -> int:
    return value + update


def loop_workflow(max_iterations: int = 100, name: str = "loops") -> Workflow:
    loop = Loop("loop")
    return built(
        WorkflowBuilder(max_iterations, name=name).add_edge(loop, loop).with_reducer("sum", add, 0),
        loop,
    )


def chain(*nodes: Executor, **settings: Any) -> Workflow:
    return built(WorkflowBuilder(name="outer").add_chain(nodes), nodes[0], **settings)


def alone(node: Executor, **settings: Any) -> Workflow:
    """A workflow of one node; an edge whose condition never holds makes it a valid graph."""
    return built(
        WorkflowBuilder(name="outer").add_edge(node, Plain("unused"), never), node, **settings
    )


def never(_message: Any) -> bool:
    return False


async def checkpoints(storage: DurableStorage, run_id: str = "r") -> list[WorkflowCheckpoint]:
    return await storage.list_checkpoints(run_id=run_id)


def inner_parts(checkpoint: WorkflowCheckpoint) -> list[str]:
    """Names of what sub-workflows keep in a checkpoint."""
    found = [*checkpoint.sub_workflows, *(i for i in checkpoint.executor_states if "/" in i)]
    found += [i for i in checkpoint.fan_in if "/" in i] + [
        *checkpoint.intercepted_requests,
        *checkpoint.replies,
    ]
    text = str(
        [
            key
            for key in checkpoint.document()
            if key.startswith("sub_") and checkpoint.document()[key]
        ]
    )
    return found + ([text] if text != "[]" else [])


# ------------------------------------------------------------------------------------------ places


async def test_in_the_middle_its_outputs_are_messages_of_the_node() -> None:
    workflow = chain(Pass("in"), WorkflowExecutor(shout_workflow(), "sub"), Out("out"))

    assert (await workflow.run("abc")).get_outputs() == [("sub", "CBA")]


async def test_as_start_executor_the_input_goes_in() -> None:
    workflow = chain(WorkflowExecutor(shout_workflow(), "sub"), Out("out"))

    assert workflow.input_types == [str]
    assert (await workflow.run("abc")).get_outputs() == [("sub", "CBA")]


async def test_at_the_end_what_it_yields_are_outputs_of_the_run() -> None:
    workflow = chain(
        Pass("in"), WorkflowExecutor(shout_workflow(), "sub", allow_direct_output=True)
    )
    run = workflow.run_stream("abc")

    events = await collect(run)
    assert outputs(events) == ["CBA"]
    assert [e.source_executor_id for e in events if isinstance(e, WorkflowOutputEvent)] == ["sub"]
    assert workflow.output_types == [str]


@pytest.mark.parametrize("direct", [True, False])
async def test_nested_three_deep(direct: bool) -> None:
    workflow = shout_workflow()
    for depth in "cba":
        node = WorkflowExecutor(workflow, depth, allow_direct_output=direct)
        parts = [Pass("in"), node] if direct else [Pass("in"), node, Plain("out")]
        workflow = chain(*parts)
    storage = InMemoryCheckpointStorage()
    result = await workflow.run("abc", run_id="r", checkpoint_storage=storage)

    assert result.get_outputs() == ["CBA"]
    everything = await checkpoints(storage)
    assert max((path for cp in everything for path in cp.sub_workflows), key=len) == "a#1/b#2/c#3"
    assert inner_parts(everything[-1]) == []


async def test_nested_start_executors_let_the_input_through() -> None:
    workflow = shout_workflow()
    for depth in "cba":
        workflow = alone(WorkflowExecutor(workflow, depth, allow_direct_output=True))

    assert (await workflow.run("abc")).get_outputs() == ["CBA"]


async def test_one_workflow_in_two_places() -> None:
    inner = shout_workflow()
    workflow = chain(WorkflowExecutor(inner, "one"), WorkflowExecutor(inner, "two"), Out("out"))

    assert (await workflow.run("abc")).get_outputs() == [("two", "ABC")]


async def test_fan_out_switch_and_fan_in_inside() -> None:
    start, left, right = Pass("start"), Upper("left"), Pass("right")
    small, big, out = Pass("small"), Upper("big"), Plain("out")
    joined = Pass("joined")

    @executor
    async def flat(texts: list[str], ctx: WorkflowContext[str]) -> None:
        await ctx.send_message("+".join(texts))

    inner = built(
        WorkflowBuilder(name="inner")
        .add_fan_out_edges(start, [left, right])
        .add_fan_in_edges([left, right], joined)
        .add_edge(joined, flat)
        .add_switch_case_edge_group(flat, [Case(lambda text: len(text) < 6, small), Default(big)])
        .add_edge(small, out)
        .add_edge(big, out),
        start,
    )
    many = Many("many")
    workflow = chain(many, WorkflowExecutor(inner, "sub"), Plain("end"))

    assert (await workflow.run("ab cdef")).get_outputs() == ["AB+ab", "CDEF+CDEF"]


class Many(Executor):
    @handler
    async def split(self, text: str, ctx: WorkflowContext[str]) -> None:
        for word in text.split():
            await ctx.send_message(word)


async def test_it_takes_part_in_fan_out_and_fan_in_of_the_outer_workflow() -> None:
    first, second = WorkflowExecutor(shout_workflow(), "first"), Pass("second")
    start, end = Pass("start"), Pass("end")
    builder = (
        WorkflowBuilder()
        .add_fan_out_edges(start, [first, second])
        .add_fan_in_edges([first, second], end)
    )
    builder.add_edge(end, Out("out"))

    assert (await built(builder, start).run("abc")).get_outputs() == [("end", ["CBA", "abc"])]


# ---------------------------------------------------------------------------------------- isolation


async def test_runs_of_one_node_keep_their_state_apart() -> None:
    class Start(Executor):
        @handler
        async def begin(self, numbers: list[int], ctx: WorkflowContext[int]) -> None:
            await ctx.set_shared_state("sum", "outer")
            await ctx.queue_state_update("last", "outer", scope="notes")
            await ctx.queue_state_update("x", "outer", scope="sub#1")
            for number in numbers:
                await ctx.send_message(number)

    workflow = chain(
        Start("start"), WorkflowExecutor(loop_workflow(), "sub", allow_direct_output=True)
    )
    storage = InMemoryCheckpointStorage()
    result = await workflow.run([3, 13, 2], run_id="r", checkpoint_storage=storage)

    assert sorted(result.get_outputs()) == [
        [[2, 1, 0], [2, 1, 0], 0],
        [[3, 2, 1, 0], [3, 2, 1, 0], 0],
        [[13, 12, 11, 10], [13, 12, 11, 10], 10],
    ]
    everything = await checkpoints(storage)
    middle = everything[3].sub_workflows
    assert list(middle) == ["sub#1", "sub#1.1", "sub#1.2"]
    assert [(sub.shared_state, sub.scopes, sub.steps) for sub in middle.values()] == [
        ({"log": [3, 2], "sum": 5}, {"notes": {"last": 2}}, 2),
        ({"log": [13, 12], "sum": 25}, {"notes": {"last": 12}}, 2),
        ({"log": [2, 1], "sum": 3}, {"notes": {"last": 1}}, 2),
    ]
    assert everything[3].executor_states["sub#1.1/loop"] == {"seen": [13, 12]}
    assert everything[-1].shared_state == {"sum": "outer"}
    assert everything[-1].scopes == {"notes": {"last": "outer"}, "sub#1": {"x": "outer"}}
    assert inner_parts(everything[-1]) == []


async def test_a_scope_of_the_outer_workflow_may_be_named_like_a_run() -> None:
    class Late(Executor):
        @handler
        async def write(self, left: int, ctx: WorkflowContext[int]) -> None:
            await ctx.queue_state_update("x", left, scope="sub#0")
            if left:
                await ctx.send_message(left - 1)

    start, late = Burst("start"), Late("late")
    inner = built(WorkflowBuilder().add_edge(start, Plain("plain")), start)
    sub = WorkflowExecutor(inner, "sub")
    workflow = built(WorkflowBuilder().add_edge(sub, late).add_edge(late, late), sub)
    storage = InMemoryCheckpointStorage()
    await workflow.run(4, run_id="r", checkpoint_storage=storage)

    assert (await checkpoints(storage))[-1].scopes == {"sub#0": {"x": 0}}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_twenty_runs_at_once_leave_nothing_behind(kind: str, tmp_path: Path) -> None:
    keys: list[str] = []

    class Work(Executor):
        @handler
        async def work(self, number: int, ctx: WorkflowContext[Any, int]) -> None:
            keys.append(ctx.idempotency_key)
            assert (ctx.executor_id, ctx.workflow_id) == ("work", "inner")
            await ctx.set_state({"number": number})
            await ctx.set_shared_state("text", f"run {number}")
            await asyncio.sleep(0)
            await ctx.send_message(str(number))

        @handler
        async def again(self, text: str, ctx: WorkflowContext[Any, int]) -> None:
            assert ctx.get_source_executor_id() == "work"
            assert await ctx.get_shared_state("text") == f"run {text}"
            if int(text) % 3:
                await ctx.yield_output((await ctx.get_state() or {})["number"])

    work = Work("work")
    inner = built(WorkflowBuilder(name="inner").add_edge(work, work), work)
    storage = storage_of(kind, tmp_path)
    async with storage:
        workflow = chain(Burst("burst"), WorkflowExecutor(inner, "sub"), Plain("out"))
        result = await workflow.run(20, run_id="r", checkpoint_storage=storage)
        everything = await checkpoints(storage)

        assert result.get_outputs() == [number for number in range(20) if number % 3]
        assert len(set(keys)) == len(keys) == 20
        assert len(everything[1].sub_workflows) == len(everything[2].sub_workflows) == 20
        assert everything[2].sub_workflows["sub#1.19"].shared_state == {"text": "run 19"}
        assert inner_parts(everything[3]) == inner_parts(everything[-1]) == []
        assert everything[-1].executor_states == {}


def storage_of(kind: str, folder: Path) -> Any:
    return (
        InMemoryCheckpointStorage()
        if kind == "memory"
        else SqliteCheckpointStorage(folder / "runs.db")
    )


async def test_factories_make_an_executor_for_each_run_inside() -> None:
    class Plus(Executor):
        def __init__(self) -> None:
            super().__init__("plus")
            self.count = 0

        def __len__(self) -> int:
            return 0

        @handler
        async def plus(self, number: int, ctx: WorkflowContext[int, int]) -> None:
            self.count += 1
            if number < 100:
                await ctx.send_message(number + 100)
            else:
                await ctx.yield_output(self.count)

    inner = (
        WorkflowBuilder()
        .register_executor(Plus, "plus")
        .add_edge("plus", "plus")
        .set_start_executor("plus")
        .build()
    )
    workflow = chain(Burst("burst"), WorkflowExecutor(inner, "sub", allow_direct_output=True))

    assert (await workflow.run(3)).get_outputs() == [2, 2, 2]


# --------------------------------------------------------------------------------- warnings, limits


async def test_leftovers_of_a_fan_in_inside_give_a_warning() -> None:
    start, left, right = Pass("start"), Upper("left"), Pass("right")
    inner = built(
        WorkflowBuilder()
        .add_switch_case_edge_group(start, [Case(lambda text: "l" in text, left), Default(right)])
        .add_fan_in_edges([left, right], Plain2("join")),
        start,
    )
    storage = InMemoryCheckpointStorage()
    workflow = chain(
        Pass("in"), WorkflowExecutor(inner, "sub", allow_direct_output=True), storage=storage
    )

    with pytest.warns(
        UndeliveredMessageWarning,
        match="sub-workflow 'sub#1' ended while messages wait in 'sub#1/fan",
    ):
        await workflow.run("l", run_id="r")
    assert inner_parts((await checkpoints(storage))[-1]) == []


class Plain2(Executor):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("".join(texts))


async def test_outputs_that_no_edge_accepts_give_a_warning() -> None:
    sub = WorkflowExecutor(shout_workflow(), "sub")
    workflow = chain(Pass("in"), sub)

    with pytest.warns(
        UndeliveredMessageWarning,
        match=r"'sub' sent a message of type str .*allow_direct_output=True",
    ):
        await workflow.run("abc")


async def test_a_run_inside_that_does_not_converge_is_named() -> None:
    sub = WorkflowExecutor(loop_workflow(2), "sub", allow_direct_output=True)
    workflow = chain(Pass("in"), sub)

    assert (await loop_workflow(2).run(2)).get_outputs()  # what converges alone converges as a node
    assert (await workflow.run(2)).get_outputs()
    with pytest.raises(
        WorkflowConvergenceError, match=r"sub-workflow 'sub#1' of run .* after 2 iterations"
    ):
        await workflow.run(3)


async def test_the_outer_limit_does_not_count_supersteps_inside() -> None:
    sub = WorkflowExecutor(loop_workflow(), "sub", allow_direct_output=True)
    builder = WorkflowBuilder(1).add_edge(start := Pass("in"), sub)

    assert (await built(builder, start).run(9)).get_outputs()


async def test_sub_workflows_that_send_to_each_other_for_ever_are_stopped() -> None:
    inner = alone(Echo("echo"))
    one, two = WorkflowExecutor(inner, "one"), WorkflowExecutor(inner, "two")
    workflow = built(WorkflowBuilder(10, name="ping").add_edge(one, two).add_edge(two, one), one)

    with pytest.raises(
        WorkflowConvergenceError, match="of workflow 'ping' did not converge after 10 iterations"
    ):
        await workflow.run("x")
    outer = alone(WorkflowExecutor(workflow, "node"))
    with pytest.raises(WorkflowConvergenceError, match="sub-workflow 'node#0' of run"):
        await outer.run("x")


class Echo(Executor):
    @handler
    async def echo(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


# ---------------------------------------------------------------------------------------- questions


@dataclass
class Query:
    text: str


class Direct(Executor):
    """Asks without a RequestInfoExecutor."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.set_state({"text": text})
        await ctx.request_info(Query(text), str, request_id=f"direct-{text}")

    @response_handler
    async def answered(self, query: Query, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        assert (await ctx.get_state()) == {"text": query.text}
        await ctx.yield_output(f"{query.text}={answer}")


def ported() -> Workflow:
    asker, port = Asker("asker"), RequestInfoExecutor("port")
    return built(WorkflowBuilder(name="ported").add_edge(asker, port).add_edge(port, asker), asker)


def direct() -> Workflow:
    return alone(Direct("asker"))


def asking(inner: Workflow, **settings: Any) -> Workflow:
    return chain(Many("many"), WorkflowExecutor(inner, "sub"), Plain("out"), **settings)


@pytest.mark.parametrize(("make", "name"), [(ported, "ask"), (direct, "direct")])
@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_questions_go_outside_and_answers_come_back(
    make: Callable[[], Workflow], name: str, order: tuple[str, str]
) -> None:
    for storage in (None, InMemoryCheckpointStorage()):
        run = asking(make(), storage=storage).run_stream("a b")
        events = await collect(run)
        asked = [e for e in events if isinstance(e, RequestInfoEvent)]
        assert [e.source_executor_id for e in asked] == ["sub#1/asker", "sub#1.1/asker"]
        found = []
        for text in order:
            await run.send_response(f"{name}-{text}", text * 2)
            found += outputs(await collect(run))
        assert found == [f"{text}={text * 2}" for text in order]


@pytest.mark.parametrize("make", [ported, direct])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("how", ["checkpoint", "outside"])
async def test_a_new_process_answers(
    make: Callable[[], Workflow], kind: str, how: str, tmp_path: Path
) -> None:
    async with storage_of(kind, tmp_path) as storage:
        first = await asking(make(), storage=storage).run("a b", run_id="r")
        assert first.get_final_state() == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
        last = (await checkpoints(storage))[-1]
        assert {r.source_executor_id for r in last.pending_requests.values()} == {
            "sub#1/asker",
            "sub#1.1/asker",
        }
        one, two = last.pending_requests
        if how == "checkpoint":
            await asking(make(), storage=storage).run_from_checkpoint(last, responses={two: "2"})
            last = (await checkpoints(storage))[-1]
            result = await asking(make(), storage=storage).run_from_checkpoint(
                last, responses={one: "1"}
            )
            assert result.get_outputs() == ["b=2", "a=1"]
        else:
            await storage.answer("r", two, "2")
            await storage.answer("r", one, "1")
            result = await asking(make(), storage=storage).run_from_checkpoint(last)
            assert result.get_outputs() == ["a=1", "b=2"]
        assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_a_cancelled_question_ends_its_run() -> None:
    storage = InMemoryCheckpointStorage()
    run = asking(direct(), storage=storage).run_stream("a", run_id="r")
    await collect(run)
    await run.cancel_request("direct-a")
    await collect(run)

    assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_an_answer_of_the_wrong_type_is_refused() -> None:
    run = asking(direct()).run_stream("a")
    await collect(run)
    with pytest.raises(ResponseTypeError, match="'sub#1/asker'"):
        await run.send_response("direct-a", 3)


# ------------------------------------------------------------------------------------- interception


class Parent(Executor):
    """Splits its input, answers what it knows of, and yields what comes out of the sub-workflow."""

    answer: Any = "parent"

    @handler
    async def begin(self, texts: list[str], ctx: WorkflowContext[Any]) -> None:
        for text in texts:
            await ctx.send_message(text)

    @handler
    async def take(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


class OldStyle(Parent):
    @handler
    async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
        answer = RequestResponse(self.answer, request, request.request_id)
        await ctx.send_message(answer, target_id=request.source_executor_id)


class NewStyle(Parent):
    @handler
    async def question(
        self, request: SubWorkflowRequestMessage[Query], ctx: WorkflowContext[Any]
    ) -> None:
        assert request.source_executor_id.endswith("/asker")
        await ctx.send_message(request.create_response(self.answer), target_id=request.executor_id)


class NewStylePorted(Parent):
    @handler
    async def question(
        self,
        request: SubWorkflowRequestMessage[Question],
        ctx: WorkflowContext[SubWorkflowResponseMessage[str] | str],
    ) -> None:
        await ctx.send_message(request.create_response(self.answer), target_id=request.executor_id)


def around(parent: Executor, inner: Workflow, **settings: Any) -> Workflow:
    sub = WorkflowExecutor(inner, "sub")
    return built(
        WorkflowBuilder(name="outer").add_edge(parent, sub).add_edge(sub, parent),
        parent,
        **settings,
    )


@pytest.mark.parametrize(
    ("parent", "inner"), [(OldStyle, ported), (NewStyle, direct), (NewStylePorted, ported)]
)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_executor_around_answers(
    parent: Callable[[str], Executor], inner: Callable[[], Workflow], kind: str, tmp_path: Path
) -> None:
    async with storage_of(kind, tmp_path) as storage:
        result = await around(parent("p"), inner(), storage=storage).run(["a", "b"], run_id="r")
        everything = await checkpoints(storage)
        assert result.get_outputs() == ["a=parent", "b=parent"]
        assert any(cp.intercepted_requests for cp in everything)
        assert not any(cp.pending_requests for cp in everything)
        assert inner_parts(everything[-1]) == []
        for checkpoint in everything:
            again = await around(parent("p"), inner(), storage=storage).run_from_checkpoint(
                checkpoint
            )
            assert again.get_outputs() == ["a=parent", "b=parent"]


@pytest.mark.parametrize(("parent", "inner"), [(OldStyle, ported), (NewStyle, direct)])
async def test_an_answer_of_the_wrong_type_from_around_is_an_error(
    parent: Callable[[str], Parent], inner: Callable[[], Workflow]
) -> None:
    node = parent("p")
    node.answer = 7
    with pytest.raises(
        ResponseTypeError,
        match=r"of 'sub#1/asker' needs an answer of type str, .* answers with a int",
    ):
        await around(node, inner()).run(["a"])


async def test_a_handler_for_other_questions_is_passed_over() -> None:
    result = await around(NewStyle("p"), ported()).run(["a"])
    assert [e.request_id for e in result.get_request_info_events()] == ["ask-a"]


async def test_an_executor_around_may_ask_on_its_own_behalf() -> None:
    class Forward(Parent):
        @handler
        async def question(self, request: Question, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(request, target_id="boss")

        @handler
        async def answered(
            self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Any]
        ) -> None:
            await ctx.send_message(answer, target_id="sub")

    def workflow(storage: Any) -> Workflow:
        parent, sub, boss = (
            Forward("p"),
            WorkflowExecutor(ported(), "sub"),
            RequestInfoExecutor("boss"),
        )
        builder = WorkflowBuilder().add_edge(parent, sub).add_edge(sub, parent)
        return built(builder.add_edge(parent, boss).add_edge(boss, parent), parent, storage=storage)

    storage = InMemoryCheckpointStorage()
    first = await workflow(storage).run(["a", "b"], run_id="r")
    asked = first.get_request_info_events()
    assert [(e.request_id, e.source_executor_id) for e in asked] == [("ask-a", "p"), ("ask-b", "p")]
    last = (await checkpoints(storage))[-1]
    await workflow(storage).run_from_checkpoint(last, responses={"ask-b": "yes"})
    last = (await checkpoints(storage))[-1]
    result = await workflow(storage).run_from_checkpoint(last, responses={"ask-a": "no"})
    assert result.get_outputs() == ["b=yes", "a=no"]
    assert inner_parts((await checkpoints(storage))[-1]) == []


class Captain(Parent):
    """Passes questions on as they are."""

    @handler
    async def question(self, request: Question, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(request, target_id="purser")


class Listener(Captain):
    @handler
    async def answered(
        self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Any]
    ) -> None:
        raise AssertionError("the answer is for the sub-workflow that asked")


def ship(
    inner: Workflow, captain: Executor, *, back_to_captain: bool = False, **settings: Any
) -> Workflow:
    sub, purser = WorkflowExecutor(inner, "sub"), RequestInfoExecutor("purser")
    builder = WorkflowBuilder(name="ship").add_edge(captain, sub).add_edge(sub, captain)
    builder.add_edge(captain, purser).add_edge(purser, sub)
    if back_to_captain:
        builder.add_edge(purser, captain)
    return built(builder, captain, **settings)


@pytest.mark.parametrize("back_to_captain", [False, True])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_question_passed_on_is_answered_inside(
    kind: str, back_to_captain: bool, tmp_path: Path
) -> None:
    def workflow(storage: Any) -> Workflow:
        captain = Listener("captain") if back_to_captain else Captain("captain")
        return ship(ported(), captain, back_to_captain=back_to_captain, storage=storage)

    async with storage_of(kind, tmp_path) as storage:
        first = await workflow(storage).run(["a", "b"], run_id="r")
        asked = [(e.request_id, e.source_executor_id) for e in first.get_request_info_events()]
        assert asked == [("ask-a", "sub#1/asker"), ("ask-b", "sub#1.1/asker")]
        waits = (await checkpoints(storage))[-1]
        assert waits.intercepted_requests == {}
        assert [request.data.source_executor_id for request in waits.pending_requests.values()] == [
            "sub",
            "sub",
        ]
        with pytest.raises(ResponseTypeError, match="needs an answer of type str"):
            await workflow(storage).run_from_checkpoint(waits, responses={"ask-b": 2})
        await workflow(storage).run_from_checkpoint(waits, responses={"ask-b": "2"})
        last = (await checkpoints(storage))[-1]
        result = await workflow(storage).run_from_checkpoint(last, responses={"ask-a": "1"})
        assert result.get_outputs() == ["b=2", "a=1"]
        assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_a_question_passed_on_is_offered_further_out() -> None:
    ship_inside = ship(ported(), Captain("captain"))
    result = await around(OldStyle("p"), alone_with_list(ship_inside)).run(["a", "b"])
    assert result.get_outputs() == ["a=parent", "b=parent"]


def alone_with_list(inner: Workflow) -> Workflow:
    """A workflow around one that takes lists, for single texts."""

    class Wrap(Executor):
        @handler
        async def wrap(self, text: str, ctx: WorkflowContext[list[str]]) -> None:
            await ctx.send_message([text])

    return chain(Wrap("wrap"), WorkflowExecutor(inner, "vessel"), Plain("out"))


async def test_a_question_is_answered_or_passed_on_not_both() -> None:
    class Hasty(Captain):
        @handler
        async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
            await ctx.send_message(
                RequestResponse("hasty", request, request.request_id), target_id="sub"
            )
            await ctx.send_message(request, target_id="purser")

    result = await ship(ported(), Hasty("captain")).run(["a"])
    assert result.get_outputs() == ["a=hasty"]
    assert result.get_request_info_events() == []

    class Slow(Captain):
        @handler
        async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
            await ctx.send_message(request, target_id="purser")
            await ctx.send_message(request.request_id, target_id="echo")

    class Late(Executor):
        @handler
        async def late(self, request_id: str, ctx: WorkflowContext[Any]) -> None:
            await ctx.send_message(SubWorkflowResponseMessage(request_id, "late"))

    sub, purser, slow, late = (
        WorkflowExecutor(ported(), "sub"),
        RequestInfoExecutor("purser"),
        Slow("p"),
        Late("echo"),
    )
    builder = (
        WorkflowBuilder()
        .add_edge(slow, purser)
        .add_edge(purser, sub)
        .add_edge(slow, sub)
        .add_edge(sub, slow)
    )
    run = built(builder.add_edge(slow, late).add_edge(late, sub), slow).run_stream(["a"])
    with pytest.warns(UndeliveredMessageWarning, match="goes nowhere"):
        asked = [e for e in await collect(run) if isinstance(e, RequestInfoEvent)]
    assert [e.source_executor_id for e in asked] == ["sub#1/asker"]
    await run.send_response("ask-a", "in time")
    assert outputs(await collect(run)) == ["a=in time"]


class Ignorant(Parent):
    """Takes questions and does nothing about them."""

    @handler
    async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
        pass


class Passing(Parent):
    """Sends questions on along whatever edges there are; here none takes them."""

    @handler
    async def question(self, request: Question, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(request)


def both(parent: Executor, **settings: Any) -> Workflow:
    """A sub-workflow whose questions have an edge to an executor, and one to the outside world."""
    sub, port = WorkflowExecutor(ported(), "sub"), RequestInfoExecutor("port")
    builder = WorkflowBuilder(name="both").add_edge(parent, sub).add_edge(sub, parent)
    return built(builder.add_edge(sub, port).add_edge(port, sub), parent, **settings)


@pytest.mark.parametrize("parent", [Ignorant, Passing])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_question_reaches_the_target_of_an_edge_as_well_as_an_executor_around(
    kind: str, parent: Callable[[str], Executor], tmp_path: Path
) -> None:
    async with storage_of(kind, tmp_path) as storage:
        node = parent("p")
        workflow = both(node, storage=storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndeliveredMessageWarning)  # of what is passed on
            first = await workflow.run(["a"], run_id="r")
        (asked,) = first.get_request_info_events()
        assert (asked.request_id, asked.source_executor_id) == ("ask-a", "sub#1/asker")
        result = await workflow.send_responses({"ask-a": "outside"})
        assert result.get_outputs() == ["a=outside"]
        assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_passed_on_to_a_port_as_well_it_is_asked_once() -> None:
    sub, port, captain = (
        WorkflowExecutor(ported(), "sub"),
        RequestInfoExecutor("purser"),
        Captain("captain"),
    )
    builder = WorkflowBuilder().add_edge(captain, sub).add_edge(sub, captain)
    builder.add_edge(sub, port).add_edge(captain, port).add_edge(port, sub)
    run = built(builder, captain).run_stream(["a"])
    assert questions(await collect(run)) == ["ask-a"]
    await run.send_response("ask-a", "once")
    assert outputs(await collect(run)) == ["a=once"]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "none"])
async def test_the_executor_around_may_be_the_first_to_answer(kind: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        storage = None
        if kind != "none":
            storage = await stack.enter_async_context(storage_of(kind, tmp_path))
        run = both(OldStyle("p"), storage=storage).run_stream(["a"], run_id="r")
        events = await collect(run)
        assert questions(events) == ["ask-a"]
        (closed,) = (event for event in events if isinstance(event, RequestClosedEvent))
        assert (closed.request_id, closed.outcome) == ("ask-a", "intercepted")
        assert outputs(events) == ["a=parent"]
        with pytest.raises(AlreadyAnsweredError):
            await run.send_response("ask-a", "too late")
        if storage is None:
            return
        everything = await checkpoints(storage)
        assert inner_parts(everything[-1]) == []
        assert [answer.outcome for answer in everything[-1].answered] == ["intercepted"]
        for checkpoint in everything:
            again = await both(OldStyle("p"), storage=storage).run_from_checkpoint(checkpoint)
            assert again.get_outputs() == ["a=parent"]
        replay = both(OldStyle("p"), storage=storage).replay(everything[0])
        assert (await replay.wait_for_completion()).get_outputs() == ["a=parent"]


@pytest.mark.parametrize("stored", [False, True])
async def test_an_answer_from_outside_that_comes_first_counts(stored: bool) -> None:
    storage = InMemoryCheckpointStorage() if stored else None
    run = both(OldStyle("p"), storage=storage).run_stream(["a"], run_id="r")
    found = []

    async def answer() -> None:
        async for event in run:
            if isinstance(event, RequestInfoEvent):
                await run.send_response(event.request_id, "outside")
            found.append(event)

    with pytest.warns(UndeliveredMessageWarning, match="goes nowhere"):
        await answer()
    assert outputs(found) == ["a=outside"]


@pytest.mark.parametrize("stored", [False, True])
async def test_an_answer_from_outside_that_comes_second_is_named(stored: bool) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(OldStyle):
        @handler
        async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
            asked.set()
            await answered.wait()
            answer = RequestResponse("parent", request, request.request_id)
            await ctx.send_message(answer, target_id="sub")

    storage = InMemoryCheckpointStorage() if stored else None
    run = both(Slow("p"), storage=storage).run_stream(["a"], run_id="r")
    collecting = asyncio.create_task(collect(run))
    await asked.wait()
    await run.send_response("ask-a", "outside")
    answered.set()
    events = await collecting
    assert outputs(events) == ["a=parent"]
    (told,) = (event for event in events if isinstance(event, WorkflowWarningEvent))
    assert "the answer to request 'ask-a' was not used" in str(told.data)


async def test_a_handler_for_anything_does_not_swallow_questions() -> None:
    class Anything(Executor):
        @handler
        async def take(self, value: Any, ctx: WorkflowContext[Any, Any]) -> None:
            await ctx.yield_output(value)

    for inner in (ported(), direct()):
        workflow = chain(Pass("in"), WorkflowExecutor(inner, "sub"), Anything("any"))
        run = workflow.run_stream("a")
        asked = [e.request_id for e in await collect(run) if isinstance(e, RequestInfoEvent)]
        await run.send_response(asked[0], "x")
        assert outputs(await collect(run)) == ["a=x"]


async def test_conditions_do_not_see_questions_that_no_executor_handles() -> None:
    seen: list[Any] = []

    def condition(message: str) -> bool:
        seen.append(message)
        return message.startswith("a")

    for inner in (ported(), direct()):
        first, sub = Pass("in"), WorkflowExecutor(inner, "sub")
        workflow = built(
            WorkflowBuilder().add_edge(first, sub).add_edge(sub, Plain("out"), condition), first
        )
        run = workflow.run_stream("a")
        asked = [e.request_id for e in await collect(run) if isinstance(e, RequestInfoEvent)]
        await run.send_response(asked[0], "x")
        assert outputs(await collect(run)) == ["a=x"]
    assert seen == ["a=x", "a=x"]


async def test_a_switch_offers_a_question_once() -> None:
    parent, sub = OldStyle("p"), WorkflowExecutor(ported(), "sub")
    cases: list[Case | Default] = [
        Case(lambda message: isinstance(message, Question), parent),
        Default(parent),
    ]
    workflow = built(
        WorkflowBuilder().add_edge(parent, sub).add_switch_case_edge_group(sub, cases), parent
    )

    assert (await workflow.run(["a"])).get_outputs() == ["a=parent"]


@pytest.mark.parametrize(("parent", "inner"), [(OldStyle, ported), (NewStyle, direct)])
async def test_a_grandparent_answers(
    parent: Callable[[str], Executor], inner: Callable[[], Workflow]
) -> None:
    middle = chain(Pass("in"), WorkflowExecutor(inner(), "deep"), Plain("out"))
    storage = InMemoryCheckpointStorage()
    result = await around(parent("p"), middle, storage=storage).run(["a", "b"], run_id="r")

    assert result.get_outputs() == ["a=parent", "b=parent"]
    everything = await checkpoints(storage)
    paths = {r.source_executor_id for cp in everything for r in cp.intercepted_requests.values()}
    assert paths == {"sub#1/deep#2/asker", "sub#1.1/deep#2/asker"}
    assert inner_parts(everything[-1]) == []


async def test_the_nearest_one_answers() -> None:
    near = OldStyle("near")
    near.answer = "near"

    class Listed(Executor):
        @handler
        async def begin(self, text: str, ctx: WorkflowContext[list[str]]) -> None:
            await ctx.send_message([text])

    first, sub = Listed("first"), WorkflowExecutor(ported(), "deep")
    middle = built(
        WorkflowBuilder().add_edge(first, near).add_edge(near, sub).add_edge(sub, near), first
    )

    assert (await around(OldStyle("p"), middle).run(["a"])).get_outputs() == ["a=near"]


async def test_a_question_that_the_one_around_forgets_gives_a_warning() -> None:
    class Forgetful(Parent):
        @handler
        async def question(self, request: Question, ctx: WorkflowContext[Any]) -> None:
            pass

    events = await collect(around(Forgetful("p"), ported()).run_stream(["a"]))
    texts = [e.data for e in events if isinstance(e, WorkflowWarningEvent)]
    assert len(texts) == 1
    assert texts[0].startswith(
        "request 'ask-a' of 'sub#1/asker' was given to an executor around its sub-workflow"
    )


# ----------------------------------------------------------------------------------------- resuming


def deep_workflow(**settings: Any) -> Workflow:
    """Two levels of sub-workflows, several runs at once, questions at the bottom."""
    middle = chain(Burst("burst"), WorkflowExecutor(loop_workflow(), "loops"), Sum("sum"))
    return chain(Burst("many"), WorkflowExecutor(middle, "mid"), Plain("out"), **settings)


class Sum(Executor):
    @handler
    async def sum(self, parts: list[Any], ctx: WorkflowContext[Never, int]) -> None:
        total = (await ctx.read_state("total", default=0)) + sum(parts[0])
        await ctx.queue_state_update("total", total)
        await ctx.yield_output(total)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_resumed_from_any_checkpoint_it_ends_alike(kind: str, tmp_path: Path) -> None:
    expected = (await deep_workflow().run(5)).get_outputs()
    assert len(expected) == 0 + 1 + 2 + 3 + 4
    async with storage_of(kind, tmp_path) as storage:
        calm = await deep_workflow(storage=storage).run(5, run_id="r")
        assert calm.get_outputs() == expected
        everything = await checkpoints(storage)
        for checkpoint in everything:
            result = await deep_workflow(storage=storage).run_from_checkpoint(checkpoint)
            assert result.get_outputs() == expected
        again = {cp.iteration_count: cp for cp in await checkpoints(storage)}
        for before in everything:
            after = again[before.iteration_count]
            assert before.document() == after.document()


async def test_left_in_the_middle_and_restored_it_ends_alike() -> None:
    expected = (await deep_workflow().run(4)).get_outputs()
    storage = InMemoryCheckpointStorage()
    run = deep_workflow(storage=storage).run_stream(4, run_id="r")
    await collect(run)
    for info in list(run.checkpoints):
        await run.restore_checkpoint(info)
        await collect(run)
        assert (await checkpoints(storage))[-1].outputs == expected


def tally_workflow(**settings: Any) -> Workflow:
    inner = (
        WorkflowBuilder(name="tallies")
        .register_executor(Tally, "tally")
        .add_edge("tally", "tally")
        .set_start_executor("tally")
        .build()
    )
    return chain(
        Numbers("numbers"), WorkflowExecutor(inner, "sub", allow_direct_output=True), **settings
    )


class Numbers(Executor):
    @handler
    async def begin(self, numbers: list[int], ctx: WorkflowContext[int]) -> None:
        for number in numbers:
            await ctx.send_message(number)


async def test_attributes_of_executors_inside_need_factories() -> None:
    tally = Tally()
    inner = built(WorkflowBuilder(name="tallies").add_edge(tally, tally), tally)
    with pytest.raises(
        WorkflowValidationError,
        match=r"'tally' of sub-workflow 'tallies' .*register_executor\(factory",
    ):
        WorkflowExecutor(inner, "sub")


async def test_attributes_survive_in_each_run() -> None:
    storage = InMemoryCheckpointStorage()
    result = await tally_workflow(storage=storage).run([3, 5, 4], run_id="r")
    assert result.get_outputs() == [6, 10, 15]

    for checkpoint in await checkpoints(storage):
        result = await tally_workflow(storage=storage).run_from_checkpoint(checkpoint)
        assert result.get_outputs() == [6, 10, 15]
    assert inner_parts((await checkpoints(storage))[-1]) == []


@pytest.mark.parametrize("hooked", [False, True])
async def test_finished_calls_inside_are_not_run_again(hooked: bool) -> None:
    calls: list[str] = []
    broken = True

    class Flaky(Executor):
        def __init__(self) -> None:
            super().__init__("flaky")
            self.total = 0

        @handler
        async def work(self, number: int, ctx: WorkflowContext[int, Any]) -> None:
            calls.append(f"{number} {ctx.idempotency_key}")
            self.total += number
            await ctx.set_state({"number": number})
            if broken and number == 12:
                await asyncio.sleep(0.01)
                raise RuntimeError("twelve")
            if number < 20:
                await ctx.send_message(number + 10)
            else:
                await ctx.yield_output(self.total if hooked else number)

    class Hooked(Flaky):
        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            await ctx.queue_state_update("total", self.total)

        async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
            self.total = await ctx.read_state("total", default=0)

    def workflow(storage: Any) -> Workflow:
        inner = (
            WorkflowBuilder()
            .register_executor(Hooked if hooked else Flaky, "flaky")
            .add_edge("flaky", "flaky")
            .set_start_executor("flaky")
            .build()
        )
        return chain(
            Numbers("numbers"),
            WorkflowExecutor(inner, "sub", allow_direct_output=True),
            storage=storage,
        )

    storage = InMemoryCheckpointStorage()
    with pytest.raises(RuntimeError, match="twelve"):
        await workflow(storage).run([1, 2, 3], run_id="r")
    broken = False
    result = await workflow(storage).run_from_checkpoint((await checkpoints(storage))[-1])

    assert result.get_outputs() == ([33, 36, 39] if hooked else [21, 22, 23])
    repeated = {key for key in calls if calls.count(key) > 1}
    assert len(repeated) == 1
    assert repeated.pop().startswith("12 ")


# ---------------------------------------------------------------------------------------- the graph


async def test_changes_inside_are_listed() -> None:
    storage = InMemoryCheckpointStorage()
    await chain(
        Pass("in"), WorkflowExecutor(shout_workflow(), "sub"), Plain("out"), storage=storage
    ).run("a", run_id="r")
    up = Upper("up")
    changed = built(
        WorkflowBuilder(name="shout").add_edge(up, Upper("more")).add_edge("more", Reverse("back")),
        up,
    )
    workflow = chain(Pass("in"), WorkflowExecutor(changed, "sub"), Plain("out"), storage=storage)

    with pytest.raises(GraphChangedError, match="in sub-workflow 'sub': executor 'more' was added"):
        await workflow.run_from_checkpoint((await checkpoints(storage))[-1])


def test_fingerprints_without_sub_workflows_are_as_ever() -> None:
    expected = "125b2c7d3bf329847b8afcda87649ec6a4a88fa2b4e780905fbc59b5031ff47b"
    assert shout_workflow().graph_signature_hash == expected


@pytest.mark.parametrize("where", ["outer", "inner"])
def test_slashes_in_ids_are_refused(where: str) -> None:
    bad = built(
        WorkflowBuilder().add_edge(first := Upper("a/b"), Reverse("c")), first
    )  # alone it may
    outer = Pass("a/b" if where == "outer" else "in")
    sub = WorkflowExecutor(bad if where == "inner" else shout_workflow(), "sub")
    with pytest.raises(WorkflowValidationError, match="executor id 'a/b' contains '/'"):
        chain(outer, sub, Plain("out"))


# ------------------------------------------------------------------------------------------ cost


async def test_state_inside_that_is_not_touched_costs_nothing() -> None:
    sizes: list[int] = []

    class Weighing(InMemoryCheckpointStorage):
        async def commit(self, commit: Commit) -> None:
            changes = commit.changes
            appended = sum(len(item) for items in changes.appends.values() for item in items)
            sizes.append(appended + sum(map(len, changes.puts.values())))
            await super().commit(commit)

    class Big(Executor):
        @handler
        async def work(self, left: int, ctx: WorkflowContext[int, int]) -> None:
            if left == 10:
                await ctx.set_shared_state("big", "x" * 1_000_000)
            elif not left:
                await ctx.yield_output(len(await ctx.get_shared_state("big")))
                return
            await ctx.send_message(left - 1)

    big = Big("big")
    inner = built(WorkflowBuilder().add_edge(big, big), big)
    sub = WorkflowExecutor(inner, "sub", allow_direct_output=True)
    result = await chain(Pass("in"), sub, storage=Weighing()).run(10)

    assert result.get_outputs() == [1_000_000]
    large = [size for size in sizes if size > 3000]
    assert len(large) == 1
    assert large[0] > 1_000_000


# -------------------------------------------------------------------------------------- odd corners


async def test_a_question_that_comes_in_as_input_cannot_be_answered_and_says_so() -> None:
    port = RequestInfoExecutor("port")
    inner = built(WorkflowBuilder(name="inner").add_edge(port, Anyhow("any")), port)

    class Sender(Executor):
        @handler
        async def send(self, text: str, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(Question(prompt=text))

    with pytest.raises(UnanswerableRequestError, match="came from outside"):
        await inner.run(Question())
    with pytest.raises(UnanswerableRequestError, match="came from outside"):
        await chain(Sender("in"), WorkflowExecutor(inner, "sub")).run("a")


class Anyhow(Executor):
    @handler
    async def take(
        self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(answer.data)


async def test_scheduled_messages_keep_a_run_inside_in_progress() -> None:
    class Later(Executor):
        @handler
        async def later(self, text: str, ctx: WorkflowContext[int, str]) -> None:
            await ctx.set_shared_state("text", text)
            await ctx.schedule(len(text), delay=0.05, target_id="later")

        @handler
        async def now(self, length: int, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"{await ctx.get_shared_state('text')}:{length}")

    storage = InMemoryCheckpointStorage()
    result = await asking(alone(Later("later")), storage=storage).run("a bb", run_id="r")
    everything = await checkpoints(storage)
    assert sorted(result.get_outputs()) == ["a:1", "bb:2"]
    assert inner_parts(everything[-1]) == []
    again = await asking(alone(Later("later")), storage=storage).run_from_checkpoint(everything[2])
    assert sorted(again.get_outputs()) == ["a:1", "bb:2"]


async def test_messages_may_be_scheduled_for_a_sub_workflow() -> None:
    class Later(Executor):
        @handler
        async def later(self, text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.schedule(text, delay=0.02)

    storage = InMemoryCheckpointStorage()
    workflow = chain(
        Later("later"), WorkflowExecutor(shout_workflow(), "sub"), Plain("out"), storage=storage
    )
    assert (await workflow.run("abc", run_id="r")).get_outputs() == ["CBA"]
    assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_failures_inside_are_tried_again_there() -> None:
    class Flaky(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            if ctx.attempt < 3:
                raise RuntimeError(text)
            await ctx.yield_output(f"{text}{ctx.attempt}{ctx.get_source_executor_id()}")

    flaky = Flaky("flaky")
    builder = WorkflowBuilder().add_edge(flaky, Plain("unused"), never)
    inner = built(
        builder.with_failure_policy(flaky, FailurePolicy(max_attempts=3, backoff=0.01)), flaky
    )
    result = await asking(inner).run("a b")
    assert sorted(result.get_outputs()) == ["a3many", "b3many"]


async def test_a_deadline_inside_passes() -> None:
    class Hurried(Direct):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.set_state({"text": text})
            await ctx.request_info(Query(text), str, request_id=text, deadline=0.01, default="late")

    storage = InMemoryCheckpointStorage()
    run = asking(alone(Hurried("asker")), storage=storage).run_stream("a", run_id="r")
    early = outputs(await collect(run))  # where the machine is slow, it passes at once
    await asyncio.sleep(0.02)
    assert early + outputs(
        await collect(
            asking(alone(Hurried("asker")), storage=storage).run_stream_from_checkpoint(
                (await checkpoints(storage))[-1]
            )
        )
    ) == ["a=late"]
    assert inner_parts((await checkpoints(storage))[-1]) == []


async def test_errors_of_a_sub_workflows_start_may_be_handled_around_it() -> None:
    class Bad(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[str]) -> None:
            raise RuntimeError(text)

    class Report(Executor):
        @handler
        async def report(self, failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(f"{failure.executor_id}: {failure.error_message}")

    bad, report = (
        Bad("bad"),
        WorkflowExecutor(alone(Report("report")), "sub", allow_direct_output=True),
    )
    workflow = built(
        WorkflowBuilder().add_edge(bad, Plain("unused"), never).add_error_edge(bad, report), bad
    )
    assert (await workflow.run("a")).get_outputs() == ["bad: a"]
