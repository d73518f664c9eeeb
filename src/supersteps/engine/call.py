"""`Call`: records what a handler does through its context."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.record import as_text, utc_now
from supersteps.checkpoint.sections.question import Ask, Terms
from supersteps.checkpoint.sections.state import EXECUTORS
from supersteps.checkpoint.sections.timer import Delayed
from supersteps.checkpoint.values import Sealer, is_text
from supersteps.checkpoint.work import Work
from supersteps.define.context import MISSING, SHARED_SCOPE
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.engine.answers import is_answerable, no_response_handler
from supersteps.engine.effects import Effects, Send
from supersteps.engine.executors import Post
from supersteps.engine.view import SCOPE_MARK, Overlay, View, Write
from supersteps.errors import CheckpointEncodeError, HandlerContextError, UnknownTargetError
from supersteps.events import RESERVED_EVENTS, WorkflowEvent, refused_event
from supersteps.ids import check_id
from supersteps.typing import display_name, matches

_MESSAGE = "message {0.number} from executor {0.site.post.address!r}"
"""A message's name in errors, from its call."""


class Sleeper(Protocol):
    """Lets a handler wait for a time that survives a crash."""

    async def sleep(self, executor_id: str, key: str, number: int, due: str) -> None:
        """Wait until `due`.

        If an earlier attempt at this call has recorded a time for the same sleep, that counts.
        """


