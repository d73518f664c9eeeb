"""Going on with a run from elsewhere: which handle finds it, which checkpoint is its head, what
is announced when.
"""

import gc
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointNotFoundError,
    Executor,
    GraphChangedError,
    InMemoryCheckpointStorage,
    RequestError,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    SuperStepCompletedEvent,
    UnknownRequestError,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowOutputEvent,
    WorkflowRunState,
    handler,
)
from tests.contract.support import PlainStorage
from tests.unit.support import (
    Question,
    Tally,
    Upper,
    asking_workflow,
    built,
    collect,
    counter_workflow,
    kinds,
    outputs,
    questions,
    shout_workflow,
    states,
)


async def test_an_answer_finds_its_run_in_the_storage_that_the_run_was_given() -> None:
    workflow = asking_workflow(storage=InMemoryCheckpointStorage())
    await workflow.run("a", checkpoint_storage=InMemoryCheckpointStorage())
    gc.collect()  # the run's handle is gone: only its storage knows it now

    result = await workflow.send_responses({"ask-a": "yes"})

    assert result.get_outputs() == ["a=yes"]


@pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")
async def test_a_run_in_a_plain_storage_that_is_given_again_and_again_is_found_once() -> None:
    own, given = PlainStorage(), PlainStorage()
    workflow = asking_workflow(storage=own)
    await workflow.run("a", run_id="r", checkpoint_storage=given)
    await workflow.run_from_checkpoint("r-000002", given)
    await workflow.run("b", run_id="s", checkpoint_storage=own)
    gc.collect()

    assert (await workflow.send_responses({"ask-a": "yes"})).get_outputs() == ["a=yes"]
    assert (await workflow.send_responses({"ask-b": "yes"})).get_outputs() == ["b=yes"]


async def test_answers_for_different_runs_are_refused_before_any_is_taken() -> None:
    storage = InMemoryCheckpointStorage()
    for run_id in ("a", "b"):
        await asking_workflow(storage=storage).run(run_id, run_id=run_id)
    fresh = asking_workflow(storage=storage)

    with pytest.raises(
        RequestError, match=r"different runs \('ask-b' in b; 'ask-a' in a\).*Nothing was changed"
    ):
        await fresh.send_responses({"ask-b": "no", "ask-a": "no"})
    with pytest.raises(UnknownRequestError, match=r"run 'a'.*'ask-x'|'ask-x'.*run 'a'"):
        await fresh.send_responses({"ask-x": "no", "ask-a": "no"})
    with pytest.raises(
        UnknownRequestError, match=r"no run of workflow .* waits for request 'ask-x', 'ask-y'"
    ):
        await fresh.send_responses({"ask-x": "no", "ask-y": "no"})
    assert (await fresh.send_responses({"ask-a": "yes"})).get_outputs() == ["a=yes"]
    await fresh.run("c", run_id="c")  # its handle is at hand
    with pytest.raises(RequestError, match="'ask-b'"):
        await fresh.send_responses({"ask-c": "no", "ask-b": "no"})
    assert (await fresh.send_responses({"ask-b": "yes"})).get_outputs() == ["b=yes"]


async def test_resuming_an_older_waiting_checkpoint_makes_it_the_head() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    await workflow.run("a", run_id="r")
    waiting = await storage.get_run("r")
    assert waiting is not None
    await workflow.send_responses({"ask-a": "yes"})

    again = await asking_workflow(storage=storage).run_from_checkpoint(waiting.head)
    run = await storage.get_run("r")
    answered = await asking_workflow(storage=storage).send_responses({"ask-a": "no"})

    assert questions(again) == ["ask-a"]
    assert run is not None
    assert (run.head, run.status, run.branch) == (waiting.head, "IDLE_WITH_PENDING_REQUESTS", 1)
    assert answered.get_outputs() == ["a=no"]


async def test_a_workflow_of_another_name_does_not_take_a_run_over() -> None:
    storage = InMemoryCheckpointStorage()
    await shout_workflow(storage=storage).run("x", run_id="r")
    up = Upper("up")
    other = built(WorkflowBuilder(name="other").add_edge(up, Upper("back")), up, storage=storage)

    with pytest.raises(
        GraphChangedError, match=r"was named 'shout' and is now 'other'.*name='shout'"
    ):
        await other.run_from_checkpoint("r-000001")
    with pytest.raises(GraphChangedError, match="was named 'shout'"):
        await other.run("x", run_id="r", if_exists="attach")


