"""`FailurePolicy`: what is refused, when a call is repeated, and after which wait."""

import math
import subprocess
import sys
from typing import Any

import pytest

from supersteps import ExecutorFailure, FailurePolicy
from supersteps.checkpoint.codec.codec import Codec


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"backoff": -1}, "backoff must be a number of seconds, 0 or more, not -1"),
        ({"backoff": math.nan}, "backoff must be a number of seconds"),
        ({"backoff": math.inf}, "backoff must be a number of seconds"),
        ({"backoff_factor": 0.5}, "backoff_factor must be a number, 1 or more"),
        ({"max_backoff": -0.1}, "max_backoff must be a number of seconds"),
        ({"jitter": 1.1}, "jitter must be a fraction of the wait, from 0 to 1"),
        ({"jitter": -0.1}, "jitter must be a fraction of the wait"),
        (
            {"timeout": 0},
            "timeout must be a number of seconds above 0, or None for no limit, not 0",
        ),
        ({"timeout": -1}, "timeout must be a number of seconds above 0"),
        (
            {"at_most_once": True, "max_attempts": 2},
            "at_most_once forbids the repeated calls that max_attempts=2",
        ),
    ],
)
def test_values_that_make_no_sense(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        FailurePolicy(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_attempts": 1.5}, "max_attempts must be a number of calls"),
        ({"max_attempts": True}, "max_attempts must be a number of calls"),
        ({"backoff": "1"}, "backoff must be a number of seconds, 0 or more, not '1'"),
        ({"backoff_factor": None}, "backoff_factor must be a number"),
        ({"max_backoff": False}, "max_backoff must be a number"),
        ({"jitter": "no"}, "jitter must be a fraction"),
        ({"timeout": "5s"}, "timeout must be a number of seconds"),
        (
            {"retry_on": OSError},
            r"retry_on must be a tuple of exception classes.*such as \(OSError,\)",
        ),
        ({"retry_on": [OSError]}, "retry_on must be a tuple"),
        (
            {"retry_on": (KeyboardInterrupt,)},
            "retry_on must be a tuple of exception classes below Exception",
        ),
        ({"retry_on": ("OSError",)}, "retry_on must be a tuple"),
        ({"at_most_once": 1}, "at_most_once must be True or False"),
    ],
)
def test_values_of_the_wrong_type(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        FailurePolicy(**settings)


def test_attempts_are_used_up() -> None:
    policy = FailurePolicy(max_attempts=3)

    assert [policy.retries(ValueError(), attempt) for attempt in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert not FailurePolicy().retries(ValueError(), 1)


def test_only_chosen_errors_are_worth_another_attempt() -> None:
    policy = FailurePolicy(max_attempts=2, retry_on=(OSError, KeyError))

    assert policy.retries(ConnectionResetError(), 1)
    assert policy.retries(KeyError(), 1)
    assert not policy.retries(ValueError(), 1)
    assert not FailurePolicy(max_attempts=2).retries(KeyboardInterrupt(), 1)
    assert not FailurePolicy(max_attempts=2, retry_on=()).retries(OSError(), 1)


def test_waits_grow_up_to_a_limit() -> None:
    policy = FailurePolicy(max_attempts=9, backoff=0.5, backoff_factor=3, max_backoff=10, jitter=0)

    assert [policy.delay(attempt, "k") for attempt in (1, 2, 3, 4, 5)] == [0.5, 1.5, 4.5, 10, 10]
    assert policy.delay(10**6, "k") == 10  # larger than any float
    assert FailurePolicy(backoff=0, backoff_factor=2.0).delay(10**6, "k") == 0


def test_jitter_blurs_each_wait_of_each_call() -> None:
    policy = FailurePolicy(max_attempts=9, backoff=100, backoff_factor=1, jitter=0.25)
    waits = [
        policy.delay(attempt, f"call {number}") for attempt in range(1, 6) for number in range(200)
    ]

    assert len(set(waits)) == len(waits)
    assert all(75 <= wait < 125 for wait in waits)
    assert min(waits) < 80
    assert max(waits) > 120
    assert 98 < sum(waits) / len(waits) < 102


def test_a_crash_does_not_change_the_jitter() -> None:
    script = (
        "from supersteps import FailurePolicy; print(FailurePolicy(jitter=1).delay(2, "
        "'run:0:3:a:0'))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(other.stdout) == FailurePolicy(jitter=1).delay(2, "run:0:3:a:0")


def test_a_failure_is_saved_and_restored() -> None:
    failure = ExecutorFailure(
        "a", {"order": 7}, "OSError", "no route", 3, "Traceback ...", interrupted=True
    )
    codec = Codec([ExecutorFailure])

    assert codec.decode(codec.encode(failure)) == failure
    assert (
        ExecutorFailure("a", 1, "E", "", 1).traceback,
        ExecutorFailure("a", 1, "E", "", 1).interrupted,
    ) == (
        None,
        False,
    )
