"""`to_mermaid`: a picture as the text of a Mermaid flowchart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from supersteps.viz.checkpoints import heaviest, words
from supersteps.viz.picture import Edge, EdgeKind, MarkKind, Node, NodeKind, Picture

_STYLES = {
    MarkKind.FAILED: "fill:#fde7e9,stroke:#c62828,color:#7f1d1d",
    MarkKind.ASKS: "fill:#fff4d6,stroke:#b7791f,color:#5f3b00",
    MarkKind.MESSAGES: "fill:#e3f0ff,stroke:#1f6fc4,color:#0b3a6b",
    MarkKind.TIMERS: "fill:#f0e8fb,stroke:#7b4bb7,color:#42226b",
    MarkKind.RAN: "fill:#e5f5e8,stroke:#2e7d32,color:#1b4d20",
}
"""Styles of marked nodes; they name all colours to look the same on light and dark pages."""

_SHAPES = {
    NodeKind.EXECUTOR: ("[", "]"),
    NodeKind.SUB_WORKFLOW: ("[[", "]]"),
    NodeKind.FAN_IN: ("[\\", "/]"),
    NodeKind.SWITCH: ("{", "}"),
    NodeKind.GROUP: ("[[", "]]"),
}
_START = ("([", "])")


def to_mermaid(picture: Picture) -> str:
    """Return a picture as a Mermaid flowchart, top down, with nodes named n1, n2, ..."""
    return "\n".join(_Writer().lines(picture)) + "\n"


class _Writer:
    """Writes one flowchart and numbers its nodes."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._classes: dict[MarkKind, list[str]] = {}
        self._edge_count = 0
        self._errors: list[str] = []

    def lines(self, picture: Picture) -> Iterator[str]:
        if picture.title:
            yield from ("---", f'title: "{_title(picture.title)}"', "---")
        yield "flowchart TD"
        yield from self._level(picture, "    ")
        for kind, names in self._classes.items():
            yield f"    classDef {kind.value} {_STYLES[kind]}"
            yield f"    class {','.join(names)} {kind.value}"
        if self._errors:
            yield f"    linkStyle {','.join(self._errors)} stroke:#c62828,color:#c62828"

    def _level(self, picture: Picture, indent: str) -> Iterator[str]:
        for node in picture.nodes:
            yield from self._node(node, indent)
        for edge in picture.edges:
            yield indent + self._edge(edge)

    def _node(self, node: Node, indent: str) -> Iterator[str]:
        name = self._names[node.id] = f"n{len(self._names) + 1}"
        kind = heaviest(node.marks)
        if kind is not None:
            self._classes.setdefault(kind, []).append(name)
        text = "<br/>".join(
            map(_escaped, filter(None, (node.label, node.detail, words(node.marks))))
        )
        if node.inner is not None and node.inner.nodes:
            yield f'{indent}subgraph {name}["{text}"]'
            yield from self._level(node.inner, indent + "    ")
            yield f"{indent}end"
            return
        before, after = (
            _START if node.is_start and node.kind is NodeKind.EXECUTOR else _SHAPES[node.kind]
        )
        yield f'{indent}{name}{before}"{text}"{after}'

    def _edge(self, edge: Edge) -> str:
        if edge.kind is EdgeKind.ERROR:
            self._errors.append(str(self._edge_count))
        self._edge_count += 1
        label = {EdgeKind.ERROR: "on error", EdgeKind.DEFAULT: "default"}.get(edge.kind, edge.label)
        solid = edge.kind in (EdgeKind.PLAIN, EdgeKind.CASE, EdgeKind.DEFAULT)
        said = f'|"{_escaped(label)}"|' if label else ""
        return (
            f"{self._names[edge.source]} {'-->' if solid else '-.->'}{said} "
            f"{self._names[edge.target]}"
        )


_NAMED = {'"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;"}

# Characters with a meaning in Mermaid, in the Markdown of its labels or in HTML. A dot or hyphen is
# escaped only where it starts a list, an underscore only where it marks emphasis, since ids are
# full of them.
_DANGEROUS = re.compile(r"[^\w .,()/=?\[\]-]|(?<![^\W_])_|_(?![^\W_])|^[-=]|(?<=\d)[.)](?= )")


def _escaped(text: str) -> str:
    """Return text for a quoted label."""
    shown = "".join(c if c.isprintable() else " " for c in text).strip(" ")
    return _DANGEROUS.sub(lambda found: _NAMED.get(found[0]) or f"#{ord(found[0])};", shown) or " "


def _title(text: str) -> str:
    """Return text for the title, a quoted YAML string."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.replace("\\", "\\\\").replace('"', '\\"')
