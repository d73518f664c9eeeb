"""An observer is told what runs do, and cannot harm them."""

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from supersteps import (
    CheckpointInfo,
    Executor,
    FailurePolicy,
    InMemoryCheckpointStorage,
    RunFencedError,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    handler,
)
from supersteps.errors import ObserverWarning
from supersteps.observers import ObservedRun, Observer
from supersteps.storage.ports import CheckpointStorage
from tests.unit.support import collect, outputs

SPAN: ContextVar[str] = ContextVar("span", default="none")


class Notebook(Observer):
    """Writes everything down."""

    def __init__(self) -> None:
        self.pages: list[tuple[Any, ...]] = []
        self.commits: list[tuple[CheckpointInfo, int, float]] = []
        self.runs: set[ObservedRun] = set()

    def _note(self, run: ObservedRun, *page: Any) -> None:
        self.runs.add(run)
        self.pages.append(tuple(type(p) if isinstance(p, BaseException) else p for p in page))

    def run_opened(self, run: ObservedRun) -> None:
        self._note(run, "opened")

    def run_closed(
        self, run: ObservedRun, state: WorkflowRunState, error: BaseException | None
    ) -> None:
        self._note(run, "closed", state.value, error)

    def superstep_started(self, run: ObservedRun, step_number: int, calls: int) -> None:
        self._note(run, "superstep", step_number, calls)

    def superstep_ended(
        self, run: ObservedRun, step_number: int, error: BaseException | None
    ) -> None:
        self._note(run, "superstep ended", step_number, error)

    def call_started(
        self, run: ObservedRun, step_number: int, executor_id: str, attempt: int
    ) -> None:
        SPAN.set(f"{executor_id}:{attempt}")
        self._note(run, "call", step_number, executor_id, attempt)

    def call_ended(
        self,
        run: ObservedRun,
        step_number: int,
        executor_id: str,
        attempt: int,
        error: BaseException | None,
    ) -> None:
        self._note(run, "call ended", step_number, executor_id, attempt, error)

    def committed(
        self, run: ObservedRun, checkpoint: CheckpointInfo, size: int, seconds: float
    ) -> None:
        self._note(run, "committed", checkpoint.step_number)
        self.commits.append((checkpoint, size, seconds))

    def lease_lost(self, run: ObservedRun, error: BaseException) -> None:
        self._note(run, "lost", error)


class Step(Executor):
    """Counts down; its first attempt at 0 fails."""

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        if left:
            await ctx.send_message(left - 1)
        elif ctx.attempt == 1:
            raise KeyError("no")
        else:
            await ctx.yield_output(SPAN.get())


def counting(
    observer: Observer, storage: CheckpointStorage | None = None, attempts: int = 2
) -> Workflow:
    step = Step("step")
    builder = WorkflowBuilder(name="counting").set_start_executor(step).add_edge(step, step)
    builder.with_failure_policy(step, FailurePolicy(max_attempts=attempts, backoff=0.01))
    builder.with_observer(observer)
    return (builder if storage is None else builder.with_checkpointing(storage)).build()


async def test_an_observer_is_told_of_everything_in_order() -> None:
    told = Notebook()

    result = await counting(told, InMemoryCheckpointStorage()).run(1, run_id="r")

    assert told.pages == [
        ("opened",),
        ("committed", 0),
        ("superstep", 1, 1),
        ("call", 1, "step", 1),
        ("call ended", 1, "step", 1, None),
        ("committed", 1),
        ("superstep ended", 1, None),
        ("superstep", 2, 1),
        ("call", 2, "step", 1),
        ("call ended", 2, "step", 1, KeyError),
        ("committed", 2),
        ("superstep ended", 2, None),
        ("superstep", 3, 1),
        ("call", 3, "step", 2),
        ("call ended", 3, "step", 2, None),
        ("committed", 3),
        ("superstep ended", 3, None),
        ("closed", "IDLE", None),
    ]
    assert told.runs == {ObservedRun("r", "counting")}
    assert all(size > 0 and seconds > 0 for _info, size, seconds in told.commits)
    # What call_started makes the present span is that of what the handler does.
    assert result.get_outputs() == ["step:2"]


