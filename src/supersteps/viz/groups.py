"""Pictures with fewer nodes: similar nodes and chains are grouped."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture

ALIKE = "side by side"
IN_A_ROW = "one after another"
TOGETHER = "drawn as one"

Parts = list[list[int]]
"""Groups of nodes, by their indexes in the picture, ordered by their first nodes."""


def grouped(picture: Picture, limit: int = 60) -> Picture:
    """Group nodes until there are few enough.

    First sub-workflows are collapsed, the innermost and largest first. Then nodes with the same
    neighbours are grouped, then chains, and finally nodes at the same distance from the start.

    Args:
        picture: The picture.
        limit: Maximum number of nodes, including those in sub-workflows; at least one remains.

    Returns:
        A picture with at most `limit` nodes; the same one if it has no more.
    """
    limit = max(1, limit)
    picture = _closed(picture, limit)
    if _size(picture) <= limit:
        return picture
    # No sub-workflow is open now, so nodes are identified by their indexes.
    parts: Parts = [[place] for place in range(len(picture.nodes))]
    how: dict[int, str] = {}
    while len(parts) > limit:
        edges = _between(picture, parts)
        found, detail = _alike(picture, parts, edges), ALIKE
        if not found:
            found, detail = _rows(picture, parts, edges), IN_A_ROW
        if not found:
            parts = _by_distance(picture, parts, edges, limit, how)
            break
        found.sort(key=lambda some: (-len(some), some[0]))
        parts = _joined(parts, found, limit, how, detail)
    return _picture(picture, parts, how)


def _size(picture: Picture) -> int:
    return sum(1 + (_size(node.inner) if node.inner is not None else 0) for node in picture.nodes)


# Collapsing sub-workflows.


def _closed(picture: Picture, limit: int) -> Picture:
    """Collapse sub-workflows until there are few enough nodes, or none is open."""
    excess = _size(picture) - limit
    if excess <= 0:
        return picture
    opened = sorted(_open(picture, 0), key=lambda found: (-found[0], -found[1]))
    close = set()
    for _, inside, node in opened:
        if excess <= 0:
            break
        close.add(node.id)
        # Deeper ones are collapsed already.
        excess -= inside
    return _without(picture, close)


def _open(picture: Picture, depth: int) -> Iterator[tuple[int, int, Node]]:
    """Yield open sub-workflows with their depth and number of direct nodes."""
    for node in picture.nodes:
        if node.inner is not None:
            yield depth, len(node.inner.nodes), node
            yield from _open(node.inner, depth + 1)


def _without(picture: Picture, close: set[str]) -> Picture:
    nodes = []
    for node in picture.nodes:
        if node.id in close and node.inner is not None:
            count = _executors(node.inner)
            marks = _summed([*node.marks, *_marks(node.inner)])
            node = replace(
                node, inner=None, detail=f"{count} executor{'s' * (count != 1)}", marks=marks
            )
        elif node.inner is not None:
            node = replace(node, inner=_without(node.inner, close))
        nodes.append(node)
    return replace(picture, nodes=tuple(nodes))


def _executors(picture: Picture) -> int:
    """Return the number of executors, including those of sub-workflows."""
    return sum(
        _executors(node.inner)
        if node.inner is not None
        else node.kind not in (NodeKind.FAN_IN, NodeKind.SWITCH)
        for node in picture.nodes
    )


def _marks(picture: Picture) -> Iterator[Mark]:
    for node in picture.nodes:
        yield from node.marks
        if node.inner is not None:
            yield from _marks(node.inner)


def _summed(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    counts: Counter[MarkKind] = Counter()
    for mark in marks:
        counts[mark.kind] += mark.count
    return tuple(Mark(kind, counts[kind]) for kind in MarkKind if kind in counts)


# Which nodes to group.


def _between(picture: Picture, parts: Parts) -> list[tuple[int, int, EdgeKind]]:
    """Return the edges between groups, by group index; edges inside a group are loops."""
    part = {node: number for number, some in enumerate(parts) for node in some}
    number = {node.id: part[place] for place, node in enumerate(picture.nodes)}
    return list(
        dict.fromkeys(
            (number[edge.source], number[edge.target], edge.kind) for edge in picture.edges
        )
    )


def _is_start(picture: Picture, part: Sequence[int]) -> bool:
    return any(picture.nodes[place].is_start for place in part)


def _alike(picture: Picture, parts: Parts, edges: Sequence[tuple[int, int, EdgeKind]]) -> Parts:
    """Return groups with the same neighbours and kinds of edges on both sides."""
    entering: list[set[tuple[int, EdgeKind]]] = [set() for _ in parts]
    leaving: list[set[tuple[int, EdgeKind]]] = [set() for _ in parts]
    for source, target, kind in edges:
        # All loops count as the same, although they lead to different nodes.
        leaving[source].add((target if target != source else -1, kind))
        entering[target].add((source if target != source else -1, kind))
    classes: dict[object, list[int]] = {}
    for number, part in enumerate(parts):
        if not _is_start(picture, part):
            classes.setdefault(
                (frozenset(entering[number]), frozenset(leaving[number])), []
            ).append(number)
    return [some for some in classes.values() if len(some) > 1]


def _rows(picture: Picture, parts: Parts, edges: Sequence[tuple[int, int, EdgeKind]]) -> Parts:
    """Return chains: each member leads only to the next, which has no other source."""
    after: list[set[int]] = [set() for _ in parts]
    before: list[set[int]] = [set() for _ in parts]
    for source, target, _ in edges:
        if source != target:
            after[source].add(target)
            before[target].add(source)
    following = {
        number: next(iter(after[number]))
        for number, part in enumerate(parts)
        if len(after[number]) == 1 and not _is_start(picture, part)
    }
    following = {
        number: other
        for number, other in following.items()
        if len(before[other]) == 1 and not _is_start(picture, parts[other])
    }
    rows, inside = [], set(following.values())
    for first in following:
        if first not in inside:
            row = [first]
            while row[-1] in following:
                row.append(following[row[-1]])
            rows.append(row)
    return rows


def _joined(parts: Parts, found: Parts, limit: int, how: dict[int, str], detail: str) -> Parts:
    """Merge the found groups, the largest first, until there are few enough."""
    left = len(parts)
    gone: set[int] = set()
    merged: Parts = []
    for some in found:
        if left <= limit:
            break
        left -= len(some) - 1
        gone.update(some)
        members = [place for number in some for place in parts[number]]
        how[min(members)] = detail
        merged.append(members)
    kept = [part for number, part in enumerate(parts) if number not in gone]
    return sorted([*kept, *merged], key=min)


def _by_distance(
    picture: Picture,
    parts: Parts,
    edges: Sequence[tuple[int, int, EdgeKind]],
    limit: int,
    how: dict[int, str],
) -> Parts:
    """Group nodes at equal distance from the start, then at similar distances."""
    starts = [number for number, part in enumerate(parts) if _is_start(picture, part)]
    after: list[list[int]] = [[] for _ in parts]
    for source, target, _ in edges:
        after[source].append(target)
    distance: dict[int, int] = {}
    # Unreachable nodes come last.
    for roots in [starts, *([number] for number in range(len(parts)))]:
        new = [root for root in roots if root not in distance]
        distance.update(dict.fromkeys(new, max(distance.values(), default=-1) + 1))
        reached = deque(new)
        while reached:
            number = reached.popleft()
            for other in after[number]:
                if other not in distance:
                    distance[other] = distance[number] + 1
                    reached.append(other)
    levels: dict[int, list[int]] = {}
    for number in range(len(parts)):
        levels.setdefault(distance[number], []).append(number)
    ordered = [levels[level] for level in sorted(levels)]
    if len(ordered) > limit:
        bands = [
            ordered[n * len(ordered) // limit : (n + 1) * len(ordered) // limit]
            for n in range(limit)
        ]
        ordered = [[number for level in band for number in level] for band in bands]
    found = sorted(
        (some for some in ordered if len(some) > 1), key=lambda some: (-len(some), some[0])
    )
    return _joined(parts, found, limit, how, TOGETHER)


# The labels and edges of groups.


def _picture(picture: Picture, parts: Parts, how: dict[int, str]) -> Picture:
    ids = {node.id for node in picture.nodes}
    nodes: list[Node] = []
    part_of: dict[str, int] = {}
    for number, part in enumerate(parts):
        members = [picture.nodes[place] for place in part]
        part_of.update({node.id: number for node in members})
        nodes.append(members[0] if len(members) == 1 else _group(members, how[min(part)], ids))
    return replace(picture, nodes=tuple(nodes), edges=tuple(_edges(picture, parts, nodes, part_of)))


def _group(members: Sequence[Node], detail: str, ids: set[str]) -> Node:
    name = f"{members[0].id} and {len(members) - 1} more"
    while name in ids:
        name += "'"
    ids.add(name)
    return Node(
        id=name,
        label=_label([node.label for node in members], detail),
        kind=NodeKind.GROUP,
        detail=detail,
        is_start=any(node.is_start for node in members),
        marks=_summed(mark for node in members for mark in node.marks),
    )


def _label(labels: Sequence[str], detail: str) -> str:
    """Return a label for several nodes: their common prefix, or some of them."""
    prefix = "".join(
        chars[0]
        for chars in takewhile(lambda chars: len(set(chars)) == 1, zip(*labels, strict=False))
    )
    # For worker_10 to worker_19, the 1 is not part of the prefix.
    prefix = prefix.rstrip("0123456789")
    if len(prefix) > 1:
        return f"{prefix}* ({len(labels)})"
    if detail == IN_A_ROW:
        return (
            f"{labels[0]} → {labels[1]}"
            if len(labels) == 2
            else f"{labels[0]} → … → {labels[-1]} ({len(labels)})"
        )
    if len(labels) <= 3:
        return ", ".join(labels)
    return f"{labels[0]}, {labels[1]} and {len(labels) - 2} more"


def _edges(
    picture: Picture, parts: Parts, nodes: Sequence[Node], part_of: dict[str, int]
) -> Iterator[Edge]:
    """Return the edges between groups; those between the same two are merged for groups."""
    merged: dict[tuple[int, int], list[Edge]] = {}
    order: list[tuple[int, int] | Edge] = []
    for edge in picture.edges:
        pair = part_of[edge.source], part_of[edge.target]
        sizes = len(parts[pair[0]]), len(parts[pair[1]])
        if max(sizes) == 1:
            order.append(edge)
        elif pair[0] != pair[1] or edge.source == edge.target:
            if pair not in merged:
                order.append(pair)
            merged.setdefault(pair, []).append(edge)
    for entry in order:
        if isinstance(entry, Edge):
            yield entry
            continue
        edges = merged[entry]
        kinds, labels = {edge.kind for edge in edges}, {edge.label for edge in edges}
        label = labels.pop() if len(labels) == 1 else ""
        count = f"\N{MULTIPLICATION SIGN}{len(edges)}" if len(edges) > 1 else ""
        yield Edge(
            nodes[entry[0]].id,
            nodes[entry[1]].id,
            kinds.pop() if len(kinds) == 1 else EdgeKind.PLAIN,
            " ".join(filter(None, (label, count))),
        )
