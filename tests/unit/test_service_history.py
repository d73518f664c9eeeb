"""The history of a run: branches, forks, what each superstep did, damage in the middle of it."""

import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import click
import msgspec
import pytest

from supersteps import (
    Case,
    Default,
    Executor,
    FailurePolicy,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    executor,
    handler,
    response_handler,
)
from supersteps.cli.commands.show import show_run
from supersteps.errors import CorruptCheckpointWarning
from supersteps.service.errors import ServiceError
from supersteps.service.history import forks_of
from supersteps.service.service import Service
from supersteps.service.views import Log, LogEntry
from supersteps.storage import answers
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import ManagedStorage
from tests.contract.support import SUBJECTS, Writer, open_subject
from tests.unit.support import (
    Reverse,
    Upper,
    asking_workflow,
    built,
    counter_workflow,
    shout_workflow,
)

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")

OnAll = pytest.mark.parametrize("subject", SUBJECTS)


def steps(log: Log, run_id: str | None = None) -> list[LogEntry]:
    """The entries of a log, or those of one run, oldest first."""
    return [entry for entry in reversed(log.entries) if run_id in (None, entry.run_id)]


async def ran(
    workflow: Workflow, message: Any, storage: ManagedStorage | None = None
) -> list[tuple[str, ...]]:
    """Who ran in each superstep of a run, from its start to its end."""
    storage = storage or InMemoryCheckpointStorage()
    await workflow.run(message, run_id="r", checkpoint_storage=storage)
    return [entry.ran for entry in steps(await Service(storage).log("r"))]


def check_order(entries: Sequence[LogEntry]) -> None:
    """A child always comes before its parent, and nothing twice."""
    places = {entry.checkpoint_id: place for place, entry in enumerate(entries)}
    assert len(places) == len(entries)
    for entry in entries:
        if entry.parent in places:
            assert places[entry.checkpoint_id] < places[entry.parent]


# ------------------------------------------------------------------------------------ one superstep


