"""References: how users name runs, checkpoints and questions.

run           its id; `@latest`, the newest by creation; `@-1`, the one before it, ...;
              a unique start of an id, else a unique end of one (default ids are ordered
              by time: their ends differ most)
checkpoint    its id; `RUN@7`, the one after superstep 7 on the lineage of the run's head;
              `RUN@latest`, the head; `RUN@-1`, the one before it, ...; `RUN-12`, its number
              without padding; a run, including `@latest` and `@-1`, means its head
question      its id; `@latest`, the one asked last; `@-1`, ...; a unique start or end of an
              id; `RUN:REQUEST` if several runs wait for the same one; a run that waits for
              only one question means that question

An exact id always wins, whatever characters it has. A reference that can be read in two ways that
mean different checkpoints is refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from supersteps.errors import CheckpointError
from supersteps.ids import checkpoint_id
from supersteps.service.errors import AmbiguousReferenceError, ReferenceNotFoundError
from supersteps.service.questions import Question
from supersteps.service.reads import UNREADABLE, Unwarned, age
from supersteps.service.states import state_of
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord

T = TypeVar("T")

_SHOWN = 8
_PLACE = re.compile(r"@(?:latest|-([1-9][0-9]{0,8}))")
_AFTER_RUN = re.compile(
    r"(?P<run>.+)@(?:(?P<step>[0-9]{1,9})|(?P<place>latest|-[1-9][0-9]{0,8}))", re.DOTALL
)
_NUMBERED = re.compile(r"(?P<run>.+)-(?P<number>[0-9]{1,9})", re.DOTALL)


class References:
    """Resolves the references of one request; lists the runs at most once.

    Args:
        storage: The store.
    """

    def __init__(self, storage: ManagedStorage) -> None:
        self._storage = storage
        self._runs: list[RunRecord] | None = None

    # ----------------------------------------------------------------------------------------- runs

    async def run(self, reference: str) -> RunRecord:
        """Return the run that a reference names.

        Raises:
            ReferenceNotFoundError: It matches none.
            AmbiguousReferenceError: It matches several.
        """
        exact = await self._storage.get_run(reference) if reference else None
        if exact is not None:
            return exact
        known = await self._all_runs()
        if reference and known:
            place = place_of(reference)
            if place is not None and place < len(known):
                return known[place]
            found = _matching(known, reference, lambda run: run.run_id) if place is None else []
            if len(found) == 1:
                return found[0]
            if found:
                raise AmbiguousReferenceError(
                    _several(reference, "run", [(r.run_id, about(r)) for r in found])
                )
        raise ReferenceNotFoundError(await self._no_run(reference, known))

    async def _all_runs(self) -> list[RunRecord]:
        if self._runs is None:
            self._runs = [run async for run in all_runs(self._storage)]
        return self._runs

    async def _no_run(self, reference: str, known: Sequence[RunRecord]) -> str:
        if not known:
            return f"there is no run {reference!r}: the store has no runs yet. Start one first."
        if place_of(reference) is not None:
            return (
                f"there is no run {reference!r}: the store has {_count(len(known), 'run')}; "
                "@latest is the newest."
            )
        text = (
            f"none of the {_count(len(known), 'run')} in the store has the id {reference!r}, or "
            "one that starts or ends with it."
        )
        info = await self._exact_checkpoint(reference) if reference else None
        if info is not None:
            owner = f"checkpoint of run {info!r}" if info else "checkpoint that belongs to no run"
            return f"{text} It is a {owner}, but a run is needed."
        waiting = next((run.run_id for run in known if reference in run.requests), None)
        if waiting is not None:
            return f"{text} It is a question of run {waiting!r}, but a run is needed."
        return f"{text} {_nearest(reference, [run.run_id for run in known])}"

    # ---------------------------------------------------------------------------------- checkpoints

    async def checkpoint(self, reference: str) -> str:
        """Return the id of the checkpoint that a reference names; it may be damaged.

        Raises:
            ReferenceNotFoundError: It matches none.
            AmbiguousReferenceError: It matches several.
        """
        if reference and await self._exact_checkpoint(reference) is not None:
            return reference
        exact = await self._storage.get_run(reference) if reference else None
        if exact is not None:
            return exact.head
        if place_of(reference) is not None:
            return (await self.run(reference)).head
        return await self._read_as_one(reference)

    async def _read_as_one(self, reference: str) -> str:
        """Try every reading of a reference; exactly one checkpoint must result."""
        after, numbered = _AFTER_RUN.fullmatch(reference), _NUMBERED.fullmatch(reference)
        readings: list[tuple[str, Callable[[RunRecord], Awaitable[str]]]] = []
        if after is not None:
            readings.append((after["run"], lambda run: self._after_run(run, after, reference)))
        if numbered is not None:
            readings.append(
                (numbered["run"], lambda run: self._numbered(run, int(numbered["number"])))
            )
        readings.append((reference, _head_of))
        found: dict[str, str] = {}
        failures: list[Exception] = []
        for name, read in readings:
            try:
                run = await self.run(name)
                target = await read(run)
            except (ReferenceNotFoundError, AmbiguousReferenceError) as error:
                failures.append(error)
                continue
            if run.run_id == name:  # an exact id
                return target
            found.setdefault(target, about(run))
        if len(found) > 1:
            raise AmbiguousReferenceError(_several(reference, "checkpoint", list(found.items())))
        if found:
            return next(iter(found))
        # The most specific problem is reported: a run without this checkpoint, then several runs,
        # then none.
        raise next((e for e in failures if isinstance(e, _NoSuchPlaceError)), None) or next(
            (e for e in failures if isinstance(e, AmbiguousReferenceError)),
            failures[-1] if after is None else failures[0],
        )

    async def _exact_checkpoint(self, identifier: str) -> str | None:
        """Return a checkpoint's run, "" if none or unreadable; None if there is no checkpoint."""
        try:
            lineage = await Unwarned(self._storage.list_lineage(identifier, 1))
            if lineage:
                return lineage[-1].run_id
            record = await self._storage.load_record(identifier)
        except UNREADABLE:
            return ""
        return None if record is None else record.header.run_id

    async def _after_run(self, run: RunRecord, match: re.Match[str], reference: str) -> str:
        if match["step"] is None:
            return await self._back_from_head(run, place_of("@" + match["place"]) or 0, reference)
        step = int(match["step"])
        head = await self._lineage(run.head, 1)
        last = head[-1][1] if head else step
        if step <= last:
            # Each checkpoint of a lineage is at least one superstep after its parent, so no more
            # are needed, unless some were added with `save_checkpoint`.
            for limit in (last - step + 1, run.sequence + 2):
                for identifier, number in reversed(await self._lineage(run.head, limit)):
                    if number == step:
                        return identifier
            raise _NoSuchPlaceError(
                f"the lineage of the head of run {run.run_id!r} no longer has a checkpoint after "
                f"superstep {step}; see its history with `supersteps log`."
            )
        raise _NoSuchPlaceError(
            f"run {run.run_id!r} has no checkpoint {reference!r}: its head is after superstep "
            f"{last} ({age(run.updated_at)})."
        )

    async def _back_from_head(self, run: RunRecord, place: int, reference: str) -> str:
        if place == 0:
            return run.head
        lineage = await self._lineage(run.head, place + 1)
        if len(lineage) > place:
            return lineage[0][0]
        raise _NoSuchPlaceError(
            f"there is no checkpoint {reference!r}: the lineage of the head of run "
            f"{run.run_id!r} has {_count(len(lineage), 'checkpoint')}."
        )

    async def _numbered(self, run: RunRecord, number: int) -> str:
        identifier = checkpoint_id(run.run_id, number)
        if await self._exact_checkpoint(identifier) is None:
            raise _NoSuchPlaceError(
                f"run {run.run_id!r} has no checkpoint {identifier!r}, or no longer; its newest "
                f"is number {run.sequence}."
            )
        return identifier

    async def _lineage(self, head: str, limit: int) -> list[tuple[str, int]]:
        try:
            lineage = await Unwarned(self._storage.list_lineage(head, limit))
        except CheckpointError:  # the head is damaged: its lineage is unknown
            return []
        return [(info.checkpoint_id, info.step_number) for info in lineage]


