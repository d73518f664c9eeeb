"""`WorkflowContext`: what annotations mean, and that everything takes effect at the call."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import NoneType
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointEncodeError,
    InMemoryCheckpointStorage,
    Ready,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    executor,
)
from supersteps.checkpoint.sections.question import Terms
from supersteps.define.context import MISSING, context_types
from tests.unit.support import Asker, Upper


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (WorkflowContext, ((), ())),
        (WorkflowContext[str], ((str,), ())),
        (WorkflowContext[Never, str], ((), (str,))),
        (WorkflowContext[int | str, bytes | None], ((int, str), (bytes, NoneType))),
        (WorkflowContext[None], ((NoneType,), ())),
        (WorkflowContext[list[int]], ((list[int],), ())),
        (WorkflowContext[Any, Any], ((Any,), (Any,))),
        (str, None),
        (list[int], None),
    ],
)
def test_what_an_annotation_allows(annotation: Any, expected: Any) -> None:
    assert context_types(annotation) == expected


def test_one_or_two_types() -> None:
    context: Any = WorkflowContext
    with pytest.raises(TypeError, match="one or two types"):
        context[int, str, bytes]


async def test_ready_is_there_already() -> None:
    ready = Ready(7)

    assert await ready == 7
    assert await ready == ready.result() == 7
    assert repr(ready) == "Ready(7)"


async def test_everything_takes_effect_at_the_call_awaited_or_not() -> None:
    @executor
    async def lazy(text: str, ctx: WorkflowContext[str, Any]) -> None:
        ctx.set_state({"a": 1})
        ctx.set_shared_state("k", 2)
        ctx.send_message(text + "!") if text == "x" else None
        ctx.yield_output((text, ctx.get_state().result(), await ctx.get_shared_state("k")))

    result = await WorkflowBuilder().add_edge(lazy, lazy).set_start_executor(lazy).build().run("x")
    assert result.get_outputs() == [("x", {"a": 1}, 2), ("x!", {"a": 1}, 2)]


async def test_a_call_knows_where_it_is() -> None:
    seen: list[Any] = []

    @executor
    async def look(text: str, ctx: WorkflowContext[str]) -> None:
        seen.append((ctx.executor_id, ctx.workflow_id, ctx.run_id, ctx.step_number))
        seen.append((ctx.get_source_executor_id(), ctx.source_executor_ids))

    up = Upper("up")
    workflow = WorkflowBuilder(name="w").add_edge(up, look).set_start_executor(up).build()
    await workflow.run("x", run_id="r")
    assert seen == [("look", "w", "r", 2), ("up", ["up"])]


async def test_events_of_a_handler_are_events() -> None:
    wrong: Any = "not an event"

    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.add_event(wrong)

    with pytest.raises(TypeError, match="add_event takes a WorkflowEvent, not str"):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")
    assert repr(WorkflowEvent(1)) == "WorkflowEvent(data=1)"


@pytest.mark.parametrize("state", [None, [], {1: 2}, {"": 1}])
async def test_state_is_a_dict_with_names(state: Any) -> None:
    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.set_state(state)

    with pytest.raises(
        TypeError, match="set_state of executor 'careless' takes a dict with non-empty string keys"
    ):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")


@pytest.mark.parametrize("key", ["", None, 7])
async def test_keys_are_names(key: Any) -> None:
    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.set_shared_state(key, 1)

    with pytest.raises(TypeError, match="state keys must be non-empty strings"):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")


@pytest.mark.parametrize("storage", [None, InMemoryCheckpointStorage()], ids=["none", "memory"])
@pytest.mark.parametrize(
    "act",
    [
        lambda ctx: ctx.set_state({"a": 1, "\ud800": 1}),
        lambda ctx: ctx.set_shared_state("\ud800", 1),
        lambda ctx: ctx.append_shared_state("a\udfffb", 1),
        lambda ctx: ctx.queue_state_update("\ud800", 1),
        lambda ctx: ctx.queue_state_update("a", 1, scope="\ud800"),
        lambda ctx: ctx.delete_state("\ud800"),
        lambda ctx: ctx.delete_state("a", scope="\ud800"),
    ],
)
async def test_names_are_unicode_text(
    act: Callable[[Any], Any], storage: InMemoryCheckpointStorage | None
) -> None:
    refused: list[CheckpointEncodeError] = []

    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        with pytest.raises(
            CheckpointEncodeError, match=r"must be valid Unicode text, not .*surrogate pair"
        ) as caught:
            await act(ctx)
        refused.append(caught.value)
        await ctx.set_shared_state("é\U0001f389", "\ud800")  # a value may be anything

    await (
        WorkflowBuilder().set_start_executor(careless).build().run("x", checkpoint_storage=storage)
    )
    assert refused


@pytest.mark.parametrize(
    "given", [{"tags": ["\ud800"]}, {"metadata": {"\ud800": 1}}, {"metadata": {"a": ["\ud800"]}}]
)
async def test_remarks_and_labels_are_unicode_text(given: dict[str, Any]) -> None:
    @executor
    async def quiet(text: str, ctx: WorkflowContext) -> None:
        pass

    storage = InMemoryCheckpointStorage()
    with pytest.raises(CheckpointEncodeError, match="metadata and tags are Unicode text"):
        await (
            WorkflowBuilder()
            .set_start_executor(quiet)
            .build()
            .run("x", checkpoint_storage=storage, **given)
        )
    assert await storage.list_runs() == []


async def test_appending_to_a_shared_list() -> None:
    @executor
    async def adder(text: str, ctx: WorkflowContext[str, Any]) -> None:
        await ctx.append_shared_state("log", text)
        await ctx.append_shared_state("log", [1])
        await ctx.yield_output(await ctx.get_shared_state("log"))
        await ctx.set_shared_state("number", 1)
        with pytest.raises(TypeError, match="is a int, not a list"):
            await ctx.append_shared_state("number", 2)
        with pytest.raises(TypeError, match="has a reducer"):
            await ctx.append_shared_state("reduced", 2)
        if len(text) < 2:
            await ctx.send_message(text + "!")

    builder = WorkflowBuilder().add_edge(adder, adder).with_reducer("reduced", lambda a, b: a + b)
    result = await builder.set_start_executor(adder).build().run("x")
    assert result.get_outputs() == [["x", [1]], ["x", [1], "x!", [1]]]


def test_an_executor_that_asks_says_so() -> None:
    assert [kind.__name__ for kind in Asker("a").output_types] == ["Question"]


# ------------------------------------------------------------------------------ questions and times


class FakeCall:
    """Notes what a context asks of its call."""

    executor_id = "me"
    source_ids: tuple[str, ...] = ("you",)
    run_id = "r"
    workflow_id = "w"
    step_number = 1
    idempotency_key = "k"
    attempt = 3
    is_replaying = True

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))

    def request_info(self, *args: Any) -> str:
        self.calls.append(("request_info", *args))
        return args[1].request_id or "made up"

    async def sleep(self, due: datetime) -> None:
        self.calls.append(("sleep", due))


def on(call: FakeCall) -> WorkflowContext[Any, Any]:
    return WorkflowContext(call)


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def is_soon(moment: datetime, seconds: float) -> bool:
    expected = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.tzinfo is UTC and abs(moment - expected) < timedelta(seconds=30)


async def test_asking_returns_the_questions_id() -> None:
    call = FakeCall()

    assert await on(call).request_info("proceed?", bool) == "made up"
    assert on(call).request_info("proceed?", bool, request_id="q").result() == "q"
    assert call.calls == [
        ("request_info", "proceed?", Terms(bool, None, None, MISSING)),
        ("request_info", "proceed?", Terms(bool, "q", None, MISSING)),
    ]


def test_a_question_may_have_a_deadline_and_a_default() -> None:
    call = FakeCall()
    ctx = on(call)
    ctx.request_info("?", str, deadline=NOON.astimezone(timezone(timedelta(hours=5))), default=None)
    ctx.request_info("?", str, deadline=timedelta(hours=1), default="no")
    ctx.request_info("?", str, deadline=90, default="no")

    (at, default), (in_an_hour, _), (soon, _) = [
        (terms.due, terms.default) for *_, terms in call.calls
    ]
    assert (at, at.tzinfo, default) == (NOON, UTC, None)
    assert is_soon(in_an_hour, 3600)
    assert is_soon(soon, 90)


def test_deadline_and_default_come_together() -> None:
    with pytest.raises(ValueError, match="the answer if none is given by the deadline"):
        on(FakeCall()).request_info("?", str, deadline=5)
    with pytest.raises(ValueError, match="a default but no deadline"):
        on(FakeCall()).request_info("?", str, default=None)


def test_scheduling_a_message() -> None:
    call = FakeCall()
    ctx = on(call)
    ctx.schedule("a", at=NOON)
    ctx.schedule("b", delay=timedelta(minutes=1), target_id="me")
    ctx.schedule("c", delay=0)

    assert call.calls[0] == ("schedule", "a", NOON, None)
    assert (call.calls[1][1], call.calls[1][3]) == ("b", "me")
    assert is_soon(call.calls[1][2], 60)
    assert is_soon(call.calls[2][2], 0)


def test_a_message_is_scheduled_at_a_time_or_after_one() -> None:
    with pytest.raises(
        ValueError, match=r"either at= \(a time\) or delay= \(from now\), got neither"
    ):
        on(FakeCall()).schedule("a")
    with pytest.raises(ValueError, match="got both"):
        on(FakeCall()).schedule("a", at=NOON, delay=1)


async def test_sleeping() -> None:
    call = FakeCall()
    await on(call).sleep_until(NOON)
    await on(call).sleep(timedelta(days=1))
    await on(call).sleep(0.5)

    assert call.calls[0] == ("sleep", NOON)
    assert is_soon(call.calls[1][1], 86400)
    assert is_soon(call.calls[2][1], 0.5)


def test_the_attempt_and_a_replay_are_known() -> None:
    assert (on(FakeCall()).attempt, on(FakeCall()).is_replaying) == (3, True)


NAIVE = datetime(2030, 1, 1)


@pytest.mark.parametrize(
    ("moment", "error", "expected"),
    [
        (NAIVE, ValueError, r"deadline 2030-01-01T00:00:00 has no time zone.*tzinfo=UTC"),
        (
            datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
            ValueError,
            "outside the years 1 to 9999",
        ),
        (-1, ValueError, "deadline -1 is not a time from now"),
        (timedelta(seconds=-1), ValueError, "is not a time from now"),
        (float("nan"), ValueError, "is not a time from now"),
        (float("inf"), ValueError, "ends after the year 9999"),
        (timedelta.max, ValueError, "ends after the year 9999"),
        (
            True,
            TypeError,
            "deadline is a datetime with a time zone, a timedelta or a number of seconds, not True",
        ),
        ("tomorrow", TypeError, r"not 'tomorrow': write datetime.now\(UTC\)"),
        (NOON.date(), TypeError, "deadline is a datetime with a time zone"),
    ],
)
def test_invalid_times(moment: Any, error: type[Exception], expected: str) -> None:
    call = FakeCall()
    with pytest.raises(error, match=expected):
        on(call).request_info("?", str, deadline=moment, default=None)
    assert call.calls == []


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda ctx: ctx.schedule("a", at=60), "at is a datetime with a time zone, not 60"),
        (
            lambda ctx: ctx.schedule("a", delay=NOON),
            "delay is a timedelta or a number of seconds, not datetime",
        ),
        (
            lambda ctx: ctx.schedule("a", delay=False),
            "delay is a timedelta or a number of seconds, not False",
        ),
        (lambda ctx: ctx.sleep_until(60).send(None), "when is a datetime with a time zone, not 60"),
        (
            lambda ctx: ctx.sleep(NOON).send(None),
            "delay is a timedelta or a number of seconds, not datetime",
        ),
    ],
)
def test_a_time_is_not_a_time_span_nor_the_reverse(
    use: Callable[[Any], Any], expected: str
) -> None:
    with pytest.raises(TypeError, match=expected):
        use(on(FakeCall()))


def test_a_naive_time_is_refused_everywhere() -> None:
    ctx = on(FakeCall())
    with pytest.raises(ValueError, match="at 2030-01-01T00:00:00 has no time zone"):
        ctx.schedule("a", at=NAIVE)
    with pytest.raises(ValueError, match="when 2030-01-01T00:00:00 has no time zone"):
        ctx.sleep_until(NAIVE).send(None)


def test_handlers_can_be_defined_without_asyncio() -> None:
    script = "import sys, supersteps.define.context; print('asyncio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
