"""The trace of a value: what counts as a call and as a hop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scripts.trace_run import Trace, holds

VALUE = "the value"


@dataclass
class Box:
    inside: Any


class Slim(msgspec.Struct):
    inside: Any


class Foreign:
    inside = VALUE


Foreign.__module__ = "elsewhere"


def closure(inside: object) -> Callable[[], object]:
    return lambda: inside


@pytest.mark.parametrize(
    "thing",
    [
        f"... {VALUE} ...",
        memoryview(f'"{VALUE}"'.encode()),
        msgspec.Raw(f'"{VALUE}"'.encode()),
        [{"key": (VALUE,)}],
        {VALUE: 1},
        Box(Slim([Box(VALUE)])),
        closure(Box(VALUE)),
        partial(print, sep=VALUE),
        Box(VALUE).__repr__,
    ],
)
def test_what_holds_a_value(thing: object) -> None:
    assert holds(thing, VALUE, __name__)


@pytest.mark.parametrize(
    "thing", [None, 1, "value", b"value", [], Box(1), Foreign(), Box(Slim([Box(Box(VALUE))]))]
)
def test_what_does_not_hold_it(thing: object) -> None:
    assert not holds(thing, VALUE, __name__)


def passed_on(value: object) -> bool:
    return aside(1) and [value for _ in range(3)] != []


def aside(number: int) -> bool:
    return number > 0


def made() -> Box:
    return Box(VALUE)


async def each_turn(value: object) -> AsyncIterator[object]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield value


async def resumed() -> None:
    async for _ in each_turn(VALUE):
        aside(2)


@pytest.mark.parametrize(
    ("work", "calls", "hops"),
    [
        (lambda: passed_on(VALUE), 2, ["passed_on"]),
        (lambda: passed_on(made()), 3, ["made", "passed_on"]),
        (lambda: aside(1), 1, []),
        (lambda: run(resumed()), 6, ["each_turn"]),
    ],
)
def test_calls_and_hops(work: Callable[[], object], calls: int, hops: list[str]) -> None:
    here = Path(__file__)
    trace = Trace(__name__, here.parent, VALUE)
    trace.is_following = True

    with trace.reporting(), trace.counting():
        work()

    found = trace.found()
    # `work` is a function of this file too.
    assert (found.calls, found.files) == (calls + 1, frozenset([str(here)]))
    assert list(found.hops) == [f"{here.name}: {name}" for name in hops]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_statement_ends_the_way() -> None:
    trace = Trace(__name__, Path(__file__).parent, VALUE)
    for statement in (f"INSERT ('{VALUE}')", f"INSERT (X'00{VALUE.encode().hex().upper()}')"):
        trace.is_following = True
        trace.see_statement("SELECT 1")
        assert trace.is_following
        trace.see_statement(statement)
        assert not trace.is_following
