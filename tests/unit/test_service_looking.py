"""Looking at runs, checkpoints, questions and pictures."""

import asyncio
import time
import warnings
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest

from supersteps import (
    Executor,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    executor,
    handler,
)
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import mark_advancing, this_process
from supersteps.errors import CorruptCheckpointError, CorruptCheckpointWarning
from supersteps.service.details import who_failed
from supersteps.service.errors import ReferenceNotFoundError, ServiceError
from supersteps.service.reads import Unwarned
from supersteps.service.service import Service
from supersteps.service.summaries import describe_lease
from supersteps.storage.listings import RunFilter
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.records import Lease
from supersteps.testing.answers import ask, question
from supersteps.viz.picture import MarkKind
from tests.contract.support import ELSEWHERE, SUBJECTS, Writer, by_hand, open_subject
from tests.unit.support import (
    Reverse,
    Upper,
    asking_workflow,
    built,
    counter_workflow,
    shout_workflow,
    take,
)

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")

OnAll = pytest.mark.parametrize("subject", SUBJECTS)


# --------------------------------------------------------------------------------------------- runs


@OnAll
async def test_runs_are_listed_newest_first(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await shout_workflow(storage=storage).run("x", run_id="one", tags=["t"])
        await asking_workflow(storage=storage).run("x", run_id="two")
        service = Service(storage)

        assert [(r.run_id, r.status, r.step) for r in await service.list_runs()] == [
            ("two", "IDLE_WITH_PENDING_REQUESTS", 2),
            ("one", "IDLE", 2),
        ]
        assert [r.run_id for r in await service.list_runs(RunFilter(workflow_id="shout"))] == [
            "one"
        ]
        assert [
            r.run_id
            for r in await service.list_runs(RunFilter(status="IDLE_WITH_PENDING_REQUESTS"))
        ] == ["two"]
        assert [r.run_id for r in await service.list_runs(RunFilter(limit=1))] == ["two"]
        if subject != "adapter":  # a plain storage has nowhere to keep labels
            assert [r.run_id for r in await service.list_runs(RunFilter(tag="t"))] == ["one"]
        assert (await service.list_runs())[0].requests == ("ask-x",)


@OnAll
async def test_a_run_looked_at_closely(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(20, run_id="r", metadata={"who": "me"})
        details = await Service(storage).show_run("r")

        assert details.run.status == "IDLE"
        assert details.metadata == {"who": "me"}
        assert details.checkpoints == 22
        assert details.outputs == list(range(20, -1, -1))
        assert [entry.step for entry in details.latest] == list(range(21, 11, -1))
        assert (details.waiting, details.timers, details.questions, details.forks) == (
            {},
            [],
            [],
            [],
        )
        msgspec.json.encode(details)


async def test_what_waits_where() -> None:
    @executor
    async def start(count: int, ctx: WorkflowContext[str]) -> None:
        for number in range(count):
            await ctx.send_message(str(number))
        await ctx.schedule("later", delay=3600)

    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder().add_edge(start, Reverse("back")), start, storage=storage)
    await take(workflow.run_stream(3, run_id="r"), SuperStepCompletedEvent)
    details = await Service(storage).show_run("r")

    assert details.waiting == {"back": 3}
    assert len(details.timers) == 1
    assert details.timers[0] > details.run.updated_at


async def test_a_branch_that_was_left_is_not_among_the_latest() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow().run(2, run_id="r", checkpoint_storage=storage)
    await counter_workflow().run_from_checkpoint("r-000001", storage)
    details = await Service(storage).show_run("r")

    assert [entry.checkpoint_id for entry in details.latest] == [
        "r-000005",
        "r-000004",
        "r-000001",
        "r-000000",
    ]
    assert details.checkpoints == 6
    assert details.run.branch == 1


def test_who_advances_a_run() -> None:
    now = time.time()
    here, busy = this_process("idle"), this_process("busy")
    mark_advancing("busy", True)
    try:
        assert describe_lease(None, now) == (None, False)
        assert describe_lease(Lease(busy, now + 9), now) == (busy.describe(), False)
        assert describe_lease(Lease(here, now + 9), now) == (here.describe(), False)
    finally:
        mark_advancing("busy", False)
    assert describe_lease(Lease(ELSEWHERE, now + 9), now) == (ELSEWHERE.describe(), False)
    assert describe_lease(Lease(ELSEWHERE, now - 9), now) == (None, True)
    dead = msgspec.structs.replace(
        here, started="long ago", pid=here.pid + 1 if here.pid > 1 else 2
    )
    assert describe_lease(Lease(dead, now + 9), now)[1] is bool(here.boot_id)


async def test_an_abandoned_run_is_marked() -> None:
    storage = InMemoryCheckpointStorage(clock=lambda: time.time() - 100)
    await Writer(storage, "r").commit(owner=ELSEWHERE)

    (run,) = await Service(storage).list_runs()
    assert (run.owner, run.is_abandoned) == (None, True)


# -------------------------------------------------------------------------------------- checkpoints


@OnAll
async def test_a_checkpoint_looked_at_closely(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await shout_workflow(storage=storage).run("abc", run_id="r", metadata={"a": 1})
        details = await Service(storage).show_checkpoint("r@1")

        assert details.entry.ran == ("up",)
        assert details.workflow_id == "shout"
        assert details.metadata == {"a": 1}
        assert details.content["messages"] == [
            {"data": "ABC", "source_ids": ["up"], "target_ids": ["back"]}
        ]
        assert "graph" not in details.content
        msgspec.json.encode(details)


async def test_types_that_nobody_knows_are_shown_as_stored() -> None:
    storage = InMemoryCheckpointStorage()
    stored = b'{"$":"gone:Own","x":[1,{"$":"gone:Other"}]}'
    writer = Writer(storage, "r")
    await writer.commit(
        Changes(puts={("shared_state", "own"): stored}, appends={("outputs",): [stored]})
    )

    details = await Service(storage).show_checkpoint("r")
    assert details.content["shared_state"]["own"] == msgspec.json.decode(stored)
    assert (await Service(storage).show_run("r")).outputs == [msgspec.json.decode(stored)]


async def test_a_checkpoint_that_was_saved_by_hand() -> None:
    storage = InMemoryCheckpointStorage()
    await storage.save_checkpoint(by_hand("saved", shared_state={"n": 1}))
    service = Service(storage)

    details = await service.show_checkpoint("saved")
    assert details.content["shared_state"] == {"n": 1}
    assert (details.entry.run_id, details.entry.is_head) == ("", False)
    with pytest.raises(ServiceError, match="has no stored graph"):
        await service.picture("saved")


async def test_a_damaged_checkpoint_itself_is_refused(tmp_path: Path) -> None:
    async with open_subject("file", tmp_path) as storage:
        await shout_workflow(storage=storage).run("abc", run_id="r")
        path = tmp_path / "checkpoints" / "r-000001.json"
        path.write_bytes(path.read_bytes()[:-50])

        for look in (
            Service(storage).show_checkpoint,
            Service(storage).find_checkpoint,
            Service(storage).picture,
        ):
            with pytest.raises(CorruptCheckpointError, match="'r-000000'"):
                await look("r-000001")


@OnAll
async def test_what_differs_between_two_checkpoints(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(2, run_id="r")
        diff = await Service(storage).diff("r@1", "r@2")

        assert (diff.before, diff.after) == ("r-000001", "r-000002")
        assert "+ outputs[1]: 1" in str(diff)
        assert not await Service(storage).diff("r", "@latest")


# ---------------------------------------------------------------------------------------- questions


@OnAll
async def test_questions_that_wait(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        at = "2025-01-01T00:00:0{}.000000+00:00"
        await Writer(storage, "a").commit(
            ask(question("late", {"type": "string"}, timestamp=at.format(2)))
        )
        await Writer(storage, "b", "other").commit(
            ask(
                question(
                    "early", None, timestamp=at.format(1), data=msgspec.Raw(b'{"$":"gone:T","n":1}')
                ),
                question(
                    "timed",
                    {},
                    timestamp=at.format(3),
                    deadline=at.format(9),
                    default=msgspec.Raw(b"5"),
                ),
            )
        )
        service = Service(storage)

        found = await service.list_questions()
        assert [(q.run_id, q.request_id) for q in found] == [
            ("b", "early"),
            ("a", "late"),
            ("b", "timed"),
        ]
        assert (found[0].data, found[0].response_schema) == ({"$": "gone:T", "n": 1}, None)
        assert (found[1].data, found[1].response_schema) == ("Sure?", {"type": "string"})
        assert (found[2].deadline, found[2].default) == (at.format(9), 5)
        assert [q.request_id for q in await service.list_questions("b")] == ["early", "timed"]
        assert [q.request_id for q in await service.list_questions(workflow_id="flow")] == ["late"]
        assert await service.list_questions("b", workflow_id="flow") == []
        assert (await service.show_run("a")).questions == [found[1]]
        msgspec.json.encode(found)


async def test_questions_of_a_cancelled_run_wait_no_more() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "r").commit(ask(question("q", {})), lease_seconds=None)
    await storage.cancel_run("r")

    assert await Service(storage).list_questions() == []
    assert (await Service(storage).show_run("r")).questions == []


async def test_a_damaged_head_hides_no_other_questions(tmp_path: Path) -> None:
    async with open_subject("file", tmp_path) as storage:
        await Writer(storage, "bad").commit(ask(question("lost", {})))
        await Writer(storage, "good").commit(ask(question("q", {})))
        path = tmp_path / "checkpoints" / "bad-000000.json"
        path.write_bytes(path.read_bytes()[:-50])

        assert [q.request_id for q in await Service(storage).list_questions()] == ["q"]
        with pytest.raises(CorruptCheckpointError):
            await Service(storage).list_questions("bad")


# ----------------------------------------------------------------------------------------- pictures


def marks(picture: Any) -> dict[str, list[tuple[MarkKind, int]]]:
    found = {}
    for node in picture.nodes:
        found[node.id] = [(mark.kind, mark.count) for mark in node.marks]
        found.update({} if node.inner is None else marks(node.inner))
    return found


@OnAll
async def test_a_picture_shows_who_ran_and_what_waits(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await shout_workflow(storage=storage).run("abc", run_id="r")
        picture = await Service(storage).picture("r@1")

        assert picture.title == "shout, run r, superstep 1"
        assert [edge.target for edge in picture.edges] == ["back"]
        assert marks(picture) == {"up": [(MarkKind.RAN, 1)], "back": [(MarkKind.MESSAGES, 1)]}


class Bad(Executor):
    @handler
    async def fail(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        raise ValueError("(executor 'liar', superstep 7 of run 'x')")


def failing(name: str) -> Workflow:
    up = Upper("up")
    return built(WorkflowBuilder(name="bad").add_edge(up, Bad(name)), up)


@pytest.mark.parametrize("name", ["bad", "it's", "a, superstep 2 of run 'b'"])
async def test_a_picture_shows_who_failed(name: str) -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.raises(ValueError, match="liar"):
        await failing(name).run("abc", run_id="r", checkpoint_storage=storage)

    found = marks(await Service(storage).picture("r"))
    assert MarkKind.FAILED in dict(found[name])
    assert MarkKind.FAILED not in dict(marks(await Service(storage).picture("r@0"))[name])


async def test_a_picture_shows_who_failed_inside() -> None:
    node = WorkflowExecutor(failing("bad"), "sub", allow_direct_output=True)
    start = Upper("start")
    storage = InMemoryCheckpointStorage()
    with pytest.raises(ValueError, match="liar"):
        await built(WorkflowBuilder().add_edge(start, node), start).run(
            "x", run_id="r", checkpoint_storage=storage
        )

    assert MarkKind.FAILED in dict(marks(await Service(storage).picture("r"))["sub/bad"])


def test_only_the_engines_own_note_says_who_failed() -> None:
    assert who_failed(None) == ()
    assert who_failed("ValueError: no") == ()
    assert who_failed("ValueError: x\n(executor 'b', superstep 2 of run 'r')") == ("b",)
    assert who_failed(
        "x\n(executor 'a', superstep 2 of run 'r')\n(executor \"b's\", superstep 2 of run 'r')"
    ) == ("b's",)
    assert who_failed("x\n(executor 'a' + 'b', superstep 2 of run 'r')") == ()


async def test_a_reference_to_nothing() -> None:
    service = Service(InMemoryCheckpointStorage())
    for look in (
        service.show_run,
        service.show_checkpoint,
        service.log,
        service.list_questions,
        service.picture,
    ):
        with pytest.raises(ReferenceNotFoundError):
            await look("nothing")


# ------------------------------------------------------------------------------- warnings of damage


async def test_other_warnings_pass_and_those_of_damage_are_kept() -> None:
    async def warn() -> int:
        warnings.warn("damaged", CorruptCheckpointWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return 3

    listing = Unwarned(warn())
    with pytest.warns(DeprecationWarning, match="old") as caught:
        assert await listing == 3
    assert len(caught) == 1
    assert listing.problems == ["damaged"]


async def test_errors_and_cancellation_go_through() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await Unwarned(fail())

    stopped: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async def waiting() -> None:
        await Unwarned(wait())

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped == [True]
