"""The outcome of a failed call under its executor's failure policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from supersteps._error_texts import annotate, message_of, traceback_of
from supersteps.checkpoint.record import as_text
from supersteps.checkpoint.sections.timer import Delayed
from supersteps.define.policies import ExecutorFailure
from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.engine.user_code import UserCodeError, inner
from supersteps.errors import HandlerError, HandlerTimeoutError, InterruptedCallError
from supersteps.events import ExecutorFailedEvent, WorkflowErrorDetails


def settle_failure(
    raised: Exception, planned: PlannedCall, site: CallSite, *, is_interrupted: bool = False
) -> Effects:
    """Return the outcome of a failed call, or raise the error.

    Either the call is repeated later, with the same message, or the failure is sent along the error
    edges.

    Args:
        raised: The error that ended the call.
        planned: The call.
        site: The site of the call.
        is_interrupted: Whether a crash interrupted it and it must not run twice.
    """
    error = inner(raised)
    post = site.post
    effects = Effects(post.address, planned.key)
    policy = None if is_interrupted else post.policy
    if policy is not None and policy.retries(error, planned.attempt):
        wait = policy.delay(planned.attempt, site.work(planned.key).key(site.run.run_id, ""))
        due = as_text(datetime.now(UTC) + timedelta(seconds=wait))
        tell_failure(raised, site, attempt=planned.attempt, retry_at=due)
        again = Delayed(
            planned.payload,
            None,
            due,
            planned.attempt + 1,
            planned.source_ids,
            planned.work or site.work(planned.key),
        )
        effects.delayed.append(again)
    elif post.level.graph.error_targets.get(post.executor_id):
        tell_failure(raised, site, attempt=planned.attempt)
        is_stand_in = isinstance(error, HandlerError) and error.__cause__ is not None
        failure = ExecutorFailure(
            executor_id=post.executor_id,
            message=planned.payload.open(),
            error_type=type(error.__cause__ if is_stand_in else error).__name__,
            error_message=message_of(error),
            attempts=planned.attempt,
            traceback=traceback_of(error),
            interrupted=is_interrupted,
        )
        effects.failures.append(
            site.run.sealer.seal(failure, "the failure of executor {!r}", post.address)
        )
    else:
        tell_failure(raised, site)
        raise raised
    return effects


def tell_failure(raised: Exception, site: CallSite, **extra: Any) -> None:
    """Add to an error where it happened, and report it to the consumer."""
    error = inner(raised)
    address, run_id = site.post.address, site.run.run_id
    where = f"(executor {address!r}, superstep {site.step_number} of run {run_id!r})"
    annotate(error, where)
    if isinstance(raised, UserCodeError):
        raised.where = where
    facts = {"run_id": run_id, "superstep": site.step_number, **extra}
    details = WorkflowErrorDetails.from_exception(error, executor_id=address, extra=facts)
    site.run.emit(ExecutorFailedEvent(address, details=details))


def interrupted(site: CallSite) -> InterruptedCallError:
    """Return the error for an interrupted call that must not run twice."""
    return InterruptedCallError(
        f"a call of executor {site.post.address!r} in superstep {site.step_number} of run "
        f"{site.run.run_id!r} had started before and did not finish; it is unknown whether it took "
        "effect, and its policy says at_most_once. Find out whether it did; then resume with "
        "add_error_edge() for the executor, or without at_most_once to run it again."
    )


def timed_out(seconds: float, planned: PlannedCall, site: CallSite) -> HandlerTimeoutError:
    """Return the error for a call that took longer than its policy allows."""
    return HandlerTimeoutError(
        f"executor {site.post.address!r} took longer than the {seconds} s that its failure "
        f"policy allows (attempt {planned.attempt} in superstep {site.step_number} of run "
        f"{site.run.run_id!r})"
    )
