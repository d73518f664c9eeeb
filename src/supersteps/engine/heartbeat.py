"""The heartbeat: one thread of the process renews the leases of its runs that are in a long superstep.

A commit renews its run's lease by itself, so most runs never need a beat. It is a thread rather than a task because a
handler that keeps the event loop busy must not cost its run the lease.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Protocol

BEAT_SECONDS = 10.0
"""How long a superstep may last before its run's lease is renewed, and then between renewals."""


class Holder(Protocol):
    """Somebody who holds a lease while a superstep runs."""

    handle: str

    async def renew(self) -> None:
        """Renew the lease if it was last renewed `BEAT_SECONDS` ago or earlier."""


_holders: dict[str, Holder] = {}
_working = threading.Event()
_thread_of_process = 0


def watch(holder: Holder) -> None:
    """Renew a holder's lease until `unwatch`."""
    _holders[holder.handle] = holder
    if not _working.is_set():
        _working.set()
    if _thread_of_process != os.getpid():
        _start()


def unwatch(holder: Holder) -> None:
    """Leave a holder's lease alone from now on."""
    _holders.pop(holder.handle, None)


def _start() -> None:
    global _thread_of_process
    _thread_of_process = os.getpid()  # a forked child has no thread yet
    threading.Thread(target=_beat, name="supersteps-heartbeat", daemon=True).start()


def _beat() -> None:
    while True:
        _working.wait()
        time.sleep(BEAT_SECONDS)
        asyncio.run(_renew_all())
        _working.clear()
        if _holders:
            _working.set()


async def _renew_all() -> None:
    for holder in list(_holders.values()):
        try:
            await holder.renew()
        except Exception:
            # Taken over, or the storage is in trouble: the run's own commit meets the same and tells its user, and a
            # passing trouble has time until the lease ends.
            continue
