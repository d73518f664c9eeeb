"""`supersteps tail`."""

from __future__ import annotations

import click
import msgspec

from supersteps.cli.completion import complete_run
from supersteps.cli.failures import FAILED, WAITING
from supersteps.cli.options import debug_option, do, open_service, output_option, store_option
from supersteps.cli.progress import tell
from supersteps.cli.words import cut, respect_no_color, what_happened
from supersteps.service.views import LogEntry

_CODES = {"IDLE": 0, "IDLE_WITH_PENDING_REQUESTS": WAITING}


@click.command("tail")
@click.argument("run", shell_complete=complete_run)
@store_option
@output_option
@debug_option
def command(run: str, store: str | None, output: str) -> int:
    """Follow a run that another process drives: a line for each checkpoint, until it ends.

    With -o json, each line is a JSON object. The exit code is that of the run's end: 0 done, 1 failed or cancelled, 3
    waiting for an answer. Ctrl-C ends only the watching.
    """
    respect_no_color()

    async def work() -> LogEntry | None:
        last = None
        async with open_service(store) as service:
            record = await service.find_run(run)
            async for last in service.follow(record.run_id):
                click.echo(_line(last) if output == "table" else msgspec.json.encode(last).decode())
        return last

    last = do(work())
    if last is None:
        return FAILED
    if last.status == "IDLE_WITH_PENDING_REQUESTS":
        tell(f"waiting for an answer: supersteps requests {last.run_id}")
    return _CODES.get(last.status, FAILED)


def _line(entry: LogEntry) -> str:
    error = [cut(entry.error, 200)] if entry.error else []
    return f"superstep {entry.step}: " + "  ".join([*what_happened(entry), *error])