class Reader(Protocol):
    """The consumer of a run's live events."""

    @property
    def is_full(self) -> bool:
        """Whether it has more of them than it can take."""

    async def room(self) -> None:
        """Wait until it has taken some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSetting:
    """The common fields of all calls of a run.

    Attributes:
        run_id: The run.
        incarnation: Returns the run's incarnation.
        sealer: Encodes values of messages and state.
        emit: Takes live events; call it on the event loop.
        is_replaying: Whether a lineage is repeated, for debugging only.
        reader: The consumer of the events; None if no handler has to wait for it.
    """

    run_id: str
    incarnation: Callable[[], str]
    sealer: Sealer
    emit: Callable[[WorkflowEvent], None]
    is_replaying: bool = False
    reader: Reader | None = None


class CallSite(msgspec.Struct, eq=False):
    """The common fields of an executor's calls in a superstep.

    Attributes:
        post: The executor and its position.
        run: The run.
        view: The executor's view of the state.
        step_number: The superstep.
        branch: The branch of the run.
        sleeper: Lets handlers wait; None for checkpoint hooks.
        has_told: Whether a warning about a returned value was given.
    """

    post: Post
    run: CallSetting
    view: View
    step_number: int
    branch: int
    sleeper: Sleeper | None = None
    has_told: bool = False

    def __str__(self) -> str:
        return f"executor {self.post.address!r} of run {self.run.run_id!r}"

    @property
    def address(self) -> str:
        """The executor, by path."""
        return self.post.address

    @property
    def run_id(self) -> str:
        """The run."""
        return self.run.run_id

    @property
    def emit(self) -> Callable[[WorkflowEvent], None]:
        """Passes on live events; call it on the event loop."""
        return self.run.emit

    @property
    def reachable(self) -> Collection[str]:
        """The executors to which its edges for messages lead."""
        return self.post.level.graph.reachable[self.post.executor_id]

    def work(self, key: str) -> Work:
        """Return the piece of work of one of these calls, if it is the first attempt at it."""
        return Work(self.branch, self.step_number, self.post.address, key)


class Call(msgspec.Struct, eq=False):
    """Records the effects of one call; the other side of a `WorkflowContext`.

    Attributes:
        site: Its common fields with the executor's other calls.
        effects: The effects of the handler so far.
        source_ids: Ids of the senders of the message, as the executor sees them.
        attempt: Number of the attempt, from 1.
        state_only: Refuse everything except state: for a checkpoint hook.
        read_only: Also refuse writes of state: for the hook after a restore.
        emit_live: Takes live events; the site's `emit`, except for a handler that runs in a thread.
        work: Its piece of work, if an earlier attempt has started that.
    """

    site: CallSite
    effects: Effects
    source_ids: tuple[str, ...] = ()
    attempt: int = 1
    state_only: bool = False
    read_only: bool = False
    emit_live: Callable[[WorkflowEvent], None] | None = None
    work: Work | None = None
    _closed: bool = False
    _sleeps: int = 0
    _overlay: Overlay = {}

    def close(self) -> None:
        """Refuse any further use: the handler has returned."""
        self._closed = True

    @property
    def executor_id(self) -> str:
        return self.site.post.executor_id

    @property
    def run_id(self) -> str:
        return self.site.run.run_id

    @property
    def workflow_id(self) -> str:
        return self.site.post.workflow_id

    @property
    def step_number(self) -> int:
        return self.site.step_number

    @property
    def is_replaying(self) -> bool:
        return self.site.run.is_replaying

    @property
    def idempotency_key(self) -> str:
        work = self.work or self.site.work(self.effects.key)
        return work.key(self.site.run.run_id, self.site.run.incarnation())

    # ---------------------------------------------------------------------------- messages, outputs

    def send(self, message: Any, target_id: str | None) -> None:
        self._check("send_message", state_only=False)
        if target_id is not None:
            self._check_target(target_id)
        self.effects.sends.append(
            Send(self.site.run.sealer.seal(message, _MESSAGE, self), target_id)
        )

    def schedule(self, message: Any, due: datetime, target_id: str | None) -> None:
        self._check("schedule", state_only=False)
        if target_id is not None and target_id != self.executor_id:
            self._check_target(target_id)
        sealed = self.site.run.sealer.seal(message, _MESSAGE, self)
        self.effects.delayed.append(Delayed(sealed, target_id, as_text(due)))

    def _check_target(self, target_id: str) -> None:
        if target_id not in self.site.reachable:
            leads_to = ", ".join(sorted(map(repr, self.site.reachable))) or "nowhere"
            raise UnknownTargetError(
                f"executor {self.site.post.address!r} sends to target_id={target_id!r}, but there "
                f"is no edge to it; its edges lead to {leads_to}. Add the edge to the workflow, or "
                "correct the id."
            )

    @property
    def number(self) -> int:
        """How many messages the handler has sent and scheduled so far."""
        return len(self.effects.sends) + len(self.effects.delayed)

    def output(self, value: Any) -> None:
        self._check("yield_output", state_only=False)
        self.effects.outputs.append(
            self.site.run.sealer.seal(value, "output of executor {!r}", self.site.post.address)
        )

    def emit(self, event: WorkflowEvent) -> Callable[[], Coroutine[Any, Any, None]] | None:
        self._check("add_event")
        if not isinstance(event, WorkflowEvent):
            raise TypeError(
                f"add_event takes a WorkflowEvent, not {type(event).__name__}: subclass "
                "WorkflowEvent"
            )
        if isinstance(event, RESERVED_EVENTS):
            event = refused_event(event, self.site.post.address)
        (self.emit_live or self.site.run.emit)(event)
        reader = self.site.run.reader
        return reader.room if reader is not None and reader.is_full else None

    # ----------------------------------------------------------------------------------- questions

    def ask(self, request_id: str, data: Any, source_executor_id: str) -> None:
        self._check("request", state_only=False)
        source = self.site.post.level.prefix + source_executor_id
        sealed = self.site.run.sealer.seal(
            data, "request {!r} of executor {!r}", request_id, source
        )
        self.effects.asks.append(Ask(request_id, source, sealed, utc_now()))

    def leads_to_sub_workflow(self, executor_id: str | None) -> bool:
        if executor_id is None or executor_id not in self.site.reachable:
            return False
        return isinstance(self.site.post.level.graph.nodes[executor_id].executor, WorkflowExecutor)

    def request_info(self, request_data: Any, terms: Terms) -> str:
        self._check("request_info", state_only=False)
        wanted, address = terms.response_type, self.site.post.address
        asker = self.site.post.executor
        if not is_answerable(wanted, asker.__supersteps__.response_types(request_data)):
            raise no_response_handler(asker, request_data, display_name(wanted))
        given = terms.request_id
        chosen = self._new_request_id() if given is None else check_id(given, "request_id")
        seal = self.site.run.sealer.seal
        question = seal(request_data, "request {!r} of executor {!r}", chosen, address)
        fallback = None
        if terms.default is not MISSING:
            if not matches(terms.default, wanted):
                raise TypeError(
                    f"request_info of executor {address!r}: the default is a "
                    f"{display_name(type(terms.default))}, not a {display_name(wanted)}, so it "
                    "cannot be the answer"
                )
            fallback = seal(terms.default, "the default of request {!r}", chosen)
        self.effects.asks.append(terms.ask(chosen, address, question, utc_now(), fallback))
        return chosen

    def _new_request_id(self) -> str:
        """Return an id that is the same if the call is repeated after a crash."""
        from hashlib import blake2b  # needed only for questions

        return blake2b(
            f"{self.idempotency_key}:{len(self.effects.asks)}".encode(), digest_size=8
        ).hexdigest()

    # -------------------------------------------------------------------------------------- waiting

    async def sleep(self, due: datetime) -> None:
        self._check("sleep", state_only=False)
        self._sleeps += 1
        if self.site.run.is_replaying:
            return  # the sleep is over
        assert self.site.sleeper is not None
        await self.site.sleeper.sleep(
            self.site.post.address, self.effects.key, self._sleeps, as_text(due)
        )

    # ---------------------------------------------------------------------------------------- state

    def read(self, scope: str | None, key: str, default: Any) -> Any:
        self._check("reading state")
        place = self.site.post.level.scope(scope, self.executor_id)
        value = self.site.view.read(place, key, self._overlay)
        if value is not MISSING:
            return value
        if default is MISSING:
            known = self.site.view.keys(place, self._overlay)
            raise KeyError(
                f"there is no shared state {key!r} (read by executor {self.site.post.address!r}); "
                f"existing keys: {', '.join(map(repr, known)) or 'none'}. Pass default= for keys "
                "that may be missing."
            )
        return default

    def write(self, scope: str | None, key: str, value: Any) -> None:
        self._check("writing state")
        self._check_key(key)
        if scope is not None:
            self._check_text("the name of a scope", scope)
        place = self.site.post.level.scope(scope, self.executor_id)
        what = "shared_state" if scope == SHARED_SCOPE else f"scope {scope!r}" if scope else "state"
        sealed = self.site.run.sealer.seal(
            value, "{} key {!r} set by executor {!r}", what, key, self.site.post.address
        )
        self._record(
            Write(
                place,
                key,
                sealed,
                place == self.site.post.level.shared and self.site.view.has_reducer(key),
            )
        )

    def append(self, key: str, item: Any) -> None:
        self._check("append_shared_state")
        view, shared = self.site.view, self.site.post.level.shared
        self._check_key(key)
        if view.has_reducer(key):
            raise TypeError(
                f"shared state {key!r} has a reducer; write updates with set_shared_state"
            )
        if not view.is_list(key, self._overlay):
            kind = type(view.read(shared, key, self._overlay)).__name__
            raise TypeError(
                f"append_shared_state of executor {self.site.post.address!r}: shared state {key!r} "
                f"is a {kind}, not a list"
            )
        sealed = self.site.run.sealer.seal(
            item, "item for shared_state key {!r} from executor {!r}", key, self.site.post.address
        )
        self._record(Write(shared, key, sealed, is_update=True))

    def delete(self, scope: str | None, key: str) -> None:
        self._check("writing state")
        self._check_key(key)
        if scope is not None:
            self._check_text("the name of a scope", scope)
        self._record(Write(self.site.post.level.scope(scope, self.executor_id), key, None))

    def read_own(self) -> dict[str, Any] | None:
        self._check("reading state")
        own: Scope = (EXECUTORS, self.site.post.address)
        view = self.site.view
        names = view.keys(own, self._overlay)
        if not names:
            return None
        return {name: view.read(own, name, self._overlay) for name in names if name != SCOPE_MARK}

    def replace_own(self, state: dict[str, Any]) -> None:
        self._check("writing state")
        if not isinstance(state, dict) or not all(isinstance(key, str) and key for key in state):
            raise TypeError(
                f"set_state of executor {self.site.post.address!r} takes a dict with non-empty "
                f"string keys, not {state!r:.200}; put other values under a key of it"
            )
        for key in state:
            self._check_text("a state key", key)
        own: Scope = (EXECUTORS, self.site.post.address)
        seal = self.site.run.sealer.seal
        where = "state key {!r} set by executor {!r}"
        content = {key: seal(value, where, key, self.executor_id) for key, value in state.items()}
        if not content:
            content[SCOPE_MARK] = seal(None, "")
        for key in self.site.view.keys(own, self._overlay):
            if key not in content:
                self._record(Write(own, key, None))
        for key, value in content.items():
            self._record(Write(own, key, value))

    def _check_key(self, key: object) -> None:
        if not isinstance(key, str) or not key:
            raise TypeError(
                f"state keys must be non-empty strings, not {key!r} (executor "
                f"{self.site.post.address!r})"
            )
        self._check_text("a state key", key)

    def _check_text(self, what: str, name: str) -> None:
        """Refuse text that UTF-8 cannot encode, with every storage.

        Otherwise it would be noticed only when it is saved.
        """
        if not is_text(name):
            raise CheckpointEncodeError(
                f"{what} must be valid Unicode text, not {name!r:.200} (executor "
                f"{self.site.post.address!r}): it contains half of a surrogate pair, perhaps from "
                "decoding bytes with errors='surrogateescape'. Use another way to decode them."
            )

    def _record(self, write: Write) -> None:
        if self.read_only:
            raise HandlerContextError(
                f"on_checkpoint_restored of executor {self.site.post.address!r} may only read "
                "state: its writes would not be saved"
            )
        self.effects.writes.append(write)
        self.site.view.note(write, self._overlay)

    def _check(self, what: str, *, state_only: bool = True) -> None:
        if self._closed:
            raise HandlerContextError(
                f"{what}: the handler of executor {self.site.post.address!r} has returned; its "
                "context can no longer be used. Await what the handler starts before it returns."
            )
        if self.state_only and not state_only:
            raise HandlerContextError(
                f"{what}: checkpoint hooks of executor {self.site.post.address!r} may only read "
                "and write state"
            )
