"""Whose time a sample of the stack counts for."""

import asyncio
import sys
from collections import Counter

import pytest

from benchmarks.shares import REST, module_of, shares
from supersteps import WorkflowBuilder, WorkflowContext, executor


def test_a_sample_counts_for_the_innermost_module_of_the_library() -> None:
    modules: list[str] = []

    @executor(id="asks")
    async def asks(number: int, ctx: WorkflowContext[int, int]) -> None:
        modules.append(module_of(sys._getframe()))

    asyncio.run(WorkflowBuilder().set_start_executor(asks).build().run(1))
    assert modules[0].endswith(".py")
    assert modules[0].partition("/")[0] in ("engine", "functions.py", "dispatch.py")


def test_what_the_library_has_not_called_counts_as_asyncio() -> None:
    assert module_of(sys._getframe()) == "asyncio"
    assert module_of(None) == "asyncio"


def test_the_largest_shares_are_shown_and_the_others_summed_up() -> None:
    counts = Counter({"a": 50, "b": 30, "c": 15, "d": 5})
    assert shares(counts, shown=2) == pytest.approx({"a": 50.0, "b": 30.0, REST: 20.0})
    assert shares(counts, shown=4) == {"a": 50.0, "b": 30.0, "c": 15.0, "d": 5.0}
