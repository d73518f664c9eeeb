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
@click.option("--all", "all_runs", is_flag=True, help="Every run in the store, instead of one.")
@click.option(
    "--keep-last", type=click.IntRange(1), metavar="N", help="Keep the N newest of a run."
)
@click.option(
    "--keep-steps",
    type=click.IntRange(1),
    metavar="N",
    help="Keep those after superstep 0, N, 2N, ...",
)
@click.option(
    "--keep-for",
    callback=duration,
    metavar="AGE",
    help="Keep those that are younger: 90s, 15m, 12h, 30d, 2w.",
)
@click.option("--older-than", callback=duration, metavar="AGE", hidden=True)
@click.option(
    "--waiting-too", is_flag=True, help="Let those go, too, at which a question waits for a person."
)
@click.option(
    "--dry-run", is_flag=True, help="Only say what would go; -o json lists the checkpoints."
)
@click.option("--vacuum", is_flag=True, help="Give the space back to the file system afterwards.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
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
    """Remove checkpoints that are no longer wanted.

    The rules say what to keep, and at least one is needed; what no rule keeps goes, for good. A
    run's current checkpoint always stays, and so do those where its branches part and those at
    which a question waits.

    \b
    supersteps prune @latest --keep-last 20
    supersteps prune --all --keep-for 30d --keep-steps 100 --dry-run
    """  # noqa: D301 - \b is how click is told to leave lines as they are
    if (run is None) is not all_runs:
        raise click.UsageError(
            "name one run, or say --all" if run is None else "name one run or say --all, not both"
        )
    if older_than is not None:
        if keep_for is not None:
            raise click.UsageError("--older-than is the former name of --keep-for; give only that")
        echo("--older-than is now called --keep-for", err=True)
        keep_for = older_than
    if keep_last is None and keep_steps is None and keep_for is None:
        raise click.UsageError("say what to keep: --keep-last N, --keep-steps N or --keep-for AGE")
    policy = RetentionPolicy(keep_last, keep_steps, keep_for, waiting_too)

    async def work(is_trial: bool) -> list[Pruned]:
        async with open_service(store) as service:
            found = await service.prune(run, policy, dry_run=is_trial)
            if vacuum and not is_trial:
                await service.storage.vacuum()
            return found

    if dry_run:
        found = do(work(True))
        emit(found, output, lambda: _show(found, "WOULD GO", "STAY"))
        return
    if not yes and is_terminal():
        planned = do(work(True))
        total = sum(len(pruned.checkpoints) for pruned in planned)
        if total:
            _show(planned, "GO", "STAY", err=True)
            if not click.confirm(f"Remove {count(total, 'checkpoint')} for good?", err=True):
                echo("nothing was removed", err=True)
                click.get_current_context().exit(FAILED)
    found = do(work(False))
    emit(found, output, lambda: _show(found, "GONE", "LEFT"))
    if vacuum and output == "table":
        echo("unused space was given back")


def _show(found: list[Pruned], go: str, stay: str, *, err: bool = False) -> None:
    thinned = [pruned for pruned in found if pruned.checkpoints]
    rows = [[pruned.run_id, str(len(pruned.checkpoints)), str(pruned.kept)] for pruned in thinned]
    nothing = (
        f"nothing to remove: {count(sum(p.kept for p in found), 'checkpoint')} of "
        f"{count(len(found), 'run')} stay"
    )
    if err:
        for run_id, gone, left in rows:
            echo(f"{run_id}: {count(int(gone), 'checkpoint')} of {int(gone) + int(left)}", err=True)
    else:
        table(["RUN", go, stay], rows, empty=nothing)
    others = len(found) - len(rows)
    if rows and others:
        echo(
            "1 other run keeps all it has"
            if others == 1
            else f"{others} other runs keep all they have",
            err=True,
        )
