"""Failure policies: how often a call is tried, what an error edge sends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from supersteps.errors import HandlerError


@dataclass(frozen=True)
class FailurePolicy:
    """How an executor's calls are repeated when they fail.

    Use it for calls of services that fail now and then. The waits grow exponentially with a random
    jitter, so that calls that failed together are not repeated together. A call that has used up
    its attempts fails its superstep, or takes the executor's error edge if it has one.

    Example:
        `FailurePolicy(max_attempts=5, retry_on=(httpx.HTTPError,), timeout=30)`

    Attributes:
        max_attempts: Number of calls, including the first; 1 means no repetition.
        backoff: Seconds between the first attempt and the second.
        backoff_factor: Factor by which each wait is longer than the one before.
        max_backoff: Longest wait in seconds, before jitter.
        jitter: Fraction of a wait by which it may be shorter or longer, from 0 to 1.
        retry_on: Errors after which a call is repeated; others are final.
        timeout: Seconds after which an attempt is cancelled with a `HandlerTimeoutError`; None for
            no limit.
        at_most_once: Never repeat a call that a crash interrupted: it fails with an
            `InterruptedCallError` instead. Use it for effects that must not happen twice and have
            no idempotency key.
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
                f"max_attempts must be a number of calls, at least 1, not {self.max_attempts!r}"
            )
        if self.max_attempts < 1:
            raise ValueError(
                "max_attempts must be at least 1, since it includes the first call, not "
                f"{self.max_attempts}"
            )
        _check_number("backoff", self.backoff, "a number of seconds, 0 or more")
        _check_number("backoff_factor", self.backoff_factor, "a number, 1 or more", least=1)
        _check_number("max_backoff", self.max_backoff, "a number of seconds, 0 or more")
        _check_number("jitter", self.jitter, "a fraction of the wait, from 0 to 1", most=1)
        if self.timeout is not None:
            _check_number(
                "timeout", self.timeout, "a number of seconds above 0, or None for no limit"
            )
            if self.timeout == 0:
                raise ValueError(
                    "timeout must be a number of seconds above 0, or None for no limit, not 0"
                )
        if not isinstance(self.retry_on, tuple) or not all(map(_is_error_class, self.retry_on)):
            raise TypeError(
                "retry_on must be a tuple of exception classes below Exception, such as "
                f"(OSError,), not {self.retry_on!r}"
            )
        if not isinstance(self.at_most_once, bool):
            raise TypeError(f"at_most_once must be True or False, not {self.at_most_once!r}")
        if self.at_most_once and self.max_attempts > 1:
            raise ValueError(
                f"at_most_once forbids the repeated calls that max_attempts={self.max_attempts} "
                "allows; leave out one of them"
            )

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Return whether a failed call is repeated.

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
            key: Identifies the call; the jitter is derived from it, so that it is the same after a
                crash.
        """
        from hashlib import blake2b  # slow to import and needed only for failures

        try:
            wait = min(self.max_backoff, self.backoff * self.backoff_factor ** (attempt - 1))
        except OverflowError:
            wait = self.max_backoff if self.backoff else 0.0
        digest = blake2b(
            f"{key}:{attempt}".encode("utf-8", "surrogatepass"), digest_size=8
        ).digest()
        # A float holds 53 bits exactly: from -1 to just below 1.
        blur = (int.from_bytes(digest, "big") >> 11) / 2**52 - 1
        return wait * (1 + self.jitter * blur)


def _check_number(
    name: str, value: Any, wanted: str, *, least: float = 0, most: float = math.inf
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    if not least <= value <= most or value == math.inf:
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def _is_error_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


@dataclass
class ExecutorFailure:
    """A call that failed for good, as an error edge delivers it.

    Attributes:
        executor_id: The executor that failed.
        message: The message that it was handling.
        error_type: Name of the last error's class.
        error_message: What the last error said.
        attempts: Number of attempts.
        traceback: Where the last error was raised, as text; None if it is unknown.
        interrupted: Whether a crash interrupted the call, so that it is unknown if it took effect.
    """

    executor_id: str
    message: Any
    error_type: str
    error_message: str
    attempts: int
    traceback: str | None = None
    interrupted: bool = False
