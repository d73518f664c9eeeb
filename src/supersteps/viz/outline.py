"""Pictures as an indented list, for when a drawing does not fit."""

from __future__ import annotations

from collections.abc import Iterator

from supersteps.viz.canvas import Signs
from supersteps.viz.labels import mark_text, printable
from supersteps.viz.picture import Edge, EdgeKind, Node, NodeKind, Picture

_KINDS = {
    EdgeKind.PLAIN: "",
    EdgeKind.CONDITIONAL: "if",
    EdgeKind.CHOICE: "choice",
    EdgeKind.CASE: "case",
    EdgeKind.DEFAULT: "default",
    EdgeKind.ERROR: "error",
}


def way_text(edge: Edge) -> str:
    """Return the text for an edge's kind, which a plain line cannot show.

    Args:
        edge: The edge.

    Returns:
        The label, or a word for the kind; empty for an unconditional edge.
    """
    label = printable(edge.label)
    if edge.kind is EdgeKind.ERROR and label:
        return f"error: {label}"
    return label or _KINDS[edge.kind]


def outline(picture: Picture, signs: Signs, indent: str = "") -> Iterator[str]:
    """List the nodes with their targets.

    Args:
        picture: The picture.
        signs: The allowed characters.
        indent: Prefix of each line.

    Returns:
        The lines; the content of a sub-workflow follows its edges, indented.
    """
    name = {node.id: printable(node.label) or printable(node.id) for node in picture.nodes}
    for node in picture.nodes:
        yield signs.text(f"{indent}{name[node.id]}{_remarks(node)}").rstrip()
        for edge in picture.edges:
            if edge.source == node.id:
                words = way_text(edge)
                target = signs.itself if edge.target == node.id else signs.text(name[edge.target])
                yield (
                    signs.text(f"{indent}  ")
                    + signs.to
                    + target
                    + signs.text(f" [{words}]" if words else "")
                )
        if node.inner is not None:
            yield from outline(node.inner, signs, f"{indent}    ")


def _remarks(node: Node) -> str:
    remarks = ["start"] if node.is_start else []
    if node.kind is not NodeKind.EXECUTOR:
        remarks.append(str(node.kind).replace("_", "-"))
    remarks += [printable(node.detail)] if node.detail else []
    remarks += [mark_text(mark) for mark in node.marks]
    return f" ({', '.join(remarks)})" if remarks else ""
