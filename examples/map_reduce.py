"""Word count over text files: split, count side by side, merge. The classic of fan-out and fan-in.

python -m examples.map_reduce
"""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Never

from examples._play import play, read_options, show
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
)

DATA = Path(__file__).parent / "data"
MAPPERS = ("mapper-1", "mapper-2", "mapper-3")


@executor
async def split(files: list[str], ctx: WorkflowContext[list[str]]) -> None:
    """Deal the files out; a mapper without a file gets an empty list, because the fan-in waits
    for all of them.
    """
    for number, mapper in enumerate(MAPPERS):
        await ctx.send_message(files[number :: len(MAPPERS)], target_id=mapper)


class Mapper(Executor):
    """Counts the words of its files. A plain function, so it runs in a thread and may block."""

    @handler
    def count(self, files: list[str], ctx: WorkflowContext[dict[str, int]]) -> None:
        words: Counter[str] = Counter()
        for file in files:
            words.update(re.findall(r"[a-z]+", (DATA / file).read_text(encoding="utf-8").lower()))
        ctx.set_state({"files": files})
        ctx.send_message(dict(words))


@executor
async def merge(counts: list[dict[str, int]], ctx: WorkflowContext[dict[str, int]]) -> None:
    """Get one dict from each mapper, in the order of the fan-in's sources, whichever was first."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    await ctx.send_message(dict(total))


@executor
async def rank(total: dict[str, int], ctx: WorkflowContext[Never, str]) -> None:
    for word, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]:
        await ctx.yield_output(f"{count:3} {word}")


def build_workflow(storage: CheckpointStorage) -> Workflow:
    mappers = [Mapper(name) for name in MAPPERS]
    return (
        WorkflowBuilder(name="map-reduce")
        .set_start_executor(split)
        .add_fan_out_edges(split, mappers)
        .add_fan_in_edges(mappers, merge)
        .add_edge(merge, rank)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


async def main() -> None:
    place = read_options("map_reduce", __doc__)
    files = sorted(path.name for path in DATA.glob("*.txt"))
    show(await play(build_workflow(place.storage), files, place))


if __name__ == "__main__":
    asyncio.run(main())
