from typing import Any

import pytest
from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner, this_process
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.errors import (
    AlreadyAnsweredError,
    CheckpointVersionError,
    RunBusyError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    UnknownRequestError,
)
from supersteps.storage import rules
from supersteps.storage.rules import InboxEntry, Lease, RunRecord

ELSEWHERE = Owner(host="elsewhere", boot_id="b", pid_namespace="", pid=7, started="1")
NOW = 1000.0


def a_run(**fields: Any) -> RunRecord:
    given: dict[str, Any] = {
        "run_id": "r",
        "workflow_id": "w",
        "status": "IDLE",
        "head": "r-000003",
        "sequence": 3,
    }
    given |= {"created_at": "t0", "updated_at": "t3", "commit_id": "third"}
    return RunRecord(**{**given, **fields})


def a_header(sequence: int, parent: int | None = None, **fields: Any) -> CheckpointHeader:
    given: dict[str, Any] = {
        "checkpoint_id": f"r-{sequence:06d}",
        "run_id": "r",
        "workflow_id": "w",
    }
    given |= {"timestamp": f"t{sequence}", "sequence": sequence}
    given |= {"parent_id": None if parent is None else f"r-{parent:06d}"}
    return CheckpointHeader(**{**given, **fields})


def a_commit(sequence: int = 4, parent: int | None = 3, **fields: Any) -> Commit:
    return Commit(
        **{"header": a_header(sequence, parent), "changes": Changes(), "epoch": 1, **fields}
    )


# ------------------------------------------------------------------------------------------ commits


def test_a_commit_that_follows_becomes_the_head() -> None:
    commit = a_commit(owner=ELSEWHERE, lease_seconds=5.0, fingerprint="new", inbox_read=2)
    run = rules.apply_commit(a_run(error="old failure", inbox_read=1), commit, NOW)

    assert run is not None
    assert (run.head, run.sequence, run.updated_at, run.created_at) == ("r-000004", 4, "t4", "t0")
    assert (run.lease, run.error, run.fingerprint) == (Lease(ELSEWHERE, NOW + 5, 5), None, "new")
    assert (run.inbox_read, run.commit_id) == (2, commit.commit_id)


def test_a_commit_is_recognised_by_its_own_id() -> None:
    commit = a_commit(3, 2, commit_id="third")
    assert rules.apply_commit(a_run(), commit, NOW) is None
    assert rules.apply_commit(a_run(epoch=9), commit, NOW) is None
    with pytest.raises(RunFencedError):
        rules.apply_commit(a_run(), a_commit(3, 2), NOW)
    with pytest.raises(RunFencedError):  # it was committed, but the head has been moved away since
        rules.apply_commit(a_run(head="r-000001"), commit, NOW)


@pytest.mark.parametrize(
    ("run", "commit", "error"),
    [
        (a_run(), a_commit(0, None), RunExistsError),
        (None, a_commit(), RunNotFoundError),
        (a_run(epoch=2), a_commit(), RunFencedError),
        (a_run(), a_commit(4, 2), RunFencedError),
        (a_run(), a_commit(3, 3), RunFencedError),
        (a_run(), a_commit(header=a_header(4, 3, checkpoint_id="mine")), ValueError),
    ],
)
def test_a_commit_that_does_not_fit_is_refused(
    run: RunRecord | None, commit: Commit, error: type[Exception]
) -> None:
    with pytest.raises(error):
        rules.apply_commit(run, commit, NOW)


def test_numbers_may_be_left_out_and_a_branch_may_come_along() -> None:
    run = rules.apply_commit(a_run(branch=1), a_commit(header=a_header(7, 3, branch=2)), NOW)
    assert run is not None
    assert (run.sequence, run.branch) == (7, 2)


def test_requests_follow_the_changes() -> None:
    run = a_run(requests=("a", "b"))

    def after(**changes: Any) -> tuple[str, ...]:
        return rules.advance_run(run, a_commit(changes=Changes(**changes)), NOW).requests

    assert after() == ("a", "b")
    assert after(deletes=[(REQUESTS, "a")]) == ("b",)
    assert after(
        puts={(REQUESTS, "c"): b"1", (REQUESTS, "b"): b"1", ("shared_state", "x"): b"1"}
    ) == ("a", "b", "c")
    assert after(puts={(REQUESTS, "a"): b"1"}, deletes=[(REQUESTS, "a")]) == ("b", "a")


# ------------------------------------------------------------------------------------------- leases


@pytest.mark.parametrize(
    ("lease", "holds"),
    [
        (None, False),
        (Lease(ELSEWHERE, NOW + 1), True),
        (Lease(ELSEWHERE, NOW), False),
        (Lease(this_process("idle"), NOW + 1), False),
        (Lease(replace(this_process(), pid=2**22 + 1), NOW + 1), not this_process().boot_id),
    ],
)
def test_when_a_lease_holds(lease: Lease | None, holds: bool) -> None:
    assert rules.lease_holds(lease, NOW) is holds


def test_taking_a_run() -> None:
    taken = rules.take_run(a_run(lease=Lease(ELSEWHERE, NOW - 1)), this_process("me"), NOW, 30)
    assert (taken.epoch, taken.lease) == (2, Lease(this_process("me"), NOW + 30))

    with pytest.raises(RunBusyError, match=r"process 7 on elsewhere .* until 1970-01-01T00:16:41"):
        rules.take_run(a_run(lease=Lease(ELSEWHERE, NOW + 1)), this_process("me"), NOW, 30)


