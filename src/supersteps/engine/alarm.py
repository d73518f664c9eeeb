"""`Alarm`: lets a run wait for a moment, unless it is woken before."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from supersteps.engine.event_loops import LoopEvent

_LONGEST_WAIT = 3600.0
"""Seconds after which a sleeper checks the clock again.

It may have been set, or the machine may have slept.
"""


class Alarm:
    """Wakes a run that waits."""

    def __init__(self) -> None:
        self._woken = LoopEvent()

    def set(self) -> None:
        """Get ready: from now on `ring` ends the next wait, even before it has started."""
        self._woken.clear()

    def ring(self) -> None:
        """End the wait."""
        self._woken.set()

    async def wait(self, due: str) -> None:
        """Wait until a moment has come, or the alarm rings."""
        waker = asyncio.create_task(self._woken.wait())
        sleeper = asyncio.create_task(sleep_until(due))
        try:
            await asyncio.wait({waker, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waker, sleeper):
                task.cancel()
            await asyncio.gather(waker, sleeper, return_exceptions=True)


async def sleep_until(due: str) -> None:
    """Wait until a time given as ISO 8601, UTC."""
    moment = datetime.fromisoformat(due)
    left = _seconds_until(moment)
    while left > 0:
        await asyncio.sleep(min(left, _LONGEST_WAIT))
        left = _seconds_until(moment)


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
