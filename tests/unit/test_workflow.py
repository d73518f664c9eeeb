"""`Workflow`: many runs of one definition, resuming, answering, attaching, and what no longer
fits.
"""

import asyncio
from dataclasses import replace
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    ConcurrentRunError,
    Executor,
    GraphChangedError,
    InMemoryCheckpointStorage,
    PartialStorageWarning,
    RequestError,
    RequestInfoExecutor,
    RunExistsError,
    StreamBusyError,
    SuperStepCompletedEvent,
    UnhandledMessageError,
    UnknownRequestError,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowEvent,
    WorkflowRunState,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
    executor,
    handler,
)
from supersteps.run.result import EVENT_LIMIT
from tests.unit.support import (
    Asker,
    Counter,
    CountingStorage,
    Reverse,
    Tally,
    Upper,
    asking_workflow,
    built,
    collect,
    counter_workflow,
    kinds,
    no_task_left,
    outputs,
    questions,
    shout_workflow,
    states,
    take,
)

# --------------------------------------------------------------------------------------- describing


def test_the_name_is_the_given_one_else_the_start_executors() -> None:
    assert shout_workflow().workflow_id == shout_workflow().name == shout_workflow().id == "shout"
    assert built(WorkflowBuilder(), Counter("counter")).workflow_id == "counter"


def test_it_describes_itself() -> None:
    workflow = shout_workflow()

    assert workflow.to_dict() == {
        "id": "shout",
        "start_executor_id": "up",
        "max_iterations": 100,
        "edge_groups": [
            {
                "kind": "edge",
                "id": "edge:up->back",
                "sources": ["up"],
                "targets": ["back"],
                "names": (None,),
            }
        ],
        "executors": {
            "up": {"id": "up", "type": "Upper"},
            "back": {"id": "back", "type": "Reverse"},
        },
    }
    assert workflow.to_json().startswith('{"id":"shout"')
    assert repr(workflow) == "Workflow(workflow_id='shout', executors=['up', 'back'])"
    assert (workflow.input_types, workflow.output_types) == ([str], [str])
    assert [e.id for e in workflow.get_executors_list()] == ["up", "back"]
    assert workflow.get_start_executor().id == "up"
    assert workflow.start_executor_id == "up"
    assert workflow.executors == {e.id: e for e in workflow.get_executors_list()}
    (group,) = workflow.edge_groups
    assert (group.source_executor_ids, group.target_executor_ids) == (["up"], ["back"])
    assert workflow.checkpoint_storage is None


# ------------------------------------------------------------------------------------------ results


async def test_a_result_holds_events_outputs_and_the_timeline() -> None:
    result = await shout_workflow().run("hello", run_id="r")

    assert result.run_id == "r"
    assert result.get_outputs() == ["OLLEH"]
    assert result.get_request_info_events() == []
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert [e.state for e in result.status_timeline()] == [
        WorkflowRunState.IN_PROGRESS,
        WorkflowRunState.IDLE,
    ]
    assert not any(isinstance(e, WorkflowStatusEvent) for e in result)

    with_status = await shout_workflow().run("hello", include_status_events=True)
    assert states(with_status) == [WorkflowRunState.IN_PROGRESS, WorkflowRunState.IDLE]