class _NoSuchPlaceError(ReferenceNotFoundError):
    """The run was found, but it has no such checkpoint."""


async def _head_of(run: RunRecord) -> str:
    return run.head


# ---------------------------------------------------------------------------------------- questions


def choose_question(reference: str, waiting: Sequence[Question]) -> Question:
    """Return the question that a reference names.

    Args:
        reference: The reference.
        waiting: All waiting questions, oldest first.

    Raises:
        ReferenceNotFoundError: It matches none.
        AmbiguousReferenceError: It matches several.
    """
    if not waiting:
        raise ReferenceNotFoundError(
            f"there is no question {reference!r}: no question is waiting for an answer."
        )
    found = [question for question in waiting if reference == question.request_id] or [
        question for question in waiting if reference == f"{question.run_id}:{question.request_id}"
    ]
    place = place_of(reference)
    if not found and place is not None:
        found = [waiting[-1 - place]] if place < len(waiting) else []
    elif not found and reference:
        found = (
            _matching(waiting, reference, lambda question: question.request_id)
            or _in_runs(reference, waiting)
            or _matching(waiting, reference, lambda question: question.run_id)
        )
    if len(found) == 1:
        return found[0]
    if found:
        candidates = [
            (
                f"{q.run_id}:{q.request_id}",
                f"{q.workflow_id}, asked by {q.executor_id}, {age(q.asked_at)}",
            )
            for q in found
        ]
        raise AmbiguousReferenceError(
            _several(reference, "question", candidates, "Type one of these in full.")
        )
    raise ReferenceNotFoundError(
        f"none of the {_count(len(waiting), 'waiting question')} has the id {reference!r}, or "
        "one that starts or ends with it. "
        f"{_nearest(reference, [question.request_id for question in waiting])}"
    )


