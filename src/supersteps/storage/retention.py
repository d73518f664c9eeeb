"""Which checkpoints a run may do without: the pure rules of pruning, the same for every storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.states import ASKING
from supersteps.storage._lineage import branch_points, new_parents
from supersteps.storage.records import RunRecord


@dataclass(frozen=True)
class RetentionPolicy:
    """What to keep of a run's checkpoints; what no rule keeps may go.

    The head, the points where branches part, and, unless `waiting_too`, checkpoints at which a
    question waits for a human, are always kept.

    Attributes:
        keep_last: Keep this many of the newest.
        keep_steps: Keep those whose superstep is a multiple of this.
        older_than: Keep those younger than this.
        waiting_too: Let checkpoints go at which a question waits.
    """

    keep_last: int | None = None
    keep_steps: int | None = None
    older_than: timedelta | None = None
    waiting_too: bool = False

    def __post_init__(self) -> None:
        if self.keep_last is None and self.keep_steps is None and self.older_than is None:
            raise ValueError(
                "say what to keep: keep_last=, keep_steps= or older_than=; nothing was removed"
            )
        for name, value in (("keep_last", self.keep_last), ("keep_steps", self.keep_steps)):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} is a number from 1, not {value!r}; nothing was removed")


@dataclass(frozen=True)
class Pruning:
    """What pruning does to a run.

    Attributes:
        gone: Ids of the checkpoints that go, oldest first.
        parents: New parents of checkpoints that stay and whose parents go.
    """

    gone: list[str]
    parents: dict[str, str | None]


def plan_pruning(
    run: RunRecord,
    headers: Sequence[CheckpointHeader],
    policy: RetentionPolicy,
    *,
    now: datetime | None = None,
) -> Pruning:
    """Return which of a run's checkpoints a policy lets go.

    Args:
        run: The run.
        headers: Headers of all of its checkpoints, in any order.
        policy: What to keep.
        now: The present; the system's clock when None.
    """
    ordered = sorted(headers, key=lambda header: header.sequence)
    keep = {run.head, *branch_points(ordered)}
    if policy.keep_last is not None:
        keep.update(header.checkpoint_id for header in ordered[-policy.keep_last :])
    border = None
    if policy.older_than is not None:
        border = ((now or datetime.now(UTC)) - policy.older_than).isoformat(timespec="microseconds")
    gone = [
        header.checkpoint_id
        for header in ordered
        if header.checkpoint_id not in keep
        and not (policy.keep_steps is not None and header.iteration_count % policy.keep_steps == 0)
        and not (border is not None and header.timestamp >= border)
        and (policy.waiting_too or header.status not in ASKING)
    ]
    return Pruning(gone, new_parents(ordered, frozenset(gone)))
