"""The group of commands, each imported when it is used, and what becomes of their errors."""

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
        "resume": "Go on with a run where it stands, or from one of its checkpoints.",
        "fork": "Begin a new run at a checkpoint of any run.",
    },
    "Look": {
        "runs": "List runs, the newest first.",
        "show": "Show a run or a checkpoint.",
        "log": "Show the checkpoints of RUN on all its branches.",
        "diff": "Show what differs between the checkpoints A and B of any runs.",
        "tail": "Follow a run that another process drives.",
        "graph": "Draw a workflow, or where a run stands.",
    },
    "Ask and answer": {
        "requests": "List the questions that wait for an answer.",
        "answer": "Answer the question REQUEST.",
    },
    "Look after": {
        "restore": "Make a checkpoint its run's current one again.",
        "cancel": "End a run.",
        "prune": "Remove checkpoints that are no longer wanted.",
        "verify": "Check that everything stored is whole.",
        "backup": "Write a copy of the whole store, while it is in use.",
        "export": "Write a run to a file.",
        "import": "Bring a run from a file into the store.",
        "completion": "Print what makes a shell complete commands and options.",
    },
}
"""Commands by section of the help, with their short help: listing them imports none of them."""

_MODULES = {"import": "import_"}
"""Modules that cannot be named like their command."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

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
        except BrokenPipeError:  # further up click would call it a failure
            # Whoever read the output has seen enough. Python would complain when it flushes at
            # exit.
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
    epilog="Exit codes: 0 done, 1 failed, 2 used wrongly, 3 waiting for an answer; 128 + N stopped "
    "by signal N.",
)
@click.version_option(None, "-V", "--version", package_name="supersteps", prog_name="supersteps")
def cli() -> None:
    """Run workflows that survive anything, and look at, answer, rewind and compare their runs.

    \b
    A RUN is an id or a unique beginning or end of one, @latest, or @-1 for the one before.
    A CHECKPOINT is an id, RUN@7 for the one after superstep 7, RUN@-1 for the one before
    the current one, or a RUN for its current one.
    """  # noqa: D301 - \b is how click is told to leave lines as they are


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process.

    Args:
        arguments: What follows the program's name; that of the process when None.
    """
    # One line each, without Python's excerpt of the source.
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
