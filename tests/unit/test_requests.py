"""Questions to people, as users ask and answer them: by a handle, on resuming, or from another
process.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any, Literal, Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    Executor,
    FileCheckpointStorage,
    HandlerError,
    InMemoryCheckpointStorage,
    LateResponseError,
    NoSchemaError,
    RequestClosedEvent,
    RequestInfoEvent,
    RequestInfoExecutor,
    ResponseTypeError,
    SqliteCheckpointStorage,
    StaleRequestError,
    SuperStepCompletedEvent,
    UnanswerableRequestError,
    UnknownRequestError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowRuntimeError,
    WorkflowWarningEvent,
    handler,
    response_handler,
)
from supersteps.engine import inbox, runner
from supersteps.engine.type_names import annotation_named
from supersteps.storage import answers
from supersteps.typing import display_name, matches
from tests.unit.support import (
    Asker,
    Question,
    asking_workflow,
    built,
    collect,
    collect_into,
    kinds,
    outputs,
    questions,
)

InMemory = InMemoryCheckpointStorage
MakeStorage = Callable[[], Any]
Storages = pytest.mark.parametrize("make_storage", [lambda: None, InMemory])
TINY = timedelta(milliseconds=20)


@pytest.fixture(params=["memory", "sqlite", "file"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStorage:
    """Return what opens the same storage anew, as another process does; the one in memory is
    always the same.
    """
    if request.param == "sqlite":
        return lambda: SqliteCheckpointStorage(tmp_path / "runs.db")
    if request.param == "file":
        return lambda: FileCheckpointStorage(tmp_path / "runs")
    memory = InMemory()
    return lambda: memory


@dataclass
class Draft:
    title: str
    pages: int = 1


@dataclass
class Verdict:
    approved: bool
    grade: int = 0

    def __post_init__(self) -> None:
        if self.grade > 10:
            raise ValueError("grades end at 10")


@dataclass
class Refusal(Verdict):
    reason: str = ""


class Opaque:
    """Has no JSON form that anybody could know."""

    def __init__(self, text: str) -> None:
        self.text = text


@dataclass(frozen=True)
class Plea:
    """What an `Inquirer` is to ask.

    Attributes:
        question: The question.
        wanted: The name of the answer's type.
        request_id: The id that the question is to have.
        deadline: Seconds.
        default: The answer at the deadline.
    """

    question: str | int
    wanted: str = "bool"
    request_id: str | None = None
    deadline: float | None = None
    default: Any = None


TYPES: dict[str, Any] = {
    "bool": bool,
    "str": str,
    "int": int,
    "Verdict": Verdict,
    "Refusal": Refusal,
    "bool | str": bool | str,
    "str | Verdict": str | Verdict,
    "Literal": Literal["a", "b"],
    "list[int]": list[int],
}


class Inquirer(Executor):
    """Asks what it is told to and yields the answers, with the name of the handler that took
    them.
    """

    def __init__(self, id: str = "inquirer") -> None:
        super().__init__(id)
        self.asked: list[str] = []

    @handler
    async def begin(self, pleas: list[Plea], ctx: WorkflowContext) -> None:
        for plea in pleas:
            extra = (
                {}
                if plea.deadline is None
                else {"deadline": plea.deadline, "default": plea.default}
            )
            wanted = TYPES[plea.wanted]
            asked = await ctx.request_info(
                plea.question, wanted, request_id=plea.request_id, **extra
            )
            self.asked.append(asked)

    @response_handler
    async def agreed(self, question: str, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"agreed {question}={answer}")

    @response_handler
    def told(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        ctx.yield_output(f"told {question}={answer}")

    @response_handler
    async def judged(
        self, question: str, answer: Verdict | None, ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"judged {question}={answer}")

    @response_handler
    async def counted(
        self, question: int, answer: int | float | list[Any], ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"counted {question}={answer!r}")


def inquiring(storage: Any = None) -> tuple[Inquirer, Workflow]:
    inquirer = Inquirer()
    return inquirer, built(WorkflowBuilder(name="inquire"), inquirer, storage=storage)


def pleas(**wanted: str) -> list[Plea]:
    """Return questions with their ids as text, by the type that each wants."""
    return [Plea(request_id, kind, request_id) for request_id, kind in wanted.items()]


async def head(storage: Any, run_id: str = "r") -> str:
    run = await storage.get_run(run_id)
    assert run is not None
    return str(run.head)


async def last_of(workflow: Workflow) -> Any:
    """Return the run's head as the workflow sees it, with the types that it knows."""
    storage = workflow.checkpoint_storage
    assert storage is not None
    return await storage.load_checkpoint(await head(storage))


async def stored(storage: Any, run_id: str = "r") -> Any:
    """Return all that an answer could have changed."""
    return await storage.get_run(run_id), await storage.read_inbox(run_id)


def closed(events: Any) -> list[tuple[str, str]]:
    return [
        (event.request_id, event.outcome)
        for event in events
        if isinstance(event, RequestClosedEvent)
    ]


def warned(events: Any) -> list[str]:
    return [event.data for event in events if isinstance(event, WorkflowWarningEvent)]


# --------------------------------------------------------------------------- asking and being asked


