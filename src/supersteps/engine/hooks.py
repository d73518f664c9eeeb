"""`Hooks`: executors that keep attributes of their own, and how those get into checkpoints and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from supersteps.define.context import WorkflowContext
from supersteps.engine.backends import Backend, check_hook_result
from supersteps.engine.call import Call, CallSite
from supersteps.engine.claims import Holder, claim, fresh_effects, remember_fresh
from supersteps.engine.effects import Effects
from supersteps.engine.executors import Executors
from supersteps.engine.user_code import call_user
from supersteps.engine.view import View, Write


class Hooks:
    """A run's executors with hooks.

    Attributes:
        are_shared: Whether instances of theirs serve other runs too.
    """

    def __init__(
        self,
        executors: Executors,
        shared: Iterable[str],
        holder: Holder,
        *,
        site: Callable[[str, View], CallSite],
        view: Callable[[str], View],
        inner: Callable[[], Iterable[str]],
    ) -> None:
        """Gather.

        Args:
            executors: The run's executors.
            shared: Ids of those of the root whose instance serves other runs too.
            holder: The run's handle.
            site: Gives what a call needs to know of the run.
            view: Gives a fresh view of the run's state to an executor.
            inner: Gives the paths of those of sub-workflows that have been at work and keep attributes.
        """
        self._executors = executors
        self._hooked = [
            executor for executor in executors.roots.values() if executor.__supersteps__.has_hooks
        ]
        ids = frozenset(shared)
        self._shared = {executor.id: executor for executor in self._hooked if executor.id in ids}
        self.are_shared = bool(self._shared)
        self._holder = holder
        self._site = site
        self._view = view
        self._inner = inner

    def claim(self) -> bool:
        """Have the instances for this run; return whether another run has had one of them since.

        Raises:
            ConcurrentRunError: Another run is being driven with one of them.
        """
        return self.are_shared and claim(self._shared.values(), self._holder)

    async def begin(self, backend: Backend) -> list[Effects]:
        """Run every checkpoint hook once for the first checkpoint; instances that other runs have used start afresh."""
        used = self.claim()
        results = []
        for executor in self._hooked:
            fresh = fresh_effects(executor) if used and executor.id in self._shared else None
            if fresh is not None:
                await self._restore(executor.id, fresh.writes)
            effects = Effects(executor.id, "")
            await backend.checkpoint(
                executor, self._site(executor.id, self._view(executor.id)), effects
            )
            remember_fresh(executor, effects)
            results.append(effects)
        return results

    async def restore(self, replayed: Mapping[tuple[str, str], Effects]) -> None:
        """Let executors take their attributes back from the state and from what the journal adds to it."""
        self._executors.forget_inner()
        for address in (*(executor.id for executor in self._hooked), *self._inner()):
            places = [place for place in replayed if place[0] == address]
            await self._restore(
                address, [write for place in places for write in replayed[place].writes]
            )

    async def _restore(self, address: str, writes: list[Write]) -> None:
        view = self._view(address)
        view.accept(writes)
        await self.restore_one(address, view)

    async def restore_one(self, address: str, view: View) -> None:
        """Let an executor take its attributes back from what it sees."""
        call = Call(
            self._site(address, view), Effects(address, ""), state_only=True, read_only=True
        )
        try:
            executor = self._executors[address]
            hook = "on_checkpoint_restored"
            who = f"{hook} of executor {address!r}"
            result = await call_user(who, executor.on_checkpoint_restored, WorkflowContext(call))
            check_hook_result(executor, hook, result)
        finally:
            call.close()
