"""Rules of a run's tree of checkpoints, also after deletions and damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from supersteps.checkpoint.record import CheckpointHeader


def choose_head(
    lost: CheckpointHeader, remaining: Iterable[CheckpointHeader]
) -> CheckpointHeader | None:
    """Return the checkpoint that becomes the head when the head is deleted, None if none is left.

    That is the parent. If it was deleted earlier, it is the newest one before the lost head, on the
    same branch if possible, otherwise the newest of all.
    """
    others = {
        header.checkpoint_id: header
        for header in remaining
        if header.checkpoint_id != lost.checkpoint_id
    }
    if lost.parent_id in others:
        return others[lost.parent_id]
    older = [header for header in others.values() if header.sequence < lost.sequence]
    return max(
        older or others.values(), key=lambda h: (h.branch == lost.branch, h.sequence), default=None
    )


def new_parents(
    headers: Iterable[CheckpointHeader], gone: Collection[str]
) -> dict[str, str | None]:
    """Return the nearest retained ancestor for each checkpoint whose parent is deleted.

    A storage sets these parents before it deletes checkpoints. So a lineage never leads to a
    missing checkpoint, and after a crash it is only shorter.

    Args:
        headers: Headers of all checkpoints of the run, including deleted ones, in any order.
        gone: Ids of the deleted ones.
    """
    found = list(headers)
    parent_of = {header.checkpoint_id: header.parent_id for header in found}
    moved: dict[str, str | None] = {}
    for header in found:
        ancestor = header.parent_id
        if header.checkpoint_id in gone or ancestor not in gone:
            continue
        while ancestor is not None and ancestor in gone:
            ancestor = parent_of.get(ancestor)
        moved[header.checkpoint_id] = ancestor
    return moved


def branch_points(headers: Iterable[CheckpointHeader]) -> set[str]:
    """Return the ids of checkpoints that have several children."""
    children = Counter(header.parent_id for header in headers if header.parent_id is not None)
    return {parent for parent, count in children.items() if count > 1}


def intact_before(number: int, intact: Sequence[CheckpointHeader]) -> CheckpointHeader | None:
    """Return the nearest intact checkpoint before a damaged one with an unreadable parent.

    In a branch, each checkpoint follows the one before it, and branch numbers only grow. So the
    branch of the next intact checkpoint is the one to search, unless the damaged one was the first
    of a branch.

    Args:
        number: The damaged checkpoint's sequence number.
        intact: Headers of the run's intact checkpoints, in any order.
    """
    older = [header for header in intact if header.sequence < number]
    following = min(
        (h for h in intact if h.sequence > number), key=lambda h: h.sequence, default=None
    )
    same_branch = [
        header for header in older if following is not None and header.branch == following.branch
    ]
    return max(same_branch or older, key=lambda header: header.sequence, default=None)
