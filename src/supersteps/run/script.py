"""`drive`: a run for a script, stopped between supersteps by a signal."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from supersteps.engine.event_loops import look_at
from supersteps.errors import RunDrainedError
from supersteps.run.handle import StreamingRun
from supersteps.run.result import WorkflowRunResult
from supersteps.states import SETTLED

T = TypeVar("T")


async def drive(run: StreamingRun, workflow_id: str) -> WorkflowRunResult:
    """Drive a run until it has completed, only waits, or a signal asks the process to end.

    The signals are SIGINT and SIGTERM. A second one has its usual effect, as without this
    function.

    Raises:
        RunDrainedError: The process was asked to end before the run had ended.
        Exception: The error of the run.
    """
    result, asked = await until_asked_to_stop(run, run.wait_for_completion())
    if asked is not None and result.get_final_state() not in SETTLED:
        raise _drained(run, workflow_id, asked.name)
    return result


async def until_asked_to_stop(
    run: StreamingRun,
    work: Coroutine[Any, Any, T],
    on_signal: Callable[[signal.Signals], None] | None = None,
) -> tuple[T, signal.Signals | None]:
    """Run work that drives a run; SIGINT or SIGTERM drains it, so the work ends after a commit.

    Args:
        run: The run.
        work: Drives it, and ends when it is drained.
        on_signal: Called with the signal; must be quick, and must not raise.

    Returns:
        The work's result, and the signal that asked the process to end, if one did.

    Raises:
        Exception: The exception of the work.
    """
    asked: list[signal.Signals] = []
    drains: list[asyncio.Task[None]] = []

    def drain(number: signal.Signals) -> None:
        asked.append(number)
        if on_signal is not None:
            on_signal(number)
        drains.append(asyncio.create_task(run.drain()))

    try:
        with signals_go_to(drain):
            result = await work
            for task in drains:
                await task  # until the run is released
    finally:
        work.close()  # if it was not started
        for task in drains:
            task.cancel()
            task.add_done_callback(look_at)
    return result, asked[0] if asked else None


def _drained(run: StreamingRun, workflow_id: str, signal_name: str) -> RunDrainedError:
    stopped = (
        f"run {run.run_id!r} of workflow {workflow_id!r} was asked to stop by {signal_name} and "
        "stopped"
    )
    head = run.latest_checkpoint
    if head is None:
        return RunDrainedError(
            f"{stopped}. It has no storage, so nothing can be resumed: start it again, or build "
            "the workflow with_checkpointing(checkpoint_storage=...) so that next time it can.",
            run.run_id,
        )
    return RunDrainedError(
        f"{stopped} after superstep {head.step_number}, at checkpoint {head.checkpoint_id!r}. "
        f'Resume it by workflow.run_sync(..., run_id={run.run_id!r}, if_exists="attach") or '
        f"workflow.run_from_checkpoint({head.checkpoint_id!r}).",
        run.run_id,
        head.checkpoint_id,
    )


@contextmanager
def signals_go_to(drain: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Handle the first SIGINT or SIGTERM with a function, and further ones as before.

    Only the main thread gets signals. Those that the process ignores, as in the background of a
    shell, stay ignored.
    """
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def take(number: signal.Signals) -> None:
        if not asked:
            asked.append(number)
            drain(number)
        else:
            restore()
            signal.raise_signal(number)

    asked: list[signal.Signals] = []
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler is None or handler is signal.SIG_IGN:
                    continue
                try:
                    loop.add_signal_handler(number, take, number)
                except NotImplementedError:  # on Windows: then signals have their usual effect
                    break
                before[number] = handler
        yield
    finally:
        restore()