async def test_attaching_refuses_a_graph_that_has_changed() -> None:
    storage = InMemoryCheckpointStorage()
    await shout_workflow(storage=storage).run("x", run_id="r")
    up = Upper("up")
    changed = built(WorkflowBuilder(name="shout").add_edge(up, Upper("new")), up, storage=storage)

    with pytest.raises(GraphChangedError, match="executor 'new' was added"):
        await changed.run("x", run_id="r", if_exists="attach")


async def test_a_result_knows_the_state_also_when_the_stream_had_all_events() -> None:
    run = asking_workflow().run_stream("a")
    await collect(run)

    assert (
        await run.wait_for_completion()
    ).get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS


@pytest.mark.parametrize("stored", [True, False])
async def test_steering_a_run_that_has_not_begun_does_not_begin_it(stored: bool) -> None:
    storage = InMemoryCheckpointStorage()
    run = asking_workflow(storage=storage if stored else None).run_stream("a")

    with pytest.raises(UnknownRequestError, match="has not started"):
        await run.send_response("ask-a", "yes")
    with pytest.raises(CheckpointNotFoundError, match="has not started"):
        await run.restore_checkpoint("x-000000")

    assert await storage.list_checkpoint_ids() == []
    assert questions(await collect(run)) == ["ask-a"]


class Doubter(Executor):
    """Has its question asked and echoed in one superstep."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(Question(request_id=f"ask-{text}", prompt=text), target_id="port")
        await ctx.send_message(Question(request_id=f"more-{text}", prompt=text), target_id="echo")

    @handler
    async def answer(self, answer: RequestResponse[Question, str], ctx: WorkflowContext) -> None:
        pass


class Echo(Executor):
    @handler
    async def echo(self, question: Question, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(question.prompt)


def both_at_once(storage: Any = None) -> Any:
    asker, port = Doubter("asker"), RequestInfoExecutor("port")
    builder = (
        WorkflowBuilder(name="both")
        .add_edge(asker, port)
        .add_edge(port, asker)
        .add_edge(asker, Echo("echo"))
    )
    return built(builder, asker, storage=storage)


async def test_outputs_come_before_questions_before_the_superstep_before_the_status() -> None:
    events = await collect(both_at_once().run_stream("a"))

    committed = [
        e
        for e in events
        if isinstance(e, WorkflowOutputEvent | RequestInfoEvent | SuperStepCompletedEvent)
    ]
    assert kinds(committed)[1:] == ["WorkflowOutput", "RequestInfo", "SuperStepCompleted"]
    assert states(events)[-2:] == [
        WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS,
        WorkflowRunState.IDLE_WITH_PENDING_REQUESTS,
    ]
    assert events.index(committed[-1]) < len(events) - 2


async def test_restoring_drops_events_that_nobody_has_taken() -> None:
    run = counter_workflow(storage=InMemoryCheckpointStorage()).run_stream(3)
    async for event in run:
        if isinstance(event, WorkflowOutputEvent):
            break  # the superstep's own event is waiting behind it

    await run.restore_checkpoint(run.checkpoints[0])
    events = await collect(run)

    assert kinds(events)[:2] == ["WorkflowStatus", "SuperStepStarted"]
    assert outputs(events) == [3, 2, 1, 0]


async def test_executors_from_factories_have_their_hooks_at_iteration_0_too() -> None:
    made: list[Tally] = []

    def make() -> Tally:
        made.append(Tally())
        return made[-1]

    storage = InMemoryCheckpointStorage()
    builder = (
        WorkflowBuilder(name="tally").register_executor(make, "tally").add_edge("tally", "tally")
    )
    workflow = builder.with_checkpointing(storage).set_start_executor("tally").build()
    await workflow.run(2)

    assert made[-1].calls == [
        "checkpointing 0",
        "add 2",
        "checkpointing 1",
        "add 1",
        "checkpointing 2",
    ]
    first, *_ = await storage.list_checkpoints()
    assert first.executor_states == {"tally": {"total": 0}}


async def test_fan_ins_whose_ids_would_run_together_stay_apart() -> None:
    class Pass(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.send_message(text + self.id)

    class Join(Executor):
        @handler
        async def join(self, texts: list[str], ctx: WorkflowContext[Never, list[str]]) -> None:
            await ctx.yield_output(texts)

    one, two, three, four = (Pass(name) for name in ("a+b", "c", "a", "b+c"))
    start, join = Pass("start"), Join("join")
    builder = WorkflowBuilder().add_fan_out_edges(start, [one, two, three, four])
    builder.add_fan_in_edges([one, two], join).add_fan_in_edges([three, four], join)

    result = await built(builder, start).run("")

    assert result.get_outputs() == [["starta+b", "startc"], ["starta", "startb+c"]]