@pytest.mark.parametrize(
    ("expires", "until"),
    [(NOW - 5, NOW - 5), (NOW + 9, NOW + 9), (NOW + 10, NOW + 10), (NOW + 7200, NOW + 10)],
)
def test_a_lease_lasts_no_longer_than_its_own_length(expires: float, until: float) -> None:
    run = a_run(lease=Lease(ELSEWHERE, expires, 10))
    limited = rules.limit_lease(run, NOW)
    assert limited == a_run(lease=Lease(ELSEWHERE, until, 10))
    assert (limited is run) is (expires == until)  # nothing is to be written
    assert rules.limit_lease(a_run(), NOW) == a_run()


def test_renewing_and_releasing() -> None:
    held = a_run(lease=Lease(ELSEWHERE, NOW))
    assert rules.renew_lease(held, NOW, 9).lease == Lease(ELSEWHERE, NOW + 9, 9)
    assert rules.renew_lease(a_run(), NOW, 9).lease is None
    assert rules.release_run(held, None, None) == a_run()
    assert rules.release_run(held, "FAILED", "why") == a_run(status="FAILED", error="why")


# ----------------------------------------------------------------------------------- heads, deletes


def test_moving_the_head() -> None:
    target = CheckpointRecord(
        a_header(1, 0, status="WAITING"), {(REQUESTS, "q"): b"1", ("messages",): b"[]"}
    )
    run = a_run(error="x", branch=4)
    moved = rules.move_head(run, target, 8, is_journalled=False)

    assert (moved.head, moved.branch, moved.status, moved.sequence) == ("r-000001", 5, "WAITING", 3)
    assert (moved.requests, moved.inbox_read, moved.error) == (("q",), 8, None)


@pytest.mark.parametrize(
    ("inbox_last", "is_journalled", "branch"), [(2, False, 4), (3, False, 5), (2, True, 5)]
)
def test_where_answers_or_records_are_dropped_a_branch_begins(
    inbox_last: int, is_journalled: bool, branch: int
) -> None:
    run = a_run(branch=4, inbox_read=2)
    target = CheckpointRecord(a_header(3), {})
    assert target.header.checkpoint_id == run.head
    moved = rules.move_head(run, target, inbox_last, is_journalled=is_journalled)
    assert (moved.head, moved.branch) == (run.head, branch)


@pytest.mark.parametrize(
    ("lost", "remaining", "head"),
    [
        (a_header(3, 2), [a_header(0), a_header(1, 0), a_header(2, 1)], "r-000002"),
        (a_header(3, 1), [a_header(0), a_header(1, 0), a_header(2, 1)], "r-000001"),
        (a_header(3, 2), [a_header(0), a_header(1, 0), a_header(3, 2)], "r-000001"),
        (a_header(5, 4, branch=1), [a_header(3, 2, branch=1), a_header(2)], "r-000003"),
        (a_header(5, 2, branch=1), [a_header(1), a_header(4, 3)], "r-000004"),
        (a_header(0), [a_header(4, 3), a_header(5, 4)], "r-000005"),
    ],
)
def test_the_head_after_a_delete(
    lost: CheckpointHeader, remaining: list[CheckpointHeader], head: str
) -> None:
    chosen = rules.choose_head(lost, remaining)
    assert chosen is not None
    assert chosen.checkpoint_id == head


def test_no_head_without_checkpoints() -> None:
    assert rules.choose_head(a_header(0), [a_header(0)]) is None


# ------------------------------------------------------------------------------------------ answers


def test_answers_are_numbered_after_those_before() -> None:
    run = a_run(requests=("a", "b"), inbox_read=4)
    entries = rules.accept_answers(run, [], [("a", b"1")])
    assert [(e.number, e.request_id, e.value) for e in entries] == [(5, "a", b"1")]
    (second,) = rules.accept_answers(run, entries, [("b", b"2")])
    assert second.number == 6
    assert rules.unread_entries(replace(run, inbox_read=5), [*entries, second]) == [second]


def test_answers_that_cannot_be_taken() -> None:
    run = a_run(requests=("a",), inbox_read=1)
    with pytest.raises(UnknownRequestError, match="waiting requests: 'a'"):
        rules.accept_answers(run, [], [("x", b"1")])
    with pytest.raises(AlreadyAnsweredError):
        rules.accept_answers(run, [], [("a", b"1"), ("a", b"1")])
    consumed = InboxEntry(1, "a", b"1", "t")
    assert rules.accept_answers(run, [consumed], [("a", b"2")])[0].number == 2


# ---------------------------------------------------------------------------------- saving, listing


def test_what_may_be_saved_by_hand() -> None:
    assert rules.check_saved(a_header(1)) == "r-000001"
    assert (
        rules.check_saved(a_header(1, checkpoint_id="../x")) == "../x"
    )  # where it goes is for the storage to see to
    for bad in ("", "x" * 221, "a\nb"):
        with pytest.raises(ValueError, match="checkpoint_id"):
            rules.check_saved(a_header(1, checkpoint_id=bad))
    with pytest.raises(CheckpointVersionError):
        rules.check_saved(a_header(1, version="2.0"))


def test_listings_select_and_sort() -> None:
    header = a_header(1)
    assert rules.is_selected(header, None, None)
    assert rules.is_selected(header, "w", "r")
    assert not rules.is_selected(header, "w", "other")
    assert not rules.is_selected(header, "", None)
    same_time = [a_header(n, timestamp="t") for n in (2, 10)]
    assert sorted([same_time[1], same_time[0]], key=rules.listing_order) == same_time
