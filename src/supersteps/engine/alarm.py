"""`Alarm`: lets a run wait for a moment, and ends the wait when something else is to be done."""

from __future__ import annotations

import asyncio

from supersteps.engine.event_loops import LoopEvent
from supersteps.engine.execution import sleep_until


class Alarm:
    """Wakes a run that waits."""

    def __init__(self) -> None:
        self._woken = LoopEvent()

    def set(self) -> None:
        """Get ready: from now on `ring` ends the next wait, even before it has begun."""
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
