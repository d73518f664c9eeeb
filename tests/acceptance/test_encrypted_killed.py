"""A process with an encrypted storage is killed with SIGKILL at random moments, and its run goes
on like any other.
"""

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from tests.acceptance import killing
from tests.acceptance.killable import ROUNDS, RUN, Piece, Review, Round
from tests.acceptance.killable_sealed import open_sealed
from tests.acceptance.killing import (
    Program,
    assert_that_kills_leave_no_trace,
    each_store,
    needs_sigkill,
)

PROGRAM = Program("tests.acceptance.killable_sealed", RUN, [Round, Piece, Review])

pytestmark = [pytest.mark.slow, needs_sigkill]


@each_store
def test_killed_at_random_moments_an_encrypted_run_ends_like_an_undisturbed_one(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killing, "open_storage", open_sealed)

    outputs, _ = assert_that_kills_leave_no_trace(
        PROGRAM, tmp_path, store, most_calls=6, most_seconds=0.015
    )

    assert len(outputs) == ROUNDS * 6
    files = [
        path for path in (tmp_path / "killed").rglob("*") if path.is_file() and path.name != "calls"
    ]
    assert files
    assert not [path for path in files if b"one two" in path.read_bytes()]