@Storages
async def test_the_question_and_the_answer_choose_the_handler(make_storage: MakeStorage) -> None:
    inquirer, workflow = inquiring(make_storage())
    asked = [*pleas(a="bool", b="str", c="Verdict"), Plea(4, "int", "d")]
    run = workflow.run_stream(asked)
    events = await collect(run)

    assert [
        (e.request_id, e.data, e.response_type) for e in events if isinstance(e, RequestInfoEvent)
    ] == [
        ("a", "a", bool),
        ("b", "b", str),
        ("c", "c", Verdict),
        ("d", 4, int),
    ]
    assert all(
        e.source_executor_id == "inquirer" for e in events if isinstance(e, RequestInfoEvent)
    )
    await run.send_responses({"d": 5, "c": Verdict(True), "b": "yes", "a": True})
    result = await run.wait_for_completion()

    assert sorted(result.get_outputs()) == [
        "agreed a=True",
        "counted 4=5",
        "judged c=Verdict(approved=True, grade=0)",
        "told b=yes",
    ]
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert inquirer.asked == ["a", "b", "c", "d"]  # no answer made it ask again


@Storages
async def test_an_answer_may_be_of_any_type_that_the_question_allows(
    make_storage: MakeStorage,
) -> None:
    for answer, taken in ((True, "agreed a=True"), ("so", "told a=so")):
        _, workflow = inquiring(make_storage())
        run = workflow.run_stream(pleas(a="bool | str"))
        assert questions(await collect(run)) == ["a"]
        await run.send_response("a", answer)
        assert outputs(await collect(run)) == [taken]


@Storages
async def test_several_wait_and_are_answered_one_by_one_in_any_order(
    make_storage: MakeStorage,
) -> None:
    inquirer, workflow = inquiring(make_storage())
    run = workflow.run_stream(pleas(a="bool", b="bool", c="bool"))
    await collect(run)

    for request_id, left in (("c", ["a", "b"]), ("a", ["b"]), ("b", [])):
        await run.send_response(request_id, True)
        events = await collect(run)
        assert outputs(events) == [f"agreed {request_id}=True"]
        assert questions(events) == []
        assert (events[-1].state is WorkflowRunState.IDLE) is (not left)  # type: ignore[attr-defined]

    assert inquirer.asked == ["a", "b", "c"]


async def test_answers_by_handle_on_resuming_and_from_another_process_do_alike(
    elsewhere: MakeStorage,
) -> None:
    first, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool", b="Verdict", c="str"), run_id="r")
    await collect(run)
    await run.send_response("a", True)
    assert outputs(await collect(run)) == ["agreed a=True"]

    await elsewhere().answer("r", "b", {"approved": False, "grade": 3})
    second, workflow = inquiring(elsewhere())
    resumed = await workflow.run_from_checkpoint(await head(elsewhere()), responses={"c": "no"})

    assert sorted(outputs(resumed)) == ["judged b=Verdict(approved=False, grade=3)", "told c=no"]
    assert resumed.get_outputs()[0] == "agreed a=True"
    assert (first.asked, second.asked) == (["a", "b", "c"], [])
    last = await last_of(workflow)
    assert {(one.request_id, one.outcome) for one in last.answered} == {
        ("a", "answered"),
        ("b", "answered"),
        ("c", "answered"),
    }
    assert {one.request_id: one.data for one in last.answered} == {
        "a": True,
        "b": Verdict(False, 3),
        "c": "no",
    }
    assert all(one.source_executor_id == "inquirer" for one in last.answered)
    assert [one.iteration for one in last.answered] == [2, 3, 3]
    assert last.pending_requests == {}


