"""`map_bounded`: work on many items, at most so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from supersteps.engine.event_loops import end_all

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(
    work: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int, name: str
) -> list[R]:
    """Return the results of work on items, in the order of the items.

    After a failure no more is begun; what is under way ends first.

    Args:
        work: What to do with an item.
        items: The items, begun in their order.
        limit: How many at a time.
        name: Names the tasks.

    Raises:
        Exception: The failure of the first item, in their order, that failed.
    """
    results: dict[int, R] = {}
    failures: dict[int, Exception] = {}
    waiting = iter(enumerate(items))

    async def run() -> None:
        for place, item in waiting:
            try:
                results[place] = await work(item)
            except Exception as error:  # raised below, once the others have ended
                failures[place] = error
            if failures:
                return

    tasks = [asyncio.create_task(run(), name=name) for _ in range(min(limit, len(items)))]
    try:
        await asyncio.gather(*tasks)
    except GeneratorExit:  # the event loop was closed, and these end with it
        raise
    except BaseException:
        # Cancelled from outside, or the program is to end: nobody may work on unseen.
        await end_all(tasks)
        raise
    if failures:
        raise failures[min(failures)]
    return [results[place] for place in range(len(items))]
