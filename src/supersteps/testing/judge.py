"""Judging a storage without a test runner: what it can do by its looks, and what the contract says of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from supersteps.storage.plain.adapter import as_durable
from supersteps.storage.plain.calls import METHODS
from supersteps.storage.ports import CheckpointStorage, capabilities_of
from supersteps.testing.subject import CAPABILITIES, PLAIN_LACKS, Subject

_UPKEEP = ("list_runs", "list_headers", "prune", "verify", "vacuum")


def capabilities(storage: object) -> dict[str, str]:
    """Return what a storage can do by the methods that it has: "full", "partial" or "missing" for each ability.

    Whether it keeps what the methods promise is for `StorageContract` to say.
    """
    lacking = [name for name in METHODS if not callable(getattr(storage, name, None))]
    if lacking:
        return {"checkpoints": "partial" if len(lacking) < len(METHODS) else "missing"}
    assert isinstance(storage, CheckpointStorage)
    is_plain = bool(capabilities_of(as_durable(storage)).missing)
    held = "partial" if is_plain else "full"  # the adapter stands in, inside one process
    upkeep = sum(callable(getattr(storage, name, None)) for name in _UPKEEP)
    return {
        "checkpoints": "full",
        "commits": held,
        **{name: held for name in CAPABILITIES if name in PLAIN_LACKS},
        "management": "partial"
        if is_plain or 0 < upkeep < len(_UPKEEP)
        else "full"
        if upkeep
        else "missing",
    }


def report(storage: object) -> str:
    """Return what a storage can do by the methods that it has, as lines for people."""
    found = capabilities(storage)
    width = max(map(len, found))
    lines = [
        f"  {name:{width}}  {value:7}  {_MEANINGS.get(name, '')}".rstrip()
        for name, value in found.items()
    ]
    return "\n".join([f"{type(storage).__name__}:", *lines])


_MEANINGS = {
    **CAPABILITIES,
    "checkpoints": "the five methods of CheckpointStorage",
    "commits": "one atomic commit per superstep of what changed (DurableStorage)",
}


# ----------------------------------------------------------------------------------------- verdicts


@dataclass
class Verdict:
    """What the contract says of a storage.

    Attributes:
        name: The class that was judged.
        passed: Tests that passed, by topic.
        skipped: Tests that were skipped and why, by topic.
        failed: Tests that failed and their errors, by topic.
    """

    name: str
    passed: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[str, dict[str, BaseException]] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, BaseException]:
        """All tests that failed."""
        return {test: error for errors in self.failed.values() for test, error in errors.items()}

    def topics(self) -> dict[str, str]:
        """Return "full", "partial", "missing" or "failed" for each topic of the contract."""
        return {
            topic: self._topic(topic)
            for topic in sorted({*self.passed, *self.skipped, *self.failed})
        }

    def _topic(self, topic: str) -> str:
        if topic in self.failed:
            return "failed"
        if topic not in self.skipped:
            return "full"
        return "partial" if topic in self.passed else "missing"

    def __str__(self) -> str:
        lines = [f"{self.name}:"]
        for topic, verdict in self.topics().items():
            lines.append(f"  {topic:12}  {verdict}")
            lines += [f"    {reason}" for reason in sorted({*self.skipped.get(topic, {}).values()})]
            lines += [
                f"    {test}: {type(e).__name__}: {e}"
                for test, e in self.failed.get(topic, {}).items()
            ]
        return "\n".join(lines)


def judge(contract: type[Subject], *, topics: tuple[str, ...] | None = None) -> Verdict:
    """Run the contract against a storage, without a test runner.

    Args:
        contract: A subclass of `StorageContract`.
        topics: Only these, by the names of their classes.
    """
    verdict = Verdict(contract.__name__)
    for topic, name in tests_of(contract):
        if topics is not None and topic not in topics:
            continue
        case = contract()
        try:
            case.setup_method()
            try:
                getattr(case, name)()
            finally:
                case.teardown_method()
        except pytest.skip.Exception as reason:
            verdict.skipped.setdefault(topic, {})[name] = str(reason)
        except (Exception, pytest.fail.Exception) as error:
            verdict.failed.setdefault(topic, {})[name] = error
        else:
            verdict.passed.setdefault(topic, []).append(name)
    return verdict


def tests_of(contract: type[Subject]) -> Iterator[tuple[str, str]]:
    """Yield the tests of a contract, each with the class that it comes from, in the order in which they are written."""
    for cls in contract.__mro__:
        for name, member in vars(cls).items():
            if name.startswith("test_") and inspect.isfunction(member):
                yield cls.__name__, name
