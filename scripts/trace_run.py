"""Trace a small run through the library: how many calls it takes, and how far a value travels.

python -m scripts.trace_run [--hops] [--calls]

The figures are for comparing two states of the code: the fewer, the shorter the ways. They depend
on how the code is divided into functions, never on the names of modules or functions; use the same
Python for both. `--hops` lists the hops themselves, `--calls` the functions called and how often.

The run: two executors and an edge. The first sends a message, the second sets a key of the shared
state and yields an output. Its storage is a `SqliteCheckpointStorage` on a file that other runs
have used before, so that imports, caches and the making of the file are not part of the figures.

*Calls* are the calls of functions that are defined in files below the library's folder, from
`workflow.run()` to its result, in all threads. A coroutine or generator counts once, however often
it is resumed. Comprehensions do not count (newer Pythons inline them), nor do functions without a
file, such as the `__init__` of a dataclass. *Files* are the files in which those functions are.

*Hops* are those calls that have the value among their arguments, or return or yield it. A call
counts once. The value, a string that occurs nowhere else, is there as

- a string, bytes or any other buffer that contains it;
- a builtin container (list, tuple, set, frozenset, deque, dict), a `functools.partial` or a bound
  method with the value in it; these do not count as a level;
- an object of a class of the library, or a function's closure, that has one of these in an
  attribute or variable. Up to three such objects may stand around each other. This takes in a
  message, the effects of a call, a checkpoint and its commit, but not the engine's workers, which
  hold everything in some way. `self` is an argument like any other.

There: from `ctx.send_message(value)` to the first SQL statement that contains the value, when it
is executed. Back: from `workflow.run_from_checkpoint()`, given a new workflow and a new storage
object, to the handler that gets the value. Nothing but the file knows the value then, so the first
hop is the function that read its row. The run had failed in its second superstep: what is resumed
is its newest checkpoint.

Threads that wake by the clock may add calls, so runs are repeated until the smallest figure has
come up five times. The library sees `time.perf_counter` standing still: it learns from it how fast
the disk is, and takes other ways on a slow one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple, Never
from unittest.mock import patch

import supersteps
from supersteps import (
    Executor,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)

VALUE = "the value whose way is traced"
LEVELS = 3
WARM_UP_RUNS = 20  # fewer, and the storage is still finding out how fast its disk is
AGREEING_RUNS = 5
MOST_RUNS = 200

_INLINED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


def holds(thing: object, value: str, package: str, levels: int = LEVELS) -> bool:
    """Return whether something is, contains or carries a value; see the module's docstring."""
    if isinstance(thing, str):
        return value in thing
    if thing is None or isinstance(thing, int | float):
        return False
    inner: Iterator[object] | None = None
    if isinstance(thing, dict):
        inner = iter([*thing.keys(), *thing.values()])
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        inner = iter(list(thing))
    elif isinstance(thing, partial):
        inner = iter([thing.func, thing.args, thing.keywords])
    elif isinstance(thing, MethodType):
        inner = iter([thing.__self__])
    if inner is not None and any(holds(each, value, package, levels) for each in inner):
        return True
    if isinstance(thing, FunctionType):
        inner = _variables(thing)
    elif f"{type(thing).__module__}.".startswith(f"{package}."):
        inner = _attributes(thing)
    else:
        return inner is None and value.encode() in _buffer(thing)
    return levels > 0 and any(holds(each, value, package, levels - 1) for each in inner)


def _buffer(thing: Any) -> bytes:
    try:
        return bytes(memoryview(thing))
    except TypeError:
        return b""


