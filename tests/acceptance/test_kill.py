"""A process is killed with SIGKILL at random moments; the run it drove ends as if nothing had
happened.
"""

from pathlib import Path

import pytest

from tests.acceptance.killable import ROUNDS, RUN, Piece, Review, Round
from tests.acceptance.killing import (
    Program,
    assert_that_kills_leave_no_trace,
    calls,
    each_store,
    needs_sigkill,
)

PROGRAM = Program("tests.acceptance.killable", RUN, [Round, Piece, Review])

pytestmark = [pytest.mark.slow, needs_sigkill]


@each_store
def test_killed_at_random_moments_it_ends_like_an_undisturbed_run(
    tmp_path: Path, store: str
) -> None:
    outputs, _ = assert_that_kills_leave_no_trace(
        PROGRAM, tmp_path, store, most_calls=6, most_seconds=0.015
    )
    assert len(outputs) == ROUNDS * 6  # two counts, two lists and two reviews in each round


def test_a_finished_run_that_is_started_again_does_nothing(tmp_path: Path) -> None:
    expected = PROGRAM.finish(tmp_path, "checkpoints")
    before = calls(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert PROGRAM.finish(tmp_path, "checkpoints") == expected
    assert calls(tmp_path) == before
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
