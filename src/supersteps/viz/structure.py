"""`picture_of`: a picture from a workflow's stored graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supersteps.paths import PATH_MARK
from supersteps.viz.picture import Edge, EdgeKind, Mark, Node, NodeKind, Picture

GATE = "\N{NO-BREAK SPACE}"
"""The first character of the ids of fan-ins and switches in a picture.

Ids of executors are printable, and this character is not, so no executor can have such an id.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A parsed line of a structure's `edges`.

    Attributes:
        id: The group's id, which names fan-ins in checkpoints.
        kind: "edge", "fan_out", "switch_case", "fan_in" or "on_error"; one that is unknown here is
            drawn like "fan_out".
        sources: Ids of the source executors.
        targets: Ids of the target executors.
        names: The text in brackets after the id: names of the functions that decide, joined by ",
            ".
    """

    id: str
    kind: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    names: str


def picture_of(
    structure: Mapping[str, Any], title: str = "", marks: Mapping[str, Sequence[Mark]] = {}
) -> Picture:
    """Return a workflow's graph as a picture.

    Args:
        structure: The JSON-ready description of a graph; invalid edges are ignored.
        title: The title of the picture.
        marks: Marks of nodes, by their ids in the picture; see `marks_of`.
    """
    return _Level(structure, "", marks).picture(title)


def gate_id(group_id: str) -> str:
    """Return the id of the node of a fan-in or switch, within its level."""
    return GATE + group_id


class _Level:
    """One graph: the whole, or that of a sub-workflow."""

    def __init__(
        self, structure: Mapping[str, Any], prefix: str, marks: Mapping[str, Sequence[Mark]]
    ) -> None:
        self._executors: Mapping[str, Sequence[str]] = structure.get("executors") or {}
        self._inner: Mapping[str, Mapping[str, Any]] = structure.get("sub_workflows") or {}
        self._lines: Sequence[str] = structure.get("edges") or ()
        self._start = structure.get("start")
        self._prefix = prefix
        self._marks = marks
        self._edges: list[Edge] = []
        self._before: dict[str, list[Node]] = {}  # fan-ins, by their targets
        self._after: dict[str, list[Node]] = {}  # switches, by their sources

    def picture(self, title: str) -> Picture:
        place = {node_id: number for number, node_id in enumerate(self._executors)}
        groups = [
            group
            for line in dict.fromkeys(self._lines)
            if (group := read_group(line, self._executors)) is not None
        ]
        # Lines are stored alphabetically; the order of the graph is more readable.
        groups.sort(key=lambda g: ([place[i] for i in g.sources], [place[i] for i in g.targets]))
        for group in groups:
            self._add(group)
        nodes: list[Node] = []
        for node_id in self._executors:
            nodes += [
                *self._before.get(node_id, ()),
                self._node(node_id),
                *self._after.get(node_id, ()),
            ]
        return Picture(tuple(nodes), tuple(self._edges), title)

    def _node(self, node_id: str) -> Node:
        full = self._prefix + node_id
        inner = self._inner.get(node_id)
        return Node(
            full,
            node_id,
            NodeKind.EXECUTOR if inner is None else NodeKind.SUB_WORKFLOW,
            detail=", ".join(map(_short, self._executors[node_id]))
            if inner is None
            else "",  # its start executor shows the accepted types
            is_start=node_id == self._start,
            inner=None
            if inner is None
            else _Level(inner, full + PATH_MARK, self._marks).picture(""),
            marks=tuple(self._marks.get(full, ())),
        )

    def _add(self, group: Group) -> None:
        source, target = group.sources[0], group.targets[0]
        if group.kind == "fan_in":
            gate = self._gate(group, NodeKind.FAN_IN, "fan-in")
            self._before.setdefault(target, []).append(gate)
            for each in group.sources:
                self._edge(each, gate)
            self._edge(gate, target)
        elif group.kind == "switch_case":
            gate = self._gate(group, NodeKind.SWITCH, "switch")
            self._after.setdefault(source, []).append(gate)
            self._edge(source, gate)
            for case, name in zip(group.targets[:-1], _case_names(group), strict=True):
                self._edge(gate, case, EdgeKind.CASE, name)
            self._edge(gate, group.targets[-1], EdgeKind.DEFAULT)
        else:
            kind = EdgeKind.PLAIN
            if group.kind == "on_error":
                kind = EdgeKind.ERROR
            elif group.names:
                kind = EdgeKind.CONDITIONAL if group.kind == "edge" else EdgeKind.CHOICE
            for each in group.targets:
                self._edge(source, each, kind, group.names)

    def _gate(self, group: Group, kind: NodeKind, label: str) -> Node:
        full = self._prefix + gate_id(group.id)
        return Node(full, label, kind, marks=tuple(self._marks.get(full, ())))

    def _edge(
        self,
        source: str | Node,
        target: str | Node,
        kind: EdgeKind = EdgeKind.PLAIN,
        label: str = "",
    ) -> None:
        ends = [end.id if isinstance(end, Node) else self._prefix + end for end in (source, target)]
        self._edges.append(Edge(ends[0], ends[1], kind, label))


# ----------------------------------------------------------------------------------- parsing lines

_LINE = re.compile(r"(\w+):(.*?)->(.*)\]", re.DOTALL)


def read_group(line: str, known: Mapping[str, Any]) -> Group | None:
    """Parse a line like `switch_case:a->b+c [is_spam]`; None if it does not fit the executors.

    In ids, "+" and "->" are escaped, so both are unambiguous before the bracket; but ids and names
    may contain brackets. The last bracket is the right one unless a name contains " [", which no
    ordinary function's name does; the known executors decide.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    kind, before, rest = found.groups()
    sources = _known_ids(before, known)
    if sources is None:
        return None
    for bracket in _brackets(rest):
        targets = _known_ids(rest[:bracket], known)
        if targets is not None:
            names = rest[bracket + 2 :]
            return Group(f"{kind}:{before}->{rest[:bracket]}", kind, sources, targets, names)
    return None


def _brackets(text: str) -> Iterator[int]:
    """Yield possible starts of the names, the last one first."""
    place = text.rfind(" [")
    while place >= 0:
        yield place
        place = text.rfind(" [", 0, place)


def _known_ids(joined: str, known: Mapping[str, Any]) -> tuple[str, ...] | None:
    ids = tuple(map(_unescaped, joined.split("+")))
    return ids if all(node_id in known for node_id in ids) else None


def _unescaped(part: str) -> str:
    return part.replace("-%3E", "->").replace("%2B", "+").replace("%25", "%")


def _case_names(group: Group) -> Sequence[str]:
    """Return the names of a switch's conditions; empty if commas make them ambiguous."""
    names = group.names.split(", ")
    count = len(group.targets) - 1
    if count == 1:
        return [group.names]
    return names if len(names) == count else [""] * count


def _short(kind: str) -> str:
    """Return a type's name without its modules: `list[orders.Order]` is `list[Order]`."""
    return re.sub(r"(?<![\w.'\"])(?:[^\W\d]\w*\.)+(?=[^\W\d])", "", kind)