def _variables(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it has no value yet
            yield cell.cell_contents


def _attributes(thing: object) -> Iterator[object]:
    """Give the values of all attributes, without running any code of the object's class."""
    for kind in type(thing).__mro__:
        for member in list(vars(kind).values()):
            if type(member) is _SLOT:
                with suppress(AttributeError):  # it has no value yet
                    yield member.__get__(thing, kind)
    with suppress(AttributeError):
        yield from list(object.__getattribute__(thing, "__dict__").values())


class _Slotted:
    __slots__ = ("slot",)


_SLOT = type(vars(_Slotted)["slot"])


class Found(NamedTuple):
    """What was counted in one run."""

    functions: Counter[str]  # as "file: function"
    files: frozenset[str]
    hops: tuple[str, ...]

    @property
    def calls(self) -> int:
        return self.functions.total()


class Trace:
    """Counts the calls of a package's functions and follows a value through them.

    Args:
        package: The package's name.
        folder: Where its files are.
        value: What to follow.

    Attributes:
        is_following: Whether calls that have the value are counted as hops now.
    """

    def __init__(self, package: str, folder: Path, value: str) -> None:
        self._package = package
        self._below = f"{folder}{os.sep}"
        self._value = value
        self._lock = threading.Lock()
        self._is_on = False
        self.is_following = False
        self._forget()

    def _forget(self) -> None:
        self._functions: Counter[str] = Counter()
        self._files: set[str] = set()
        self._hops: list[str] = []
        self._counted: set[int] = set()  # frames whose call is a hop already

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Have Python report the calls of this thread, and of those that begin meanwhile."""
        threading.setprofile(self._report)
        sys.setprofile(self._report)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is called meanwhile."""
        self._forget()
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def found(self) -> Found:
        """Return what was counted last."""
        return Found(self._functions, frozenset(self._files), tuple(self._hops))

    def see_statement(self, statement: str) -> None:
        """Stop following if the value is in a SQL statement, which writes bytes in hex."""
        if self._value in statement or self._value.encode().hex() in statement.lower():
            self.is_following = False

    def _report(self, frame: FrameType, event: str, result: object) -> None:
        code = frame.f_code
        if (
            not self._is_on
            or event not in ("call", "return")
            or not code.co_filename.startswith(self._below)
            or code.co_name in _INLINED
        ):
            return
        with self._lock:
            if event == "return":
                self._look(frame, result)
            elif _is_beginning(frame):
                self._functions[self._named(code)] += 1
                self._files.add(code.co_filename)
                self._counted.discard(id(frame))  # that was another frame, which is gone
                if self.is_following:
                    self._look(frame, _arguments(frame))

    def _look(self, frame: FrameType, thing: object) -> None:
        if (
            self.is_following
            and id(frame) not in self._counted
            and holds(thing, self._value, self._package)
        ):
            self._counted.add(id(frame))
            self._hops.append(self._named(frame.f_code))

    def _named(self, code: CodeType) -> str:
        return f"{code.co_filename.removeprefix(self._below)}: {code.co_qualname}"


def _is_beginning(frame: FrameType) -> bool:
    """Return whether the reported call is that of a function, not the resumption of a coroutine."""
    # The argument of the instruction RESUME: 0 where a function begins, else after yield or await.
    return frame.f_code.co_code[frame.f_lasti + 1] & 3 == 0


def _arguments(frame: FrameType) -> list[object]:
    code, variables = frame.f_code, frame.f_locals
    stars = bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars]
    return [variables[name] for name in names if name in variables]


class First(Executor):
    """Sends the value."""

    def __init__(self, trace: Trace) -> None:
        super().__init__("first")
        self._trace = trace

    @handler
    async def send(self, text: str, ctx: WorkflowContext[str]) -> None:
        self._trace.is_following = True
        await ctx.send_message(VALUE)


