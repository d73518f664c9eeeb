"""The group of commands, each imported when used, and their exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from supersteps.cli.terminal import echo

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "run": "Start a run of a workflow and drive it.",
        "resume": "Continue a run from its head or from another checkpoint.",
        "fork": "Start a new run from a checkpoint of any run.",
        "submit": "Create a run and leave it to workers.",
        "worker": "Take submitted runs from a store and drive them.",
    },
    "Look": {
        "runs": "List runs, newest first.",
        "show": "Show a run or a checkpoint.",
        "log": "Show the checkpoints of RUN on all branches.",
        "diff": "Show how the checkpoints A and B differ.",
        "tail": "Follow a run that another process drives.",
        "workers": "List the processes that drive runs, and which.",
        "graph": "Draw a workflow, or the state of a run.",
    },
    "Questions": {
        "requests": "List the waiting questions.",
        "answer": "Answer the question REQUEST.",
    },
    "Maintenance": {
        "restore": "Move a run back to one of its checkpoints.",
        "cancel": "Cancel a run.",
        "prune": "Delete old checkpoints by rules.",
        "verify": "Check all stored data for damage.",
        "backup": "Copy the whole store, even while it is in use.",
        "export": "Write a run to a file.",
        "import": "Import a run from a file.",
        "completion": "Print the shell script that enables Tab completion.",
    },
}
"""Commands by section of the help, with their short help, so that listing them imports none."""

_MODULES = {"import": "import_"}
"""Modules whose names differ from their commands."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = import_module(f"supersteps.cli.commands.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if (
            args
            and args[0] not in names
            and not args[0].startswith("-")
            and not ctx.resilient_parsing
        ):
            near = get_close_matches(args[0].lower(), names, n=2)
            meant = (
                f"Did you mean {' or '.join(map(repr, near))}?"
                if near
                else f"Commands: {', '.join(names)}."
            )
            raise click.UsageError(f"there is no command {args[0]!r}. {meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # click would report it as a failure
            # The reader of the pipe has closed it. Otherwise Python would print an error when it
            # flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        return result

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        every = {name: text for commands in SECTIONS.values() for name, text in commands.items()}
        found = [
            CompletionItem(name, help=text)
            for name, text in every.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


@click.group(
    cls=LazyGroup,
    name="supersteps",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 waiting for an answer; 128 + N stopped "
    "by signal N.",
)
@click.version_option(None, "-V", "--version", package_name="supersteps", prog_name="supersteps")
def cli() -> None:
    """Run workflows that survive anything; inspect, answer, restore and compare their runs.

    \b
    A RUN is an id, the unique start or end of an id, @latest, or @-1 for the run before it.
    A CHECKPOINT is an id, RUN@7 for the one after superstep 7, RUN@-1 for the one before the
    head, or a RUN, which means its head.
    """  # noqa: D301 - \b tells click to keep the line breaks


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process.

    Args:
        arguments: Arguments after the program's name; those of the process if None.
    """
    # Warnings take one line each, without the source line that Python adds.
    warnings.formatwarning = lambda message, *_, **__: (
        f"warning: {' '.join(str(message).split())}\n"
    )
    try:
        arguments = None if arguments is None else list(arguments)
        code = cli.main(args=arguments, prog_name="supersteps", standalone_mode=False)
    except click.exceptions.Abort:
        echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        said = StringIO()
        error.show(said)
        echo(said.getvalue(), nl=False, err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        from supersteps.cli.failures import report

        sys.exit(report(error))
    sys.exit(code if isinstance(code, int) else 0)
