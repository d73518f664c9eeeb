"""What the small workflows here share: where a run is kept, who answers its questions, what is
shown of it.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from supersteps import (
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    SqliteCheckpointStorage,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
    open_storage,
)
from supersteps.errors import AlreadyAnsweredError, LateResponseError
from supersteps.events import RequestClosedEvent

HOUR = float(os.environ.get("EXAMPLES_HOUR", "0.1"))
"""How many seconds stand for an hour, to keep the examples short."""

NO_ANSWER: Any = object()
"""What an answerer returns when there is no answer."""

Storage = SqliteCheckpointStorage | FileCheckpointStorage | InMemoryCheckpointStorage

Answerer = Callable[[Any], Any]
"""Gives the answer to a question."""


@dataclass(frozen=True)
class Place:
    """Where a run is kept, and the world outside that no checkpoint knows of.

    Attributes:
        storage: Where the checkpoints go.
        world: A folder for what handlers do outside.
        run_id: The run: always the same, so that starting again continues it.
    """

    storage: Storage
    world: Path
    run_id: str


def read_options(name: str, text: str | None) -> Place:
    """Return the place that the command line names."""
    parser = argparse.ArgumentParser(
        f"python -m examples.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--storage",
        type=Path,
        default=Path("checkpoints", f"{name}.db"),
        metavar="DATABASE_OR_FOLDER",
    )
    path: Path = parser.parse_args().storage
    world = path.with_name(f"{path.stem}-world")
    world.mkdir(parents=True, exist_ok=True)
    return Place(cast(Storage, open_storage(path)), world, name)


def nowhere() -> Place:
    """Return a place for a workflow that is only drawn: nothing is saved or changed outside."""
    return Place(InMemoryCheckpointStorage(), Path(os.devnull), "")


def ask(prompt: str, scripted: str, choices: Sequence[str] = ()) -> str:
    """Return the answer of the person at the terminal, or the scripted one without a terminal."""
    if not sys.stdin.isatty():
        say(f"{prompt} {scripted}")
        return scripted
    while True:
        given = input(f"{prompt} [{'/'.join(choices) or scripted}] ").strip() or scripted
        if not choices or given in choices:
            return given
        print(f"Please say one of: {', '.join(choices)}.")


def say(text: str) -> None:
    """Print a line at once: the process may be killed at any moment."""
    print(text, flush=True)


async def play(
    workflow: Workflow, message: Any, place: Place, answer: Answerer | None = None
) -> list[Any]:
    """Start the run, or continue it, and drive it to its end; return its outputs."""
    known = await place.storage.get_run(place.run_id)
    if known is not None:
        say(f"continuing the unfinished run: {known.status}")
    return await drive(
        workflow.run_stream(message, run_id=place.run_id, if_exists="attach"), answer
    )


async def drive(run: StreamingRun, answer: Answerer | None = None) -> list[Any]:
    """Drive a run to its end, answering what it asks; return its outputs."""
    waiting: dict[str, RequestInfoEvent] = {}
    while True:
        async for event in run:
            if isinstance(event, SuperStepCompletedEvent):
                say(f"superstep {event.step_number} is committed")
            elif isinstance(event, RequestInfoEvent):
                waiting[event.request_id] = event
            elif isinstance(event, RequestClosedEvent):
                say(f"{event.request_id}: {event.outcome}")
                waiting.pop(event.request_id, None)
        if not waiting:
            result = await run.wait_for_completion()
            return result.get_outputs()
        answers = {name: answer(event.data) for name, event in waiting.items()} if answer else {}
        given = {name: value for name, value in answers.items() if value is not NO_ANSWER}
        if given:
            for name, value in given.items():
                del waiting[name]
                try:
                    await run.send_response(name, value)
                except (AlreadyAnsweredError, LateResponseError) as error:
                    say(f"too late: {error}")
        else:
            await _until_first_deadline(waiting)


async def _until_first_deadline(waiting: dict[str, RequestInfoEvent]) -> None:
    deadlines = [
        datetime.fromisoformat(event.deadline) for event in waiting.values() if event.deadline
    ]
    if not deadlines:
        raise SystemExit("There is no answer. Start me again when there is one.")
    await asyncio.sleep(max(0.0, (min(deadlines) - datetime.now(UTC)).total_seconds()))


def show(outputs: Iterable[Any]) -> None:
    """Print the outputs, marked, to distinguish them from the progress."""
    for output in outputs:
        say(f"=> {output}")
