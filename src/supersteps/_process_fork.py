"""What this library does when its process forks (`os.fork`).

A forked child has a copy of the memory but only one thread, the one that forked. The other
threads are missing, locks that they held stay locked forever, and what they were changing stays
half changed. SQLite is worse off: its table of the locks it holds is copied, while the locks
themselves stay with the parent. A connection that the child opens to a file that was open at the
fork therefore takes no lock, and another process may delete the log while it is in use.

One hook for the whole library prevents this:

- Before the fork, everything registered closes its files and connections (`register`). Then all
  locks of the library are taken (`forkable_lock`), so that nothing is half changed.
- The parent releases the locks and opens its files again when it needs them.
- The child starts without threads and open files (`restart_in_child`, `in_child`).

A fork does not wait forever. What could not be closed in `PATIENCE_SECONDS` stays open, and the
child gets an error when it uses it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

PATIENCE_SECONDS = 5.0
"""How long a fork waits, at most, for operations that are under way in other threads."""

WRITES, READS = 0, 1
"""In which order things are closed: a write under way may have to read before it ends."""

Reset = TypeVar("Reset", bound=Callable[[], None])


class Forkable(Protocol):
    """Something that must not be in use while the process forks."""

    def before_fork(self, until: float) -> None:
        """Close what is open and keep others from opening it again, until `after_fork`.

        Args:
            until: When to give up waiting, by `time.monotonic`. What is still open then stays open.
        """

    def after_fork(self, *, in_child: bool) -> None:
        """Allow use again.

        Args:
            in_child: Whether this is the child. There, `before_fork` may not have been called: a
                program that forks in C may call this half of Python's hooks only.
        """


class Restartable(Protocol):
    """Something that has threads, or belongs to one process."""

    def restart(self) -> None:
        """Drop what belongs to the parent process."""


class Lock(Protocol):
    """A `threading.Lock` or `threading.RLock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


_registering = threading.RLock()  # held during a fork: nothing new may come to be in use meanwhile
_things: tuple[WeakSet[Any], WeakSet[Any]] = (WeakSet(), WeakSet())
_restartable: WeakSet[Any] = WeakSet()
_locks: WeakSet[Any] = WeakSet()
_resets: list[Callable[[], None]] = []
_prepared: list[Forkable] = []
_taken: list[Lock] = []
_missed: list[Lock] = []
_kept: list[object] = []


def register(thing: Forkable, order: int = READS) -> None:
    """Have something closed before each fork, for as long as it lives.

    Args:
        thing: What to close.
        order: `WRITES` or `READS`.
    """
    with _registering:
        _things[order].add(thing)


def restart_in_child(thing: Restartable) -> None:
    """Restart something in each forked child, which has only one thread then."""
    with _registering:
        _restartable.add(thing)


def in_child(reset: Reset) -> Reset:
    """Have a function called in each forked child; a decorator."""
    _resets.append(reset)
    return reset


def forkable_lock() -> threading.Lock:
    """Return a lock that is free in a forked child, with nothing half changed that it guards.

    It is for operations that are short and wait for nothing but other locks of this kind.
    """
    lock = threading.Lock()
    with _registering:
        _locks.add(lock)
    return lock


def forkable_rlock() -> Any:
    """Return a `threading.RLock` that is free in a forked child; see `forkable_lock`."""
    lock = threading.RLock()
    with _registering:
        _locks.add(lock)
    return lock


def keep_forever(thing: object) -> None:
    """Never free something of the parent's: to close it here would disturb the parent."""
    _kept.append(thing)
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))  # not even when the interpreter ends
    except (ImportError, AttributeError):  # not CPython
        return


def _before() -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    _registering.acquire()
    for things in _things:
        for thing in list(things):
            _prepared.append(thing)
            thing.before_fork(until)
    _take(list(_locks), until)


def _take(locks: Iterable[Lock], until: float) -> None:
    """Take all locks, also where others take several of them in an unknown order.

    Whenever one is not free, all are released, and only that one is waited for: who waits holds
    nothing.
    """
    wanted = list(locks)
    awaited: Lock | None = None
    while True:
        if awaited is not None:
            if not awaited.acquire(timeout=max(0.0, until - time.monotonic())):
                wanted.remove(awaited)
                _missed.append(awaited)
                awaited = None
                continue
            _taken.append(awaited)
        busy = _take_free(wanted, awaited)
        if busy is None:
            return
        _release_taken()
        awaited = busy


def _take_free(locks: Iterable[Lock], held: Lock | None) -> Lock | None:
    """Take locks until one is not free; return that one."""
    for lock in locks:
        if lock is held:
            continue
        if not lock.acquire(blocking=False):
            return lock
        _taken.append(lock)
    return None


def _release_taken() -> None:
    while _taken:
        _taken.pop().release()


def _after_in_parent() -> None:
    _release_taken()
    _missed.clear()
    while _prepared:
        _prepared.pop().after_fork(in_child=False)
    _registering.release()


def _after_in_child() -> None:
    global _registering
    _release_taken()
    while _missed:
        _make_free(_missed.pop())
    _prepared.clear()
    _registering = threading.RLock()
    for things in _things:
        for thing in list(things):
            thing.after_fork(in_child=True)
    for thing in list(_restartable):
        thing.restart()
    for reset in _resets:
        reset()


def _make_free(lock: Lock) -> None:
    """Free a lock whose holder is a thread that this process does not have."""
    reset: Callable[[], None] | None = getattr(lock, "_at_fork_reinit", None)
    (lock.release if reset is None else reset)()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
