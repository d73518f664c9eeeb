"""The recording of the tour is what its commands say today, but for ids, numbers and times."""

import re
import sys

import pytest

from scripts import record_tour


def shape(text: str) -> list[str]:
    """The lines without ids, numbers and times; how often a line repeats depends on when the kill
    came.
    """
    found: list[str] = []
    for line in text.splitlines():
        plain = re.sub(r"\b[0-9a-f]{16,}(-\d{6})?\b", "ID", line)
        plain = re.sub(r"\d[\d.:]*( (ms|s|min))?", "N", plain)
        plain = re.sub(r"\s+|─+|═+", " ", plain).strip()
        if plain not in found:
            found.append(plain)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
def test_the_recording_is_true() -> None:
    written = record_tour.TOUR.read_text("utf-8")

    assert shape(record_tour.recorded(written)) == shape(written)
