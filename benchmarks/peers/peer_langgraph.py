"""LangGraph: two nodes of a state graph, called and not awaited, since that is faster.

Of the two SQLite savers, the asynchronous one is what the documentation recommends, the other one
is faster: `durable` and `durable-sync`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.peers.protocol import Run, main


class State(TypedDict):
    """What the nodes pass on."""

    left: int


def pass_on(state: State) -> State:
    """Pass one less on."""
    return {"left": state["left"] - 1}


async def pass_on_awaited(state: State) -> State:
    """Pass one less on."""
    return {"left": state["left"] - 1}


def graph(node: Any, saver: Any = None) -> Any:
    """Return a graph of two nodes. The number of steps is even, so that one of them may look."""
    builder = StateGraph(State).add_node("one", node).add_node("other", node)
    builder.add_edge(START, "one").add_edge("one", "other")
    builder.add_conditional_edges("other", lambda state: "one" if state["left"] > 0 else END)
    return builder.compile(checkpointer=saver)


def called(saver: Any) -> Run:
    """Return what runs the graph, each step saved before the next begins."""
    compiled, threads = graph(pass_on, saver), count()

    async def run(steps: int) -> None:
        result = compiled.invoke({"left": steps}, config(next(threads), steps), durability="sync")
        assert result == {"left": 0}

    return run


def config(thread: int, steps: int) -> dict[str, Any]:
    """Return the configuration of one run."""
    return {"configurable": {"thread_id": str(thread)}, "recursion_limit": steps + 2}


@asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[Run]:
    """No saver."""
    compiled = graph(pass_on)

    async def run(steps: int) -> None:
        result = compiled.invoke({"left": steps}, {"recursion_limit": steps + 2})
        assert result == {"left": 0}

    yield run


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Run]:
    """InMemorySaver."""
    yield called(InMemorySaver())


@asynccontextmanager
async def durable(folder: Path) -> AsyncIterator[Run]:
    """AsyncSqliteSaver."""
    async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
        compiled, threads = graph(pass_on_awaited, saver), count()

        async def run(steps: int) -> None:
            asked = config(next(threads), steps)
            result = await compiled.ainvoke({"left": steps}, asked, durability="sync")
            assert result == {"left": 0}

        yield run


@asynccontextmanager
async def durable_sync(folder: Path) -> AsyncIterator[Run]:
    """SqliteSaver."""
    with SqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
        yield called(saver)


if __name__ == "__main__":
    main({"bare": bare, "memory": memory, "durable": durable, "durable-sync": durable_sync})
