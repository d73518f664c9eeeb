"""Workflows that ask people, in processes that kill themselves between two events of the run.

    python -m tests.acceptance.humans

Takes one job a line from standard input, as JSON, and says what became of it, also as JSON. Each
life of a job is a process of its own, forked from this one, which has imported everything but has
never opened a storage.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from examples.expense_approvals import (
    APPROVERS,
    Approver,
    Expense,
    Question,
    Verdict,
    Vote,
    submit,
    tally,
)
from examples.guessing_game import Guess, Guesser, Hint, Interval
from supersteps import (
    CheckpointStorage,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    RunNotFoundError,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    open_storage,
    response_handler,
)

RUN = "asked"
NUMBER = 59


def note(folder: Path, ctx: WorkflowContext[Any, Any], request_id: str, answer: object) -> None:
    """Write down that an answer has come, where no checkpoint knows of it."""
    with (folder / "consumed").open("a", encoding="utf-8") as file:
        file.write(json.dumps([ctx.idempotency_key, ctx.step_number, request_id, answer]) + "\n")


class NotingGuesser(Guesser):
    def __init__(self, id: str, folder: Path) -> None:
        super().__init__(id)
        self.folder = folder

    @handler
    async def learn(
        self, response: RequestResponse[Guess, Hint], ctx: WorkflowContext[Guess, str]
    ) -> None:
        note(self.folder, ctx, response.request_id, response.data)
        await super().learn(response, ctx)


class NotingApprover(Approver):
    def __init__(self, id: str, folder: Path) -> None:
        super().__init__(id, patience=3600)
        self.folder = folder

    @response_handler
    async def hear(self, question: Question, verdict: Verdict, ctx: WorkflowContext[Vote]) -> None:
        note(self.folder, ctx, self.id, asdict(verdict))
        await super().hear(question, verdict, ctx)


def game(folder: Path, storage: CheckpointStorage) -> Workflow:
    guesser, outside = NotingGuesser("guesser", folder), RequestInfoExecutor("outside")
    builder = WorkflowBuilder(name="game").set_start_executor(guesser)
    return (
        builder.add_edge(guesser, outside)
        .add_edge(outside, guesser)
        .with_checkpointing(storage)
        .build()
    )


def expenses(folder: Path, storage: CheckpointStorage) -> Workflow:
    approvers = [NotingApprover(name, folder) for name in APPROVERS]
    return (
        WorkflowBuilder(name="expenses")
        .set_start_executor(submit)
        .add_fan_out_edges(submit, approvers)
        .add_fan_in_edges(approvers, tally)
        .with_checkpointing(storage)
        .build()
    )


WORKFLOWS = {"game": (game, Interval(1, 100)), "expenses": (expenses, Expense("a new sail", 1200))}


def answer_to(question: Any) -> Any:
    """Return what the person says, always the same; of a question whose type is not known, too."""
    if hasattr(question, "number"):
        return (
            "yes"
            if question.number == NUMBER
            else "higher"
            if question.number < NUMBER
            else "lower"
        )
    return Verdict(question.approver != "ben", f"{question.approver} has read it")


async def live(kind: str, folder: Path, store: str, kill_after: int | None, outside: bool) -> str:
    """Live one life: drive the run until the event `kill_after`, or to its end; return what came
    of it.

    Args:
        kind: Which workflow.
        folder: Where everything is.
        store: Its storage.
        kill_after: After how many events to die, 0 for before the first; None to live on.
        outside: Leave the answers to `post` instead of giving them inside the loop.
    """
    build, message = WORKFLOWS[kind]
    storage = open_storage(folder / store)
    run: StreamingRun = build(folder, storage).run_stream(message, run_id=RUN, if_exists="attach")
    count = 0
    if kill_after == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        asked: dict[str, Any] = {}
        async for event in run:
            count += 1
            if isinstance(event, RequestInfoEvent):
                asked[event.request_id] = event.data
                if not outside:
                    await run.send_response(event.request_id, answer_to(event.data))
            if count == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
        if not asked or outside:
            result = await run.wait_for_completion()
            return json.dumps(
                {"events": count, "waits": bool(asked), "outputs": result.get_outputs()}
            )


async def post(folder: Path, store: str, limit: int) -> str:
    """Answer what waits in plain JSON, as a process without the workflow would; at most so many
    questions.
    """
    storage: Any = open_storage(folder / store)
    try:
        waiting = await storage.list_requests(RUN)
    except RunNotFoundError:  # no process has lived long enough to start it
        waiting = []
    for request in waiting[:limit]:
        answer = answer_to(request.data)
        await storage.answer(
            RUN, request.request_id, asdict(answer) if isinstance(answer, Verdict) else answer
        )
    return json.dumps({"posted": len(waiting[:limit])})


def in_a_process(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in a process of its own; say how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(job, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, **(json.loads(text) if text else {})}


def _work(job: dict[str, Any], writer: int) -> NoReturn:
    status = 1
    try:
        folder = Path(job["folder"])
        if job["do"] == "post":
            said = asyncio.run(post(folder, job["store"], job["limit"]))
        else:
            said = asyncio.run(
                live(job["kind"], folder, job["store"], job["kill_after"], job["outside"])
            )
        os.write(writer, said.encode())
        status = 0
    except BaseException:
        os.write(writer, json.dumps({"error": traceback.format_exc()}).encode())
    finally:
        os._exit(status)


if __name__ == "__main__":
    for wanted_later in ("filelock", "jsonschema"):
        import_module(wanted_later)
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(in_a_process(json.loads(line))), flush=True)
