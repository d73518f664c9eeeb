"""`Picture`: a workflow's graph as plain values for drawing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NodeKind(StrEnum):
    """The kinds of nodes; each is drawn differently."""

    EXECUTOR = "executor"
    SUB_WORKFLOW = "sub_workflow"
    """A workflow inside the workflow; its graph is `Node.inner`."""
    FAN_IN = "fan_in"
    """A fan-in, where messages wait until every source has sent one."""
    SWITCH = "switch"
    """A switch, where exactly one edge is taken."""
    GROUP = "group"
    """Several nodes drawn as one, to keep the picture readable."""


class EdgeKind(StrEnum):
    """The kinds of edges; each is drawn differently."""

    PLAIN = "plain"
    CONDITIONAL = "conditional"
    """Taken if a condition is true; its name is the label."""
    CHOICE = "choice"
    """One of several from which a selection function chooses; its name is the label."""
    CASE = "case"
    """A case of a switch; the label is the condition's name."""
    DEFAULT = "default"
    """The default of a switch."""
    ERROR = "error"
    """Taken by an executor's failures."""


class MarkKind(StrEnum):
    """The kinds of marks of a node at a checkpoint."""

    RAN = "ran"
    """It ran in the superstep that led to the checkpoint."""
    FAILED = "failed"
    """It failed after the checkpoint."""
    ASKS = "asks"
    """Its questions wait for answers."""
    MESSAGES = "messages"
    """Messages to it wait."""
    TIMERS = "timers"
    """Delayed messages to it wait."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of a node.

    Attributes:
        kind: The kind.
        count: The number of messages, questions or timers; else 1.
    """

    kind: MarkKind
    count: int = 1


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a picture.

    Attributes:
        id: Unique in the picture and all inner pictures; inside a sub-workflow the path,
            "review/writer".
        label: The displayed name: an executor's own id.
        kind: The kind.
        detail: A second, smaller line: the accepted types, or the members of a group; may be empty.
        is_start: Whether it is the start executor.
        inner: The graph of a sub-workflow.
        marks: Its marks at a checkpoint.
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
        source: Id of the source node.
        target: Id of the target node; may be the source itself.
        kind: The kind.
        label: Name of the condition or function that decides; may be empty.
    """

    source: str
    target: str
    kind: EdgeKind = EdgeKind.PLAIN
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph for drawing; the same picture always gives the same text.

    Attributes:
        nodes: In the order of the graph.
        edges: In the order of the graph; both ends are nodes of this picture, not of inner ones.
        title: The workflow's name, or run and superstep.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    title: str = ""
