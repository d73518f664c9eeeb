"""`SECTIONS`: all sections of a checkpoint, in the order in which people see them."""

from __future__ import annotations

from supersteps.checkpoint.sections.answered import Answered
from supersteps.checkpoint.sections.message import Messages
from supersteps.checkpoint.sections.question import Intercepted, Replies, Requests
from supersteps.checkpoint.sections.section import Section
from supersteps.checkpoint.sections.timer import Timers

SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Messages(),
        Requests(),
        Intercepted(),
        Replies(),
        Timers(),
        Answered(),
    )
}
"""Sections by the first element of their part keys."""
