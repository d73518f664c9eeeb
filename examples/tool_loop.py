"""The loop of an agent: a model calls tools until it is done, and one of the tools needs a
person's permission.

    python -m examples.tool_loop

The model is made of rules; a real one goes into `think`. The transcript is shared state that only
grows, so a superstep costs what was said in it, however long the conversation has become.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

from examples._play import ask, play, read_options, say, show
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)


@dataclass(frozen=True)
class Task:
    text: str


@dataclass(frozen=True)
class ToolCall:
    tool: str
    argument: str


@dataclass(frozen=True)
class ToolResult:
    tool: str
    text: str


@dataclass(frozen=True)
class Permission:
    """The question: may the model do this?"""

    call: ToolCall


@dataclass(frozen=True)
class Answer:
    text: str


def think(transcript: list[str]) -> ToolCall | Answer:
    """Stand in for a model: look at what was said, and decide what to do next."""
    results = {line.partition(": ")[0]: line.partition(": ")[2] for line in transcript}
    if "look_up" not in results:
        return ToolCall("look_up", "range of the tide")
    if "multiply" not in results:
        return ToolCall("multiply", f"{results['look_up']} * 2")
    if "send_mail" not in results:
        return ToolCall("send_mail", f"spring tide: {results['multiply']} m")
    return Answer(f"The spring tide is {results['multiply']} m. Mail: {results['send_mail']}.")


TOOLS: dict[str, Callable[[str], str]] = {
    "look_up": lambda what: {"range of the tide": "3.2"}[what],
    "multiply": lambda terms: str(float(terms.split(" * ")[0]) * float(terms.split(" * ")[1])),
    "send_mail": lambda text: f"sent ({text})",
}
NEEDS_PERMISSION = {"send_mail"}


class Model(Executor):
    @handler
    async def begin(self, task: Task, ctx: WorkflowContext[ToolCall | Answer]) -> None:
        await self._go_on(f"task: {task.text}", ctx)

    @handler
    async def learn(self, result: ToolResult, ctx: WorkflowContext[ToolCall | Answer]) -> None:
        await self._go_on(f"{result.tool}: {result.text}", ctx)

    async def _go_on(self, line: str, ctx: WorkflowContext[ToolCall | Answer]) -> None:
        transcript = await ctx.get_shared_state("transcript", [])
        await ctx.append_shared_state("transcript", line)
        await ctx.send_message(think([*transcript, line]))


class Toolbox(Executor):
    @handler
    async def call(self, call: ToolCall, ctx: WorkflowContext[ToolResult]) -> None:
        if call.tool in NEEDS_PERMISSION:
            await ctx.request_info(Permission(call), bool)
        else:
            await ctx.send_message(self._use(call))

    @response_handler
    async def decided(
        self, question: Permission, is_allowed: bool, ctx: WorkflowContext[ToolResult]
    ) -> None:
        call = question.call
        await ctx.send_message(
            self._use(call) if is_allowed else ToolResult(call.tool, "refused by a person")
        )

    def _use(self, call: ToolCall) -> ToolResult:
        say(f"{call.tool}({call.argument!r})")
        return ToolResult(call.tool, TOOLS[call.tool](call.argument))


@executor
async def finish(answer: Answer, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(answer.text)


def build_workflow(storage: CheckpointStorage) -> Workflow:
    model, toolbox = Model("model"), Toolbox("toolbox")
    return (
        WorkflowBuilder(name="tool-loop", max_iterations=50)
        .set_start_executor(model)
        .add_edge(model, toolbox)
        .add_edge(toolbox, model)
        .add_edge(model, finish)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def answer(question: Permission) -> bool:
    return (
        ask(f"May I {question.call.tool} {question.call.argument!r}?", "yes", ("yes", "no"))
        == "yes"
    )


async def main() -> None:
    place = read_options("tool_loop", __doc__)
    show(
        await play(
            build_workflow(place.storage),
            Task("How high is the spring tide? Tell Ida."),
            place,
            answer,
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
