"""A superstep that lasts longer than a beat keeps its run's lease, also while a handler holds up the event loop."""

import threading
import time
from typing import Never

import pytest

from supersteps import InMemoryCheckpointStorage, WorkflowBuilder, WorkflowContext, executor
from supersteps.engine import heartbeat
from supersteps.errors import StorageError


class Watched(InMemoryCheckpointStorage):
    """Notes renewals, and fails the first."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Event()
        self.tries = 0

    async def renew(self, run_id: str, epoch: int, lease_seconds: float) -> None:
        self.tries += 1
        if self.tries == 1:
            raise StorageError("the disk is busy")
        await super().renew(run_id, epoch, lease_seconds)
        self.renewed.set()


@pytest.mark.filterwarnings(
    "ignore::supersteps.BlockedLoopWarning"
)  # the heartbeat may be amid a long pause
async def test_a_long_superstep_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    storage = Watched()
    before: list[float] = []
    after: list[float] = []

    async def expires() -> float:
        run = await storage.get_run("r")
        assert run is not None
        assert run.lease is not None
        return run.lease.expires

    @executor
    async def slow(number: int, ctx: WorkflowContext[Never, bool]) -> None:
        before.append(await expires())
        ctx.yield_output(storage.renewed.wait(20))  # blocks the event loop on purpose
        after.append(await expires())

    workflow = WorkflowBuilder().set_start_executor(slow).with_checkpointing(storage).build()
    result = await workflow.run(1, run_id="r")

    assert result.get_outputs() == [True]
    assert after > before
    run = await storage.get_run("r")
    assert run is not None
    assert run.lease is None
    assert storage.tries >= 2  # a failed renewal does not end the heartbeat
    assert time.time() < after[0]
