"""What a retention policy keeps, and a workflow that applies one while it runs."""

import copy
import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from supersteps import ManagedStorage, RetentionPolicy, WorkflowBuilder, open_storage
from supersteps.encryption.storage import EncryptedStorage, Keyring
from supersteps.engine.run_store import TIDY_EVERY
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import Capabilities
from tests.unit.support import Counter


def test_a_policy_says_what_to_keep() -> None:
    with pytest.raises(ValueError, match="pass keep_last="):
        RetentionPolicy()
    with pytest.raises(ValueError, match="keep_last must be at least 1"):
        RetentionPolicy(keep_last=0)


def test_the_former_name_of_keep_for_is_accepted_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="now called keep_for") as caught:
        policy = RetentionPolicy(older_than=timedelta(days=7))
    assert caught[0].filename == __file__
    assert policy == RetentionPolicy(keep_for=timedelta(days=7))

    with pytest.warns(DeprecationWarning, match="now called keep_for") as caught:
        assert policy.older_than == timedelta(days=7)
    assert caught[0].filename == __file__

    with (
        pytest.warns(DeprecationWarning, match="now called"),
        pytest.raises(ValueError, match="both were passed"),
    ):
        RetentionPolicy(keep_for=timedelta(days=7), older_than=timedelta(days=7))


def test_a_policy_is_a_value() -> None:
    policy = RetentionPolicy(2, 5, timedelta(days=7), True)

    assert dataclasses.replace(policy, keep_last=3) == RetentionPolicy(
        3, 5, timedelta(days=7), True
    )
    assert copy.copy(policy) == policy
    assert hash(policy) == hash(copy.deepcopy(policy))
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.keep_last = 1  # type: ignore[misc]  # that is what is tried


@pytest.mark.parametrize("address", ["memory:", "runs.db", "runs"])
async def test_a_long_run_holds_little_more_than_it_is_to_keep(
    address: str, tmp_path: Path
) -> None:
    storage = open_storage(address if address == "memory:" else tmp_path / address)
    assert isinstance(storage, ManagedStorage)
    counter = Counter("counter")
    workflow = (
        WorkflowBuilder(max_iterations=1000, name="count")
        .add_edge(counter, counter)
        .set_start_executor(counter)
        .with_checkpointing(storage, retention=RetentionPolicy(keep_last=5))
        .build()
    )
    async with storage:
        run = workflow.run_stream(2 * TIDY_EVERY + 20, run_id="r")
        result = await run.wait_for_completion()
        kept = await storage.list_checkpoint_ids(run_id="r")

        assert len(result.get_outputs()) == 2 * TIDY_EVERY + 21
        assert 5 <= len(kept) <= TIDY_EVERY
        assert [info.checkpoint_id for info in run.checkpoints] == kept
        assert run.checkpoints[0].parent is None
        resumed = await workflow.run_from_checkpoint(kept[0])
        assert resumed.get_outputs() == result.get_outputs()


def test_retention_needs_a_storage_that_can_be_looked_after() -> None:
    """Also around an encrypted one: what is inside has to be able to."""

    class Unmanaged(InMemoryCheckpointStorage):
        capabilities = Capabilities(is_permanent=False)

    policy = RetentionPolicy(keep_last=1)
    encrypted = EncryptedStorage(Unmanaged(), Keyring({"k": b"k" * 32}, "k"))
    with pytest.raises(TypeError, match="EncryptedStorage cannot"):
        WorkflowBuilder().with_checkpointing(encrypted, retention=policy)


def test_retention_needs_a_storage_that_can_prune() -> None:
    class Bare:
        async def save_checkpoint(self) -> None: ...
        async def load_checkpoint(self) -> None: ...
        async def list_checkpoint_ids(self) -> None: ...
        async def list_checkpoints(self) -> None: ...
        async def delete_checkpoint(self) -> None: ...

    policy = RetentionPolicy(keep_last=1)
    with pytest.raises(TypeError, match="Bare cannot"):
        WorkflowBuilder().with_checkpointing(Bare(), retention=policy)  # type: ignore[arg-type]
