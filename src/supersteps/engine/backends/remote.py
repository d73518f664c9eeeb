"""Calls as plain data, for backends that make them in another process.

The process that drives a run turns a call into a `CallData`; a `CallHost` in another process, which
has the same workflow, makes the call and returns its `Effects`. What a handler reads of the state
comes through a `StateReader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.message import ReplyPart, load_payload, reply_part
from supersteps.checkpoint.sections.state import EXECUTORS, SCOPES
from supersteps.checkpoint.sections.sub_run import SUB_SCOPES
from supersteps.checkpoint.stored import raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.checkpoint.work import Work
from supersteps.define.graph import Graph
from supersteps.engine.alarm import sleep_until
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.call import CallSetting, CallSite, Sleeper
from supersteps.engine.effects import Effects
from supersteps.engine.executors import Executors, made
from supersteps.engine.levels import Levels
from supersteps.engine.plan import PlannedCall
from supersteps.engine.view import View
from supersteps.events import WorkflowEvent


class StateReader(Protocol):
    """Reads the state as an executor's next call sees it."""

    def keys(self, scope: Scope) -> list[str]:
        """Return the keys of a scope, in the order in which they were first written."""
        ...

    def value(self, scope: Scope, key: str) -> bytes | None:
        """Return a value as typed JSON, None where there is no such key."""
        ...


