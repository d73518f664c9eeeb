"""`Picture`: a workflow's graph as plain values to be drawn, and how it is read from a stored structure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NodeKind(StrEnum):
    """What a node stands for; each is drawn differently."""

    EXECUTOR = "executor"
    SUB_WORKFLOW = "sub_workflow"
    """A workflow inside the workflow; what it consists of is `Node.inner`."""
    FAN_IN = "fan_in"
    """Where messages wait until every source has sent one."""
    SWITCH = "switch"
    """Where exactly one way is taken."""
    GROUP = "group"
    """Several nodes drawn as one, because the picture would not be readable otherwise."""


class EdgeKind(StrEnum):
    """How a message comes to take an edge; each is drawn differently."""

    PLAIN = "plain"
    CONDITIONAL = "conditional"
    """Taken when a condition holds, whose name is the label."""
    CHOICE = "choice"
    """One of several among which a selection function picks, whose name is the label."""
    CASE = "case"
    """A way out of a switch; the label is the condition's name."""
    DEFAULT = "default"
    """The way out of a switch that is left."""
    ERROR = "error"
    """Taken by failures."""


class MarkKind(StrEnum):
    """What can be said of a node at a checkpoint."""

    RAN = "ran"
    """It ran in the superstep that led to the checkpoint."""
    FAILED = "failed"
    """It failed after the checkpoint."""
    ASKS = "asks"
    """Questions of it wait for answers."""
    MESSAGES = "messages"
    """Messages wait for it."""
    TIMERS = "timers"
    """Messages wait for their time to come to it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to say of a node.

    Attributes:
        kind: What.
        count: How many (messages, questions, timers); 1 where that makes no sense.
    """

    kind: MarkKind
    count: int = 1


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a picture.

    Attributes:
        id: Unique in the picture and in all pictures inside it: for what is inside a sub-workflow
            the path to it, "review/writer".
        label: What people read: an executor's own id.
        kind: What it stands for.
        detail: A second, smaller line: the types it takes, or what a group holds; empty for none.
        is_start: Whether it gets the input.
        inner: What a sub-workflow consists of.
        marks: What a checkpoint says of it.
    """

    id: str
    label: str
    kind: NodeKind = NodeKind.EXECUTOR
    detail: str = ""
    is_start: bool = False
    inner: Picture | None = None
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of a picture.

    Attributes:
        source: Id of the node it leaves.
        target: Id of the node it reaches; may be the source itself.
        kind: How it comes to be taken.
        label: Name of the condition or function that decides; empty for none.
    """

    source: str
    target: str
    kind: EdgeKind = EdgeKind.PLAIN
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph to be drawn; drawing the same picture twice gives the same text.

    Attributes:
        nodes: In the order of the graph.
        edges: In the order of the graph; both ends are nodes of this very picture, not of inner
            ones.
        title: What it shows: the workflow's name, or run and superstep.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    title: str = ""
