"""Driving a run at a terminal, and the report at its end."""

from __future__ import annotations

import asyncio
import shlex
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import msgspec

import supersteps
from supersteps.cli.failures import FAILED, WAITING, is_debugging, one_end
from supersteps.cli.options import settings
from supersteps.cli.output import emit
from supersteps.cli.progress import show_progress, tell
from supersteps.cli.schema_text import in_words
from supersteps.cli.story import Story, duration, one_line
from supersteps.cli.terminal import echo, echo_result, harmless_json
from supersteps.cli.words import count, cut, plain
from supersteps.errors import WorkflowConvergenceError
from supersteps.run.workflow import Workflow
from supersteps.service.driver import drive_run
from supersteps.service.questions import Question
from supersteps.service.states import DRAINED
from supersteps.service.views import Outcome
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage, capabilities_of

_LIBRARY = Path(supersteps.__file__).parent

quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Show no progress, only the result."
)
limit_option = click.option(
    "--max-iterations",
    type=click.IntRange(1),
    metavar="N",
    help="Limit of supersteps after each external input; the workflow's own limit by default.",
)


@dataclass(frozen=True)
class Commands:
    """The commands that continue a run, with the options that have to be repeated.

    Attributes:
        store: Address of the store, None if the settings or the workflow name it.
        apps: Workflows named on the command line.
        storage: The run's storage, None without one.
        shared: Ids of questions that several runs ask, such as a fork and its origin.
    """

    store: str | None
    apps: tuple[str, ...]
    storage: DurableStorage | None
    shared: frozenset[str] = frozenset()

    @property
    def can_resume(self) -> bool:
        """Whether the run can be resumed after this process ends."""
        return self.storage is not None and capabilities_of(self.storage).is_permanent

    def resume(self, reference: str) -> str:
        """Return the command that continues the run."""
        named = [] if self.apps == settings().apps else self.apps
        apps = [word for app in named for word in ("--app", app)]
        return shlex.join(["supersteps", "resume", reference, *apps, *self._store(self.store)])

    def answer(self, question: Question) -> str:
        """Return the command that answers a question; it needs the store, but no code."""
        is_own = (
            self.store is None and bool(self.apps) and settings().store is None
        )  # the storage that the workflow's code names
        store = capabilities_of(self.storage).address if is_own else self.store
        is_shared = question.request_id in self.shared
        reference = f"{question.run_id}:{question.request_id}" if is_shared else question.request_id
        return shlex.join(["supersteps", "answer", reference, "VALUE", *self._store(store)])

    @staticmethod
    def _store(store: str | None) -> list[str]:
        return [] if store is None else ["--store", store]


async def drive(
    run: supersteps.StreamingRun,
    workflow: Workflow,
    commands: Commands,
    *,
    quiet: bool,
    output: str,
    is_done: bool = False,
    origin: str = "",
) -> int:
    """Drive a run; write its outputs to stdout and everything else to stderr.

    Args:
        run: The run.
        workflow: Its workflow.
        commands: The commands to suggest.
        quiet: Whether to report only the result.
        output: Format of the outputs.
        is_done: Whether the run was done already.
        origin: Text after the run's id in the first line.

    Returns:
        The exit code.

    Raises:
        Exception: What was raised before the first superstep.
    """
    story = Story(
        origin,
        attempts={name: policy.max_attempts for name, policy in workflow.graph.policies.items()},
    )
    try:
        with show_progress(story, quiet=quiet or is_done) as progress:

            def on_signal(number: signal.Signals) -> None:
                if story.is_in_step:  # between supersteps it stops at once
                    again = "press Ctrl-C" if number == signal.SIGINT else f"send {number.name}"
                    progress.say(
                        f"stopping after superstep {story.step}; {again} again to stop at once"
                    )

            outcome = await drive_run(run, workflow, progress.watch, on_signal)
    except Exception as error:
        if not story.has_started:
            raise
        tell(failed_text(error, story, run.run_id, commands))
        return FAILED
    except asyncio.CancelledError:  # a second signal
        tell(_interrupted_text(story, run.run_id, commands))
        raise
    if outcome.checkpoint is None:
        outcome = msgspec.structs.replace(outcome, step=story.step)
    if commands.storage is not None:
        asked = [question.request_id for question in outcome.questions]
        shared = [name for name in asked if len(await commands.storage.find_waiting_runs(name)) > 1]
        commands = replace(commands, shared=frozenset(shared))
    if output != "table" or outcome.status != DRAINED:
        emit(outcome, output, lambda: show_outputs(outcome.outputs))
    say, code = _ENDS.get(outcome.status, (_other_text, FAILED))
    tell(
        say(outcome, story, commands)
        if not is_done
        else f"run {run.run_id} is done already; nothing was run"
    )
    return 128 + outcome.signal if outcome.signal is not None else code