class CallData(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call of a handler or a checkpoint hook, as plain data.

    Attributes:
        kind: What is called.
        address: The executor, by path.
        run_id: The run.
        incarnation: What tells it from others of the same id.
        branch: The branch of the run.
        step_number: The superstep.
        is_replaying: Whether the call is repeated for debugging only.
        key: Which of the executor's calls in the superstep it is.
        payload: The message, as typed JSON.
        reply: What makes the message an answer.
        source_ids: Who sent it, by path.
        attempt: Which attempt this is, from 1.
        work: Which piece of work it does, if an earlier attempt has started it.
        timeout: After how many seconds the call is cancelled; None where it may take any time.
    """

    kind: Literal["handler", "checkpoint", "restore"]
    address: str
    run_id: str
    incarnation: str
    branch: int
    step_number: int
    is_replaying: bool = False
    key: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")
    reply: ReplyPart | None = None
    source_ids: tuple[str, ...] = ()
    attempt: int = 1
    work: Work | None = None
    timeout: float | None = None

    @classmethod
    def of_handler(cls, planned: PlannedCall, site: CallSite) -> CallData:
        """Return the call of a handler, as `Backend.invoke` gets it.

        Raises:
            CheckpointEncodeError: The message cannot be encoded.
        """
        policy = site.post.policy
        return cls(
            "handler",
            site.post.address,
            site.run.run_id,
            site.run.incarnation(),
            site.branch,
            site.step_number,
            site.run.is_replaying,
            planned.key,
            raw(planned.payload.encode()),
            reply_part(planned.payload),
            planned.source_ids,
            planned.attempt,
            planned.work,
            None if policy is None else policy.timeout,
        )

    @classmethod
    def of_hook(
        cls, kind: Literal["checkpoint", "restore"], site: CallSite, key: str = ""
    ) -> CallData:
        """Return the call of a checkpoint hook, as `Backend.checkpoint` and `restore` get it.

        Args:
            kind: Which hook.
            site: Whose.
            key: That of the effects to which a checkpoint hook adds its own.
        """
        return cls(
            kind,
            site.post.address,
            site.run.run_id,
            site.run.incarnation(),
            site.branch,
            site.step_number,
            site.run.is_replaying,
            key,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> CallData:
        """Return the call that `to_bytes` has encoded."""
        return msgspec.json.decode(data, type=cls)

    def to_bytes(self) -> bytes:
        """Return the call as JSON."""
        return msgspec.json.encode(self)


# ---------------------------------------------------------------------------------- what is read


class SiteState:
    """The state at a call's site, for the process that makes the call; a `StateReader`."""

    def __init__(self, site: CallSite) -> None:
        """Read what the executor of a site sees."""
        self._site = site

    def keys(self, scope: Scope) -> list[str]:
        return self._site.view.keys(scope, {})

    def value(self, scope: Scope, key: str) -> bytes | None:
        sealed = self._site.view.sealed(scope, key)
        return None if sealed is None else sealed.encode()

    def snapshot(self) -> StateSnapshot:
        """Return everything that the executor may read: for small states, to be sent along."""
        post, view = self._site.post, self._site.view
        named: tuple[str, ...] = (SUB_SCOPES, post.level.path) if post.level.path else (SCOPES,)
        seen = {(EXECUTORS, post.address), post.level.shared}
        seen.update(s for s in (*view.scopes, *view.overlay) if s[: len(named)] == named)
        values = {
            scope: {key: raw(self.value(scope, key) or b"null") for key in self.keys(scope)}
            for scope in seen
        }
        return StateSnapshot([(scope, keys) for scope, keys in values.items() if keys])


class StateSnapshot(msgspec.Struct, frozen=True):
    """All that an executor may read of the state; plain data, and a `StateReader`.

    Attributes:
        scopes: Values by key, for each scope.
    """

    scopes: list[tuple[Scope, dict[str, msgspec.Raw]]]

    def keys(self, scope: Scope) -> list[str]:
        return list(dict(self.scopes).get(scope, ()))

    def value(self, scope: Scope, key: str) -> bytes | None:
        found = dict(self.scopes).get(scope, {}).get(key)
        return None if found is None else bytes(found)

    @classmethod
    def from_bytes(cls, data: bytes) -> StateSnapshot:
        """Return the state that `to_bytes` has encoded."""
        return msgspec.json.decode(data, type=cls)

    def to_bytes(self) -> bytes:
        """Return the state as JSON."""
        return msgspec.json.encode(self)


class _ReadScope(Mapping[str, Sealed]):
    """One scope, each value of which is read when a handler wants it."""

    def __init__(self, reader: StateReader, scope: Scope, sealer: Sealer) -> None:
        self._reader = reader
        self._scope = scope
        self._sealer = sealer

    def __getitem__(self, key: str) -> Sealed:
        value = self._reader.value(self._scope, key)
        if value is None:
            raise KeyError(key)
        return self._sealer.load(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.keys(self._scope))

    def __len__(self) -> int:
        return len(self._reader.keys(self._scope))


class _ReadScopes(Mapping[Scope, Mapping[str, Sealed]]):
    """All scopes; those that hold nothing look like any other."""

    def __init__(self, reader: StateReader, sealer: Sealer) -> None:
        self._reader = reader
        self._sealer = sealer

    def __getitem__(self, scope: Scope) -> Mapping[str, Sealed]:
        return _ReadScope(self._reader, scope, self._sealer)

    def __iter__(self) -> Iterator[Scope]:
        return iter(())  # the scopes are never listed

    def __len__(self) -> int:
        return 0


# --------------------------------------------------------------------------------- who makes calls


class Definition(Protocol):
    """What a host asks of the workflow whose calls it makes."""

    @property
    def workflow_id(self) -> str:
        """The workflow's name."""

    @property
    def graph(self) -> Graph:
        """The frozen structure."""

    @property
    def types(self) -> list[Any]:
        """What the codec may rebuild."""


class _ForgetfulSleeper:
    """Lets a handler wait for a time that is not recorded."""

    async def sleep(self, executor_id: str, key: str, number: int, due: str) -> None:
        await sleep_until(due)


class CallHost:
    """Makes the calls of runs that another process drives.

    Executors keep their attributes from call to call, so send all calls of one executor in one run
    to the same host, or let the executor keep nothing but state.
    """

    def __init__(self, workflow: Definition, codec: Codec | None = None) -> None:
        """Prepare.

        Args:
            workflow: The workflow, as the driving process has it.
            codec: Decodes and encodes values; needed where the storage has one of its own.
        """
        self._workflow = workflow
        codec = Codec(workflow.types) if codec is None else codec.extended(workflow.types)
        self._sealer = Sealer(codec, encoding=True)
        self._runs: dict[str, Executors] = {}
        self._local = LocalBackend()

    async def make(
        self,
        call: CallData,
        state: StateReader,
        *,
        emit: Callable[[WorkflowEvent], None] = lambda event: None,
        sleeper: Sleeper | None = None,
    ) -> bytes:
        """Make a call and return its effects, for `effects_of`.

        Args:
            call: The call.
            state: What the executor sees of the state.
            emit: Takes live events; they are dropped without it.
            sleeper: Lets handlers that call `ctx.sleep` wait, so that the driving process records
                until when. Without it they wait here, and start again after a crash.

        Raises:
            UserCodeError: The handler or hook raised; what it did is dropped.
        """
        setting = CallSetting(
            run_id=call.run_id,
            incarnation=lambda: call.incarnation,
            sealer=self._sealer,
            emit=emit,
            is_replaying=call.is_replaying,
        )
        post = self._executors(call.run_id)[call.address]
        scopes = _ReadScopes(state, self._sealer)
        level = post.level
        view = View(scopes, level.graph.reducers, self._sealer, level.shared)
        site = CallSite(
            post, setting, view, call.step_number, call.branch, sleeper or _ForgetfulSleeper()
        )
        effects = Effects(call.address, call.key)
        if call.kind == "handler":
            payload = load_payload(call.payload, call.reply, self._sealer)
            planned = PlannedCall(call.key, payload, call.source_ids, call.attempt, call.work)
            effects = await self._local.invoke(planned, site)
        elif call.kind == "checkpoint":
            await self._local.checkpoint(site, effects)
        else:
            await self._local.restore(site)
        return effects.to_record()

    def forget(self, run_id: str) -> None:
        """Let go of a run's executors."""
        self._runs.pop(run_id, None)

    def _executors(self, run_id: str) -> Executors:
        found = self._runs.get(run_id)
        if found is None:
            graph = self._workflow.graph
            roots = {node_id: made(node) for node_id, node in graph.nodes.items()}
            found = Executors(Levels(graph), roots, self._workflow.workflow_id)
            self._runs[run_id] = found
        return found


def effects_of(record: bytes, site: CallSite) -> Effects:
    """Return the effects of a call that a host has made, in the process that drives the run."""
    return Effects.from_record(record, site.run.sealer)
