"""The history of a run on all branches, and of the runs that were forked from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.ids import split_checkpoint_id
from supersteps.service.errors import ServiceError
from supersteps.service.facts import FactsReader
from supersteps.service.reads import Unwarned
from supersteps.service.states import DAMAGED
from supersteps.service.summaries import summarize
from supersteps.service.views import Log
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import Damage, RunRecord


async def read_log(
    storage: ManagedStorage, run: RunRecord, limit: int | None, with_forks: bool
) -> Log:
    """Return the history of a run; see `Service.log`.

    Raises:
        ServiceError: The limit is negative.
    """
    if limit is not None and limit < 0:
        raise ServiceError(f"limit must not be negative: {limit}")
    forks = await forks_of(storage, run.run_id) if with_forks else []
    placed = await _placed(storage, [(0, run), *forks])
    reader = FactsReader(storage)
    found = [await reader.entry(header, owner) for header, owner in placed[:limit]]
    return Log(
        run=await summarize(storage, run),
        forks=tuple([await summarize(storage, fork) for _, fork in sorted(forks, key=_creation)]),
        entries=tuple(entry for entry in found if entry is not None),
        is_complete=limit is None or len(placed) <= limit,
    )


def _creation(fork: tuple[int, RunRecord]) -> tuple[str, str]:
    return fork[1].created_at, fork[1].run_id


async def forks_of(storage: ManagedStorage, run_id: str) -> list[tuple[int, RunRecord]]:
    """Return the forks of a run, and forks of forks, each with its distance in forks.

    A run comes after the one it was forked from.
    """
    children: dict[str, list[RunRecord]] = {}
    async for other in all_runs(storage):
        if other.parent_run is not None:
            children.setdefault(other.parent_run, []).append(other)
    found: list[tuple[int, RunRecord]] = []
    frontier, depth = [run_id], 0
    while frontier:
        depth += 1
        # Removed from the map, so that this also ends for runs that name each other, as after an
        # import under another id.
        following = [
            fork
            for parent in frontier
            for fork in children.pop(parent, ())
            if fork.run_id != run_id
        ]
        found += [(depth, fork) for fork in following]
        frontier = [fork.run_id for fork in following]
    return found


async def _placed(
    storage: ManagedStorage, family: Sequence[tuple[int, RunRecord]]
) -> list[tuple[CheckpointHeader, RunRecord]]:
    """Return the checkpoints of runs, newest first, each before the one it follows.

    Since clocks of machines differ, a checkpoint counts as no older than its parent.
    """
    moments: dict[str, str] = {}
    placed: list[tuple[tuple[str, int, int], CheckpointHeader, RunRecord]] = []
    for depth, run in family:
        for header in await headers_of(storage, run):
            parent = header.parent_id or run.parent_checkpoint or ""
            moment = max(header.timestamp, moments.get(parent, ""))
            moments[header.checkpoint_id] = moment
            placed.append(((moment, depth, header.sequence), header, run))
    placed.sort(key=lambda place: place[0], reverse=True)
    return [(header, run) for _, header, run in placed]


async def headers_of(storage: ManagedStorage, run: RunRecord) -> list[CheckpointHeader]:
    """Return the headers of a run's checkpoints on all branches, oldest first.

    A checkpoint whose header is damaged gets one derived from its neighbours.
    """
    listing = Unwarned(storage.list_headers(run.run_id))
    headers = await listing
    if not listing.problems:
        return headers
    known = {header.checkpoint_id for header in headers}
    lost = {
        d.checkpoint_id: d for d in await storage.verify(run.run_id) if d.checkpoint_id not in known
    }
    stand_ins = [
        _stand_in(run, headers, damage)
        for damage in lost.values()
        if damage.checkpoint_id is not None
    ]
    return sorted([*headers, *stand_ins], key=lambda header: header.sequence)


def _stand_in(
    run: RunRecord, headers: Iterable[CheckpointHeader], damage: Damage
) -> CheckpointHeader:
    identifier = damage.checkpoint_id or ""
    _run_id, number = split_checkpoint_id(identifier) or ("", 0)
    made = CheckpointHeader(
        checkpoint_id=identifier,
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        parent_id=damage.intact_ancestor,
        sequence=number,
        branch=run.branch if identifier == run.head else 0,
        timestamp=run.created_at,
        status=DAMAGED,
    )
    for header in headers:
        if header.parent_id == identifier:
            step = max(0, header.iteration_count - 1)
            return replace(
                made, iteration_count=step, branch=header.branch, timestamp=header.timestamp
            )
    for header in headers:
        if header.checkpoint_id == damage.intact_ancestor:
            step = header.iteration_count + 1
            return replace(
                made, iteration_count=step, branch=header.branch, timestamp=header.timestamp
            )
    return made
