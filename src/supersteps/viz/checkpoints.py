"""The graph of a checkpoint, and the marks of its nodes."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supersteps.paths import PATH_MARK
from supersteps.viz.picture import Mark, MarkKind
from supersteps.viz.structure import gate_id

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import WorkflowCheckpoint

_RUN = re.compile(r"#\d+(?:\.\d+)?$")
"""The suffix of a sub-workflow's run: the superstep in which it started."""


_FAN_IN = re.compile(r"(?:^|/)fan_in:.*->")
"""Marks a fan-in among the receivers of a delayed message."""


@dataclass
class Waiting:
    """What waits at a barrier, by addresses of executors ("review#3/writer") and fan-ins.

    Attributes:
        messages: Receivers of messages in flight, one entry per message.
        timers: Receivers of delayed messages: executors and fan-ins.
        asking: Executors that ask questions.
        fan_ins: How many messages each fan-in holds.
        runs: Paths of sub-workflow runs in progress.
    """

    messages: list[str] = field(default_factory=list)
    timers: list[str] = field(default_factory=list)
    asking: list[str] = field(default_factory=list)
    fan_ins: dict[str, int] = field(default_factory=dict)
    runs: Collection[str] = ()


def structure_of(checkpoint: WorkflowCheckpoint) -> dict[str, Any] | None:
    """Return the stored graph of a checkpoint, None if it has none.

    Checkpoints from `save_checkpoint` have none.
    """
    stored = checkpoint.document().get("graph")
    return stored if isinstance(stored, dict) and stored.get("executors") else None


def marks_of(
    checkpoint: WorkflowCheckpoint | None,
    *,
    ran: Iterable[str] = (),
    failed: Iterable[str] = (),
    structure: Mapping[str, Any] | None = None,
) -> dict[str, list[Mark]]:
    """Return the marks of nodes, by their ids in `picture_of(structure_of(checkpoint))`.

    An executor inside a sub-workflow also marks the node of the sub-workflow.

    Args:
        checkpoint: The checkpoint; None to mark only what ran and failed.
        ran: Addresses of executors that ran in the superstep before it.
        failed: Addresses of executors that failed after it.
        structure: The graph that addresses refer to; without it, paths are recognised by the runs
            of sub-workflows.
    """
    waiting = Waiting() if checkpoint is None else waiting_at(checkpoint)
    return marks_from(waiting, ran=ran, failed=failed, structure=structure)


def waiting_at(checkpoint: WorkflowCheckpoint) -> Waiting:
    """Return what waits at a checkpoint."""
    # A loaded checkpoint decodes itself on access; drawing should not change the cost of comparing
    # it.
    checkpoint = copy.copy(checkpoint)
    questions = [*checkpoint.pending_requests.values(), *checkpoint.intercepted_requests.values()]
    return Waiting(
        messages=[
            i
            for sent in checkpoint.messages.values()
            for message in sent
            for i in _receivers(message)
        ],
        timers=[i for timer in checkpoint.timers.values() for i in _receivers(timer)],
        asking=[
            question.request_executor_id or question.source_executor_id for question in questions
        ],
        fan_ins={group: sum(map(len, held.values())) for group, held in checkpoint.fan_in.items()},
        runs=checkpoint.sub_workflows.keys(),
    )


def marks_from(
    waiting: Waiting,
    *,
    ran: Iterable[str] = (),
    failed: Iterable[str] = (),
    structure: Mapping[str, Any] | None = None,
) -> dict[str, list[Mark]]:
    """Return the marks for waiting things; see `marks_of`."""
    is_nested = None if structure is None else bool(structure.get("sub_workflows"))

    def ways(address: str) -> list[str]:
        """Return the ids of an executor's node and of the sub-workflows around it."""
        path, mark, last = address.rpartition(PATH_MARK)
        if not mark or not (path in waiting.runs if is_nested is None else is_nested):
            return [address]  # without sub-workflows, an id may contain a slash
        nodes = [_RUN.sub("", step) for step in path.split(PATH_MARK)]
        around = [PATH_MARK.join(nodes[: depth + 1]) for depth in range(len(nodes))]
        return [*around, f"{around[-1]}{PATH_MARK}{last}"]

    def gates(group: str) -> list[str]:
        """Return the same for the node of a fan-in."""
        *around, gate = ways(group)
        prefix = f"{around[-1]}{PATH_MARK}" if around else ""
        return [*around, prefix + gate_id(gate.removeprefix(prefix))]

    counts: Counter[tuple[str, MarkKind]] = Counter()
    for kind, addresses in (
        (MarkKind.ASKS, waiting.asking),
        (MarkKind.MESSAGES, waiting.messages),
        (MarkKind.TIMERS, waiting.timers),
    ):
        for address in addresses:
            counts.update(
                (node, kind) for node in (gates if _FAN_IN.search(address) else ways)(address)
            )
    for group, count in waiting.fan_ins.items():
        for node in gates(group):
            counts[node, MarkKind.MESSAGES] += count
    for kind, addresses in ((MarkKind.RAN, list(ran)), (MarkKind.FAILED, list(failed))):
        counts.update({(node, kind): 1 for address in addresses for node in ways(address)})
    return _sorted_marks(counts)


def _sorted_marks(counts: Mapping[tuple[str, MarkKind], int]) -> dict[str, list[Mark]]:
    """Return marks by node, the most important first."""
    found: dict[str, list[Mark]] = {}
    for kind in BY_WEIGHT:
        for (node, marked), count in counts.items():
            if marked is kind and count:
                found.setdefault(node, []).append(Mark(kind, count))
    return found


def _receivers(message: Mapping[str, Any]) -> Sequence[str]:
    """Return the receivers of a message; a hand-made checkpoint may name a single one."""
    one = message.get("target_id")
    return list(message.get("target_ids") or ([one] if one else ()))


BY_WEIGHT = (MarkKind.FAILED, MarkKind.ASKS, MarkKind.MESSAGES, MarkKind.TIMERS, MarkKind.RAN)
"""Kinds of marks by priority; the first decides a node's colour."""

_NOUNS = {MarkKind.ASKS: "question", MarkKind.MESSAGES: "message", MarkKind.TIMERS: "timer"}


def words(marks: Iterable[Mark]) -> str:
    """Return marks as text: "2 messages, 1 question"."""
    said = []
    for mark in marks:
        noun = _NOUNS.get(mark.kind)
        said.append(
            mark.kind.value
            if noun is None
            else f"{mark.count} {noun}{'' if mark.count == 1 else 's'}"
        )
    return ", ".join(said)


def heaviest(marks: Iterable[Mark]) -> MarkKind | None:
    """Return the kind that decides a node's colour."""
    kinds = {mark.kind for mark in marks}
    return next((kind for kind in BY_WEIGHT if kind in kinds), None)
