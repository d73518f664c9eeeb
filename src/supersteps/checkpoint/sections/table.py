"""`SECTIONS`: all sections of a checkpoint, in the order of documents."""

from __future__ import annotations

from collections.abc import Mapping

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.sections.answered import Answered
from supersteps.checkpoint.sections.fan_in import FanIns
from supersteps.checkpoint.sections.graph import GraphSection
from supersteps.checkpoint.sections.message import Messages
from supersteps.checkpoint.sections.outputs import Outputs
from supersteps.checkpoint.sections.question import Intercepted, Replies, Requests
from supersteps.checkpoint.sections.section import Section
from supersteps.checkpoint.sections.state import ExecutorStates, NamedScopes, SharedState
from supersteps.checkpoint.sections.sub_run import SubRuns, SubScopes, SubState
from supersteps.checkpoint.sections.timer import Timers

SECTIONS: Mapping[str, Section] = {
    section.name: section
    for section in (
        Messages(),
        FanIns(),
        SharedState(),
        ExecutorStates(),
        NamedScopes(),
        Requests(),
        Intercepted(),
        Replies(),
        Timers(),
        SubRuns(),
        SubState(),
        SubScopes(),
        Answered(),
        Outputs(),
        GraphSection(),
    )
}
"""Sections by the first element of their part keys."""


def section_of(key: PartKey) -> Section | None:
    """Return the section of a part; None for a key that no section has."""
    section = SECTIONS.get(key[0])
    return section if section is not None and len(key) == section.depth + 1 else None


SECTION_DEPTHS: Mapping[str, int] = {name: each.depth for name, each in SECTIONS.items()}
"""How many names follow a section's own in a part key."""
