"""Forking: a new run from any checkpoint of any run, with state, messages or input changed; the
old one stays.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from supersteps import (
    DELETE,
    CheckpointEncodeError,
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    Executor,
    ForkError,
    GraphChangedError,
    InMemoryCheckpointStorage,
    RequestError,
    RunExistsError,
    SqliteCheckpointStorage,
    SuperStepCompletedEvent,
    UnhandledMessageError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    handler,
)
from supersteps.checkpoint.parts import ListPart
from supersteps.storage.plain.adapter import as_durable
from tests.unit.support import (
    CountingStorage,
    built,
    collect,
    counter_workflow,
    outputs,
    questions,
    shout_workflow,
    take,
)
from tests.unit.travelling import (
    KINDS,
    WITH_PLAIN,
    Order,
    Worker,
    apply_patch,
    everything,
    nested,
    step,
    trip,
)

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")


@pytest.fixture(params=list(WITH_PLAIN))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return WITH_PLAIN[request.param](tmp_path)


@pytest.fixture(params=list(KINDS))
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return KINDS[request.param](tmp_path)


async def waiting_trip(storage: Any, run_id: str = "old") -> Any:
    """Return the handle of a trip that has come to its question: supersteps 0 to 4."""
    run = trip(storage).run_stream(Order("tea", 3), run_id=run_id)
    await run.wait_for_completion()
    return run


async def in_memory() -> tuple[Workflow, Any]:
    storage = InMemoryCheckpointStorage()
    return trip(storage), await waiting_trip(storage)


# ----------------------------------------------------------------------------------- what a fork is


async def test_a_fork_begins_where_the_source_stands_and_changes_nothing_of_it(
    storage: Any,
) -> None:
    old = await waiting_trip(storage)
    before = await everything(storage, "old")
    at = step(old.checkpoints, 2)

    fork = trip(storage).fork(at, run_id="new", metadata={"why": "test"}, tags=["try"])
    result = await fork.wait_for_completion()

    assert await everything(storage, "old") == before
    first = fork.checkpoints[0]
    assert (first.run_id, first.step_number, first.parent) == ("new", 2, None)
    loaded, source = (
        await storage.load_checkpoint(first.checkpoint_id),
        await storage.load_checkpoint(at.checkpoint_id),
    )
    assert (loaded.sequence, loaded.branch, loaded.parent, loaded.iteration_count) == (
        0,
        0,
        None,
        2,
    )
    assert loaded.metadata == {"why": "test"}
    assert not source.diff(loaded)
    record = await as_durable(storage).get_run("new")
    assert record is not None
    assert (record.parent_run, record.parent_checkpoint) == ("old", at.checkpoint_id)
    assert record.tags == ("try",)
    assert record.fingerprint == trip().graph_signature_hash
    assert result.get_outputs() == ["did 3", "did 2", "did 1"]
    assert [info.step_number for info in fork.checkpoints] == [2, 3, 4]


async def test_list_parts_stay_list_parts(durable: Any) -> None:
    old = await waiting_trip(durable)
    fork = trip(durable).fork(old.latest_checkpoint, {"shared_state.log.0": "planned coffee"})
    await fork.wait_for_completion()

    record = await durable.load_record(fork.checkpoints[0].checkpoint_id)

    assert isinstance(record.parts["shared_state", "log"], ListPart)
    assert isinstance(record.parts["outputs",], ListPart)
    head = await durable.load_checkpoint(fork.checkpoints[-1].checkpoint_id)
    assert head.shared_state["log"][0] == "planned coffee"
    again = await fork.wait_for_completion()
    assert again.get_outputs() == ["did 3", "did 2", "did 1"]


async def test_nothing_is_written_before_the_first_step_of_iteration() -> None:
    storage = CountingStorage()
    await shout_workflow(storage=storage).run("x", run_id="old")
    storage.writes.names.clear()

    fork = shout_workflow(storage=storage).fork("old-000001", run_id="new")

    assert storage.writes.names == []
    assert await storage.get_run("new") is None
    await fork.wait_for_completion()
    assert await storage.get_run("new") is not None


async def test_waiting_questions_wait_in_the_fork_too(storage: Any) -> None:
    old = await waiting_trip(storage)
    workflow = trip(storage)  # as in a new process: another object

    fork = workflow.fork(old.latest_checkpoint, run_id="new")
    events = await collect(fork)
    (request_id,) = questions(events)
    await fork.send_response(request_id, False)
    more = await fork.wait_for_completion()
    answered = await old.send_response(request_id, True) or await old.wait_for_completion()

    assert answered.get_outputs() == ["did 3", "did 2", "did 1", "fine"]
    assert more.get_outputs() == ["did 3", "did 2", "did 1", "again", "did 1"]
    record = await as_durable(storage).get_run("new")
    assert record is not None
    assert len(record.requests) == 1
    assert record.requests != (request_id,)
    assert more.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS


async def test_an_answer_that_names_no_run_is_refused_while_both_wait(durable: Any) -> None:
    workflow = trip(durable)
    old = workflow.run_stream(Order("tea", 1), run_id="old")
    (request_id,) = questions(await collect(old))
    fork = workflow.fork("old-000002", run_id="new")
    await fork.wait_for_completion()

    with pytest.raises(RequestError, match=r"waits in several runs \((old, new|new, old)\)"):
        await workflow.send_responses({request_id: True})
    await old.send_response(request_id, True)
    await old.wait_for_completion()
    result = await workflow.send_responses({request_id: False})

    assert result.get_outputs() == ["did 1", "again", "did 1"]


async def test_neither_journal_nor_inbox_are_copied(durable: Any) -> None:
    old = await waiting_trip(durable)
    head = await durable.get_run("old")
    await durable.add_answers("old", [(head.requests[0], b"true")])

    fork = trip(durable).fork(old.latest_checkpoint, run_id="new")
    result = await fork.wait_for_completion()

    assert await durable.read_inbox("new") == []
    assert len(await durable.read_inbox("old")) == 1
    assert result.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS


async def test_a_fork_of_a_fork_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteCheckpointStorage(path) as storage:
        await waiting_trip(storage)
    async with SqliteCheckpointStorage(path) as storage:
        first = trip(storage).fork("old-000001", {"messages.0": 1}, run_id="one")
        assert (await first.wait_for_completion()).get_outputs() == ["did 1"]
    async with SqliteCheckpointStorage(path) as storage:
        second = trip(storage).fork("one-000000", {"messages.0": 2}, run_id="two")
        assert (await second.wait_for_completion()).get_outputs() == ["did 2", "did 1"]
        record = await storage.get_run("two")
        assert record is not None
        assert (record.parent_run, record.parent_checkpoint) == ("one", "one-000000")


async def test_a_checkpoint_of_another_storage_is_forked_into_this_one(durable: Any) -> None:
    _workflow, old = await in_memory()
    elsewhere = InMemoryCheckpointStorage()
    source = await old.storage.load_checkpoint(step(old.checkpoints, 2).checkpoint_id)

    result = await trip(elsewhere).fork(source, run_id="new").wait_for_completion()

    assert result.get_outputs() == ["did 3", "did 2", "did 1"]
    assert await elsewhere.get_run("old") is None


async def test_a_resumed_fork_goes_on_and_counts_its_own_supersteps(storage: Any) -> None:
    await counter_workflow(storage=storage).run(5, run_id="old")
    fork = counter_workflow(storage=storage).fork("old-000003", run_id="new")
    await take(fork, SuperStepCompletedEvent)
    await fork.aclose()

    result = await counter_workflow(storage=storage).run_from_checkpoint("new-000001")

    assert result.get_outputs() == [5, 4, 3, 2, 1, 0]
    head = await storage.load_checkpoint("new-000003")
    assert head.iteration_count == 6


# ------------------------------------------------------------------------------------------ changes


@pytest.mark.parametrize(
    "path", ["input", ("input",), "/input"], ids=["string", "tuple", "pointer"]
)  # fmt: skip
async def test_another_input(storage: Any, path: Any) -> None:
    await waiting_trip(storage)

    result = await trip(storage).fork("old-000000", {path: Order("milk", 1)}).wait_for_completion()

    assert result.get_outputs() == ["did 1"]


async def test_inside_the_input() -> None:
    workflow, _old = await in_memory()

    fork = workflow.fork("old-000000", {"input.count": 2, "input.tags.-": "rush"}, run_id="new")
    await fork.wait_for_completion()

    head = await fork.storage.load_checkpoint("new-000001")  # type: ignore[union-attr]
    assert head is not None
    assert head.shared_state["order"] == Order("tea", 2, ["rush"])


async def test_every_section_can_be_changed(storage: Any) -> None:
    await waiting_trip(storage)
    changes: dict[str | tuple[str | int, ...], Any] = {
        "shared_state.order.item": "milk",
        ("shared_state", "limits", "v1.2"): "still dotted",
        "/shared_state/limits/left/0": 9,
        "shared_state.limits.left.-": 0,
        "shared_state.limits.depth.here": DELETE,
        ("shared_state", "log", 1): DELETE,
        "shared_state.fresh": (1, 2),
        "executor_states.worker.total": 100,
        "executor_states.planner.seen": DELETE,
        "scopes.notes.one": {"a": 1},
        "messages.0": 1,
    }

    fork = trip(storage).fork("old-000002", changes, run_id="new")
    await fork.wait_for_completion()

    first = await storage.load_checkpoint("new-000000")
    assert first.shared_state == {
        "order": Order("milk", 3),
        "limits": {"left": [9, 2, 1, 0], "v1.2": "still dotted", "depth": {}},
        "log": ["planned tea"],
        "fresh": (1, 2),
    }
    assert first.executor_states["worker"] == {"total": 100}
    assert not first.executor_states.get("planner")
    assert first.scopes == {"notes": {"one": {"a": 1}}}
    assert [m["data"] for sent in first.messages.values() for m in sent] == [1]
    head = await storage.load_checkpoint("new-000001")
    assert head.executor_states["worker"] == {"total": 101}


class Pair(NamedTuple):
    left: int
    right: list[int]


class Packet(msgspec.Struct, frozen=True):
    name: str
    inner: dict[int, str]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    number: int


class Route:
    """Says itself what is saved of it."""

    __slots__ = ("stops",)

    def __init__(self, *stops: str) -> None:
        if not all(isinstance(stop, str) for stop in stops):
            raise TypeError("a stop is a text")
        self.stops = stops

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Route) and other.stops == self.stops

    def to_dict(self) -> dict[str, Any]:
        return {"stops": list(self.stops), "count": len(self.stops)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Route":
        return cls(*state["stops"])


class Keeper(Executor):
    @handler
    async def keep(self, number: int, ctx: WorkflowContext[Pair | Packet | Model | Route]) -> None:
        await ctx.set_shared_state("route", Route("a", "b"))
        await ctx.set_shared_state("pair", Pair(1, [2]))
        await ctx.set_shared_state("packet", Packet("a", {1: "x", 2: "y"}))
        await ctx.set_shared_state("model", Model(number=number))
        await ctx.set_shared_state("tuple", (1, (2, 3)))


@pytest.mark.parametrize(
    ("path", "value", "key", "wanted"),
    [
        ("shared_state.pair.left", 5, "pair", Pair(5, [2])),
        ("shared_state.pair.1.0", 7, "pair", Pair(1, [7])),
        ("shared_state.packet.name", "b", "packet", Packet("b", {1: "x", 2: "y"})),
        ("shared_state.packet.inner.2", DELETE, "packet", Packet("a", {1: "x"})),
        (
            ("shared_state", "packet", "inner", 3),
            "z",
            "packet",
            Packet("a", {1: "x", 2: "y", 3: "z"}),
        ),
        ("shared_state.model.number", 8, "model", Model(number=8)),
        ("shared_state.route.stops", ["x"], "route", Route("x")),
        ("shared_state.route.stops.-", "c", "route", Route("a", "b", "c")),
        ("shared_state.tuple.1.0", 9, "tuple", (1, (9, 3))),
        ("shared_state.tuple.0", DELETE, "tuple", ((2, 3),)),
    ],
)
async def test_inside_values_of_every_kind(path: Any, value: Any, key: str, wanted: Any) -> None:
    storage = InMemoryCheckpointStorage()
    keeper = Keeper("keeper")
    workflow = built(WorkflowBuilder(name="keep"), keeper, storage=storage)
    await workflow.run(4, run_id="old")

    await workflow.fork("old-000001", {path: value}, run_id="new").wait_for_completion()

    head = await storage.load_checkpoint("new-000000")
    old = await storage.load_checkpoint("old-000001")
    assert head is not None
    assert old is not None
    assert head.shared_state[key] == wanted
    assert type(head.shared_state[key]) is type(wanted)
    assert {k: v for k, v in head.shared_state.items() if k != key} == {
        k: v for k, v in old.shared_state.items() if k != key
    }


@pytest.mark.parametrize(
    "path", ["shared_state.pair.left", "shared_state.model.number", "shared_state.pair.2"]
)
async def test_fields_cannot_be_removed(path: str) -> None:
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(name="keep"), Keeper("keeper"), storage=storage)
    await workflow.run(4, run_id="old")

    with pytest.raises(ForkError):
        await workflow.fork("old-000001", {path: DELETE}).wait_for_completion()


async def test_what_from_dict_does_not_accept_is_refused() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(name="keep"), Keeper("keeper"), storage=storage)
    await workflow.run(4, run_id="old")

    with pytest.raises(ForkError, match="from_dict raised TypeError: a stop is a text"):
        await workflow.fork("old-000001", {"shared_state.route.stops.0": 1}).wait_for_completion()


async def test_a_message_can_be_taken_out() -> None:
    workflow, _old = await in_memory()

    result = await workflow.fork("old-000002", {"messages.0": DELETE}).wait_for_completion()

    assert result.get_outputs() == ["did 3"]
    assert result.get_final_state() is WorkflowRunState.IDLE


@pytest.mark.parametrize(
    ("at", "path", "value", "words"),
    [
        (2, "nowhere.x", 1, r"no section 'nowhere'.*shared_state\.KEY"),
        (2, "outputs.0", 1, "'outputs' records what happened"),
        (
            2,
            "shared_state",
            {},
            r"whole section.*Keys there: 'order', 'limits', 'log'.*Write shared_state\.KEY",
        ),
        (2, "shared_state.none", DELETE, "no key 'none'.*'order'.*'log'"),
        (2, "shared_state.none.deep", 1, "no key 'none'"),
        (
            2,
            "shared_state.order.colour",
            1,
            r"shared_state\.order is a .*Order with attributes 'item', 'count', 'tags'",
        ),
        (2, "shared_state.order.item", DELETE, "'item' is an attribute"),
        (2, "shared_state.log.7", "x", "a list of 2 elements.*no '7'"),
        (
            2,
            "shared_state.limits.depth.there.more",
            1,
            "with the keys there are 'here'.*no 'there'",
        ),
        (2, "shared_state.limits.v1.2", 1, "no 'v1'"),
        (2, "executor_states.worker", {}, r"whole section.*worker\.total"),
        (
            2,
            "executor_states.nobody.total",
            1,
            "no executor 'nobody'; there are 'planner', 'worker'",
        ),
        (
            2,
            ("executor_states", "review#1/x", "total"),
            1,
            "no sub-workflow 'review#1' is running; there is none",
        ),
        (2, "messages", [], r"say which message.*messages\.INDEX.*0 \(worker -> worker\)"),
        (2, "messages.3", 1, "no message '3'.*Messages in flight: 0"),
        (2, "messages.0", "text", "goes to executor 'worker', which handles int, not a str"),
        (2, "input", Order("x"), "is that of superstep 2.*only iteration 0"),
        (0, "input", DELETE, "without input does nothing"),
        (2, "", 1, "is not a path"),
        (2, "shared_state..x", 1, "is not a path"),
        (2, "shared_state.\ud800", 1, "half of a surrogate pair"),
        (2, (), 1, "is not a path"),
        (2, 7, 1, "is not a path"),
    ],
)
async def test_what_leads_nowhere_is_refused_and_creates_nothing(
    at: int, path: Any, value: Any, words: str
) -> None:
    workflow, old = await in_memory()

    with pytest.raises(ForkError, match=words) as error:
        await workflow.fork(
            step(old.checkpoints, at), {path: value}, run_id="new"
        ).wait_for_completion()

    assert isinstance(error.value, ValueError)
    assert await old.storage.get_run("new") is None


async def test_an_input_that_the_start_executor_does_not_take() -> None:
    workflow, old = await in_memory()

    with pytest.raises(
        UnhandledMessageError, match=r"cannot start with a str.*planner.*handles .*Order"
    ):
        await workflow.fork("old-000000", {"input": "tea"}, run_id="new").wait_for_completion()
    assert await old.storage.get_run("new") is None


async def test_a_value_that_cannot_be_saved_is_named_by_its_path() -> None:
    workflow, old = await in_memory()

    with pytest.raises(CheckpointEncodeError, match=r"'shared_state\.order'"):
        await workflow.fork(
            "old-000002", {"shared_state.order": object()}, run_id="new"
        ).wait_for_completion()
    with pytest.raises(CheckpointEncodeError, match=r"messages\.0|shared_state\.limits\.left"):
        await workflow.fork(
            "old-000002", {"shared_state.limits.left": [os]}, run_id="new"
        ).wait_for_completion()
    assert await old.storage.get_run("new") is None


async def test_what_forking_refuses_besides(storage: Any) -> None:
    await waiting_trip(storage)

    with pytest.raises(RunExistsError):
        await trip(storage).fork("old-000001", run_id="old").wait_for_completion()
    with pytest.raises(CheckpointNotFoundError):
        await trip(storage).fork("gone-000001").wait_for_completion()
    with pytest.raises(GraphChangedError):
        await shout_workflow(storage=storage).fork("old-000001").wait_for_completion()
    with pytest.raises(CheckpointingDisabledError, match="no storage to fork from"):
        await trip().fork("old-000001").wait_for_completion()
    with pytest.raises(ValueError, match="run_id"):
        trip(storage).fork("old-000001", run_id="")


def test_the_sentinel_shows_its_name() -> None:
    assert repr(DELETE) == "DELETE"


# ------------------------------------------------------------------------------------ sub-workflows


async def test_a_sub_workflow_forks_with_its_question_and_its_state(storage: Any) -> None:
    old = nested(storage).run_stream("news", run_id="old")
    await old.wait_for_completion()
    path = next(iter((await storage.load_checkpoint("old-000002")).sub_workflows))
    changes: dict[str | tuple[str | int, ...], Any] = {
        ("sub_state", path, "text"): "Olds",
        ("executor_states", f"{path}/reviewer", "asked", 0): "changed",
    }

    fork = nested(storage).fork("old-000002", changes, run_id="new")
    (request_id,) = questions(await collect(fork))
    await fork.send_response(request_id, True)
    result = await fork.wait_for_completion()
    await old.send_response(request_id, False)

    assert result.get_outputs() == ["printed Olds ['changed']: True"]
    assert (await old.wait_for_completion()).get_outputs() == ["printed News ['News']: False"]


async def test_the_state_of_a_sub_workflow_that_is_not_there() -> None:
    storage = InMemoryCheckpointStorage()
    await nested(storage).run("news", run_id="old")

    for path in (("sub_state", "review#9", "text"), ("sub_scopes", "review#9", "notes", "x")):
        with pytest.raises(
            ForkError, match="no sub-workflow 'review#9' is running; there are 'review#1'"
        ):
            await nested(storage).fork("old-000002", {path: "x"}).wait_for_completion()
    with pytest.raises(
        ForkError, match="no executor 'review#1/nobody'; there are 'review#1/reviewer'"
    ):
        await (
            nested(storage)
            .fork("old-000002", {("executor_states", "review#1/nobody", "x"): 1})
            .wait_for_completion()
        )


# --------------------------------------------------- restoring, resuming, comparing: what was there


async def test_an_abandoned_branch_stays_readable_and_can_be_forked(storage: Any) -> None:
    run = await waiting_trip(storage)
    (request_id,) = (await storage.load_checkpoint("old-000004")).pending_requests
    await run.send_response(request_id, True)
    await run.wait_for_completion()
    await run.restore_checkpoint("old-000004")
    await run.send_response(request_id, False)
    await run.wait_for_completion()

    abandoned = await storage.load_checkpoint("old-000005")
    assert abandoned.outputs[-1] == "fine"
    assert abandoned.checkpoint_id not in [info.checkpoint_id for info in run.checkpoints]
    fork = trip(storage).fork(abandoned)
    assert (await fork.wait_for_completion()).get_outputs()[-1] == "fine"


async def test_resuming_any_checkpoint_with_a_workflow_made_anew(storage: Any) -> None:
    await waiting_trip(storage)

    for number in (1, 0, 3, 2):
        result = await trip(storage).run_from_checkpoint(f"old-{number:06}")
        assert result.get_outputs() == ["did 3", "did 2", "did 1"]


async def test_differences_of_any_two_checkpoints_also_across_forks(storage: Any) -> None:
    old = await waiting_trip(storage)
    (request_id,) = (await storage.load_checkpoint("old-000004")).pending_requests
    await old.send_response(request_id, True)
    await old.wait_for_completion()
    fork = trip(storage).fork(
        "old-000002", {"shared_state.order.item": "milk", "messages.0": 4}, run_id="new"
    )
    await fork.wait_for_completion()
    checkpoints = [c for c in await storage.list_checkpoints() if c.run_id in ("old", "new")]
    assert len(checkpoints) >= 11

    for one in checkpoints:
        for other in checkpoints:
            difference = one.diff(other)
            assert apply_patch(one.document(), difference.to_json_patch()) == other.document()
            assert bool(difference) == (one.document() != other.document())

    shown = str(
        (await storage.load_checkpoint("old-000004")).diff(
            await storage.load_checkpoint(fork.checkpoints[-1].checkpoint_id)
        )
    )
    assert "milk" in shown
    assert "requests" in shown
    assert "outputs" in shown
    waiting = await storage.load_checkpoint("old-000004")
    done = await storage.load_checkpoint("old-000005")
    assert f"- requests[{request_id!r}]" in str(waiting.diff(done))
    assert '+ outputs[3]: "fine"' in str(waiting.diff(done))
    first = await storage.load_checkpoint("new-000000")
    assert "~ messages[0]['data']: 2 -> 4" in str(
        (await storage.load_checkpoint("old-000002")).diff(first)
    )


async def test_a_worker_of_a_fork_is_not_told_that_it_replays() -> None:
    storage = InMemoryCheckpointStorage()
    await waiting_trip(storage)
    worker = Worker()

    events = await collect(trip(storage, worker).fork("old-000003"))

    assert outputs(events) == ["did 1"]
    assert worker.replaying == [False]


async def test_changes_may_be_any_mapping_as_type_checkers_see_it() -> None:
    """Keys of a mapping are invariant, so each of these could be refused by a type checker."""
    workflow, _old = await in_memory()
    strings: dict[str, Any] = {"messages.0": 1}
    tuples: dict[tuple[str, int], int] = {("messages", 0): 1}

    for fork in (
        workflow.fork("old-000002", strings),
        workflow.fork("old-000002", tuples),
        workflow.fork("old-000002", {"messages.0": 1, ("shared_state", "x"): "y"}),
        workflow.fork("old-000002", {}),
    ):
        assert (await fork.wait_for_completion()).get_outputs()[-1] == "did 1"