async def test_a_handle_that_has_stopped_notices_answers_from_elsewhere(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool", b="bool"), run_id="r")
    await collect(run)

    await elsewhere().answer("r", "b", True)
    assert outputs(await collect(run)) == ["agreed b=True"]
    await elsewhere().answer("r", "a", False)
    assert (await run.wait_for_completion()).get_outputs() == ["agreed b=True", "agreed a=False"]


# ------------------------------------------------------------------------------------ busy branches


class Worker(Executor):
    """Works for some supersteps, and lets others in before each."""

    def __init__(self, id: str = "worker") -> None:
        super().__init__(id)
        self.between: Callable[[int], Awaitable[None]] | None = None

    @handler
    async def work(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        if self.between is not None:
            await self.between(left)
        await ctx.yield_output(f"work {left}")
        if left:
            await ctx.send_message(left - 1)


class Starter(Executor):
    @handler
    async def start(self, pleas: list[Plea], ctx: WorkflowContext[list[Plea] | int]) -> None:
        await ctx.send_message(pleas)
        await ctx.send_message(4)


def branching(storage: Any = None) -> tuple[Worker, Workflow]:
    starter, worker, inquirer = Starter("starter"), Worker(), Inquirer()
    builder = WorkflowBuilder(name="branches").add_edge(starter, inquirer).add_edge(starter, worker)
    return worker, built(builder.add_edge(worker, worker), starter, storage=storage)


@Storages
async def test_a_slow_human_does_not_stop_the_other_branch(make_storage: MakeStorage) -> None:
    _, workflow = branching(make_storage())
    run = workflow.run_stream(pleas(a="bool"))
    events = await collect(run)

    assert outputs(events) == [f"work {left}" for left in (4, 3, 2, 1, 0)]
    assert events[-1].state is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS  # type: ignore[attr-defined]
    await run.send_response("a", True)
    assert outputs(await collect(run)) == ["agreed a=True"]


@Storages
async def test_an_answer_inside_the_loop_is_taken_by_the_next_superstep(
    make_storage: MakeStorage,
) -> None:
    _, workflow = branching(make_storage())
    run = workflow.run_stream(pleas(a="bool"))
    seen = []
    async for event in run:
        seen.append(event)
        if isinstance(event, RequestInfoEvent):
            await run.send_response(event.request_id, True)

    assert set(outputs(seen)[:3]) == {"work 4", "work 3", "agreed a=True"}


async def test_an_answer_from_elsewhere_to_a_busy_run_is_taken_by_the_next_superstep(
    elsewhere: MakeStorage,
) -> None:
    worker, workflow = branching(elsewhere())

    async def between(left: int) -> None:
        if left == 3:  # a is asked in superstep 2, this is superstep 3
            await elsewhere().answer("r", "a", True)

    worker.between = between
    run = workflow.run_stream(pleas(a="bool"), run_id="r")
    steps: dict[str, int] = {}
    done = 0
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent):
            done = event.step_number
        elif isinstance(event, WorkflowOutputEvent):
            steps[event.data] = done + 1

    assert steps["agreed a=True"] == 4


async def test_an_answer_that_comes_in_the_last_superstep_is_not_left_lying(
    elsewhere: MakeStorage,
) -> None:
    worker, workflow = branching(elsewhere())

    async def between(left: int) -> None:
        if left == 0:
            await elsewhere().answer("r", "a", True)

    worker.between = between
    result = await workflow.run(pleas(a="bool"), run_id="r")

    assert result.get_outputs()[-1] == "agreed a=True"
    assert result.get_final_state() is WorkflowRunState.IDLE


@Storages
async def test_a_cancelled_question_leaves_the_other_branches_alone(
    make_storage: MakeStorage,
) -> None:
    _, workflow = branching(make_storage())
    run = workflow.run_stream(pleas(a="bool", b="bool"))
    seen = []
    async for event in run:
        seen.append(event)
        if isinstance(event, RequestInfoEvent) and event.request_id == "a":
            await run.cancel_request("a")

    assert closed(seen) == [("a", "cancelled")]
    assert outputs(seen) == [f"work {left}" for left in (4, 3, 2, 1, 0)]
    with pytest.raises(StaleRequestError):
        await run.send_response("a", True)
    with pytest.raises(StaleRequestError):
        await run.cancel_request("a")
    with pytest.raises(UnknownRequestError):
        await run.cancel_request("never asked")
    await run.send_response("b", True)
    events = await collect(run)
    assert outputs(events) == ["agreed b=True"]
    assert closed(events) == []


async def test_taking_the_last_question_back_ends_the_run(elsewhere: MakeStorage) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run(pleas(a="bool"), run_id="r")
    await elsewhere().cancel_request("r", "a")

    events = await collect(
        inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    )

    assert closed(events) == [("a", "cancelled")]
    assert questions(events) == []
    assert events[-1].state is WorkflowRunState.IDLE  # type: ignore[attr-defined]
    last = await elsewhere().load_checkpoint(await head(elsewhere()))
    assert [(one.request_id, one.outcome) for one in last.answered] == [("a", "cancelled")]


# ----------------------------------------------------------------------- plain JSON, from elsewhere


@pytest.fixture
def without_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that does not have the program: only the schema says what fits."""
    monkeypatch.setattr(answers, "misfit", lambda *_: None)


async def test_an_answer_that_the_program_here_refuses_is_refused_at_once(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run(pleas(a="Verdict"), run_id="r")
    with pytest.raises(ResponseTypeError, match="grades end at 10"):
        await elsewhere().answer("r", "a", {"approved": True, "grade": 99})
    assert [request.request_id for request in await elsewhere().list_requests("r")] == ["a"]


@pytest.mark.usefixtures("without_types")
async def test_an_answer_that_cannot_be_converted_opens_the_question_again(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run(pleas(a="Verdict", b="bool"), run_id="r")
    await elsewhere().answer(
        "r", "a", {"approved": True, "grade": 99}
    )  # the schema knows nothing of grades
    await elsewhere().answer("r", "b", True)

    run = inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    events = await collect(run)

    assert outputs(events) == ["agreed b=True"]
    (warning,) = warned(events)
    assert "'a'" in warning
    assert "grades end at 10" in warning
    place = next(i for i, event in enumerate(events) if isinstance(event, WorkflowWarningEvent))
    assert questions(events[place:]) == ["a"]
    assert events[-1].state is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS  # type: ignore[attr-defined]
    assert [request.request_id for request in await elsewhere().list_requests("r")] == ["a"]

    await elsewhere().answer("r", "a", {"approved": True, "grade": 9})
    assert outputs(await collect(run)) == ["judged a=Verdict(approved=True, grade=9)"]
    last = await elsewhere().load_checkpoint(await head(elsewhere()))
    assert [(one.request_id, one.outcome) for one in last.answered] == [
        ("b", "answered"),
        ("a", "answered"),
    ]


@pytest.mark.usefixtures("without_types")
async def test_a_question_that_is_open_again_can_be_answered_by_handle(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="Verdict"), run_id="r")
    await collect(run)
    await elsewhere().answer("r", "a", {"approved": True, "grade": 99})
    assert len(warned(await collect(run))) == 1
    await run.send_response("a", Verdict(True, 1))
    assert outputs(await collect(run)) == ["judged a=Verdict(approved=True, grade=1)"]


async def test_what_is_known_of_a_waiting_question(elsewhere: MakeStorage) -> None:
    _, workflow = inquiring(elsewhere())
    asked = [Plea("why", "str", "a", 3600.0, "because"), Plea("what", "Verdict", "b")]
    result = await workflow.run(asked, run_id="r")
    waiting = {request.request_id: request for request in await elsewhere().list_requests()}

    first, second = waiting["a"], waiting["b"]
    assert (first.source_executor_id, first.iteration, first.response_type) == (
        "inquirer",
        1,
        "str",
    )
    assert (first.data, first.default, first.direct, first.run_id) == ("why", "because", True, "r")
    assert first.response_schema == {"type": "string"}
    assert timedelta(0) <= first.age < timedelta(minutes=5)
    left = datetime.fromisoformat(first.deadline) - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    told = {e.request_id: e.deadline for e in result if isinstance(e, RequestInfoEvent)}
    assert told == {"a": first.deadline, "b": None}
    assert (second.deadline, second.response_type) == (None, f"{__name__}.Verdict")
    assert "approved" in str(second.response_schema)


async def test_a_type_without_schema_is_answered_by_the_workflow_only() -> None:
    class Taker(Executor):
        @handler
        async def begin(self, text: str, ctx: WorkflowContext) -> None:
            await ctx.request_info(text, list[Opaque], request_id="a")

        @response_handler
        async def told(
            self, question: str, answer: list[Opaque], ctx: WorkflowContext[Never, str]
        ) -> None:
            await ctx.yield_output(f"{len(answer)}")

    storage = InMemory()
    workflow = built(WorkflowBuilder(), Taker("taker"), storage=storage)
    run = workflow.run_stream("x", run_id="r")
    await collect(run)
    before = await stored(storage)

    (request,) = await storage.list_requests()
    assert (request.response_type, request.response_schema) == (f"list[{__name__}.Opaque]", None)
    with pytest.raises(NoSchemaError):
        await storage.answer("r", "a", [])
    assert await stored(storage) == before
    await run.send_response("a", [])
    assert outputs(await collect(run)) == ["0"]


async def test_questions_through_a_request_info_executor_have_schemas_too(
    elsewhere: MakeStorage,
) -> None:
    def build() -> Workflow:
        asker, port = Asker("asker"), RequestInfoExecutor("port")
        builder = WorkflowBuilder(name="ask").add_edge(asker, port).add_edge(port, asker)
        return built(builder, asker, storage=elsewhere())

    await build().run("why", run_id="r")
    (request,) = await elsewhere().list_requests("r")
    assert (request.source_executor_id, request.request_executor_id, request.direct) == (
        "asker",
        "port",
        False,
    )
    assert request.response_schema == {"type": "string"}
    with pytest.raises(ResponseTypeError):
        await elsewhere().answer("r", "ask-why", 5)
    await elsewhere().answer("r", "ask-why", "because")
    assert (await build().run_from_checkpoint(await head(elsewhere()))).get_outputs() == [
        "why=because"
    ]
    with pytest.raises(AlreadyAnsweredError):
        await elsewhere().answer("r", "ask-why", "again")


# --------------------------------------------------------------------------------------- deadlines


def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the engine think that an hour has passed."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="microseconds")
    for module in (inbox, runner):
        monkeypatch.setattr(module, "utc_now", lambda: later)


@Storages
async def test_the_default_answers_once_at_the_deadline(make_storage: MakeStorage) -> None:
    inquirer, workflow = inquiring(make_storage())
    run = workflow.run_stream([Plea("why", "str", "a", 0.0, "never mind"), *pleas(b="bool")])
    events = await collect(run)

    assert questions(events) == ["a", "b"]
    assert closed(events) == [("a", "defaulted")]
    assert outputs(events) == ["told why=never mind"]
    with pytest.raises(LateResponseError):
        await run.send_response("a", "late")
    with pytest.raises(LateResponseError):
        await run.send_responses({"b": True, "a": "late"})
    await run.send_response("b", True)
    assert outputs(await collect(run)) == ["agreed b=True"]
    assert inquirer.asked == ["a", "b"]


async def test_on_resuming_after_the_deadline_the_default_counts(elsewhere: MakeStorage) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run([Plea("why", "Verdict", "a", 0.25, Verdict(False))], run_id="r")
    await asyncio.sleep(0.4)
    before = await stored(elsewhere())

    with pytest.raises(LateResponseError):
        await elsewhere().answer("r", "a", {"approved": True})
    _, workflow = inquiring(elsewhere())
    with pytest.raises(LateResponseError):
        await workflow.run_from_checkpoint(await head(elsewhere()), responses={"a": Verdict(True)})
    assert await stored(elsewhere()) == before

    events = await collect(
        inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    )
    assert questions(events) == []  # it is too late to answer it
    assert closed(events) == [("a", "defaulted")]
    assert outputs(events) == ["judged why=Verdict(approved=False, grade=0)"]
    again = await inquiring(elsewhere())[1].run_from_checkpoint(await head(elsewhere()))
    assert outputs(again) == []
    with pytest.raises(LateResponseError):
        await elsewhere().answer("r", "a", {"approved": True})
    last = await last_of(workflow)
    assert [(one.outcome, one.data) for one in last.answered] == [("defaulted", Verdict(False))]


@pytest.mark.parametrize("by_handle", [True, False])
async def test_a_human_who_was_faster_has_answered(elsewhere: MakeStorage, by_handle: bool) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream([Plea("why", "str", "a", 60.0, "default")], run_id="r")
    await collect(run)
    if by_handle:
        await run.send_response("a", "human")
    else:
        await elsewhere().answer("r", "a", "human")
    await run.aclose()
    asked = (await elsewhere().load_checkpoint(await head(elsewhere()))).pending_requests["a"]
    left = datetime.fromisoformat(asked.deadline) - datetime.now(UTC)
    assert left > timedelta(0)

    events = await collect(
        inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    )
    assert outputs(events) == ["told why=human"]
    assert closed(events) == []


async def test_an_answer_in_the_inbox_wins_over_a_deadline_that_has_passed_since(
    elsewhere: MakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run([Plea("why", "str", "a", 60.0, "default")], run_id="r")
    await elsewhere().answer("r", "a", "human")
    an_hour_later(monkeypatch)

    events = await collect(
        inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    )
    assert outputs(events) == ["told why=human"]
    with pytest.raises(AlreadyAnsweredError):
        await elsewhere().answer("r", "a", "again")


@pytest.mark.usefixtures("without_types")
async def test_a_useless_answer_does_not_stop_the_default(
    elsewhere: MakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workflow = inquiring(elsewhere())
    await workflow.run([Plea("why", "Verdict", "a", 60.0, Verdict(False))], run_id="r")
    await elsewhere().answer("r", "a", {"approved": True, "grade": 99})
    an_hour_later(monkeypatch)

    events = await collect(
        inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    )
    assert len(warned(events)) == 1
    assert outputs(events) == ["judged why=Verdict(approved=False, grade=0)"]
    assert closed(events) == [("a", "defaulted")]


async def test_none_is_a_default_like_any_other(elsewhere: MakeStorage) -> None:
    class Taker(Executor):
        @handler
        async def begin(self, text: str, ctx: WorkflowContext) -> None:
            await ctx.request_info(text, str | None, deadline=0, default=None)

        @response_handler
        async def told(
            self, question: str, answer: str | None, ctx: WorkflowContext[Never, str]
        ) -> None:
            await ctx.yield_output(f"{question}={answer}")

    workflow = built(WorkflowBuilder(), Taker("taker"), storage=elsewhere())
    assert (await workflow.run("x")).get_outputs() == ["x=None"]


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"deadline": 5}, ValueError, "default"),
        ({"default": True}, ValueError, "deadline"),
        ({"deadline": 5, "default": "x"}, TypeError, "default is a str"),
        ({"deadline": datetime(2030, 1, 1), "default": True}, ValueError, "time zone"),
        ({"request_id": "a\nb"}, ValueError, "request_id"),
    ],
)
async def test_what_request_info_refuses(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    class Wrong(Inquirer):
        @handler
        async def begin_wrong(self, message: str, ctx: WorkflowContext) -> None:
            await ctx.request_info(message, bool, **settings)

    with pytest.raises(error, match=text):
        await built(WorkflowBuilder(), Wrong()).run("x")


# ---------------------------------------------------------------------------------------- refusals


async def test_every_unusable_answer_has_its_own_error_and_changes_nothing(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool", b="bool", c="bool"), run_id="r")
    await collect(run)
    await run.send_response("c", True)
    await collect(run)
    await run.send_response("b", True)  # not consumed yet
    before = await stored(elsewhere())

    for request_id, value, error in (
        ("a", "yes", ResponseTypeError),
        ("a", 1, ResponseTypeError),
        ("z", True, UnknownRequestError),
        ("b", True, AlreadyAnsweredError),
        ("c", True, AlreadyAnsweredError),
    ):
        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda i=request_id, v=value: run.send_response(i, v),  # type: ignore[misc]
            lambda i=request_id, v=value: elsewhere().answer("r", i, v),  # type: ignore[misc]
            lambda i=request_id, v=value: run.send_responses({"a": True, i: v}),  # type: ignore[misc]
        ]
        for attempt in attempts:
            with pytest.raises(error) as caught:
                await attempt()
            assert type(caught.value) is error
            assert "Nothing was changed" in str(caught.value)
            assert await stored(elsewhere()) == before
        with pytest.raises(error):
            await inquiring(elsewhere())[1].run_from_checkpoint(
                await head(elsewhere()), responses={request_id: value}
            )
        assert await stored(elsewhere()) == before

    assert outputs(await collect(run)) == ["agreed b=True"]


async def test_without_storage_the_errors_are_the_same() -> None:
    _, workflow = inquiring()
    run = workflow.run_stream(pleas(a="bool", b="bool", c="bool"))
    await collect(run)
    await run.send_response("c", True)
    await collect(run)
    await run.send_response("b", True)

    for request_id, value, error in (
        ("a", "yes", ResponseTypeError),
        ("z", True, UnknownRequestError),
        ("b", True, AlreadyAnsweredError),
        ("c", True, AlreadyAnsweredError),
    ):
        with pytest.raises(error, match="Nothing was changed"):
            await run.send_responses({"a": True, request_id: value})
    assert outputs(await collect(run)) == ["agreed b=True"]
    await run.send_response("a", False)
    assert outputs(await collect(run)) == ["agreed a=False"]


async def test_a_question_of_an_abandoned_branch_is_stale(elsewhere: MakeStorage) -> None:
    class Chain(Inquirer):
        @response_handler
        async def agreed(
            self, question: str, answer: bool, ctx: WorkflowContext[Never, str]
        ) -> None:
            if question == "a":
                await ctx.request_info(
                    "b" if answer else "c", bool, request_id="b" if answer else "c"
                )

    def build() -> Workflow:
        return built(WorkflowBuilder(name="inquire"), Chain(), storage=elsewhere())

    run = build().run_stream(pleas(a="bool"), run_id="r")
    await collect(run)
    asked = run.latest_checkpoint
    await run.send_response("a", True)
    assert questions(await collect(run)) == ["b"]
    assert asked is not None
    await run.restore_checkpoint(asked)
    before = await stored(elsewhere())

    for attempt in (
        lambda: run.send_response("b", True),
        lambda: elsewhere().answer("r", "b", True),
        lambda: run.cancel_request("b"),
    ):
        with pytest.raises(StaleRequestError, match="branch"):
            await attempt()
        assert await stored(elsewhere()) == before
    assert questions(await collect(run)) == ["a"]
    await run.send_response("a", False)
    assert questions(await collect(run)) == ["c"]


async def test_a_cancelled_question_is_stale_before_and_after_the_superstep(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool", b="bool"), run_id="r")
    await collect(run)
    await run.cancel_request("a")
    for _ in range(2):
        before = await stored(elsewhere())
        with pytest.raises(StaleRequestError):
            await elsewhere().answer("r", "a", True)
        with pytest.raises(StaleRequestError):
            await run.send_response("a", True)
        assert await stored(elsewhere()) == before
        await collect(run)


# ------------------------------------------------------------------------------------ asking again


async def test_waiting_questions_are_emitted_again_on_resume_and_restore(
    elsewhere: MakeStorage,
) -> None:
    _, workflow = inquiring(elsewhere())
    result = await workflow.run(pleas(a="bool", b="str"), run_id="r")
    before = [event for event in result if isinstance(event, RequestInfoEvent)]

    run = inquiring(elsewhere())[1].run_stream_from_checkpoint(await head(elsewhere()))
    again = [event for event in await collect(run) if isinstance(event, RequestInfoEvent)]
    assert again == before
    assert [event.response_type for event in again] == [bool, str]

    await run.restore_checkpoint(await head(elsewhere()))
    assert [event for event in await collect(run) if isinstance(event, RequestInfoEvent)] == before
    await run.aclose()

    partly = await inquiring(elsewhere())[1].run_from_checkpoint(
        await head(elsewhere()), responses={"a": True}
    )
    assert questions(partly) == ["b"]
    assert outputs(partly) == ["agreed a=True"]


async def test_an_id_may_be_asked_again_once_it_is_answered(elsewhere: MakeStorage) -> None:
    class Stubborn(Inquirer):
        @response_handler
        async def agreed(
            self, question: str, answer: bool, ctx: WorkflowContext[Never, str]
        ) -> None:
            if answer:
                await ctx.yield_output("at last")
            else:
                await ctx.request_info(question, bool, request_id="a")

    def build() -> Workflow:
        return built(WorkflowBuilder(name="inquire"), Stubborn(), storage=elsewhere())

    run = build().run_stream(pleas(a="bool"), run_id="r")
    await collect(run)
    await run.send_response("a", False)
    assert questions(await collect(run)) == ["a"]
    await elsewhere().answer("r", "a", False)
    assert questions(await collect(run)) == ["a"]
    await run.aclose()
    result = await build().run_from_checkpoint(await head(elsewhere()), responses={"a": True})
    assert result.get_outputs() == ["at last"]
    with pytest.raises(AlreadyAnsweredError):
        await elsewhere().answer("r", "a", True)


@Storages
@pytest.mark.parametrize("settled", [True, False])
async def test_two_waiting_questions_of_one_id_are_refused(
    make_storage: MakeStorage, settled: bool
) -> None:
    class Twice(Inquirer):
        @handler
        async def again(self, text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.request_info(text, bool, request_id="same")
            if text == "first" and settled:
                await ctx.send_message("second")
            elif text == "first":
                await ctx.request_info(text, bool, request_id="same")

    twice = Twice()
    workflow = built(WorkflowBuilder().add_edge(twice, twice), twice, storage=make_storage())
    with pytest.raises(
        WorkflowRuntimeError, match="'same', but a request with this id already waits"
    ):
        await workflow.run("first")


class Crash(BaseException):
    pass


class Fragile(Executor):
    """Asks, then crashes as long as a flag is set."""

    crashes = 0

    @handler
    async def begin(self, text: str, ctx: WorkflowContext) -> None:
        first = await ctx.request_info(text, bool)
        second = await ctx.request_info(text, str)
        self.ids.append((first, second))
        if type(self).crashes:
            type(self).crashes -= 1
            raise Crash

    @response_handler
    async def agreed(self, question: str, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{question}={answer}")

    @response_handler
    async def told(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{question}={answer}")

    def __init__(self, id: str, ids: list[tuple[str, str]]) -> None:
        super().__init__(id)
        self.ids = ids


async def test_made_up_ids_stay_the_same_when_a_crash_repeats_the_call(
    elsewhere: MakeStorage,
) -> None:
    ids: list[tuple[str, str]] = []
    Fragile.crashes = 2

    def build() -> Workflow:
        return built(WorkflowBuilder(name="fragile"), Fragile("fragile", ids), storage=elsewhere())

    with pytest.raises(HandlerError):
        await build().run("x", run_id="r")
    with pytest.raises(HandlerError):
        await build().run_from_checkpoint(await head(elsewhere()))
    result = await build().run_from_checkpoint(await head(elsewhere()))

    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert questions(result) == list(ids[0])
    assert len(set(ids[0])) == 2
    other = await build().run("x", run_id="other")
    assert not set(questions(other)) & set(ids[0])
    answered = await build().run_from_checkpoint(
        await head(elsewhere()), responses={ids[0][0]: True}
    )
    assert answered.get_outputs() == ["x=True"]


async def test_a_question_asked_before_a_sibling_failed_is_asked_once(
    elsewhere: MakeStorage,
) -> None:
    failures = [ValueError("not yet")]
    asked: list[str] = []

    class Asking(Inquirer):
        @handler
        async def begin(self, pleas: list[Plea], ctx: WorkflowContext) -> None:
            asked.append(
                await ctx.request_info("q", str, request_id="a", deadline=3600, default="d")
            )

    class Failing(Executor):
        @handler
        async def fail(self, pleas: list[Plea], ctx: WorkflowContext) -> None:
            if failures:
                raise failures.pop()

    def build() -> Workflow:
        start, worker = Starter("start"), Worker()
        builder = WorkflowBuilder(name="x").add_fan_out_edges(
            start, [Asking(), Failing("failing"), worker]
        )
        return built(builder.add_edge(worker, worker), start, storage=elsewhere())

    with pytest.raises(ValueError, match="not yet"):
        await build().run([], run_id="r")
    run = build().run_stream_from_checkpoint(await head(elsewhere()))
    events = await collect(run)
    assert questions(events) == ["a"]
    assert [e.response_type for e in events if isinstance(e, RequestInfoEvent)] == [str]
    assert asked == ["a"]
    await run.send_response("a", "yes")
    assert outputs(await collect(run)) == ["told q=yes"]


# ---------------------------------------------------------------------------------------- no taker


@Storages
async def test_asking_for_what_no_handler_takes_fails_at_the_asking_line(
    make_storage: MakeStorage,
) -> None:
    reached: list[str] = []

    class Hopeless(Inquirer):
        @handler
        async def begin_hopeless(self, message: str, ctx: WorkflowContext) -> None:
            reached.append("before")
            await ctx.request_info(message, bytes)
            reached.append("after")

    with pytest.raises(UnanswerableRequestError, match="asks a str for an answer of type bytes"):
        await built(WorkflowBuilder(), Hopeless(), storage=make_storage()).run("x")
    assert reached == ["before"]


async def test_a_handler_for_other_questions_does_not_do() -> None:
    _, workflow = inquiring()
    with pytest.raises(UnanswerableRequestError, match="asks a int for an answer of type str"):
        await workflow.run([Plea(5, "str")])


# ----------------------------------------------------------- narrower than the handler's annotation


@pytest.mark.parametrize(
    ("wanted", "question", "good", "bad", "plain", "taken"),
    [
        ("int", 1, 5, 5.5, 5, "counted 1=5"),
        (
            "Verdict",
            "q",
            Verdict(True),
            None,
            {"approved": True},
            "judged q=Verdict(approved=True, grade=0)",
        ),
        (
            "Refusal",
            "q",
            Refusal(False, 1, "dull"),
            Verdict(True),
            {"approved": False, "grade": 1, "reason": "dull"},
            "judged q=Refusal(approved=False, grade=1, reason='dull')",
        ),
        ("bool | str", "q", "so", None, "so", "told q=so"),
        (
            "str | Verdict",
            "q",
            Verdict(True),
            True,
            {"approved": True},
            "judged q=Verdict(approved=True, grade=0)",
        ),
        ("list[int]", 1, [1, 2], ["x"], [1, 2], "counted 1=[1, 2]"),
        ("Literal", "q", "a", "c", "a", "told q=a"),
    ],
)
@pytest.mark.parametrize("by_storage", [True, False])
async def test_what_was_asked_for_still_counts_in_a_new_workflow_object(
    wanted: str, question: Any, good: Any, bad: Any, plain: Any, taken: str, by_storage: bool
) -> None:
    storage = InMemory()
    await inquiring(storage)[1].run([Plea(question, wanted, "a")], run_id="r")
    gc.collect()
    checkpoint = await head(storage)

    run = inquiring(storage)[1].run_stream_from_checkpoint(checkpoint)
    (asked,) = [event for event in await collect(run) if isinstance(event, RequestInfoEvent)]
    assert asked.response_type == TYPES[wanted]
    with pytest.raises(ResponseTypeError):
        await run.send_response("a", bad)
    if by_storage:
        await storage.answer("r", "a", plain)
    else:
        await run.send_response("a", good)
    assert outputs(await collect(run)) == [taken]


# -------------------------------------------------------------------------- while others hold it up


async def test_an_answer_by_handle_while_a_handler_is_running(elsewhere: MakeStorage) -> None:
    worker, workflow = branching(elsewhere())
    reached, leave = asyncio.Event(), asyncio.Event()

    async def between(left: int) -> None:
        if left == 1:
            reached.set()
            await leave.wait()

    worker.between = between
    run = workflow.run_stream(pleas(a="bool"), run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await reached.wait()
    await run.send_response("a", True)
    with pytest.raises(AlreadyAnsweredError):
        await elsewhere().answer("r", "a", True)
    leave.set()

    result = await waiting
    assert set(result.get_outputs()[-2:]) == {"work 0", "agreed a=True"}


# ---------------------------------------------------------------------------- names of stored types


@pytest.mark.parametrize(
    ("annotation", "options"),
    [
        (int | None, [Any]),
        (dict[str, list[int]], [dict]),
        (tuple[int, ...], [object]),
        (tuple[()], [tuple]),
        (Literal["a, b", "c]", -1, True, None], [str]),
        (Literal["it's"] | int, [str, int]),
        (list[Refusal | None], [list[Verdict | None]]),
        (Refusal, [Verdict]),
    ],
)
def test_a_name_leads_back_to_its_type(annotation: Any, options: list[Any]) -> None:
    assert annotation_named(display_name(annotation), options) == annotation


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Missing",
        "list[",
        "list[int",
        "list[int]]",
        "int[str]",
        "int |",
        "os.system",
        "Literal[open]",
        "list[int] x",
    ],
)
def test_a_name_that_leads_nowhere_gives_none(name: str) -> None:
    assert annotation_named(name, [Any]) is None


def test_a_name_reaches_only_what_the_annotations_reach() -> None:
    assert annotation_named(display_name(Verdict), [str, Any, object]) is None


def test_a_name_crosses_between_a_script_and_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(module: str, name: str = "Yes") -> Any:
        return type(name, (), {"__module__": module, "__qualname__": name})

    script = ModuleType("__main__")
    script.__file__ = "/somewhere/reviews/review.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    in_script: Any = made("__main__")
    imported: Any = made("reviews.review")

    assert annotation_named("__main__.Yes | None", [imported | int]) == imported | None
    assert annotation_named(
        "list[__main__.Yes]", [GenericAlias(list, (imported | int,))]
    ) == GenericAlias(list, (imported,))
    assert annotation_named("__main__.Yes", [imported | made("others")]) is None  # which one?
    assert annotation_named("reviews.review.Yes | None", [in_script | int]) == in_script | None
    assert annotation_named("review.Yes", [in_script | int]) is in_script
    assert annotation_named("others.Yes", [in_script | int]) is None
    assert annotation_named("Literal['__main__.Yes']", [str, imported]) == Literal["__main__.Yes"]


async def test_a_type_that_is_gone_leaves_what_the_handlers_take() -> None:
    storage = InMemory()

    @dataclass
    class Passing(Verdict):
        pass

    TYPES["Passing"] = Passing
    await inquiring(storage)[1].run([Plea("q", "Passing", "a")], run_id="r")
    del TYPES["Passing"]
    Passing.__qualname__ = "Renamed"

    run = inquiring(storage)[1].run_stream_from_checkpoint(await head(storage))
    (asked,) = [event for event in await collect(run) if isinstance(event, RequestInfoEvent)]
    for accepted in (True, "x", Verdict(True), None):
        assert matches(accepted, asked.response_type)
    await run.send_response("a", Verdict(True))
    assert outputs(await collect(run)) == ["judged q=Verdict(approved=True, grade=0)"]


async def test_a_handle_whose_run_went_on_elsewhere_stays_quiet(elsewhere: MakeStorage) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool", b="bool"), run_id="r")
    await collect(run)
    await inquiring(elsewhere())[1].run_from_checkpoint(
        await head(elsewhere()), responses={"a": True}
    )
    await elsewhere().answer("r", "b", True)

    assert await collect(run) == []
    with pytest.raises(AlreadyAnsweredError):
        await run.send_response("a", True)


async def test_looking_for_answers_says_nothing_when_there_are_none(elsewhere: MakeStorage) -> None:
    _, workflow = inquiring(elsewhere())
    run = workflow.run_stream(pleas(a="bool"), run_id="r")
    await collect(run)
    before = await stored(elsewhere())
    assert await collect(run) == []
    assert (await run.wait_for_completion()).get_outputs() == []
    assert await stored(elsewhere()) == before


# ------------------------------------------------------------ from any checkpoint that lists them


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_question_that_a_summary_lists_can_be_answered_from_that_checkpoint(
    streaming: bool,
) -> None:
    storage = InMemoryCheckpointStorage()
    await asking_workflow(storage=storage).run("x", run_id="r")
    listing = {
        checkpoint.checkpoint_id: [
            request.request_id
            for request in RequestInfoExecutor.checkpoint_summary(checkpoint).pending_requests
        ]
        for checkpoint in await storage.list_checkpoints()
    }
    assert sorted(listing.values()) == [[], ["ask-x"], ["ask-x"]]  # on its way, and asked
    for checkpoint_id, listed in listing.items():
        if listed:
            run = asking_workflow(storage=storage).run_stream_from_checkpoint(
                checkpoint_id, responses={"ask-x": "yes"}
            )
            events = await collect(run) if streaming else []
            result = await run.wait_for_completion()
            assert result.get_outputs() == ["x=yes"]
            assert not streaming or outputs(events) == ["x=yes"]


async def test_an_answer_to_a_question_on_its_way_is_checked_like_any_other() -> None:
    storage = InMemoryCheckpointStorage()
    await asking_workflow(storage=storage).run("x", run_id="r")
    run = asking_workflow(storage=storage).run_stream_from_checkpoint(
        "r-000001", responses={"ask-x": 7}
    )
    with pytest.raises(ResponseTypeError):
        await collect(run)
    await run.send_response("ask-x", "yes")
    assert outputs(await collect(run)) == ["x=yes"]
    with pytest.raises(UnknownRequestError):
        await asking_workflow(storage=storage).run_from_checkpoint(
            "r-000001", responses={"ask-y": "yes"}
        )


async def test_a_question_on_its_way_to_an_executor_is_never_asked_and_the_answer_is_refused() -> (
    None
):
    class Sends(Executor):
        @handler
        async def send(self, text: str, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(Question(request_id="q", prompt=text))

    class Knows(Executor):
        @handler
        async def know(self, question: Question, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output("known")

    storage = InMemoryCheckpointStorage()
    sends = Sends("sends")
    workflow = built(
        WorkflowBuilder(name="w").add_edge(sends, Knows("knows")), sends, storage=storage
    )
    await workflow.run("x", run_id="r")
    run = workflow.run_stream_from_checkpoint("r-000001", responses={"q": "yes"})
    seen: list[WorkflowEvent] = []
    with pytest.raises(UnknownRequestError):
        await collect_into(seen, run)
    assert outputs(seen) == ["known"]
    assert kinds(await collect(run)) == ["WorkflowStatus"]  # it is emitted once
