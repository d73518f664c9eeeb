"""A checkpoint that was not named on the command line: chosen on a terminal, asked for elsewhere."""

from __future__ import annotations

import click

from supersteps.cli.output import is_terminal
from supersteps.service.service import Service


async def chosen(service: Service, title: str, command: str) -> str:
    """Return the checkpoint that somebody chooses.

    Args:
        service: The store.
        title: What it is chosen for.
        command: Name of the command, for the error.

    Raises:
        UsageError: Nobody is there to choose.
    """
    if not is_terminal():
        raise click.UsageError(
            f"name a run or a checkpoint, as in `supersteps {command} @latest`: here is no "
            "terminal to choose on"
        )
    from supersteps.cli.picker import pick_checkpoint

    return await pick_checkpoint(service, title)