def show_outputs(outputs: Sequence[Any]) -> None:
    """Write outputs to stdout, one per line: text as is, everything else as JSON."""
    for value in outputs:
        if isinstance(value, str):
            echo_result(value)
        else:
            echo(harmless_json(msgspec.json.encode(value).decode()))


# -------------------------------------------------------------------------------------- results


def _done_text(outcome: Outcome, story: Story, commands: Commands) -> str:
    return (
        f"done: run {outcome.run_id} after {count(outcome.step, 'superstep')} in "
        f"{duration(story.elapsed)}"
    )


def _waiting_text(outcome: Outcome, story: Story, commands: Commands) -> str:
    asked = outcome.questions
    it = "an answer" if len(asked) == 1 else f"{len(asked)} answers"
    lines = [f"waiting: run {outcome.run_id} needs {it}, after {count(outcome.step, 'superstep')}"]
    for question in asked:
        lines.append(f"  {question_text(question)}")
        if question.response_schema is None:
            lines.append(
                "    only the workflow's own code can take the answer: workflow.send_responses"
            )
        elif commands.can_resume:
            lines.append(f"    {commands.answer(question)}")
    if commands.can_resume:
        lines.append(f"then continue: {commands.resume(outcome.run_id)}")
    else:
        lines.append(
            "It cannot be answered later, since nothing was stored: pass --store "
            "sqlite:///runs.db next time."
        )
    return "\n".join(lines)


def _drained_text(outcome: Outcome, story: Story, commands: Commands) -> str:
    name = "a signal" if outcome.signal is None else signal.Signals(outcome.signal).name
    stopped = f"stopped by {name}: run {outcome.run_id} after {count(outcome.step, 'superstep')}"
    if not commands.can_resume:
        return (
            f"{stopped}. It cannot be resumed, since nothing was stored: pass --store "
            "sqlite:///runs.db next time."
        )
    return f"{stopped}, everything is saved\nto continue: {commands.resume(outcome.run_id)}"


def _other_text(outcome: Outcome, story: Story, commands: Commands) -> str:
    return (
        f"{outcome.status.lower()}: run {outcome.run_id} after {count(outcome.step, 'superstep')}"
    )


_ENDS: dict[str, tuple[Callable[[Outcome, Story, Commands], str], int]] = {
    WorkflowRunState.IDLE: (_done_text, 0),
    WorkflowRunState.IDLE_WITH_PENDING_REQUESTS: (_waiting_text, WAITING),
    DRAINED: (_drained_text, FAILED),
}


def question_text(question: Question) -> str:
    """Return a question on one line: the asker, the deadline, the text."""
    schema = question.response_schema
    wanted = f"  (answer: {in_words(schema)})" if schema is not None else ""
    until = f" until {question.deadline}" if question.deadline else ""
    return f"{question.executor_id} asks{until}: {cut(plain(question.data))}{wanted}"


def failed_text(error: Exception, story: Story, run_id: str, commands: Commands) -> str:
    """Return the report of a failed run: where, why, and how to continue once it is fixed."""
    kind, message = type(error).__name__, one_end(one_line(error))
    own = [f for f in story.failures if (f.error_type, f.message) == (kind, str(error))]
    who = f", executor {own[0].executor_id}" if own else ""
    lines = [
        f"failed: run {run_id} in superstep {story.step}{who}: {kind}: {message}{_place(error)}",
        *(
            f"  {note}"
            for note in getattr(error, "__notes__", ())
            if not note.startswith("(executor ")
        ),
    ]
    if is_debugging():
        lines.insert(0, "".join(traceback.format_exception(error)).rstrip())
    if commands.can_resume and isinstance(error, WorkflowConvergenceError):
        lines.append(
            f"to continue with a higher limit: {commands.resume(run_id)} --max-iterations N"
        )
    elif commands.can_resume:
        lines.append(
            f"everything before it is saved; once it is fixed, continue: {commands.resume(run_id)}"
        )
    return "\n".join(lines)


def _interrupted_text(story: Story, run_id: str, commands: Commands) -> str:
    stopped = f"stopped at once: run {run_id} in superstep {story.step}, which was not saved"
    return (
        f"{stopped}\nto run that superstep again: {commands.resume(run_id)}"
        if commands.can_resume
        else stopped
    )


def _place(error: BaseException) -> str:
    """Return the line of the user's code that raised an exception."""
    own = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not Path(f.filename).is_relative_to(_LIBRARY)
    ]
    inner = [
        frame
        for frame in own
        if Path(frame.filename).is_file() and "asyncio" not in Path(frame.filename).parts
    ]
    if not inner:
        return ""
    path = Path(inner[-1].filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f" ({shown}, line {inner[-1].lineno})"
