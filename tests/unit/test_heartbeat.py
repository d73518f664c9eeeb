"""A superstep that lasts longer than a beat keeps its run's lease, also while a handler holds up
the event loop.
"""

import asyncio
import errno
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Never, NoReturn

import pytest

from supersteps import (
    InMemoryCheckpointStorage,
    LeaseWarning,
    WorkflowBuilder,
    WorkflowContext,
    executor,
)
from supersteps.engine import heartbeat
from supersteps.errors import RunFencedError, StorageError
from supersteps.ids import new_id


class Watched(InMemoryCheckpointStorage):
    """Notes renewals, and fails the first."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Event()
        self.tries = 0

    async def renew(self, run_id: str, epoch: int, lease_seconds: float, **which: Any) -> None:
        self.tries += 1
        if self.tries == 1:
            raise StorageError("the disk is busy")
        await super().renew(run_id, epoch, lease_seconds, **which)
        self.renewed.set()


@pytest.mark.filterwarnings(
    "ignore::supersteps.BlockedLoopWarning"
)  # the heartbeat may be amid a long pause
@pytest.mark.filterwarnings("ignore::supersteps.LeaseWarning")  # of the first one, which fails
async def test_a_long_superstep_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    storage = Watched()
    before: list[float] = []
    after: list[float] = []

    async def expires() -> float:
        run = await storage.get_run("r")
        assert run is not None
        assert run.lease is not None
        return run.lease.expires

    @executor
    async def slow(number: int, ctx: WorkflowContext[Never, bool]) -> None:
        before.append(await expires())
        ctx.yield_output(storage.renewed.wait(20))  # blocks the event loop on purpose
        after.append(await expires())

    workflow = WorkflowBuilder().set_start_executor(slow).with_checkpointing(storage).build()
    result = await workflow.run(1, run_id="r")

    assert result.get_outputs() == [True]
    assert after > before
    run = await storage.get_run("r")
    assert run is not None
    assert run.lease is None
    assert storage.tries >= 2  # a failed renewal does not end the heartbeat
    assert time.time() < after[0]


class Holder:
    """A run in a long superstep; a test says how its renewals go."""

    def __init__(self, renew: Callable[[], Awaitable[None]]) -> None:
        self.handle = new_id()
        self.run_id = "r"
        self.storage = object()
        self._renew = renew

    async def renew(self) -> None:
        await self._renew()


class Beats:
    """A heartbeat that beats when the test wants it to."""

    def __init__(self) -> None:
        self._due = threading.Semaphore(0)
        self._is_over = False
        self.heartbeat = heartbeat.Heartbeat(self._pause)
        self.renewed = threading.Semaphore(0)
        self.failing: Callable[[], None] | None = None
        self.hanging: set[int] = set()

    def _pause(self, seconds: float) -> None:
        if not self._is_over:
            self._due.acquire()

    def beat(self) -> None:
        """Beat when the last renewal is quite over: a storage that is at it is passed over."""
        self.rest()
        self._due.release()

    def rest(self) -> None:
        while self.heartbeat._renewing - self.hanging:
            time.sleep(0.001)

    async def renew(self) -> None:
        if self.failing is not None:
            self.failing()
        self.renewed.release()

    def beats_on(self) -> bool:
        """Whether the next beat renews."""
        self.beat()
        return self.renewed.acquire(timeout=20)

    def end(self) -> None:
        self.heartbeat.holders.clear()
        self._is_over = True
        self._due.release()


@pytest.fixture
def beats() -> Iterator[Beats]:
    beats = Beats()
    yield beats
    beats.end()


def test_a_storage_that_hangs_holds_up_no_other(beats: Beats) -> None:
    hung, go_on = threading.Event(), threading.Event()

    async def hang() -> None:
        hung.set()
        go_on.wait(30)  # blocks its thread, as a network file system may

    slow = Holder(hang)
    beats.hanging = {id(slow.storage)}
    for holder in (slow, Holder(beats.renew)):
        beats.heartbeat.watch(holder)
    try:
        for _ in range(3):
            assert beats.beats_on()
            assert hung.wait(20)
        assert id(slow.storage) in beats.heartbeat._renewing
    finally:
        go_on.set()


def no_descriptors(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


def no_memory(*_: object, **__: object) -> NoReturn:
    raise MemoryError


def no_threads(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("module", "name", "failing"),
    [
        (asyncio, "new_event_loop", no_descriptors),  # a loop is at hand
        (asyncio, "new_event_loop", no_memory),
        (threading.Thread, "start", no_threads),
        (threading.Thread, "start", no_memory),
        (threading, "Thread", no_memory),
    ],
)
def test_a_lease_is_renewed_where_neither_loop_nor_thread_can_be_made(
    beats: Beats, monkeypatch: pytest.MonkeyPatch, module: object, name: str, failing: Any
) -> None:
    beats.heartbeat.watch(Holder(beats.renew))
    assert beats.beats_on()

    monkeypatch.setattr(module, name, failing)

    assert beats.beats_on()
    monkeypatch.undo()
    assert beats.beats_on()


@pytest.mark.parametrize("failing", [no_descriptors, no_memory])
@pytest.mark.parametrize("where", ["in the storage", "in the heartbeat", "for a loop"])
def test_the_heartbeat_outlives_a_failure_and_says_so(
    beats: Beats, monkeypatch: pytest.MonkeyPatch, where: str, failing: Callable[..., NoReturn]
) -> None:
    told = threading.Semaphore(0)
    monkeypatch.setattr(heartbeat, "report", lambda error: told.release())
    monkeypatch.setattr(heartbeat.Heartbeat, "_warn", lambda *said: told.release())
    beats.heartbeat.watch(Holder(beats.renew))
    assert beats.beats_on()
    beats.rest()

    with monkeypatch.context() as patch:
        if where == "in the storage":
            patch.setattr(beats, "failing", failing)
        elif where == "in the heartbeat":
            patch.setattr(heartbeat.Heartbeat, "_renew_all", failing)
        else:
            patch.setattr(beats.heartbeat, "_runners", [])
            patch.setattr(heartbeat, "_runner", failing)
        beats.beat()
        assert told.acquire(timeout=20)

    assert beats.beats_on()


def test_a_lease_that_cannot_be_renewed_is_told_once(beats: Beats) -> None:
    holder = Holder(beats.renew)
    beats.heartbeat.holders[holder.handle] = holder
    trouble = OSError(errno.EMFILE, "Too many open files")

    with pytest.warns(LeaseWarning, match=r"run 'r': its lease could not .* Too many open files"):
        beats.heartbeat._note(holder, trouble)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        beats.heartbeat._note(holder, trouble)

    beats.heartbeat._note(holder, None)
    with pytest.warns(LeaseWarning):
        beats.heartbeat._note(holder, trouble)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        beats.heartbeat._note(holder, RunFencedError("taken over"))  # its commit tells
        beats.end()
        beats.heartbeat._note(holder, trouble)  # its superstep is over


def test_a_warning_that_a_filter_makes_an_error_is_reported(
    beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    holder = Holder(beats.renew)
    beats.heartbeat.holders[holder.handle] = holder

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        beats.heartbeat._note(holder, MemoryError())

    assert [details.exc_type for details in told] == [LeaseWarning]


def test_a_heartbeat_that_cannot_begin_is_told_and_begins_later(
    beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_threads)
        with pytest.warns(LeaseWarning, match="can't start new thread"):
            beats.heartbeat.watch(Holder(beats.renew))

    beats.heartbeat.watch(Holder(beats.renew))
    assert beats.beats_on()
