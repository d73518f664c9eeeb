"""Answering a run that another task may drive, and waiting for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supersteps.errors import RequestError, RunBusyError, RunFencedError
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import AnsweredRun, RunAtHead
from supersteps.run.result import WorkflowRunResult
from supersteps.run.setup import RunSetup
from supersteps.run.wait import until_let_go
from supersteps.storage.ports import DurableStorage


def answered_run(setup: RunSetup, responses: Mapping[str, Any]) -> StreamingRun:
    """Return the handle of the run that waits for these answers.

    See `Workflow.send_responses_streaming`.
    """
    _check(responses)
    at_hand = setup.registry.at_hand(responses)
    if at_hand is None:
        return StreamingRun(AnsweredRun(setup, responses))
    at_hand.queue_responses(responses)
    return at_hand


async def answer_and_wait(setup: RunSetup, responses: Mapping[str, Any]) -> WorkflowRunResult:
    """Answer the run that waits for these requests, and return its result.

    The run is driven by its present driver, otherwise here; see `Workflow.send_responses`.
    """
    _check(responses)
    registry = setup.registry
    run = registry.at_hand(responses)
    storage = None if run is None else run.storage
    if run is not None and storage is None:
        await run.answer(responses)
        return await run.outcome()
    if run is not None and storage is not None:
        run_id = run.run_id
    else:
        storage, run_id = await registry.find(responses, setup.definition.workflow_id)
    assert storage is not None
    run = await _current(setup, storage, run_id)
    await run.answer(responses)
    while True:
        try:
            return await run.outcome()
        except (RunBusyError, RunFencedError):
            if not run.is_overtaken:
                raise
        await until_let_go(storage, run_id)
        run = await _current(setup, storage, run_id)


async def _current(setup: RunSetup, storage: DurableStorage, run_id: str) -> StreamingRun:
    """Return a handle at the run's head: an existing one, or a new one."""
    registry = setup.registry
    run = registry.handle(storage, run_id)
    while run is not None and not run.is_active():
        record = await storage.get_run(run_id)
        newest = registry.handle(storage, run_id)
        if newest is run and (record is None or not run.stands_at(record)):
            break
        if newest is run:
            return run
        run = newest  # another task has just created one
    else:
        if run is not None:
            return run
    made = StreamingRun(RunAtHead(setup, storage, run_id))
    registry.register(storage, made)
    return made


def _check(responses: Mapping[str, Any]) -> None:
    if not responses:
        raise RequestError("send_responses needs at least one answer: {request_id: answer}")
