"""`Merged`: what a superstep changes, once its calls have run and before it is committed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.answered import Closed
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.sections.sub_run import SubRun
from supersteps.checkpoint.sections.timer import Timer
from supersteps.checkpoint.values import Sealed


class Merged(msgspec.Struct, gc=False):
    """A superstep after it ran: what changes, not yet committed.

    Attributes:
        messages: Messages in flight for the next superstep.
        writes: Final values of changed keys; None for deleted ones.
        appends: Items to append to shared lists.
        fan_in: New content of the fan-ins that changed.
        opened: New questions to the outside world.
        intercepted: New questions of sub-workflows that executors around them answer.
        closed: Questions that have ended.
        replies: Answers from executors around a sub-workflow, by request id.
        released: Ids of intercepted questions whose answers were delivered.
        timers: New timers.
        fired: Ids of timers whose messages were delivered.
        sub_runs: Runs of sub-workflows that began or moved, by path.
        ended: Paths of those that have nothing left to do.
        outputs: Outputs, with the executor that yielded them.
        undelivered: A sentence for each message that went nowhere.
    """

    messages: list[Message] = []
    writes: dict[tuple[Scope, str], Sealed | None] = {}
    appends: dict[tuple[Scope, str], list[Sealed]] = {}
    fan_in: dict[str, dict[str, list[Sealed]]] = {}
    opened: list[Request] = []
    intercepted: list[Request] = []
    closed: list[Closed] = []
    replies: dict[str, Sealed] = {}
    released: Sequence[str] = ()
    timers: list[Timer] = []
    fired: Sequence[str] = ()
    sub_runs: dict[str, SubRun] = {}
    ended: list[str] = []
    outputs: list[tuple[str, Sealed]] = []
    undelivered: list[str] = []