class Second(Executor):
    """Takes the value: the end of its way back, if it is still followed."""

    def __init__(self, trace: Trace, *, is_down: bool) -> None:
        super().__init__("second")
        self._trace = trace
        self._is_down = is_down

    @handler
    async def finish(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self._trace.is_following = False
        if self._is_down:
            raise ConnectionError("the second executor is down")
        await ctx.set_shared_state("key", "state")
        await ctx.yield_output("output")


def _workflow(trace: Trace, *, is_down: bool = False) -> Workflow:
    first, second = First(trace), Second(trace, is_down=is_down)
    builder = WorkflowBuilder(name="traced").set_start_executor(first).add_edge(first, second)
    return builder.build()


@contextmanager
def _statements_seen(trace: Trace) -> Iterator[list[str]]:
    """Show a trace every SQL statement of connections that are opened meanwhile."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    ends: list[str] = []

    def see(statement: str) -> None:
        if trace.is_following:
            trace.see_statement(statement)
            if not trace.is_following:
                ends.append(statement)

    def connect_watched(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.set_trace_callback(see)
        return db

    with patch.object(sqlite3, "connect", connect_watched):
        yield ends


def _is_settled(figures: list[int]) -> bool:
    """Return whether the smallest figure may be believed.

    Raises:
        ArithmeticError: The figures of very many runs do not agree.
    """
    if figures.count(min(figures, default=0)) >= AGREEING_RUNS:
        return True
    if len(figures) >= MOST_RUNS:
        raise ArithmeticError(f"no {AGREEING_RUNS} of {MOST_RUNS} runs agree: {figures}")
    return False


async def trace_there(trace: Trace, file: Path) -> Found:
    """Trace a whole run, its value on the way to the disk.

    Raises:
        LookupError: No statement held the value: it is stored in a form that is not known here.
    """
    found: list[Found] = []
    with _statements_seen(trace) as ends:
        async with SqliteCheckpointStorage(file) as storage:
            workflow = _workflow(trace)
            for _ in range(WARM_UP_RUNS):
                await workflow.run("input", checkpoint_storage=storage)
            ends.clear()
            while not _is_settled([each.calls for each in found]):
                with trace.counting():
                    await workflow.run("input", checkpoint_storage=storage)
                found.append(trace.found())
                if len(ends) != len(found):
                    raise LookupError("the value is in no SQL statement of its run")
    return min(found, key=lambda each: each.calls)


async def trace_back(trace: Trace, file: Path) -> Found:
    """Trace the second half of a run that failed there, its value on the way to the handler."""
    found: list[Found] = []
    while not _is_settled([len(each.hops) for each in found]):
        run_id = f"failed-{len(found)}"
        async with SqliteCheckpointStorage(file) as storage:
            with suppress(ConnectionError):
                failing = _workflow(trace, is_down=True)
                await failing.run("input", run_id=run_id, checkpoint_storage=storage)
            newest = (await storage.list_checkpoints(run_id=run_id))[-1]
        async with SqliteCheckpointStorage(file) as storage:
            workflow = _workflow(trace)
            trace.is_following = True
            with trace.counting():
                await workflow.run_from_checkpoint(newest.checkpoint_id, storage)
        found.append(trace.found())
    return min(found, key=lambda each: len(each.hops))


async def _trace(trace: Trace, file: Path) -> tuple[Found, Found]:
    return await trace_there(trace, file), await trace_back(trace, file)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hops", action="store_true", help="list the hops")
    parser.add_argument("--calls", action="store_true", help="list the functions called")
    options = parser.parse_args()

    trace = Trace(supersteps.__name__, Path(supersteps.__file__).parent, VALUE)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(time, "perf_counter", return_value=0.0),
        trace.reporting(),
    ):
        there, back = asyncio.run(_trace(trace, Path(folder, "runs.db")))

    print("A run of two supersteps")
    print(f"  calls of the library's functions  {there.calls:5}")
    if options.calls:
        for function, count in there.functions.most_common():
            print(f"      {count:3} {function}")
    print(f"  files in which they are           {len(there.files):5}")
    for title, hops in (
        ("hops of a value to the disk", there.hops),
        ("hops of a value back", back.hops),
    ):
        print(f"  {title:32}  {len(hops):5}")
        if options.hops:
            for hop in hops:
                print(f"      {hop}")


if __name__ == "__main__":
    main()
