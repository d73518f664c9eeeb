"""`Names`: present names for old ones in checkpoints and journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from supersteps.checkpoint.parts import Part, PartKey, Scope
from supersteps.checkpoint.sections.graph import GraphDescription
from supersteps.checkpoint.sections.table import SECTIONS, section_of
from supersteps.define.edges import FanInEdgeGroup
from supersteps.engine.effects import Effects
from supersteps.paths import PATH_MARK, path_of


class Names:
    """New names for old ones, in every form in which executors are named."""

    def __init__(self, rename: Mapping[str, str], before: GraphDescription) -> None:
        self._rename = rename
        self._nested = bool(before.sub_workflows)

    def address(self, address: str) -> str:
        """Return the path of an executor."""
        if not self._nested:
            return self._rename.get(address, address)
        path, mark, name = address.rpartition(PATH_MARK)
        if not mark:
            return self._rename.get(name, name)
        return self.path(path) + mark + self._inner(self._static(path), name)

    def path(self, path: str) -> str:
        """Return the path of a sub-workflow's run."""
        found, static = [], ""
        for segment in path.split(PATH_MARK):
            node, mark, number = segment.rpartition("#")
            found.append(self._inner(static, node) + mark + number)
            static = f"{static}{PATH_MARK}{node}" if static else node
        return PATH_MARK.join(found)

    def _static(self, path: str) -> str:
        return PATH_MARK.join(segment.rpartition("#")[0] for segment in path.split(PATH_MARK))

    def _inner(self, static: str, name: str) -> str:
        full = f"{static}{PATH_MARK}{name}" if static else name
        return self._rename.get(full, full).rpartition(PATH_MARK)[2]

    def fan_in(self, name: str) -> tuple[str, Callable[[str], str]]:
        """Return the name of a fan-in, and a function that renames its sources."""
        path, mark, group = name.rpartition(PATH_MARK) if self._nested else ("", "", name)

        def local(executor_id: str) -> str:
            return self.address(path + mark + executor_id)[
                len(self.path(path) + mark) if mark else 0 :
            ]

        sources, _, target = group.partition(":")[2].partition("->")
        ids = tuple(local(_unescaped(source)) for source in sources.split("+"))
        renamed = FanInEdgeGroup(ids, (local(_unescaped(target)),)).id
        return (self.path(path) + mark if mark else "") + renamed, local

    def effects(self, effects: Effects, executor_id: str, key: str) -> Effects:
        """Return what a call did, under its new name and key."""
        change = msgspec.structs.replace
        path = path_of(effects.executor_id) if self._nested else ""
        new_path = path_of(executor_id) if self._nested else ""

        def local(target: str | None) -> str | None:
            if target is None:
                return None
            return (
                self.address(path + PATH_MARK + target)[len(new_path) + 1 :]
                if path
                else self.address(target)
            )

        return change(
            effects,
            executor_id=executor_id,
            key=key,
            sends=[change(send, target_id=local(send.target_id)) for send in effects.sends],
            writes=[change(write, scope=self.scope(write.scope)) for write in effects.writes],
            asks=[
                change(ask, source_executor_id=self.address(ask.source_executor_id))
                for ask in effects.asks
            ],
            delayed=[
                change(
                    d,
                    target_id=local(d.target_id),
                    source_ids=tuple(map(self.address, d.source_ids)),
                )
                for d in effects.delayed
            ],
        )

    def scope(self, scope: Scope) -> Scope:
        """Return a scope, or the key of a part."""
        section = SECTIONS.get(scope[0])
        return scope if section is None else section.rename_key(scope, self)

    def part(self, key: PartKey, part: Part) -> Part:
        """Return a part with the names inside it changed."""
        section = section_of(key)
        return part if section is None else section.rename_part(key, part, self)


def _unescaped(name: str) -> str:
    return name.replace("-%3E", "->").replace("%2B", "+").replace("%25", "%")
