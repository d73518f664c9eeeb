"""A person is asked; the answer comes inside the loop, or to a new workflow object after a restart.

python -m examples.responses
"""

import asyncio
from dataclasses import dataclass
from typing import Never

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowOutputEvent,
    handler,
)


@dataclass
class Approval(RequestInfoMessage):
    """The question."""

    prompt: str = ""
    draft: str = ""


class Publisher(Executor):
    @handler
    async def ask(self, draft: str, ctx: WorkflowContext[Approval]) -> None:
        await ctx.send_message(Approval(prompt="Publish?", draft=draft))

    @handler
    async def act(
        self, response: RequestResponse[Approval, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"{response.data}: {response.original_request.draft}")


def build(storage: InMemoryCheckpointStorage) -> Workflow:
    publisher, request_info = Publisher("publisher"), RequestInfoExecutor("request_info")
    return (
        WorkflowBuilder(name="publishing")
        .set_start_executor(publisher)
        .add_edge(publisher, request_info)
        .add_edge(request_info, publisher)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    storage = InMemoryCheckpointStorage()

    run = build(storage).run_stream("A poem")
    async for event in run:
        if isinstance(event, RequestInfoEvent):
            print(f"asked: {event.data.prompt} {event.data.draft!r}")
            # The answer is durable when this returns; the stream continues.
            await run.send_response(event.request_id, "yes")
        if isinstance(event, WorkflowOutputEvent):
            print("output:", event.data)

    waiting = await build(storage).run("An essay")
    print("second run:", waiting.get_final_state())

    # Weeks later, in another process, all there is is the storage:
    newest = (await storage.list_checkpoints(workflow_id="publishing"))[-1]
    summary = RequestInfoExecutor.checkpoint_summary(newest)
    request = summary.pending_requests[0]
    print(f"found: {summary.status}: {request.prompt} {summary.draft_preview!r}")
    fresh = build(storage)
    async for event in fresh.run_stream_from_checkpoint(
        newest.checkpoint_id, responses={request.request_id: "no"}
    ):
        if isinstance(event, WorkflowOutputEvent):
            print("output:", event.data)

    try:
        await fresh.run_from_checkpoint(summary.checkpoint_id, responses={request.request_id: 42})
    except TypeError as error:  # a ResponseTypeError
        print("refused:", str(error).partition(" wants ")[2])


if __name__ == "__main__":
    asyncio.run(main())
