"""`supersteps verify`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from shlex import quote

import click

from supersteps.cli.completion import complete_run
from supersteps.cli.failures import FAILED
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit
from supersteps.cli.terminal import draw, echo
from supersteps.cli.words import count
from supersteps.service.service import Service
from supersteps.storage.pages import all_runs
from supersteps.storage.records import Damage

_PATIENCE = 1.0
"""Seconds after which progress is shown."""


@click.command("verify")
@click.argument("run", shell_complete=complete_run, required=False)
@common_options
def command(run: str | None, store: str | None, output: str) -> None:
    """Check all stored data for damage.

    Reads every checkpoint, journal and inbox of one run or of all, and checks every hash. If
    something is damaged, it exits with code 1 and names the nearest intact checkpoint.
    """

    async def work() -> tuple[list[Damage], dict[str, str]]:
        async with open_service(store, is_checked=False) as service:
            heads = await _heads(service, run)
            with _progress(f"checking {count(len(heads), 'run')}"):
                return await service.verify(run), heads

    found, heads = do(work())
    emit(found, output, lambda: _show(found, heads))
    if found:
        click.get_current_context().exit(FAILED)


async def _heads(service: Service, reference: str | None) -> dict[str, str]:
    """Return the head of each run that is checked."""
    if reference is None:
        return {run.run_id: run.head async for run in all_runs(service.storage)}
    run = await service.find_run(reference)
    return {run.run_id: run.head}


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """Show progress on a terminal, from a thread, since reading may block the event loop."""
    done = threading.Event()

    def tell() -> None:
        began = time.monotonic()
        while not done.wait(_PATIENCE):
            draw(f"\r{text}, {time.monotonic() - began:.0f} s ")

    if not sys.stderr.isatty():
        yield
        return
    teller = threading.Thread(target=tell, daemon=True)
    began = time.monotonic()
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if time.monotonic() - began > _PATIENCE:
            draw("\r\x1b[K")


def _show(found: list[Damage], heads: dict[str, str]) -> None:
    if not found:
        echo(f"{count(len(heads), 'run')}, no damage found")
        return
    damaged = {damage.checkpoint_id for damage in found}
    for damage in found:
        echo(f"{click.style('damaged', fg='red')}: {damage.what}{_owner(damage)}")
        echo(f"  {damage.problem}")
        advice = _advice(damage, heads.get(damage.run_id or ""), damaged)
        if advice is not None:
            echo(f"  {advice}")
    hurt = len({damage.run_id for damage in found if damage.run_id is not None})
    echo(f"{count(len(found), 'damage')}, in {hurt} of {count(len(heads), 'run')}", err=True)


def _owner(damage: Damage) -> str:
    if damage.checkpoint_id is not None and damage.run_id is not None:
        return f" (checkpoint {damage.checkpoint_id} of run {damage.run_id})"
    return "" if damage.run_id is None else f" (run {damage.run_id})"


def _advice(damage: Damage, head: str | None, damaged: Collection[str | None]) -> str | None:
    """Return what to do about a damage; None if its own text says enough.

    Args:
        damage: The damage.
        head: The head of its run, if there is one.
        damaged: Ids of all damaged checkpoints.
    """
    if head is None or damage.checkpoint_id is None:
        return None
    back = (
        "no earlier checkpoint is intact; if there is an export of the run, import it under "
        "another id"
        if damage.intact_ancestor is None
        else f"the nearest intact checkpoint before it is {damage.intact_ancestor}: `supersteps "
        f"restore {quote(damage.intact_ancestor)}` moves the run back to it"
    )
    if head in damaged:
        return back
    if head == damage.intact_ancestor:
        return f"the run's head, {head}, is intact, so the run can continue"
    return f"the run's head, {head}, is intact, so the run can continue; {back}"