async def test_run_keeps_the_newest_10_000_other_events() -> None:
    class Tick(WorkflowEvent):
        pass

    @executor
    async def busy(count: int, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("first")
        for number in range(count):
            ctx.add_event(Tick(number))

    result = await built(WorkflowBuilder(), busy).run(EVENT_LIMIT + 50)

    others = [e for e in result if kinds([e]) != ["WorkflowOutput"]]
    assert result.get_outputs() == ["first"]
    assert len(others) == EVENT_LIMIT
    assert kinds([others[-1]]) == ["SuperStepCompleted"]
    assert [e.data for e in others if isinstance(e, Tick)][-1] == EVENT_LIMIT + 49


# ------------------------------------------------------------------------------------------- run_id


async def test_every_run_is_a_new_one_with_a_time_ordered_id() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = shout_workflow(storage=storage)
    ids = [(await workflow.run("x")).run_id for _ in range(3)]

    assert ids == sorted(set(ids))


async def test_an_existing_id_is_an_error_and_harms_nothing() -> None:
    storage = CountingStorage()
    workflow = shout_workflow(storage=storage)
    await workflow.run("hello", run_id="r")
    before = await storage.get_run("r")

    with pytest.raises(RunExistsError, match=r"'r'.*attach"):
        await workflow.run("other", run_id="r")

    assert await storage.get_run("r") == before
    assert len(await storage.list_checkpoint_ids()) == 3


async def test_attach_continues_the_existing_run() -> None:
    storage = InMemoryCheckpointStorage()
    run = counter_workflow(storage=storage).run_stream(3, run_id="r", if_exists="attach")
    await take(run, SuperStepCompletedEvent)
    assert await no_task_left()

    again = await counter_workflow(storage=storage).run(99, run_id="r", if_exists="attach")
    assert again.get_outputs() == [3, 2, 1, 0]
    done = await counter_workflow(storage=storage).run(99, run_id="r", if_exists="attach")
    assert done.get_outputs() == [3, 2, 1, 0]
    assert len(await storage.list_checkpoint_ids()) == 5


async def test_of_two_that_start_one_run_at_once_one_wins() -> None:
    storage = InMemoryCheckpointStorage()
    results = await asyncio.gather(
        *(counter_workflow(storage=storage).run(2, run_id="r") for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(r).__name__ for r in results] == [
        "WorkflowRunResult",
        "RunExistsError",
        "RunExistsError",
    ]


@pytest.mark.parametrize("wrong", ["", "a\nb", "x" * 500, 7])
def test_an_id_that_no_storage_could_keep_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="run_id"):
        shout_workflow().run_stream("x", run_id=wrong)


def test_if_exists_is_checked() -> None:
    wrong: Any = "maybe"
    with pytest.raises(ValueError, match="if_exists"):
        shout_workflow().run_stream("x", if_exists=wrong)


async def test_an_input_without_a_handler_starts_nothing() -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.raises(
        UnhandledMessageError, match=r"cannot start with a int: its start executor 'up' handles str"
    ):
        await shout_workflow(storage=storage).run(7)
    assert await storage.list_checkpoint_ids() == []


async def test_metadata_and_tags_stay_with_the_run() -> None:
    storage = InMemoryCheckpointStorage()
    remarks = {"by": ["me"]}
    run = shout_workflow(storage=storage).run_stream("x", run_id="r", metadata=remarks, tags=["t"])
    remarks["by"].append("you")
    await collect(run)
    stored = await storage.get_run("r")
    assert stored is not None
    assert stored.tags == ("t",)
    assert [cp.metadata for cp in await storage.list_checkpoints()] == [{"by": ["me", "you"]}] * 3


# ----------------------------------------------------------------------------------------- resuming


async def test_a_checkpoint_may_be_given_by_id_handle_or_itself() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    await workflow.run(2, run_id="r")
    for index in range(4):
        cp = (await storage.list_checkpoints(run_id="r"))[index]
        for reference in (cp.checkpoint_id, cp.info, cp):
            assert (await workflow.run_from_checkpoint(reference)).get_outputs() == [2, 1, 0]


async def test_resuming_an_older_checkpoint_makes_it_the_head_and_keeps_the_old_branch() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    await workflow.run(2, run_id="r")
    await workflow.run_from_checkpoint("r-000001")

    cps = await storage.list_checkpoints(run_id="r")
    assert [(cp.checkpoint_id[-1], cp.iteration_count, cp.branch) for cp in cps] == [
        ("0", 0, 0),
        ("1", 1, 0),
        ("2", 2, 0),
        ("3", 3, 0),
        ("4", 2, 1),
        ("5", 3, 1),
    ]
    assert [cp.parent and cp.parent[-1] for cp in cps] == [None, "0", "1", "2", "1", "4"]
    assert [cp.timestamp for cp in cps] == sorted({cp.timestamp for cp in cps})
    assert cps[3].outputs == cps[5].outputs == [2, 1, 0]
    stored = await storage.get_run("r")
    assert stored is not None
    assert stored.head == "r-000005"
    assert (await workflow.run_from_checkpoint("r-000003")).get_outputs() == [2, 1, 0]


async def test_an_unknown_checkpoint_names_the_newest_there_are() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = shout_workflow(storage=storage)
    with pytest.raises(
        CheckpointNotFoundError, match=r"no checkpoint 'nonsense'; it holds no checkpoints at all"
    ):
        await workflow.run_from_checkpoint("nonsense")
    await workflow.run("x", run_id="r")
    with pytest.raises(CheckpointNotFoundError, match=r"'r-000000', 'r-000001', 'r-000002'"):
        await workflow.run_from_checkpoint("nonsense")


async def test_without_storage_there_is_nothing_to_resume_from() -> None:
    with pytest.raises(CheckpointingDisabledError, match="pass checkpoint_storage="):
        await shout_workflow().run_from_checkpoint("x")


async def test_an_explicit_storage_wins_and_receives_the_new_checkpoints() -> None:
    built_in, given = InMemoryCheckpointStorage(), InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=built_in)
    await workflow.run(2, run_id="r", checkpoint_storage=given)
    assert await built_in.list_checkpoint_ids() == []
    assert len(await given.list_checkpoint_ids()) == 4

    await workflow.run_from_checkpoint("r-000001", checkpoint_storage=given)
    assert len(await given.list_checkpoint_ids()) == 6
    assert await built_in.list_checkpoint_ids() == []
    fresh = counter_workflow()
    assert (
        await fresh.run_from_checkpoint("r-000001", checkpoint_storage=given)
    ).get_outputs() == [2, 1, 0]


