import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.encryption.storage import EncryptedStorage, Keyring
from supersteps.errors import CheckpointError, CheckpointSaveError, RunFencedError
from supersteps.storage.addresses import open_storage
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.plain import runs as plain_runs
from supersteps.storage.plain.adapter import PlainStorageAdapter, as_durable
from supersteps.storage.ports import (
    Capabilities,
    CheckpointStorage,
    DurableStorage,
    capabilities_of,
    has_backup,
    is_durable,
    is_managed,
    lineage_reader,
    name_of,
)
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from tests.contract.support import (
    ELSEWHERE,
    REQUEST,
    PlainStorage,
    Writer,
    by_hand,
    plain,
    request,
    shared,
)


class Watching(InMemoryCheckpointStorage):
    """A subclass that wants to see each checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[WorkflowCheckpoint] = []

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self.seen.append(checkpoint)
        return await super().save_checkpoint(checkpoint)


class WatchingFiles(FileCheckpointStorage):
    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        return await super().save_checkpoint(checkpoint)


# --------------------------------------------------------------------------------------- as_durable


def test_what_is_durable_stays_itself(tmp_path: Path) -> None:
    class Other(InMemoryCheckpointStorage):
        async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
            return await super().load_checkpoint(checkpoint_id)

    class OfItsOwn(InMemoryCheckpointStorage):
        """Whoever overrides both knows what he does."""

        save_checkpoint = InMemoryCheckpointStorage.save_checkpoint
        commit = InMemoryCheckpointStorage.commit

    storages: list[DurableStorage] = [
        InMemoryCheckpointStorage(),
        FileCheckpointStorage(tmp_path),
        Other(),
        OfItsOwn(),
        PlainStorageAdapter(PlainStorage()),
    ]
    for storage in storages:
        assert isinstance(storage, DurableStorage)
        assert as_durable(storage) is storage


def test_what_overrides_save_checkpoint_is_adapted(tmp_path: Path) -> None:
    on_the_instance = InMemoryCheckpointStorage()
    on_the_instance.save_checkpoint = PlainStorage().save_checkpoint  # type: ignore[method-assign]
    for storage in (Watching(), WatchingFiles(tmp_path), on_the_instance, PlainStorage()):
        assert isinstance(as_durable(storage), PlainStorageAdapter)


def test_what_is_no_storage_is_named() -> None:
    class Half:
        async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
            return ""

        load_checkpoint = list_checkpoints = delete_checkpoint = save_checkpoint

    half: Any = Half()
    with pytest.raises(
        TypeError, match="Half is not a checkpoint storage: it has no list_checkpoint_ids"
    ):
        as_durable(half)


async def test_an_override_sees_every_checkpoint() -> None:
    storage = Watching()
    durable = as_durable(storage)
    writer = Writer(durable)
    await writer.commit(
        Changes(puts={shared("n"): b"1"}, appends={OUTPUTS: [b"1"]}), metadata={"who": ["me"]}
    )
    await writer.commit(Changes(appends={OUTPUTS: [b"2"]}))

    assert [c.checkpoint_id for c in storage.seen] == ["run-000000", "run-000001"]
    assert (storage.seen[1].shared_state, storage.seen[1].outputs) == ({"n": 1}, [1, 2])
    assert storage.seen[0].metadata == {"who": ["me"]}
    assert await storage.list_checkpoint_ids(run_id="run") == ["run-000000", "run-000001"]
    assert durable.codec is storage.codec


async def test_what_an_override_does_to_a_checkpoint_stays_with_it() -> None:
    storage = Watching()
    writer = Writer(as_durable(storage))
    await writer.put(n=b"[1]")
    storage.seen[0].shared_state["n"].append(2)
    storage.seen[0].metadata["x"] = 1

    assert plain(await writer.storage.load_record(await writer.put(m=b"1"))) == {
        shared("n"): b"[1]",
        shared("m"): b"1",
    }


# ----------------------------------------------------------------------------------- what is shared


async def test_adapters_of_one_storage_know_the_same_runs() -> None:
    storage = PlainStorage()
    writer = Writer(as_durable(storage))
    head = await writer.commit()
    await as_durable(storage).append_journal("run", 1, head, [b"1"])

    assert await PlainStorageAdapter(storage).read_journal("run", head) == [b"1"]
    await Writer(as_durable(storage)).take()
    with pytest.raises(RunFencedError):
        await writer.commit()
    assert await as_durable(PlainStorage()).get_run("run") is None


def test_what_is_known_goes_with_the_storage() -> None:
    storage = PlainStorage()
    as_durable(storage)
    key, gone = id(storage), weakref.ref(storage)
    assert key in plain_runs._known
    del storage
    gc.collect()
    assert gone() is None
    assert key not in plain_runs._known


async def test_a_storage_without_hash_or_weak_references_is_fine() -> None:
    class Unusual(PlainStorage):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    class Slotted:
        __slots__ = ("inner",)

        def __init__(self) -> None:
            self.inner = PlainStorage()

        async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
            return await self.inner.save_checkpoint(checkpoint)

        async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
            return await self.inner.load_checkpoint(checkpoint_id)

        async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
            return await self.inner.list_checkpoint_ids(workflow_id)

        async def list_checkpoints(
            self, workflow_id: str | None = None
        ) -> list[WorkflowCheckpoint]:
            return await self.inner.list_checkpoints(workflow_id)

        async def delete_checkpoint(self, checkpoint_id: str) -> bool:
            return await self.inner.delete_checkpoint(checkpoint_id)

    storages: list[CheckpointStorage] = [Unusual(), Unusual(), Slotted(), Slotted()]
    for storage in storages:
        await Writer(as_durable(storage)).commit()
        run = await as_durable(storage).get_run("run")
        assert run is not None
        assert run.sequence == 0


# ----------------------------------------------------------------------------------- its own limits


def test_what_is_missing_is_said_in_sentences() -> None:
    missing = PlainStorageAdapter(PlainStorage()).capabilities.missing
    assert len(missing) == 7
    assert all(sentence.endswith(".") and "PlainStorage" in sentence for sentence in missing)


async def test_a_failed_save_says_so_and_the_run_stays_where_it_was() -> None:
    class Failing(PlainStorage):
        broken = False

        async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
            if self.broken:
                raise ConnectionError("the network is down")
            return await super().save_checkpoint(checkpoint)

    storage = Failing()
    writer = Writer(as_durable(storage))
    await writer.put(n=b"1")
    storage.broken = True
    with pytest.raises(
        CheckpointSaveError, match=r"Failing.save_checkpoint failed .* the network is down"
    ) as caught:
        await writer.put(n=b"2")
    assert isinstance(caught.value.__cause__, ConnectionError)

    run = await as_durable(storage).get_run("run")
    assert run is not None
    assert run.head == "run-000000"
    storage.broken = False
    await writer.put(n=b"3")
    assert plain(await writer.storage.load_record("run-000001")) == {shared("n"): b"3"}


async def test_a_storage_that_saved_and_then_failed_is_overwritten() -> None:
    class Doubtful(PlainStorage):
        doubts = 1

        async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
            saved = await super().save_checkpoint(checkpoint)
            if self.doubts and checkpoint.sequence == 1:
                self.doubts -= 1
                raise TimeoutError("no reply")
            return saved

    writer = Writer(as_durable(Doubtful()))
    await writer.put(n=b"1")
    with pytest.raises(CheckpointError, match="no reply"):
        await writer.put(n=b"2")
    await writer.put(n=b"3")

    assert plain(await writer.storage.load_record("run-000001")) == {shared("n"): b"3"}


async def test_taking_a_run_notices_what_another_process_did() -> None:
    storage = PlainStorage()
    here = Writer(as_durable(storage))
    await here.commit(Changes(puts={request("q"): REQUEST, request("p"): REQUEST}))
    await here.storage.add_answers("run", [("q", b"1"), ("p", b"2")])
    other = PlainStorage()
    other.checkpoints = storage.checkpoints
    there = Writer(as_durable(other))
    await there.take()
    await there.commit(Changes(puts={shared("n"): b"2"}, deletes=[request("q")]))

    await here.take()

    assert (here.head, here.sequence) == ("run-000001", 1)
    assert [entry.request_id for entry in await here.storage.read_inbox("run")] == ["p"]
    assert plain(await here.storage.load_record(await here.commit()))[shared("n")] == b"2"


async def test_a_head_that_was_deleted_behind_its_back() -> None:
    storage = PlainStorage()
    writer = Writer(as_durable(storage))
    await writer.put(n=b"1")
    await writer.commit(lease_seconds=None)
    await storage.delete_checkpoint("run-000001")

    with pytest.raises(CheckpointError, match="has lost checkpoint 'run-000001'"):
        await writer.commit()
    await writer.take()
    assert writer.head == "run-000000"
    await writer.commit()


async def test_checkpoints_of_no_run_make_no_run() -> None:
    storage = PlainStorage()
    await storage.save_checkpoint(by_hand("mine"))
    durable = as_durable(storage)
    assert await durable.get_run("") is None
    assert not await durable.delete_run("")
    assert await durable.list_checkpoint_ids() == ["mine"]


async def test_an_adapter_closes_what_can_be_closed() -> None:
    class Closable(PlainStorage):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    storage = Closable()
    async with as_durable(storage):
        pass
    assert storage.closed == 1
    await as_durable(PlainStorage()).aclose()


async def test_a_codec_of_the_storage_is_used_if_it_is_one() -> None:
    class WithCodec(PlainStorage):
        codec: object = None

    storage = WithCodec()
    assert isinstance(as_durable(storage).codec, Codec)
    storage.codec = Codec()
    assert as_durable(storage).codec is storage.codec


async def test_a_wrapper_that_passes_everything_on_is_as_durable_as_what_it_wraps() -> None:
    """On every Python: from 3.12 on, `isinstance` looks for methods that a class has itself."""

    class Counting:
        def __init__(self, inner: InMemoryCheckpointStorage) -> None:
            self._inner = inner
            self.calls = 0

        def __getattr__(self, name: str) -> Any:
            self.calls += 1
            return getattr(self._inner, name)

    wrapper: Any = Counting(InMemoryCheckpointStorage())
    assert is_durable(wrapper)
    assert is_managed(wrapper)
    assert not has_backup(wrapper)
    assert as_durable(wrapper) is wrapper
    await Writer(wrapper).put(n=b"1")
    assert [run.run_id for run in await wrapper.list_runs()] == ["run"]
    assert capabilities_of(wrapper) == capabilities_of(InMemoryCheckpointStorage())
    assert not is_durable(PlainStorage())


def test_a_storage_says_where_it_is(tmp_path: Path) -> None:
    database = SqliteCheckpointStorage(tmp_path / "runs.db")
    folder = FileCheckpointStorage(tmp_path / "folder")
    keyring = Keyring({"k": b"k" * 32}, "k")

    for storage in (database, folder, EncryptedStorage(database, keyring)):
        said = capabilities_of(storage)
        assert said.address is not None
        assert said.is_permanent
        assert not said.missing
        assert capabilities_of(open_storage(said.address)) == said
        assert name_of(storage) == f"{type(storage).__name__} ({said.address})"
    in_memory = EncryptedStorage(InMemoryCheckpointStorage(), keyring)
    assert not capabilities_of(in_memory).is_permanent
    assert name_of(in_memory) == "EncryptedStorage"


def test_an_adapter_gives_no_address_from_which_to_go_on(tmp_path: Path) -> None:
    class Seeing(SqliteCheckpointStorage):
        async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
            return await super().save_checkpoint(checkpoint)

    said = capabilities_of(as_durable(Seeing(tmp_path / "runs.db")))

    assert (said.address, said.is_permanent, said.can_back_up) == (None, True, False)
    assert lineage_reader(as_durable(Seeing(tmp_path / "runs.db"))) is None


def test_of_a_storage_that_says_nothing_its_methods_tell() -> None:
    said = capabilities_of(PlainStorage())

    assert said == Capabilities()


async def test_leases_are_kept_in_process() -> None:
    storage = PlainStorage()
    await Writer(as_durable(storage)).commit(owner=ELSEWHERE)
    with pytest.raises(CheckpointError, match="elsewhere"):
        await Writer(as_durable(storage)).take()
