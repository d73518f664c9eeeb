"""`judge` and `capabilities`: the contract without a test runner."""

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
    """Return the capabilities that a storage's methods suggest: "full", "partial" or "missing".

    This only inspects methods; whether they keep their promises is tested by `StorageContract`.
    """
    lacking = [name for name in METHODS if not callable(getattr(storage, name, None))]
    if lacking:
        return {"checkpoints": "partial" if len(lacking) < len(METHODS) else "missing"}
    assert isinstance(storage, CheckpointStorage)
    is_plain = bool(capabilities_of(as_durable(storage)).missing)
    held = "partial" if is_plain else "full"  # the adapter provides it, within one process
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
    """Return the capabilities of a storage as text, one per line."""
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
    """The result of testing a storage against the contract.

    Attributes:
        name: The tested class.
        passed: Tests that passed, by topic.
        skipped: Skipped tests with reasons, by topic.
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
    """Test a storage against the contract, without a test runner.

    Args:
        contract: A subclass of `StorageContract`.
        topics: Only these topics, by the names of their classes.
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
    """Yield the tests of a contract with the class that defines them, in source order."""
    for cls in contract.__mro__:
        for name, member in vars(cls).items():
            if name.startswith("test_") and inspect.isfunction(member):
                yield cls.__name__, name
