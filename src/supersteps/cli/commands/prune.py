"""`supersteps prune`."""

from __future__ import annotations

from datetime import timedelta

import click

from supersteps.cli.amounts import duration
from supersteps.cli.completion import complete_run
from supersteps.cli.failures import FAILED
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, is_terminal, table
from supersteps.cli.terminal import echo
from supersteps.cli.words import count
from supersteps.service.views import Pruned
from supersteps.storage.retention import RetentionPolicy


@click.command("prune")
@click.argument("run", shell_complete=complete_run, required=False)
@click.option("--all", "all_runs", is_flag=True, help="All runs in the store.")
@click.option(
    "--keep-last",
    type=click.IntRange(1),
    metavar="N",
    help="Keep the N newest checkpoints of a run.",
)
@click.option(
    "--keep-steps",
    type=click.IntRange(1),
    metavar="N",
    help="Keep the checkpoints after supersteps 0, N, 2N, ...",
)
@click.option(
    "--keep-for",
    callback=duration,
    metavar="AGE",
    help="Keep checkpoints younger than this: 90s, 15m, 12h, 30d, 2w.",
)
@click.option(
    "--older-than",
    callback=duration,
    metavar="AGE",
    hidden=True,
    help="Former name of --keep-for.",
)
@click.option(
    "--waiting-too", is_flag=True, help="Also delete checkpoints at which a question is waiting."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only report what would be deleted; -o json lists the checkpoints.",
)
@click.option("--vacuum", is_flag=True, help="Return the freed space to the file system.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@common_options
def command(
    run: str | None,
    all_runs: bool,
    keep_last: int | None,
    keep_steps: int | None,
    keep_for: timedelta | None,
    older_than: timedelta | None,
    waiting_too: bool,
    dry_run: bool,
    vacuum: bool,
    yes: bool,
    store: str | None,
    output: str,
) -> None:
    """Delete old checkpoints by rules.

    The options say which checkpoints to keep, and at least one is needed; all others are deleted
    permanently. A run's head is always kept, and so are the checkpoints at which branches part and
    those at which a question is waiting.

    \b
    supersteps prune @latest --keep-last 20
    supersteps prune --all --keep-for 30d --keep-steps 100 --dry-run
    """  # noqa: D301 - \b tells click to keep the line breaks
    if (run is None) is not all_runs:
        raise click.UsageError(
            "name a run, or pass --all" if run is None else "name a run or pass --all, not both"
        )
    if older_than is not None:
        if keep_for is not None:
            raise click.UsageError("--older-than is the former name of --keep-for; pass only that")
        echo("--older-than is now called --keep-for", err=True)
        keep_for = older_than
    if keep_last is None and keep_steps is None and keep_for is None:
        raise click.UsageError(
            "say what to keep: pass --keep-last N, --keep-steps N or --keep-for AGE"
        )
    policy = RetentionPolicy(keep_last, keep_steps, keep_for, waiting_too)

    async def work(is_trial: bool) -> list[Pruned]:
        async with open_service(store) as service:
            found = await service.prune(run, policy, dry_run=is_trial)
            if vacuum and not is_trial:
                await service.storage.vacuum()
            return found

    if dry_run:
        found = do(work(True))
        emit(found, output, lambda: _show(found, "WOULD DELETE", "KEEP"))
        return
    if not yes and is_terminal():
        planned = do(work(True))
        total = sum(len(pruned.checkpoints) for pruned in planned)
        if total:
            _announce(planned)
            if not click.confirm(f"Delete {count(total, 'checkpoint')} permanently?", err=True):
                echo("nothing was deleted", err=True)
                click.get_current_context().exit(FAILED)
    found = do(work(False))
    emit(found, output, lambda: _show(found, "DELETED", "KEPT"))
    if vacuum and output == "table":
        echo("the freed space was returned to the file system")


def _announce(planned: list[Pruned]) -> None:
    """Write to stderr what would be deleted."""
    for pruned in planned:
        if pruned.checkpoints:
            deleted = len(pruned.checkpoints)
            echo(
                f"{pruned.run_id}: {count(deleted, 'checkpoint')} of {deleted + pruned.kept}",
                err=True,
            )
    _mention_unchanged(planned)


def _show(found: list[Pruned], deleted: str, kept: str) -> None:
    rows = [
        [pruned.run_id, str(len(pruned.checkpoints)), str(pruned.kept)]
        for pruned in found
        if pruned.checkpoints
    ]
    nothing = (
        f"nothing to delete: {count(sum(p.kept for p in found), 'checkpoint')} of "
        f"{count(len(found), 'run')} kept"
    )
    table(["RUN", deleted, kept], rows, empty=nothing)
    _mention_unchanged(found)


def _mention_unchanged(found: list[Pruned]) -> None:
    others = sum(not pruned.checkpoints for pruned in found)
    if 0 < others < len(found):
        echo(
            "1 other run is unchanged" if others == 1 else f"{others} other runs are unchanged",
            err=True,
        )
