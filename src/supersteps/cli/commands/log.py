"""`supersteps log`."""

from __future__ import annotations

import sys

import click

from supersteps.cli.completion import complete_run
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, fitted, run_text, terminal_width, visible_width
from supersteps.cli.terminal import echo, harmless, shown
from supersteps.cli.tree import ASCII, Row, Style, draw, style_for
from supersteps.cli.words import count, entry_line, respect_no_color
from supersteps.service.views import Log, LogEntry

_WIDEST = 24


@click.command("log")
@click.argument("run", default="@latest", shell_complete=complete_run)
@click.option("--graph", is_flag=True, help="Draw branches and forks as lines.")
@click.option("-n", "--limit", type=click.IntRange(1), help="Show at most this many checkpoints.")
@click.option("--no-forks", is_flag=True, help="Only RUN itself, not the runs forked from it.")
@common_options
def command(
    run: str, graph: bool, limit: int | None, no_forks: bool, store: str | None, output: str
) -> None:
    """Show the checkpoints of RUN on all branches, and those of its forks, newest first.

    RUN is the newest run by default. Behind each checkpoint is what happened in its superstep.
    """
    respect_no_color()

    async def work() -> Log:
        async with open_service(store) as service:
            return await service.log(run, limit=limit, with_forks=not no_forks)

    found = do(work())
    emit(found if output == "json" else list(found.entries), output, lambda: _show(found, graph))


def _show(found: Log, is_graph: bool) -> None:
    run = found.run
    state = run_text(run)
    forks = f", {count(len(found.forks), 'fork')}" if found.forks else ""
    echo(
        f"{click.style(run.run_id, bold=True)}  {run.workflow_id}, {state} after superstep "
        f"{run.step}{forks}\n"
    )
    style = style_for(sys.stdout.encoding) if is_graph else ASCII
    rows = (
        draw(found.entries, style, main=run.head)
        if is_graph
        else [Row("", entry) for entry in found.entries]
    )
    width = terminal_width() if is_graph else None  # wrapped lines would break the drawing
    for line in map(shown, lines(rows, found, style)):
        echo(line if width is None else fitted(line, width))
    if not found.is_complete:
        echo("older checkpoints are not shown: -n shows more", err=True)


def lines(rows: list[Row], log: Log, style: Style = ASCII) -> list[str]:
    """Return a history as lines: the drawing, then the checkpoint."""
    width = min(
        max((visible_width(row.lanes) for row in rows if row.entry is not None), default=0), _WIDEST
    )
    shown = []
    for row in rows:
        if row.entry is None:
            shown.append(row.lanes)
            continue
        gap = "  " if width else ""
        shown.append(f"{row.lanes.ljust(width)}{gap}{entry_line(row.entry, mark(row.entry, log))}")
        if row.entry.error:
            goes_on = style.lane if row.entry.parent is not None else " "
            lanes = row.lanes.replace(style.node, goes_on).ljust(width)
            reason = harmless(row.entry.error).partition("\n")[0]
            shown.append(f"{lanes}{gap}{click.style(reason, fg='red')}")
    return shown


def mark(entry: LogEntry, log: Log) -> str:
    """Return a checkpoint's mark: `(head)`, `(fork 0193...)`, or nothing."""
    if not entry.is_head:
        return ""
    if entry.run_id == log.run.run_id:
        return click.style("(head)", fg="cyan", bold=True)
    return click.style(f"(fork {entry.run_id})", fg="magenta", bold=True)
