"""Runs that an earlier graph began go on with the present one."""

from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Never

import msgspec
import pytest

from supersteps import (
    DELETE,
    Executor,
    FileCheckpointStorage,
    GraphChangedError,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    UndeliveredMessageWarning,
    UnknownExecutorError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
)
from supersteps.checkpoint.codec.codec import Codec, RawValue

from .support import Reverse, Upper, built


@pytest.fixture(params=["memory", "sqlite", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return InMemoryCheckpointStorage()
    if request.param == "file":
        return FileCheckpointStorage(tmp_path / "files")
    return SqliteCheckpointStorage(tmp_path / "runs.db")


class Keeper(Executor):
    @handler
    async def keep(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.queue_state_update("seen", [text])
        await ctx.set_shared_state("last", text)
        await ctx.send_message(text.upper())


def before(storage: Any) -> Workflow:
    return built(
        WorkflowBuilder(name="w").add_edge(up := Keeper("up"), Reverse("back")), up, storage=storage
    )


def after(storage: Any, back: str = "back", up: str = "up", **how: Any) -> Workflow:
    builder = (
        WorkflowBuilder(name="w")
        .add_edge(start := Keeper(up), Reverse(back))
        .add_edge(start, Reverse("more"))
    )
    return built(builder.with_migration(**how), start, storage=storage)


async def stop_after(workflow: Workflow, steps: int, run_id: str = "r", message: Any = "ab") -> str:
    run = workflow.run_stream(message, run_id=run_id)
    async for event in run:
        if (
            type(event).__name__ == "SuperStepCompletedEvent"
            and getattr(event, "step_number", 0) >= steps
        ):
            break
    head: str = (await run.storage.get_run(run_id)).head  # type: ignore[union-attr]
    return head


async def latest(storage: Any, run_id: str = "r") -> Any:
    return await storage.load_record((await storage.get_run(run_id)).head)


async def test_a_graph_that_differs_is_refused_with_a_hint(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    up = Keeper("up")
    other = WorkflowBuilder(name="w").add_edge(up, Reverse("back")).add_edge(up, Reverse("more"))

    with pytest.raises(GraphChangedError, match="with_migration"):
        await built(other, up, storage=storage).run_from_checkpoint(head)


async def test_a_run_that_fits_continues_and_the_new_graph_becomes_durable(storage: Any) -> None:
    head = await stop_after(before(storage), 1)

    assert (await after(storage).run_from_checkpoint(head)).get_outputs() == ["BA"]

    up = Keeper("up")
    plain = WorkflowBuilder(name="w").add_edge(up, Reverse("back")).add_edge(up, Reverse("more"))
    again = built(plain, up, storage=storage)
    record = await latest(storage)
    assert (await again.run_from_checkpoint(record.header.checkpoint_id)).get_outputs() == ["BA"]
    assert (await storage.get_run("r")).fingerprint == again.graph_signature_hash
    with pytest.raises(GraphChangedError):
        await before(storage).run_from_checkpoint(record.header.checkpoint_id)


async def test_names_and_state_move(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    calls: list[Any] = []

    def own(executor_id: str, values: dict[str, Any]) -> dict[str, Any]:
        calls.append((executor_id, values))
        return {"heard": values["seen"]}

    workflow = after(
        storage,
        back="turn",
        up="high",
        rename={"back": "turn", "up": "high"},
        executor_state=own,
        shared_state=lambda values: {**values, "new": 1},
        message=lambda target, value: f"{target}:{value}",
    )
    result = await workflow.run_from_checkpoint(head)

    assert result.get_outputs() == ["turn:AB"[::-1]]
    assert calls == [("high", {"seen": ["ab"]})]
    record = await latest(storage)
    assert record.parts["executor_states", "high", "heard"] == b'["ab"]'
    assert not [key for key in record.parts if "up" in key]
    assert record.parts["shared_state", "new"] == b"1"
    await workflow.run_from_checkpoint(record.header.checkpoint_id)
    assert len(calls) == 1
    # The old checkpoint is as it was, and can be migrated again.
    assert ("executor_states", "up", "seen") in (await storage.load_record(head)).parts
    assert (await workflow.run_from_checkpoint(head)).get_outputs() == ["turn:AB"[::-1]]


async def test_nothing_is_written_by_looking(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    with pytest.raises(GraphChangedError) as caught:
        await after(storage, back="turn", up="high").run_from_checkpoint(head)

    assert [word in str(caught.value) for word in ("'back'", "'up' keeps state", "rename=")] == [
        True
    ] * 3
    assert len(caught.value.differences) == 2
    assert (await latest(storage)).header.checkpoint_id == head


async def test_state_and_messages_can_be_dropped(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    workflow = after(
        storage,
        up="high",
        executor_state=lambda _id, _values: None,
        message=lambda _target, _value: DELETE,
    )
    with pytest.warns(
        UndeliveredMessageWarning, match="migration dropped a message from 'up' to 'back'"
    ):
        result = await workflow.run_from_checkpoint(head)
    assert result.get_outputs() == []


async def test_a_fork_is_migrated_too(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    fork = after(storage, back="turn", rename={"back": "turn"}).fork(head, run_id="f")
    assert (await fork.wait_for_completion()).get_outputs() == ["BA"]


class Fails(Executor):
    broken = True

    @handler
    async def fail(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        if Fails.broken:
            raise RuntimeError("not yet")
        await ctx.yield_output(text)


class Once(Executor):
    ran = 0

    @handler
    async def once(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        Once.ran += 1
        await ctx.yield_output("once")


async def test_finished_calls_are_not_run_again_under_their_new_names(storage: Any) -> None:
    def workflow(once: str, fails: str, **how: Any) -> Workflow:
        builder = WorkflowBuilder(name="w").add_fan_out_edges(
            up := Upper("up"), [Once(once), Fails(fails)]
        )
        return built(builder.with_migration(**how), up, storage=storage)

    Once.ran, Fails.broken = 0, True
    with pytest.raises(RuntimeError, match="not yet"):
        await workflow("a", "b").run("x", run_id="r")
    head = (await latest(storage)).header.checkpoint_id
    swapped = workflow("b", "a", rename={"a": "b", "b": "a"})
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            await swapped.run_from_checkpoint(head)
    Fails.broken = False
    assert sorted((await swapped.run_from_checkpoint(head)).get_outputs()) == ["X", "once"]
    assert Once.ran == 1


class Join(Executor):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("+".join(texts))


async def test_what_waits_in_a_fan_in_moves_along(storage: Any) -> None:
    def workflow(fast: str, join: str, **how: Any) -> Workflow:
        start, slow = Upper("start"), Upper("slow")
        builder = WorkflowBuilder(name="w").add_fan_out_edges(
            start, [quick := Upper(fast), middle := Upper("middle")]
        )
        builder.add_edge(middle, slow).add_fan_in_edges([quick, slow], Join(join))
        return built(builder.with_migration(**how), start, storage=storage)

    head = await stop_after(workflow("fa->st+", "join"), 2)
    moved = workflow("quick", "all", rename={"fa->st+": "quick", "join": "all"})
    assert (await moved.run_from_checkpoint(head)).get_outputs() == ["AB+AB"]


class AsksDirectly(Executor):
    @handler
    async def ask(self, text: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(text, str)

    @response_handler
    async def answered(
        self, original_request: str, response: str, ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"{original_request}={response}")


async def test_questions_wait_for_the_renamed_asker(storage: Any) -> None:
    def workflow(asker: str, **how: Any) -> Workflow:
        builder = WorkflowBuilder(name="w").add_edge(up := Upper("up"), AsksDirectly(asker))
        return built(builder.with_migration(**how), up, storage=storage)

    result = await workflow("old").run("q", run_id="r")
    (asked,) = result.get_request_info_events()
    with pytest.raises(
        GraphChangedError, match=r"request .* waits and its executor 'old' does not exist"
    ):
        await workflow("new").send_responses({asked.request_id: "a"})
    result = await workflow("new", rename={"old": "new"}).send_responses({asked.request_id: "a"})
    assert result.get_outputs() == ["Q=a"]


def test_a_new_name_that_no_executor_has_is_refused() -> None:
    def workflow(rename: dict[str, str]) -> Workflow:
        inner = (
            WorkflowBuilder(name="inner")
            .add_edge(k := Keeper("k"), Reverse("turn"))
            .set_start_executor(k)
            .build()
        )
        builder = WorkflowBuilder(name="w").add_edge(
            up := Upper("up"), sub := WorkflowExecutor(inner, "node")
        )
        return built(builder.add_edge(sub, Join2("out")).with_migration(rename=rename), up)

    for bad in (
        {"a": "b", "b": "up"},
        {"node/a": "node/b"},
        {"gone/a": "gone/turn"},
        {"up": "turn"},
    ):
        with pytest.raises(
            UnknownExecutorError, match="gives an executor an id that none has"
        ) as caught:
            workflow(bad)
        assert caught.value.executor_id == next(iter(bad.values()))
    workflow(
        {
            "never": "up",
            "a": "up",
            "old": "node",
            "old/b": "node/turn",
            "node/c": "turn",
            "old/d": "k",
        }
    )


async def test_sub_workflows_move_with_their_state(storage: Any) -> None:
    def workflow(node: str, inner: str, **how: Any) -> Workflow:
        inside = (
            WorkflowBuilder(name="inside")
            .add_edge(k := Keeper("k"), Reverse(inner))
            .set_start_executor(k)
            .build()
        )
        builder = WorkflowBuilder(name="w").add_edge(
            up := Upper("up"), sub := WorkflowExecutor(inside, node)
        )
        builder.add_edge(sub, Join2("out"))
        return built(builder.with_migration(**how), up, storage=storage)

    head = await stop_after(workflow("old", "back"), 2)
    with pytest.raises(GraphChangedError, match=r"'old#1' is running"):
        await workflow("new", "back").run_from_checkpoint(head)
    moved = workflow("new", "turn", rename={"old": "new", "old/back": "new/turn"})
    assert (await moved.run_from_checkpoint(head)).get_outputs() == ["BA"]


class Join2(Executor):
    @handler
    async def end(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


class Burst(Executor):
    @handler
    async def burst(self, text: str, ctx: WorkflowContext[str]) -> None:
        for letter in "abc":
            await ctx.send_message(letter)


class Picky(Executor):
    ran: ClassVar[list[str]] = []
    broken = True

    @handler
    async def pick(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        if text == "c" and Picky.broken:
            raise RuntimeError("not yet")
        Picky.ran.append(text)
        await ctx.yield_output(text)


async def test_a_dropped_message_leaves_the_records_of_its_siblings_in_place(storage: Any) -> None:
    def workflow(name: str, **how: Any) -> Workflow:
        builder = WorkflowBuilder(name="w").add_edge(start := Burst("start"), Picky(name))
        return built(builder.with_migration(**how), start, storage=storage)

    Picky.ran, Picky.broken = [], True
    with pytest.raises(RuntimeError, match="not yet"):
        await workflow("old").run("x", run_id="r")
    head = (await storage.get_run("r")).head
    Picky.broken = False
    moved = workflow(
        "new", rename={"old": "new"}, message=lambda _target, text: DELETE if text == "a" else text
    )
    with pytest.warns(UndeliveredMessageWarning):
        result = await moved.run_from_checkpoint(head)
    assert result.get_outputs() == ["b", "c"]
    assert Picky.ran == ["a", "b", "c"]


async def test_restoring_what_an_earlier_graph_wrote_migrates_it_again(storage: Any) -> None:
    head = await stop_after(before(storage), 1)
    run = after(storage, back="turn", rename={"back": "turn"}).run_stream_from_checkpoint(head)
    assert (await run.wait_for_completion()).get_outputs() == ["BA"]
    await run.restore_checkpoint(head)
    assert (await run.wait_for_completion()).get_outputs()[-1] == "BA"
    assert (await storage.get_run("r")).branch == 1


# -------------------------------------------------------------------------------------------- types


def order_type(fields: list[Any]) -> Any:
    made = make_dataclass("Order", fields)
    made.__module__ = "vanished"
    return made


async def test_vanished_types_are_upgraded_deep_inside_values(storage: Any) -> None:
    old: Any = order_type([("item", str)])

    class Old(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[dict]) -> None:  # type: ignore[type-arg]
            await ctx.set_shared_state("kept", [old(text)])
            await ctx.send_message({"order": old(text)})

    class End(Executor):
        @handler
        async def end(self, found: dict, ctx: WorkflowContext[Never, str]) -> None:  # type: ignore[type-arg]
            await ctx.yield_output(str(found["order"]))

    @dataclass
    class Purchase:
        item: str
        count: int = 1

    class New(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[dict]) -> None: ...  # type: ignore[type-arg]

    builder = (
        WorkflowBuilder(name="w")
        .add_edge(first := Old("first"), End("end"))
        .set_start_executor(first)
    )
    head = await stop_after(builder.with_checkpointing(storage, types=[old]).build(), 1)

    def present(**how: Any) -> Workflow:
        builder = (
            WorkflowBuilder(name="w")
            .add_edge(start := New("start"), End("end"))
            .set_start_executor(start)
        )
        return builder.with_migration(**how).with_checkpointing(unknowing, types=[Purchase]).build()

    unknowing = storage
    unknowing.codec = Codec()
    with pytest.raises(GraphChangedError, match="vanished:Order"):
        await present().run_from_checkpoint(head)
    seen: list[Any] = []

    def look(values: dict[str, Any]) -> dict[str, Any]:
        seen.append(values["kept"][0])
        return {}

    with pytest.raises(GraphChangedError, match="vanished:Order"):
        await present(shared_state=look).run_from_checkpoint(head)
    assert isinstance(seen[0], RawValue)
    assert seen[0].item == "ab"

    result = await present(
        upgrade={"vanished:Order": lambda saved: Purchase(**saved)}
    ).run_from_checkpoint(head)
    assert "item='ab', count=1" in result.get_outputs()[0]
    record = await latest(storage)
    assert b"Purchase" in record.parts["shared_state", "kept"]
    assert b"vanished:Order" not in record.parts["shared_state", "kept"]
    checkpoints = await storage.list_checkpoints()
    checkpoints.sort(key=lambda checkpoint: checkpoint.iteration_count)
    assert "kept" in str(checkpoints[1].diff(checkpoints[0]))
    assert [isinstance(c.shared_state.get("kept", [None])[0], RawValue) for c in checkpoints].count(
        True
    ) >= 1


def test_an_upgrade_leaves_the_present_form_alone() -> None:
    now = order_type([("item", str), ("count", int)])
    codec = Codec([now])
    codec.add_upgrades({"vanished:Order": lambda saved: now(saved["name"], 7)})

    assert codec.decode(b'[{"$":"vanished:Order","name":"x"}]') == [now("x", 7)]
    assert codec.decode(codec.encode(now("y", 2))) == now("y", 2)


def test_types_that_only_gained_fields_with_defaults_need_nothing() -> None:
    class T(NamedTuple):
        a: int
        b: int = 2

    class S(msgspec.Struct):
        a: int
        b: list[int] = []

    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", a=(int, ...), b=(int, 3), __module__=__name__)
    kinds: list[Any] = [order_type([("a", int), ("b", int, 5)]), T, S, model]
    for kind in kinds:
        codec = Codec([kind])
        stored = msgspec.json.decode(codec.encode(kind(a=1)))
        trimmed = {key: value for key, value in stored.items() if key != "b"}
        assert codec.decode(msgspec.json.encode(trimmed)).b == kind(a=1).b