async def test_a_checkpoint_of_another_storage_becomes_the_first_of_a_run() -> None:
    source, target = InMemoryCheckpointStorage(), InMemoryCheckpointStorage()
    await counter_workflow(storage=source).run(3, run_id="r")
    cp = (await source.list_checkpoints())[2]

    result = await counter_workflow(storage=target).run_from_checkpoint(cp)

    assert result.get_outputs() == [3, 2, 1, 0]
    assert [c.iteration_count for c in await target.list_checkpoints()] == [2, 3, 4]
    assert len(await source.list_checkpoint_ids()) == 5


async def test_a_checkpoint_made_by_hand_can_be_resumed() -> None:
    storage = InMemoryCheckpointStorage()
    made = WorkflowCheckpoint(
        workflow_id="count",
        messages={"counter": [{"data": 1, "source_id": "counter", "target_id": "counter"}]},
        iteration_count=5,
    )
    result = await counter_workflow(storage=storage).run_from_checkpoint(made)
    assert result.get_outputs() == [1, 0]
    changed = replace(
        made, messages={"counter": [{"data": 1, "source_id": "counter", "target_id": "nobody"}]}
    )
    with pytest.raises(GraphChangedError, match="nobody"):
        await counter_workflow(storage=storage).run_from_checkpoint(changed)


async def test_a_changed_graph_is_refused_and_the_differences_are_listed() -> None:
    storage = InMemoryCheckpointStorage()
    await shout_workflow(storage=storage).run("x", run_id="r")

    up, back, more = Upper("up"), Reverse("behind"), Counter("more")

    @executor(id="mid")
    async def mid(text: str, ctx: WorkflowContext[str]) -> None:
        pass

    changed = built(WorkflowBuilder(name="shout").add_chain([up, mid, back]), up, storage=storage)
    with pytest.raises(GraphChangedError) as caught:
        await changed.run_from_checkpoint("r-000001")

    assert set(caught.value.differences) == {
        "executor 'back' was removed",
        "executor 'mid' was added",
        "executor 'behind' was added",
        "edge edge:up->back [] was removed",
        "edge edge:up->mid [] was added",
        "edge edge:mid->behind [] was added",
    }
    assert all(difference in str(caught.value) for difference in caught.value.differences)
    assert "Resume with the graph that wrote it" in str(caught.value)
    with pytest.raises(GraphChangedError, match="the start was 'up' and is now 'more'"):
        await built(
            WorkflowBuilder().add_edge(more, more), more, storage=storage
        ).run_from_checkpoint("r-000001")
    assert (
        await shout_workflow(storage=storage).run_from_checkpoint("r-000001")
    ).get_outputs() == ["X"]


async def test_the_limit_is_not_part_of_the_graph() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow(10, storage=storage).run(2, run_id="r")
    assert (
        await counter_workflow(20, storage=storage).run_from_checkpoint("r-000001")
    ).get_outputs() == [2, 1, 0]


# ---------------------------------------------------------------------------------------- answering


async def test_resuming_a_waiting_run_asks_again_and_takes_answers_with_it() -> None:
    storage = InMemoryCheckpointStorage()
    first = await asking_workflow(storage=storage).run("why", run_id="r")
    assert questions(first) == ["ask-why"]
    assert first.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS

    again = await asking_workflow(storage=storage).run_from_checkpoint("r-000002")
    assert questions(again) == ["ask-why"]
    (event,) = again.get_request_info_events()
    assert (event.source_executor_id, event.response_type, event.data.prompt) == (
        "asker",
        str,
        "why",
    )

    answered = await asking_workflow(storage=storage).run_from_checkpoint(
        "r-000002", responses={"ask-why": "so"}
    )
    assert questions(answered) == []
    assert answered.get_outputs() == ["why=so"]


