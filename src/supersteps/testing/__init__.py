"""The contract of storages, as tests for your own storage.

    from supersteps.testing import StorageContract

    class TestMyStorage(StorageContract):
        def open_storage(self, folder, clock):
            return MyStorage(folder / "runs.db", clock=clock)

Run pytest as usual; no plug-in is needed. Declare what the storage does not promise (`lacks =
{"corruption"}`); those tests are skipped, as are the tests of methods it does not have. Without a
test runner, call `judge(TestMyStorage)`. `capabilities(storage)` only inspects the methods.
"""

# ruff: noqa: E402 -- the topics have to be imported after pytest was told of them

try:
    import pytest
except ImportError as error:  # pragma: no cover
    raise ImportError("supersteps.testing needs pytest: pip install pytest") from error

# Registered before the import, so that pytest explains failed assertions.
pytest.register_assert_rewrite(
    *(
        f"supersteps.testing.{topic}"
        for topic in (
            "answering",
            "branches",
            "clocks",
            "concurrency",
            "corruption",
            "crashes",
            "inbox",
            "incarnations",
            "journal",
            "leases",
            "lineage",
            "ownership",
            "queue",
            "retention",
            "round_trips",
            "writer",
        )
    )
)

from supersteps.testing.answers import Answers
from supersteps.testing.branches import Branches
from supersteps.testing.clocks import Clocks
from supersteps.testing.concurrency import Concurrency
from supersteps.testing.corruption import Corruption
from supersteps.testing.crashes import Crashes
from supersteps.testing.inbox import Inbox
from supersteps.testing.incarnations import Incarnations
from supersteps.testing.journal import Journal
from supersteps.testing.judge import Verdict, capabilities, judge, report
from supersteps.testing.leases import Leases
from supersteps.testing.lineage import Lineage
from supersteps.testing.ownership import Ownership
from supersteps.testing.queue import Queue
from supersteps.testing.retention import Retention
from supersteps.testing.round_trips import RoundTrips
from supersteps.testing.subject import CAPABILITIES, Subject
from supersteps.testing.writer import Clock, Writer


class StorageContract(
    RoundTrips,
    Lineage,
    Ownership,
    Incarnations,
    Branches,
    Leases,
    Journal,
    Inbox,
    Queue,
    Answers,
    Concurrency,
    Clocks,
    Crashes,
    Corruption,
    Retention,
):
    """The contract of storages: subclass it and define `open_storage`."""


__all__ = [
    "CAPABILITIES",
    "Answers",
    "Branches",
    "Clock",
    "Clocks",
    "Concurrency",
    "Corruption",
    "Crashes",
    "Inbox",
    "Incarnations",
    "Journal",
    "Leases",
    "Lineage",
    "Ownership",
    "Queue",
    "Retention",
    "RoundTrips",
    "StorageContract",
    "Subject",
    "Verdict",
    "Writer",
    "capabilities",
    "judge",
    "report",
]
