"""The process that works, and that the demo kills: it starts the run, or continues where an earlier
process stopped.

It is called the same way each time: it finds in the storage whether there is a run to resume. It
reports what happens as JSON, one object per line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from supersteps import (
    FileCheckpointStorage,
    RequestInfoEvent,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
)

from .workflow import DocumentCounted, Job, build_workflow


def main() -> None:
    """Work until the run is done or only waits for a person."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.worker", description=__doc__)
    parser.add_argument("storage", type=Path, help="folder of the checkpoints")
    parser.add_argument("report", type=Path, help="file to write")
    parser.add_argument(
        "--answer", help="what to answer when the workflow asks; without it the run is left waiting"
    )
    parser.add_argument("--pace", type=float, default=Job.pace, help="seconds that a page takes")
    options = parser.parse_args()
    asyncio.run(work(options.storage, Job(options.report, pace=options.pace), options.answer))


async def work(folder: Path, job: Job, answer: str | None) -> None:
    """Start or resume the run and tell what happens."""
    async with FileCheckpointStorage(folder) as storage:
        workflow = build_workflow(storage)
        run = await open_run(workflow, storage, job)
        async for event in run:
            match event:
                case DocumentCounted():
                    say("counted", document=event.data)
                case SuperStepCompletedEvent():
                    say("checkpoint", step=event.step_number)
                case RequestInfoEvent():
                    say("request", prompt=event.data.prompt, draft=event.data.draft)
                    if answer is not None:
                        await run.send_response(event.request_id, answer)
        # A stream tells what is new; what the run has to show in all is in its newest checkpoint,
        # also when an earlier process was killed after its last commit and before it could say so.
        assert run.latest_checkpoint is not None
        newest = await storage.load_checkpoint(run.latest_checkpoint.checkpoint_id)
        assert newest is not None
        if newest.outputs:
            say("done", output=newest.outputs[-1])


async def open_run(workflow: Workflow, storage: FileCheckpointStorage, job: Job) -> StreamingRun:
    """Return the run to iterate: from its newest checkpoint if there is one, else from the
    beginning.
    """
    checkpoints = await storage.list_checkpoints(workflow_id=workflow.workflow_id)
    if checkpoints:
        return workflow.run_stream_from_checkpoint(checkpoints[-1].checkpoint_id)
    return workflow.run_stream(job)


def say(event: str, **facts: object) -> None:
    """Print one line for the process that watches."""
    print(json.dumps({"event": event, **facts}), flush=True)


if __name__ == "__main__":
    main()