async def test_wrong_answers_at_a_resume_change_nothing() -> None:
    storage = CountingStorage()
    await asking_workflow(storage=storage).run("why", run_id="r")
    storage.writes.names.clear()
    for wrong in ({"nonsense": "x"}, {"ask-why": 7}, {"ask-why": "ok", "nonsense": "x"}):
        with pytest.raises(RequestError, match="Nothing was changed"):
            await asking_workflow(storage=storage).run_from_checkpoint("r-000002", responses=wrong)
    assert storage.writes.names == []
    result = await asking_workflow(storage=storage).send_responses({"ask-why": "so"})
    assert result.get_outputs() == ["why=so"]


@pytest.mark.parametrize("stored", [False, True])
async def test_several_runs_wait_and_each_answer_finds_its_own(stored: bool) -> None:
    workflow = asking_workflow(storage=InMemoryCheckpointStorage() if stored else None)
    runs = {text: await workflow.run(text) for text in ("a", "b", "c")}
    assert len({run.run_id for run in runs.values()}) == 3

    for text in ("b", "a", "c"):
        result = await workflow.send_responses({f"ask-{text}": text.upper()})
        assert result.run_id == runs[text].run_id
        assert result.get_outputs() == [f"{text}={text.upper()}"]
    with pytest.raises(
        UnknownRequestError, match="no run of workflow 'ask' waits for request 'ask-a'"
    ):
        await workflow.send_responses({"ask-a": "again"})


async def test_an_answer_finds_its_run_in_the_storage_of_a_new_process() -> None:
    storage = InMemoryCheckpointStorage()
    first = await asking_workflow(storage=storage).run("why")

    events = await collect(
        asking_workflow(storage=storage).send_responses_streaming({"ask-why": "so"})
    )

    assert outputs(events) == ["why=so"]
    assert kinds(events)[0] == "WorkflowStarted"
    assert events[0] == WorkflowStartedEvent(run_id=first.run_id)


async def test_an_answer_only_finds_runs_of_its_own_workflow() -> None:
    storage = InMemoryCheckpointStorage()
    await asking_workflow(storage=storage).run("why")
    asker, port = Asker("asker"), RequestInfoExecutor("port")
    other = built(
        WorkflowBuilder(name="other").add_edge(asker, port).add_edge(port, asker),
        asker,
        storage=storage,
    )
    with pytest.raises(UnknownRequestError, match="another workflow"):
        await other.send_responses({"ask-why": "so"})


async def test_answers_of_different_runs_come_one_run_at_a_time() -> None:
    workflow = asking_workflow()
    await workflow.run("a")
    await workflow.run("b")
    with pytest.raises(RequestError, match="different runs"):
        await workflow.send_responses({"ask-a": "1", "ask-b": "2"})
    with pytest.raises(RequestError, match="at least one"):
        await workflow.send_responses({})
    assert (await workflow.send_responses({"ask-a": "1"})).get_outputs() == ["a=1"]


async def test_a_refused_answer_leaves_the_waiting_run_answerable() -> None:
    workflow = asking_workflow()
    await workflow.run("a")
    for wrong in ({"ask-a": 7}, {"ask-a": "x", "nonsense": 1}):
        with pytest.raises(RequestError):
            await workflow.send_responses(wrong)
    assert (await workflow.send_responses({"ask-a": "1"})).get_outputs() == ["a=1"]


async def test_an_answer_to_a_run_with_a_consumer_is_refused_whole() -> None:
    workflow = asking_workflow()
    run = workflow.run_stream("a")
    await collect(run)
    stream = run.watch_stream()
    with pytest.raises(StreamBusyError):
        await workflow.send_responses({"ask-a": "1"})
    assert [event async for event in stream] == []
    assert (await workflow.send_responses({"ask-a": "2"})).get_outputs() == ["a=2"]


# -------------------------------------------------------------------------------------- concurrency


