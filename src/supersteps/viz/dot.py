"""`to_dot`: a picture as a Graphviz digraph."""

from __future__ import annotations

from collections.abc import Iterator

from supersteps.viz.checkpoints import heaviest, words
from supersteps.viz.picture import Edge, EdgeKind, MarkKind, Node, NodeKind, Picture

_FILLS = {
    MarkKind.FAILED: ("#fde7e9", "#c62828"),
    MarkKind.ASKS: ("#fff4d6", "#b7791f"),
    MarkKind.MESSAGES: ("#e3f0ff", "#1f6fc4"),
    MarkKind.TIMERS: ("#f0e8fb", "#7b4bb7"),
    MarkKind.RAN: ("#e5f5e8", "#2e7d32"),
}

_SHAPES = {
    NodeKind.EXECUTOR: "shape=box",
    NodeKind.SUB_WORKFLOW: "shape=box, peripheries=2",
    NodeKind.FAN_IN: "shape=invtrapezium",
    NodeKind.SWITCH: "shape=diamond",
    NodeKind.GROUP: "shape=box3d",
}

_EDGES = {
    EdgeKind.PLAIN: "",
    EdgeKind.CONDITIONAL: "style=dashed",
    EdgeKind.CHOICE: "style=dashed, arrowhead=empty",
    EdgeKind.CASE: "",
    EdgeKind.DEFAULT: "style=bold",
    EdgeKind.ERROR: 'style=dashed, color="#c62828", fontcolor="#c62828"',
}


def to_dot(picture: Picture) -> str:
    """Return a picture as a digraph, top down, with nodes named n1, n2, ..."""
    return "\n".join(_Writer().lines(picture)) + "\n"


class _Writer:
    """Writes one digraph and numbers its nodes."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ends: dict[
            str, str
        ] = {}  # the node to which a cluster's edges are attached, by the cluster's name

    def lines(self, picture: Picture) -> Iterator[str]:
        yield "digraph workflow {"
        # compound lets edges end at the frame of a cluster, which is not a node
        yield '    graph [rankdir=TB, compound=true, fontname="sans-serif"];'
        yield (
            '    node [shape=box, style="rounded,filled", fillcolor="#ffffff", '
            'fontname="sans-serif"];'
        )
        yield '    edge [fontname="sans-serif", fontsize=11];'
        if picture.title:
            yield f"    label={_quoted(picture.title)}; labelloc=t;"
        yield from self._level(picture, "    ")
        yield "}"

    def _level(self, picture: Picture, indent: str) -> Iterator[str]:
        for node in picture.nodes:
            yield from self._node(node, indent)
        for edge in picture.edges:
            yield indent + self._edge(edge)

    def _node(self, node: Node, indent: str) -> Iterator[str]:
        name = self._names[node.id] = f"n{len(self._names) + 1}"
        kind = heaviest(node.marks)
        text = _quoted(node.label, node.detail, words(node.marks))
        if node.inner is not None and node.inner.nodes:
            yield f"{indent}subgraph cluster_{name} {{"
            yield f"{indent}    label={text}; style=rounded;{_frame(kind, node)}"
            yield from self._level(node.inner, indent + "    ")
            yield f"{indent}}}"
            first = next(
                (inner for inner in node.inner.nodes if inner.is_start), node.inner.nodes[0]
            )
            inside = self._names[first.id]
            self._ends[name] = self._ends.get(inside, inside)
            return
        looks = [_SHAPES[node.kind]]
        if node.kind is NodeKind.SWITCH or node.kind is NodeKind.FAN_IN:
            looks.append("style=filled")
        if kind is not None:
            fill, line = _FILLS[kind]
            looks.append(f'fillcolor="{fill}", color="{line}"')
        if node.is_start:
            looks.append("penwidth=2")
        yield f"{indent}{name} [label={text}, {', '.join(looks)}];"

    def _edge(self, edge: Edge) -> str:
        source, target = self._names[edge.source], self._names[edge.target]
        looks = []
        label = {EdgeKind.ERROR: "on error", EdgeKind.DEFAULT: "default"}.get(edge.kind, edge.label)
        if label:
            looks.append(f"label={_quoted(label)}")
        if _EDGES[edge.kind]:
            looks.append(_EDGES[edge.kind])
        if source != target:  # Graphviz cannot attach both ends of an edge to one frame
            looks += [f"ltail=cluster_{source}"] * (source in self._ends)
            looks += [f"lhead=cluster_{target}"] * (target in self._ends)
        ends = f"{self._ends.get(source, source)} -> {self._ends.get(target, target)}"
        return f"{ends} [{', '.join(looks)}];" if looks else f"{ends};"


def _frame(kind: MarkKind | None, node: Node) -> str:
    """Return the style of a sub-workflow's frame."""
    line = "#888888" if kind is None else _FILLS[kind][1]
    return f' color="{line}"; penwidth={2 if node.is_start or kind is not None else 1};'


def _quoted(*lines: str) -> str:
    """Return lines as a quoted string; Graphviz knows backslash escapes and HTML entities in it."""
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines if line)
    escaped = (
        line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in shown
    )
    return '"' + "\\n".join(escaped) + '"'
