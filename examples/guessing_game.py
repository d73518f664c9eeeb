"""Think of a number: the workflow guesses, you say "higher", "lower" or "yes".

    python -m examples.guessing_game
    python -m examples.guessing_game --answers answers.txt    one answer a line, without a terminal

Leave it at any moment, by Ctrl-C or with `kill -9`: started again, it offers to continue the game.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Never

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunResult,
    WorkflowRunState,
    handler,
)

Hint = Literal["higher", "lower", "yes"]


@dataclass(frozen=True)
class Interval:
    """Where the number can be."""

    low: int
    high: int


@dataclass
class Guess(RequestInfoMessage):
    """The question: is it this number?"""

    prompt: str = ""
    number: int = 0


class Guesser(Executor):
    """Halves the interval with each guess."""

    @handler
    async def begin(self, interval: Interval, ctx: WorkflowContext[Guess]) -> None:
        await self._guess(interval, 1, ctx)

    @handler
    async def learn(
        self, response: RequestResponse[Guess, Hint], ctx: WorkflowContext[Guess, str]
    ) -> None:
        state = await ctx.get_state() or {}
        interval, guesses, number = (
            state["interval"],
            state["guesses"],
            response.original_request.number,
        )
        if response.data == "yes":
            await ctx.yield_output(f"Your number is {number}: guess {guesses} was right.")
            return
        higher = response.data == "higher"
        left = Interval(number + 1, interval.high) if higher else Interval(interval.low, number - 1)
        if left.low > left.high:
            await ctx.yield_output("By your answers there is no such number. Well played.")
            return
        await self._guess(left, guesses + 1, ctx)

    async def _guess(
        self, interval: Interval, guesses: int, ctx: WorkflowContext[Guess, Never]
    ) -> None:
        await ctx.set_state({"interval": interval, "guesses": guesses})
        number = (interval.low + interval.high) // 2
        await ctx.send_message(Guess(prompt=f"Guess {guesses}: is it {number}?", number=number))


def build_workflow(storage: CheckpointStorage) -> Workflow:
    guesser, request_info = Guesser("guesser"), RequestInfoExecutor("request_info")
    return (
        WorkflowBuilder(name="guessing-game")
        .set_start_executor(guesser)
        .add_edge(guesser, request_info)
        .add_edge(request_info, guesser)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


class Player:
    """Asks the person at the terminal, or takes the lines of a file."""

    def __init__(self, answers: Path | None) -> None:
        self._lines: Iterator[str] | None = (
            iter(answers.read_text().splitlines()) if answers else None
        )

    def ask(self, question: str, choices: tuple[str, ...]) -> str:
        """Return one of the choices; its beginning will do.

        Raises:
            EOFError: There are no more answers.
        """
        while True:
            given = self._read(f"{question} [{'/'.join(choices)}] ").strip().lower()
            fitting = [choice for choice in choices if given and choice.startswith(given)]
            if len(fitting) == 1:
                return fitting[0]
            print(f"I did not understand {given!r}. Please say one of: {', '.join(choices)}.")

    def _read(self, prompt: str) -> str:
        if self._lines is None:
            return input(prompt)
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        print(prompt + line)
        return line


def start(
    workflow: Workflow, storage: FileCheckpointStorage, player: Player, highest: int
) -> WorkflowRunResult:
    """Continue the unfinished game if the player wants to; else start a new one."""
    checkpoints = asyncio.run(storage.list_checkpoints(workflow_id=workflow.workflow_id))
    is_under_way = bool(checkpoints) and checkpoints[-1].status != WorkflowRunState.IDLE
    if is_under_way and player.ask("A game is unfinished. Continue it?", ("yes", "no")) == "yes":
        return asyncio.run(workflow.run_from_checkpoint(checkpoints[-1].checkpoint_id))
    print(f"Think of a number between 1 and {highest}.")
    return asyncio.run(workflow.run(Interval(1, highest)))


def play(storage: FileCheckpointStorage, player: Player, highest: int) -> None:
    """Play one game to its end; between two guesses the game exists only in the storage."""
    workflow = build_workflow(storage)
    result = start(workflow, storage, player, highest)
    while not result.get_outputs():
        question = result.get_request_info_events()[-1]
        hint = player.ask(question.data.prompt, ("higher", "lower", "yes"))
        result = asyncio.run(workflow.send_responses({question.request_id: hint}))
    print(result.get_outputs()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="take the answers from this file, one a line"
    )
    parser.add_argument(
        "--highest", type=int, default=100, metavar="N", help="the greatest number (default: 100)"
    )
    parser.add_argument(
        "--storage", type=Path, default=Path("checkpoints/guessing-game"), metavar="DIR"
    )
    options = parser.parse_args()
    if options.highest < 1:
        parser.error("--highest is a number of 1 or more")
    try:
        play(FileCheckpointStorage(options.storage), Player(options.answers), options.highest)
    except (EOFError, KeyboardInterrupt):
        print("\nThe game waits for you. Start me again to continue.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