@pytest.mark.parametrize("stored", [False, True])
async def test_with_factories_concurrent_runs_do_not_see_each_other(
    stored: bool,
) -> None:
    class Slow(Tally):
        @handler
        async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
            await asyncio.sleep(0)
            await super().add(number, ctx)

    builder = WorkflowBuilder(name="w").register_executor(Slow, "tally").add_edge("tally", "tally")
    if stored:
        builder.with_checkpointing(InMemoryCheckpointStorage())
    workflow = builder.set_start_executor("tally").build()

    results = await asyncio.gather(*(workflow.run(number) for number in range(1, 20)))

    assert [result.get_outputs() for result in results] == [
        [n * (n + 1) // 2] for n in range(1, 20)
    ]


async def test_stateless_instances_serve_many_runs_at_once() -> None:
    workflow = counter_workflow(storage=InMemoryCheckpointStorage())
    results = await asyncio.gather(*(workflow.run(number) for number in range(10)))
    assert [result.get_outputs() for result in results] == [
        list(range(n, -1, -1)) for n in range(10)
    ]


@pytest.mark.parametrize("stored", [False, True])
async def test_a_hooked_instance_refuses_a_second_run_while_the_first_is_driven(
    stored: bool,
) -> None:
    leave = asyncio.Event()

    class Waiting(Tally):
        @handler
        async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
            await leave.wait()
            self.total += number
            await ctx.yield_output(self.total)

    waiting = Waiting()
    workflow = built(
        WorkflowBuilder(), waiting, storage=InMemoryCheckpointStorage() if stored else None
    )
    first = asyncio.create_task(workflow.run(1, run_id="first"))
    await asyncio.sleep(0.01)

    with pytest.raises(
        ConcurrentRunError, match=r"executor 'tally'.*in use by run 'first'.*register_executor"
    ):
        await workflow.run(2)

    leave.set()
    assert (await first).get_outputs() == [1]
    assert (await workflow.run(2)).get_outputs() == [2]


@pytest.mark.parametrize("stored", [False, True])
async def test_sequential_runs_of_a_hooked_instance_do_not_leak(stored: bool) -> None:
    tally = Tally()
    storage = InMemoryCheckpointStorage() if stored else None
    workflow = built(WorkflowBuilder().add_edge(tally, tally), tally, storage=storage)

    assert [(await workflow.run(n)).get_outputs() for n in (3, 2, 3)] == [[6], [3], [6]]


@pytest.mark.parametrize("stored", [False, True])
async def test_parked_runs_may_take_turns_with_a_hooked_instance(stored: bool) -> None:
    tally = Tally()
    storage = InMemoryCheckpointStorage() if stored else None
    workflow = built(WorkflowBuilder().add_edge(tally, tally), tally, storage=storage)
    runs = [workflow.run_stream(n) for n in (3, 4)]
    for _ in range(2):
        for run in runs:
            await take(run, SuperStepCompletedEvent)
            assert await no_task_left()

    assert [(await run.wait_for_completion()).get_outputs() for run in runs] == [[6], [10]]


async def test_a_workflow_serves_several_event_loops_one_after_the_other() -> None:
    workflow = shout_workflow(storage=InMemoryCheckpointStorage())

    def in_a_loop_of_its_own() -> list[Any]:
        return asyncio.run(workflow.run("x")).get_outputs()

    assert await asyncio.to_thread(in_a_loop_of_its_own) == ["X"]
    assert (await workflow.run("y")).get_outputs() == ["Y"]


# ------------------------------------------------------------------------------------- odd storages


class PlainStorage:
    """A storage with the five methods and nothing more."""

    def __init__(self) -> None:
        self.saved: dict[str, WorkflowCheckpoint] = {}

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self.saved[checkpoint.checkpoint_id] = checkpoint
        return checkpoint.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self.saved.get(checkpoint_id)

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return [cp.checkpoint_id for cp in await self.list_checkpoints(workflow_id)]

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        return [cp for cp in self.saved.values() if workflow_id in (None, cp.workflow_id)]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return self.saved.pop(checkpoint_id, None) is not None


async def test_any_object_with_the_five_methods_is_a_storage() -> None:
    storage = PlainStorage()
    with pytest.warns(PartialStorageWarning):
        result = await counter_workflow(storage=storage).run(2, run_id="r")
    assert result.get_outputs() == [2, 1, 0]
    assert [cp.iteration_count for cp in storage.saved.values()] == [0, 1, 2, 3]

    with pytest.warns(PartialStorageWarning):
        again = await counter_workflow(storage=storage).run_from_checkpoint(list(storage.saved)[1])
    assert again.get_outputs() == [2, 1, 0]


class Forgetful(Executor):
    @handler
    async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


async def test_a_workflow_without_edges_is_fine() -> None:
    workflow: Workflow = built(WorkflowBuilder(), Forgetful("only"))
    assert (await workflow.run("x")).get_outputs() == ["x"]


def test_run_sync_is_for_scripts() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = shout_workflow(storage=storage)

    assert workflow.run_sync("hello", run_id="r").get_outputs() == ["OLLEH"]
    assert workflow.run_sync("hello", run_id="r", if_exists="attach").get_outputs() == ["OLLEH"]


async def test_run_sync_refuses_inside_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match=r"await workflow\.run"):
        shout_workflow().run_sync("hello")
