"""Driving a run to its end, to its questions, or until a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.events import RequestInfoEvent, WorkflowEvent
from supersteps.run.handle import StreamingRun
from supersteps.run.script import until_asked_to_stop
from supersteps.run.workflow import Workflow
from supersteps.service.questions import question_of_event
from supersteps.service.states import DRAINED
from supersteps.service.views import Outcome
from supersteps.states import SETTLED

Watch = Callable[[WorkflowEvent], None]
"""Called with each event as it happens; must be quick."""


async def drive_run(
    run: StreamingRun,
    workflow: Workflow,
    watch: Watch,
    on_signal: Callable[[signal.Signals], None] | None = None,
) -> Outcome:
    """Drive a run until it is done, only waits for answers, or SIGINT or SIGTERM arrives.

    Args:
        run: The run.
        workflow: Its workflow.
        watch: Called with each event.
        on_signal: Called with the signal when it arrives, while the current superstep finishes;
            must be quick.

    Returns: The outcome.

    Raises:
        Exception: The failure of the run.
    """
    asked: dict[str, RequestInfoEvent] = {}

    async def consume() -> None:
        async for event in run:
            if isinstance(event, RequestInfoEvent):
                asked[event.request_id] = event
            watch(event)

    _, asked_by = await until_asked_to_stop(run, consume(), on_signal)
    codec = Codec(workflow.types)
    latest = run.latest_checkpoint
    is_drained = asked_by is not None and run.state not in SETTLED
    step = 0 if latest is None else latest.step_number
    outputs = (
        [] if is_drained else (await run.wait_for_completion()).get_outputs()
    )  # the run has already ended
    return Outcome(
        run_id=run.run_id,
        status=DRAINED if is_drained else run.state.value,
        step=step,
        checkpoint=None if latest is None else latest.checkpoint_id,
        outputs=[json_ready(output, codec) for output in outputs],
        questions=[
            question_of_event(
                event,
                json_ready(event.data, codec),
                run_id=run.run_id,
                workflow_id=workflow.workflow_id,
                step=step,
            )
            for event in asked.values()
            if run.waits_for(event.request_id)
        ],
        signal=int(asked_by) if is_drained and asked_by is not None else None,
    )


def json_ready(value: Any, codec: Codec) -> Any:
    """Return a value as typed JSON, or as text if it cannot be encoded."""
    try:
        return msgspec.json.decode(codec.encode(value, "value"))
    except ValueError:
        return str(value)
