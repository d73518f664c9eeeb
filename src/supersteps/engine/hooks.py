"""`Hooks`: executors that keep attributes of their own, and how those get into checkpoints and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from supersteps.context import WorkflowContext
from supersteps.engine.backends import Backend
from supersteps.engine.call import Call, CallSite
from supersteps.engine.claims import Holder, claim, fresh_effects, remember_fresh
from supersteps.engine.effects import Effects
from supersteps.engine.state import View, Write
from supersteps.executor import Executor


class Hooks:
    """A run's executors with hooks."""

    def __init__(
        self,
        executors: Iterable[Executor],
        shared: Iterable[str],
        holder: Holder,
        *,
        site: Callable[[str, View], CallSite],
        view: Callable[[], View],
    ) -> None:
        """Gather.

        Args:
            executors: The run's executors.
            shared: Ids of those whose instance serves other runs too.
            holder: The run's handle.
            site: Gives what a call needs to know of the run.
            view: Gives a fresh view of the run's state.
        """
        self._hooked = [executor for executor in executors if executor.has_hooks]
        ids = frozenset(shared)
        self._shared = [executor for executor in self._hooked if executor.id in ids]
        self._holder = holder
        self._site = site
        self._view = view

    def claim(self) -> bool:
        """Have the instances for this run; return whether another run has had one of them since.

        Raises:
            ConcurrentRunError: Another run is being driven with one of them.
        """
        return bool(self._shared) and claim(self._shared, self._holder)

    async def begin(self, backend: Backend) -> list[Effects]:
        """Run every checkpoint hook once for the first checkpoint; instances that other runs have used start afresh."""
        used = self.claim()
        results = []
        for executor in self._hooked:
            fresh = fresh_effects(executor) if used and executor in self._shared else None
            if fresh is not None:
                await self._restore(executor, fresh.writes)
            effects = Effects(executor.id, 0)
            await backend.checkpoint(executor, self._site(executor.id, self._view()), effects)
            remember_fresh(executor, effects)
            results.append(effects)
        return results

    async def restore(self, replayed: Mapping[tuple[str, int], Effects]) -> None:
        """Let executors take their attributes back from the state and from what the journal adds to it."""
        for executor in self._hooked:
            places = sorted(place for place in replayed if place[0] == executor.id)
            await self._restore(executor, [write for place in places for write in replayed[place].writes])

    async def _restore(self, executor: Executor, writes: list[Write]) -> None:
        view = self._view()
        view.accept(writes)
        call = Call(self._site(executor.id, view), 0, (), Effects(executor.id, 0), read_only=True)
        try:
            await executor.on_checkpoint_restored(WorkflowContext(call))
        finally:
            call.close()