def _in_runs(reference: str, waiting: Sequence[Question]) -> list[Question]:
    """Return the questions that `RUN:REQUEST` can mean; any colon may be the separator."""
    found: list[Question] = []
    for colon in re.finditer(":", reference):
        run, request = reference[: colon.start()], reference[colon.end() :]
        asking = {question.run_id: question for question in waiting}
        runs = (
            [asking[run]]
            if run in asking
            else _matching(list(asking.values()), run, lambda q: q.run_id)
        )
        for named in runs if run and request else ():
            inside = [question for question in waiting if question.run_id == named.run_id]
            found += _matching(inside, request, lambda question: question.request_id)
    unique = {(question.run_id, question.request_id): question for question in found}
    return list(unique.values())


# ------------------------------------------------------------------------------------------- shared


def place_of(reference: str) -> int | None:
    """Return the offset from the newest: 0 for `@latest`, 1 for `@-1`; None otherwise."""
    match = _PLACE.fullmatch(reference)
    return None if match is None else int(match[1] or 0)


def about(run: RunRecord) -> str:
    """Return a short description of a run."""
    return f"{run.workflow_id}, {state_of(run)}, {age(run.created_at)}"


def _matching(candidates: Sequence[T], reference: str, name: Callable[[T], str]) -> list[T]:
    exact = [candidate for candidate in candidates if name(candidate) == reference]
    begin = exact or [
        candidate for candidate in candidates if name(candidate).startswith(reference)
    ]
    return begin or [candidate for candidate in candidates if name(candidate).endswith(reference)]


def _several(
    reference: str,
    what: str,
    candidates: Sequence[tuple[str, str]],
    advice: str = "Type more of the id.",
) -> str:
    lines = "".join(f"\n  {name}  ({described})" for name, described in candidates[:_SHOWN])
    more = f"\n  ... and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return f"{reference!r} can mean {_count(len(candidates), what)}:{lines}{more}\n{advice}"


def _nearest(reference: str, names: Iterable[str]) -> str:
    known = list(dict.fromkeys(names))[:1000]  # comparing is slow, and older ones are rarely meant
    near = get_close_matches(reference, known, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"The newest are {', '.join(map(repr, known[:3]))}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
