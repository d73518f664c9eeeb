"""Backends: calls made elsewhere lead to the same checkpoints as calls made here."""

import asyncio
import os
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from supersteps import (
    Executor,
    ExecutorFailedEvent,
    FailurePolicy,
    HandlerTimeoutError,
    InMemoryCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    handler,
)
from supersteps.backends import Backend, CallSite, Effects, LocalBackend, PlannedCall
from supersteps.checkpoint.parts import ListPart, Part
from tests.unit.processes import Made, ProcessBackend, Reading, make_workflow
from tests.unit.support import collect, outputs

RUN = "the-run"


@pytest.fixture(params=get_args(Reading))
def process(request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(make_workflow, request.param)
    yield backend
    backend.close()


async def driven(
    storage: InMemoryCheckpointStorage, backend: ProcessBackend | None
) -> list[WorkflowEvent]:
    """Run to the question, answer it in a second handle, run to the end; return the live events."""
    workflow = make_workflow(storage, backend)
    events = await collect(workflow.run_stream("a text", run_id=RUN))
    head = (await storage.get_run(RUN)).head  # type: ignore[union-attr]  # it is there
    resumed = make_workflow(storage, backend).run_stream_from_checkpoint(
        head, responses={"is-it-good": True}
    )
    return events + await collect(resumed)


async def contents(storage: InMemoryCheckpointStorage) -> list[dict[str, str]]:
    """Every part of every checkpoint of the run as text, but for the times."""
    moment = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
    found = []
    for header in await storage.list_headers(RUN):
        record = await storage.load_record(header.checkpoint_id)
        assert record is not None
        found.append(
            {"/".join(key): moment.sub("T", _text(part)) for key, part in record.parts.items()}
            | {"status": header.status, "step": str(header.iteration_count)}
        )
    return found


def _text(part: Part) -> str:
    return repr(list(part) if isinstance(part, ListPart) else part)


async def test_calls_in_a_child_process_lead_to_the_same_checkpoints(
    process: ProcessBackend,
) -> None:
    here, elsewhere = InMemoryCheckpointStorage(), InMemoryCheckpointStorage()
    expected = outputs(await driven(here, None))

    events = await driven(elsewhere, process)

    assert outputs(events) == expected == ["<2: again (again)> is good"]
    for mine, theirs in zip(await contents(elsewhere), await contents(here), strict=True):
        assert mine == theirs
    assert bool(process.readings) == (process._reading == "when asked")


async def test_a_child_process_makes_every_call_and_every_hook(process: ProcessBackend) -> None:
    events = await driven(InMemoryCheckpointStorage(), process)

    assert {kind for kind, _address, _attempt in process.calls} == {
        "handler",
        "checkpoint",
        "restore",
    }
    assert [a for _kind, address, a in process.calls if address == "flaky"] == [1, 2, 1, 2]
    assert any(address.endswith("/pass") for _kind, address, _attempt in process.calls)
    made = [event.data for event in events if isinstance(event, Made)]
    assert {pid for *_rest, pid in made} == {process.process.pid} != {os.getpid()}
    # Both attempts at one piece of work have one key, and the two pieces of work do not share it.
    keys = [key for _name, _attempt, key, _pid in made]
    assert keys[0] == keys[1] != keys[2] == keys[3]


class Stuck(Executor):
    @handler
    async def wait(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        if ctx.attempt == 1:
            await asyncio.sleep(3600)
        await ctx.yield_output(text)


def stuck_workflow(backend: Backend | None = None) -> Any:
    stuck = Stuck("stuck")
    policy = FailurePolicy(max_attempts=2, backoff=0.01, timeout=5.0)
    builder = WorkflowBuilder(name="stuck").set_start_executor(stuck)
    builder.with_failure_policy(stuck, policy)
    return (builder if backend is None else builder.with_backend(backend)).build()


async def test_a_backend_learns_that_a_call_is_cancelled() -> None:
    process = ProcessBackend(stuck_workflow, "when asked")
    try:
        events = await collect(stuck_workflow(process).run_stream("a text"))
    finally:
        process.close()

    assert outputs(events) == ["a text"]
    assert process.calls == [("handler", "stuck", 1), ("handler", "stuck", 2)]
    failed = [event for event in events if isinstance(event, ExecutorFailedEvent)]
    assert [event.details.error_type for event in failed] == [HandlerTimeoutError.__name__]


async def test_a_subclass_of_the_local_backend_adds_to_each_call() -> None:
    called: list[str] = []

    class Noting(LocalBackend):
        async def invoke(self, planned: PlannedCall, site: CallSite) -> Effects:
            called.append(site.address)
            return await super().invoke(planned, site)

    events = await collect(stuck_workflow(Noting()).run_stream("a text"))

    assert outputs(events) == ["a text"]
    assert called == ["stuck", "stuck"]


@pytest.mark.parametrize(
    ("given", "text"),
    [(LocalBackend, r"LocalBackend is a class; write LocalBackend\(...\)"), (7, "no invoke, ch")],
)
def test_what_is_no_backend_is_refused(given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        WorkflowBuilder().with_backend(given)
