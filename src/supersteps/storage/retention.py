"""`RetentionPolicy`: which checkpoints pruning retains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.states import ASKING
from supersteps.storage._lineage import branch_points, new_parents
from supersteps.storage.records import RunRecord


@dataclass(frozen=True, init=False)
class RetentionPolicy:
    """Which checkpoints of a run to keep; pruning removes those that no rule keeps.

    If in doubt, use `keep_last`. The head, checkpoints where branches part, and (unless
    `waiting_too`) checkpoints with a question that waits are always kept.

    Attributes:
        keep_last: Keep this number of the newest.
        keep_steps: Keep those whose superstep is a multiple of this.
        keep_for: Keep those younger than this.
        waiting_too: Also remove checkpoints with a question that waits.
    """

    keep_last: int | None = None
    keep_steps: int | None = None
    keep_for: timedelta | None = None
    waiting_too: bool = False

    def __init__(
        self,
        keep_last: int | None = None,
        keep_steps: int | None = None,
        keep_for: timedelta | None = None,
        waiting_too: bool = False,
        *,
        older_than: timedelta | None = None,
    ) -> None:
        """Set one or several rules; a checkpoint is kept if any of them keeps it.

        Args:
            keep_last: Keep this number of the newest.
            keep_steps: Keep those whose superstep is a multiple of this.
            keep_for: Keep those younger than this.
            waiting_too: Also remove checkpoints with a question that waits.
            older_than: The former name of `keep_for`.

        Raises:
            ValueError: There is no rule, or a number is below 1.
        """
        if older_than is not None:
            _warn_of_old_name(stacklevel=3)
            if keep_for is not None:
                raise ValueError(
                    "keep_for= and older_than= are the same rule, but both were passed; pass only "
                    "keep_for=. Nothing was removed"
                )
            keep_for = older_than
        if keep_last is None and keep_steps is None and keep_for is None:
            raise ValueError("pass keep_last=, keep_steps= or keep_for=; nothing was removed")
        for name, value in (
            ("keep_last", keep_last),
            ("keep_steps", keep_steps),
            ("keep_for", keep_for),
            ("waiting_too", waiting_too),
        ):
            object.__setattr__(self, name, value)
        self._check_numbers()

    @property
    def older_than(self) -> timedelta | None:
        """The former name of `keep_for`."""
        _warn_of_old_name(stacklevel=3)
        return self.keep_for

    def _check_numbers(self) -> None:
        for name, value in (("keep_last", self.keep_last), ("keep_steps", self.keep_steps)):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be at least 1, not {value!r}; nothing was removed")


def _warn_of_old_name(stacklevel: int) -> None:
    warnings.warn(
        "RetentionPolicy.older_than is now called keep_for: it keeps what is younger",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


@dataclass(frozen=True)
class Pruning:
    """The changes that pruning makes to a run.

    Attributes:
        gone: Ids of the deleted checkpoints, oldest first.
        parents: New parents of retained checkpoints whose parents are deleted.
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
    """Return which of a run's checkpoints a policy removes.

    Args:
        run: The run.
        headers: Headers of all of its checkpoints, in any order.
        policy: What to keep.
        now: The present; by default the system's clock.
    """
    ordered = sorted(headers, key=lambda header: header.sequence)
    keep = {run.head, *branch_points(ordered)}
    if policy.keep_last is not None:
        keep.update(header.checkpoint_id for header in ordered[-policy.keep_last :])
    border = None
    if policy.keep_for is not None:
        border = ((now or datetime.now(UTC)) - policy.keep_for).isoformat(timespec="microseconds")
    gone = [
        header.checkpoint_id
        for header in ordered
        if header.checkpoint_id not in keep
        and not (policy.keep_steps is not None and header.iteration_count % policy.keep_steps == 0)
        and not (border is not None and header.timestamp >= border)
        and (policy.waiting_too or header.status not in ASKING)
    ]
    return Pruning(gone, new_parents(ordered, frozenset(gone)))