async def test_the_size_of_a_commit_is_what_its_superstep_has_changed() -> None:
    told = Notebook()

    class Write(Executor):
        @handler
        async def write(self, size: int, ctx: WorkflowContext[int]) -> None:
            await ctx.set_state({"text": "x" * size})
            if size:
                await ctx.send_message(0)

    write = Write("write")
    builder = WorkflowBuilder().set_start_executor(write).add_edge(write, write)
    builder.with_observer(told).with_checkpointing(InMemoryCheckpointStorage())
    await builder.build().run(100_000)

    _first, large, small = (size for _info, size, _seconds in told.commits)
    assert 100_000 < large < 101_000
    assert 0 < small < 100


async def test_a_failure_is_told_with_the_error_that_the_consumer_gets() -> None:
    told = Notebook()

    with pytest.raises(KeyError):
        await counting(told, attempts=1).run(0)

    assert told.pages == [
        ("opened",),
        ("superstep", 1, 1),
        ("call", 1, "step", 1),
        ("call ended", 1, "step", 1, KeyError),
        ("superstep ended", 1, KeyError),
        ("closed", "FAILED", KeyError),
    ]


async def test_a_run_that_is_left_is_closed_and_opened_again_when_it_goes_on() -> None:
    told = Notebook()
    run = counting(told, InMemoryCheckpointStorage()).run_stream(5)

    async for event in run:
        if type(event).__name__ == "SuperStepCompletedEvent":
            break
    await asyncio.sleep(0.05)
    left = list(told.pages)
    assert outputs(await collect(run)) == ["step:2"]

    assert left[-1] == ("closed", "IN_PROGRESS", None)
    opened = [page[0] for page in told.pages if page[0] in ("opened", "closed")]
    assert opened == ["opened", "closed", "opened", "closed"]
    assert told.pages[-1] == ("closed", "IDLE", None)


async def test_a_lost_lease_is_told(tmp_path: Path) -> None:
    told, other = Notebook(), Notebook()
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        run = counting(told, storage).run_stream(3, run_id="r")
        async for event in run:
            if type(event).__name__ == "SuperStepCompletedEvent":
                break
        await asyncio.sleep(0.05)
        head = run.checkpoints[-1]
        await counting(other, storage).run_from_checkpoint(head)
        with pytest.raises(RunFencedError):
            await collect(run)

    assert told.pages[-2:] == [("closed", "IN_PROGRESS", None), ("lost", RunFencedError)]
    assert not [page for page in other.pages if page[0] == "lost"]


class Broken(Observer):
    """Raises whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name not in vars(Observer):
            return super().__getattribute__(name)

        def told(*_: Any) -> None:
            raise ValueError(f"{name} is broken")

        told.__name__ = name
        return told


async def test_what_an_observer_raises_is_warned_about_once_and_harms_nothing() -> None:
    with pytest.warns(ObserverWarning) as warned:
        result = await counting(Broken(), InMemoryCheckpointStorage()).run(3, run_id="r")

    assert result.get_outputs()
    texts = sorted(str(warning.message) for warning in warned)
    assert [text.split(" of ")[0] for text in texts] == [
        "run 'r': call_ended",
        "run 'r': call_started",
        "run 'r': committed",
        "run 'r': run_closed",
        "run 'r': run_opened",
        "run 'r': superstep_ended",
        "run 'r': superstep_started",
    ]
    assert "observer Broken raised ValueError: call_started is broken" in texts[1]


@pytest.mark.filterwarnings("error::supersteps.errors.ObserverWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nor_does_a_warning_that_a_filter_has_made_an_error() -> None:
    result = await counting(Broken(), InMemoryCheckpointStorage()).run(3)

    assert result.get_outputs()


def test_what_is_no_observer_is_refused() -> None:
    with pytest.raises(TypeError, match="a subclass of Observer, not 7"):
        WorkflowBuilder().with_observer(7)  # type: ignore[arg-type]
