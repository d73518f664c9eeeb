"""`SECTIONS`: all sections of a checkpoint, in the order in which people see them."""

from __future__ import annotations

from supersteps.checkpoint.sections.message import Messages
from supersteps.checkpoint.sections.section import Section
from supersteps.checkpoint.sections.timer import Timers

SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Messages(),
        Timers(),
    )
}
"""Sections by the first element of their part keys."""
