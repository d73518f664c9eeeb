"""What happens when a handler fails: how often it is tried, and what an error edge delivers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from supersteps.errors import HandlerError


@dataclass(frozen=True)
class FailurePolicy:
    """How an executor's calls are repeated when they fail.

    The waits grow exponentially and are blurred by a jitter, so that calls that failed together do
    not come back together: the well-known "exponential backoff and jitter". A call that has used up
    its attempts fails its superstep, or goes along the executor's error edge if it has one.

    Attributes:
        max_attempts: How often a call is made, the first time counted; 1 repeats nothing.
        backoff: Seconds between the first attempt and the second.
        backoff_factor: By how much each wait is longer than the one before.
        max_backoff: Longest wait in seconds, before jitter.
        jitter: Part of a wait by which it may be shorter or longer, from 0 to 1.
        retry_on: Errors after which a call is repeated; others count as final.
        timeout: Seconds after which an attempt is given up with a `HandlerTimeoutError`; None for
            no limit.
        at_most_once: Never begin a call again that a crash cut short: it fails with an
            `InterruptedCallError` instead, for effects that must not happen twice.
    """

    max_attempts: int = 1
    backoff: float = 1.0
    backoff_factor: float = 2.0
    max_backoff: float = 300.0
    jitter: float = 0.1
    retry_on: tuple[type[Exception], ...] = (Exception,)
    timeout: float | None = None
    at_most_once: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise TypeError(
                f"max_attempts is a number of calls, at least 1, not {self.max_attempts!r}"
            )
        if self.max_attempts < 1:
            raise ValueError(
                f"max_attempts is at least 1, the first call counted, not {self.max_attempts}"
            )
        _check_number("backoff", self.backoff, "a number of seconds, 0 or more")
        _check_number("backoff_factor", self.backoff_factor, "a number, 1 or more", least=1)
        _check_number("max_backoff", self.max_backoff, "a number of seconds, 0 or more")
        _check_number("jitter", self.jitter, "a part of the wait, from 0 to 1", most=1)
        if self.timeout is not None:
            _check_number(
                "timeout", self.timeout, "a number of seconds above 0, or None for no limit"
            )
            if self.timeout == 0:
                raise ValueError(
                    "timeout is a number of seconds above 0, or None for no limit, not 0"
                )
        if not isinstance(self.retry_on, tuple) or not all(map(_is_error_class, self.retry_on)):
            raise TypeError(
                "retry_on is a tuple of exception classes below Exception, such as (OSError,), "
                f"not {self.retry_on!r}"
            )
        if not isinstance(self.at_most_once, bool):
            raise TypeError(f"at_most_once is True or False, not {self.at_most_once!r}")
        if self.at_most_once and self.max_attempts > 1:
            raise ValueError(
                f"at_most_once forbids the repeated calls that max_attempts={self.max_attempts} "
                "asks for; leave out one of them"
            )

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Return whether a call that failed is to be made again.

        Args:
            error: What it raised.
            attempt: Which attempt that was, from 1.
        """
        if attempt >= self.max_attempts:
            return False
        raised = error.__cause__ if isinstance(error, HandlerError) else None
        return isinstance(error, self.retry_on) or isinstance(raised, self.retry_on)

    def delay(self, attempt: int, key: str) -> float:
        """Return how many seconds to wait before the next attempt.

        Args:
            attempt: Which attempt has just failed, from 1.
            key: Names the call; the jitter follows from it, so that a crash in between does not
                roll it anew.
        """
        from hashlib import blake2b  # wanted only when something fails, and slow to import

        try:
            wait = min(self.max_backoff, self.backoff * self.backoff_factor ** (attempt - 1))
        except OverflowError:
            wait = self.max_backoff if self.backoff else 0.0
        digest = blake2b(
            f"{key}:{attempt}".encode("utf-8", "surrogatepass"), digest_size=8
        ).digest()
        # 53 bits are what a float holds exactly: from -1 to just below 1.
        blur = (int.from_bytes(digest, "big") >> 11) / 2**52 - 1
        return wait * (1 + self.jitter * blur)


def _check_number(
    name: str, value: Any, wanted: str, *, least: float = 0, most: float = math.inf
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {wanted}, not {value!r}")
    if not least <= value <= most or value == math.inf:
        raise ValueError(f"{name} is {wanted}, not {value!r}")


def _is_error_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


@dataclass
class ExecutorFailure:
    """What an error edge delivers: a call that failed for good.

    Attributes:
        executor_id: The executor that failed.
        message: What it was handling.
        error_type: Name of the last error's class.
        error_message: What the last error said.
        attempts: How often the call was made.
        traceback: Where the last error was raised, as text for people; None when it is not known.
        interrupted: Whether a crash cut the call short, so that it may have had its effect or not.
    """

    executor_id: str
    message: Any
    error_type: str
    error_message: str
    attempts: int
    traceback: str | None = None
    interrupted: bool = False