@OnAll
async def test_a_run_from_its_input_to_its_output(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await shout_workflow(storage=storage).run("abc", run_id="r")
        log = await Service(storage).log("r")

        first, second, third = steps(log)
        assert (first.step, first.parent, first.ran, first.messages) == (0, None, (), 1)
        assert (second.step, second.parent, second.ran, second.messages) == (
            1,
            first.checkpoint_id,
            ("up",),
            1,
        )
        assert (third.step, third.ran, third.messages, third.outputs) == (2, ("back",), 0, 1)
        assert (third.is_head, third.status) == (True, "IDLE")
        assert (second.is_head, second.status, second.outputs) == (False, "IN_PROGRESS", 0)
        assert log.run.step == 2
        assert log.is_complete
        msgspec.json.encode(log)


async def test_who_ran_after_a_fan_out_and_a_fan_in() -> None:
    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def join(texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("+".join(texts))

    left, right = Upper("left"), Upper("right")
    builder = (
        WorkflowBuilder()
        .add_fan_out_edges(start, [left, right])
        .add_fan_in_edges([left, right], join)
    )

    assert await ran(builder.set_start_executor(start).build(), "x") == [
        (),
        ("start",),
        ("left", "right"),
        ("join",),
    ]


async def test_who_ran_when_one_source_of_a_fan_in_is_late() -> None:
    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def between(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def join(texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("+".join(texts))

    left, right = Upper("left"), Upper("right")
    builder = WorkflowBuilder().add_fan_out_edges(start, [left, between]).add_edge(between, right)
    builder.add_fan_in_edges([left, right], join)

    assert (await ran(builder.set_start_executor(start).build(), "x"))[2:] == [
        ("left", "between"),
        ("right",),
        ("join",),
    ]


@pytest.mark.parametrize(("text", "way"), [("long enough", "a"), ("x", "b")])
async def test_who_ran_behind_a_switch(text: str, way: str) -> None:
    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    cases: list[Case | Default] = [Case(lambda t: len(t) > 3, Reverse("a")), Default(Reverse("b"))]
    builder = WorkflowBuilder().add_switch_case_edge_group(start, cases)

    assert await ran(builder.set_start_executor(start).build(), text) == [(), ("start",), (way,)]


async def test_who_ran_by_a_timer() -> None:
    @executor
    async def later(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.schedule(text, delay=0.02)
        await ctx.send_message("now")

    workflow = built(WorkflowBuilder().add_edge(later, Reverse("back")), later)

    assert await ran(workflow, "x") == [(), ("later",), ("back",), ("back",)]


async def test_calls_that_failed_and_wait_to_be_made_again() -> None:
    failing = ["second", "first"]

    @executor
    async def web(text: str, ctx: WorkflowContext[Never, str]) -> None:
        if failing:
            raise OSError(failing.pop())
        await ctx.yield_output(text)

    storage = InMemoryCheckpointStorage()
    builder = WorkflowBuilder(name="web").set_start_executor(web)
    policy = FailurePolicy(max_attempts=3, backoff=0.01, jitter=0)
    workflow = builder.with_failure_policy(web, policy).with_checkpointing(storage).build()
    await workflow.run("x", run_id="r")
    entries = (await Service(storage).log("r")).entries

    assert [[(r.executor_id, r.attempt) for r in entry.retries] for entry in reversed(entries)] == [
        [],
        [("web", 2)],
        [("web", 3)],
        [],
    ]
    await Service(storage).restore("r@2")
    details = await Service(storage).show_run("r")
    assert [(retry.executor_id, retry.attempt) for retry in details.retries] == [("web", 3)]
    assert details.timers == [details.retries[0].due]
    shown = click.unstyle("\n".join(show_run(details, full=False)))
    assert ", attempt 3 of web\n" in shown
    assert "@2  web (attempt 3 waits)" in shown


class Direct(Executor):
    """Asks by itself, twice."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        for number in "12":
            await ctx.request_info(f"{text}{number}", str, request_id=f"q{number}")

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.yield_output(answer)


@OnAll
async def test_questions_and_answers(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        asker = Direct("asker")
        workflow = built(
            WorkflowBuilder(name="ask").add_edge(asker, Reverse("unused")), asker, storage=storage
        )
        await workflow.run("x", run_id="r")
        await answers.answer(storage, "r", "q1", "yes")
        await workflow.run_from_checkpoint("r-000001")
        await answers.cancel_request(storage, "r", "q2")
        await workflow.run_from_checkpoint("r-000002")

        found = steps(await Service(storage).log("r"))
        assert [(e.ran, e.asked, e.closed, e.outputs) for e in found] == [
            ((), (), (), 0),
            (("asker",), ("q1", "q2"), (), 0),
            (("asker",), (), ("q1",), 1),
            ((), (), ("q2",), 0),
        ]
        assert found[1].status == "IDLE_WITH_PENDING_REQUESTS"


async def test_who_ran_in_a_sub_workflow() -> None:
    inner = asking_workflow()
    node = WorkflowExecutor(inner, "sub")
    workflow = built(WorkflowBuilder(name="outer").add_edge(node, Reverse("back")), node)
    storage = InMemoryCheckpointStorage()
    await workflow.run("x", run_id="r", checkpoint_storage=storage)
    service = Service(storage)
    (question,) = await service.list_questions()
    assert question.executor_id.endswith("/asker")
    await service.answer("@latest", "yes")
    await workflow.run_from_checkpoint((await service.find_checkpoint("r")).checkpoint_id, storage)

    found = [entry.ran for entry in steps(await service.log("r"))]
    path = question.executor_id.removesuffix("/asker")
    assert found == [(), (f"{path}/asker",), (f"{path}/port",), (f"{path}/asker",), ("back",)]


async def test_between_checkpoints_that_are_not_neighbours_nobody_can_tell_who_ran() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow().run(3, run_id="r", checkpoint_storage=storage)
    await storage.delete_checkpoint("r-000002")

    found = {entry.step: entry for entry in (await Service(storage).log("r")).entries}
    assert found[3].parent == "r-000001"
    assert found[3].ran == ()
    assert found[3].outputs == 2
    assert found[4].ran == ("counter",)


# ------------------------------------------------------------------------------- branches and forks


@OnAll
async def test_all_branches_and_all_forks(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        workflow = counter_workflow(storage=storage)
        await workflow.run(3, run_id="r")
        await workflow.run_from_checkpoint("r-000002")
        await workflow.fork("r-000003", run_id="f").wait_for_completion()
        await workflow.fork("f-000001", run_id="g").wait_for_completion()
        await workflow.run(1, run_id="stranger")
        service = Service(storage)
        log = await service.log("r")

        check_order(log.entries)
        assert [fork.run_id for fork in log.forks] == ["f", "g"]
        assert {entry.run_id for entry in log.entries} == {"r", "f", "g"}
        assert [(e.step, e.branch, e.parent) for e in steps(log, "r")] == [
            (0, 0, None),
            (1, 0, "r-000000"),
            (2, 0, "r-000001"),
            (3, 0, "r-000002"),
            (4, 0, "r-000003"),
            (3, 1, "r-000002"),
            (4, 1, "r-000005"),
        ]
        assert [entry.checkpoint_id for entry in log.entries if entry.is_head] == [
            log.forks[1].head,
            log.forks[0].head,
            "r-000006",
        ]
        begin = steps(log, "f")[0]
        assert (begin.parent, begin.step, begin.ran, begin.outputs) == ("r-000003", 3, (), 0)
        assert steps(log, "f")[1].ran == ("counter",)
        assert steps(log, "g")[0].parent == "f-000001"

        alone = await service.log("r", with_forks=False)
        assert {entry.run_id for entry in alone.entries} == {"r"}
        assert alone.forks == ()
        some = await service.log("r", limit=3)
        assert some.entries == log.entries[:3]
        assert not some.is_complete
        assert (await service.show_run("r")).forks == ["f"]
        with pytest.raises(ServiceError, match="limit"):
            await service.log("r", limit=-1)


async def test_a_clock_that_is_behind_does_not_put_a_child_after_its_parent() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage, "r")
    for _ in range(3):
        await writer.commit(lease_seconds=None)
    fork = Writer(storage, "fork")
    fork.started = writer.started.replace(year=2020)
    await fork.commit(lease_seconds=None, parent_run="r", parent_checkpoint="r-000002")
    await fork.commit(lease_seconds=None)

    entries = (await Service(storage).log("r")).entries
    check_order(entries)
    assert [entry.checkpoint_id for entry in entries[:3]] == [
        "fork-000001",
        "fork-000000",
        "r-000002",
    ]


async def test_runs_that_name_each_other_as_parents_end_somewhere() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "a").commit(
        lease_seconds=None, parent_run="b", parent_checkpoint="b-000000"
    )
    await Writer(storage, "b").commit(
        lease_seconds=None, parent_run="a", parent_checkpoint="a-000000"
    )

    assert [(depth, run.run_id) for depth, run in await forks_of(storage, "a")] == [(1, "b")]
    assert len((await Service(storage).log("a")).entries) == 2


async def test_each_checkpoint_is_read_once() -> None:
    class Counting(InMemoryCheckpointStorage):
        def __init__(self) -> None:
            super().__init__()
            self.reads: list[str] = []

        async def load_record(self, checkpoint_id: str) -> Any:
            self.reads.append(checkpoint_id)
            return await super().load_record(checkpoint_id)

    storage = Counting()
    await counter_workflow().run(5, run_id="r", checkpoint_storage=storage)
    for look in (Service(storage).log, Service(storage).show_run):
        storage.reads.clear()
        await look("r")
        assert len(storage.reads) == len(set(storage.reads)) == 7


async def test_the_failure_stands_at_the_head_of_a_failed_run() -> None:
    @executor
    async def bad(text: str, ctx: WorkflowContext[Never, str]) -> None:
        raise ValueError("no good")

    up = Upper("up")
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder().add_edge(up, bad), up, storage=storage)
    with pytest.raises(ValueError, match="no good"):
        await workflow.run("x", run_id="r")

    newest, before = (await Service(storage).log("r")).entries
    assert newest.status == "FAILED"
    assert newest.error is not None
    assert "no good" in newest.error
    assert (before.status, before.error) == ("IN_PROGRESS", None)


# ------------------------------------------------------------------------------------------- damage


def damage(subject: str, folder: Path, checkpoint_id: str) -> None:
    if subject == "file":
        path = folder / "checkpoints" / f"{checkpoint_id}.json"
        path.write_bytes(path.read_bytes()[:-50])
        return
    number = int(checkpoint_id.rpartition("-")[2])
    with sqlite3.connect(folder / "runs.db") as db:
        (entries,) = db.execute(
            "SELECT entries FROM checkpoints WHERE sequence = ?", (number,)
        ).fetchone()
        spoilt = entries[:-1] + bytes([entries[-1] ^ 1])
        db.execute("UPDATE checkpoints SET entries = ? WHERE sequence = ?", (spoilt, number))
    db.close()


@pytest.mark.parametrize("subject", ["file", "sqlite"])
@pytest.mark.parametrize("number", [0, 2, 4])
async def test_damage_is_an_entry(subject: str, number: int, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(3, run_id="r")
    bad = f"r-{number:06}"
    damage(subject, tmp_path, bad)

    async with open_subject(subject, tmp_path) as storage:
        service = Service(storage)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CorruptCheckpointWarning)
            log = await service.log("r")
            shown = await service.show_run("r")
            listed = await service.list_runs()
        assert [entry.step for entry in steps(log)] == [0, 1, 2, 3, 4]
        entry = steps(log)[number]
        assert (entry.checkpoint_id, entry.status, entry.is_head) == (bad, "DAMAGED", number == 4)
        assert entry.error
        intact = [entry for entry in steps(log) if entry.status != "DAMAGED"]
        if (
            subject == "file"
        ):  # in a database, what follows may be stored as a difference to what is damaged
            assert len(intact) == 4
        check_order(log.entries)
        assert listed[0].step == 4
        assert shown.checkpoints == 5
        if number == 4:
            assert shown.latest[0].status == "DAMAGED"
            assert shown.outputs == []
            assert (await anext(service.follow("r"))).status == "DAMAGED"
        msgspec.json.encode(log)
