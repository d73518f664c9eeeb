"""What people copy, pickle and turn into dicts, and the ways in which they write storages."""

import copy
import dataclasses
import importlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointSaveError,
    Codec,
    EncryptedStorage,
    Executor,
    FileCheckpointStorage,
    FunctionExecutor,
    InMemoryCheckpointStorage,
    Keyring,
    SqliteCheckpointStorage,
    StorageError,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)
from supersteps.storage.plain.adapter import as_durable

pickling: Any = importlib.import_module("pickle")  # what users do; the library itself never does

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")


@dataclass
class Parcel:
    n: int
    at: datetime


PARCEL = Parcel(3, datetime(2024, 1, 1, tzinfo=UTC))


class Asker(Executor):
    @handler
    async def ask(self, n: int, ctx: WorkflowContext[Parcel]) -> None:
        await ctx.set_shared_state("parcel", PARCEL)
        await ctx.append_shared_state("list", PARCEL)
        await ctx.request_info(PARCEL, bool)

    @response_handler
    async def answered(self, asked: Parcel, answer: bool, ctx: WorkflowContext[Parcel]) -> None:
        await ctx.send_message(asked)


@executor
async def show(parcel: Parcel, ctx: WorkflowContext[Never, Parcel]) -> None:
    assert await ctx.get_shared_state("parcel", default=parcel) == parcel
    await ctx.yield_output(parcel)


def workflow(storage: Any) -> Workflow:
    asker, out = Asker("asker"), FunctionExecutor(show.func, "out")
    builder = WorkflowBuilder(name="w").add_edge(asker, out).set_start_executor(asker)
    return builder.with_checkpointing(storage).build()


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


WAYS: dict[str, Callable[[WorkflowCheckpoint], WorkflowCheckpoint]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda it: pickling.loads(pickling.dumps(it)),
    "asdict": lambda it: WorkflowCheckpoint(**dataclasses.asdict(it)),
    "asdict and JSON": lambda it: WorkflowCheckpoint(**through_json(dataclasses.asdict(it))),
    "to_dict and JSON": lambda it: WorkflowCheckpoint.from_dict(through_json(it.to_dict())),
    "replace": lambda it: dataclasses.replace(it, metadata=it.metadata),
}


class Own:
    """A storage as people write it, with its own way to keep a checkpoint."""

    way: Callable[[WorkflowCheckpoint], WorkflowCheckpoint] = staticmethod(lambda it: it)

    def __init__(self) -> None:
        self.kept: dict[str, WorkflowCheckpoint] = {}

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self.kept[checkpoint.checkpoint_id] = self.way(checkpoint)
        return checkpoint.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self.kept.get(checkpoint_id)

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return [one.checkpoint_id for one in await self.list_checkpoints(workflow_id)]

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        return [one for one in self.kept.values() if workflow_id in (None, one.workflow_id)]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return self.kept.pop(checkpoint_id, None) is not None


class Raising(Own):
    """Says by an exception that something is not there, and keeps nothing by id None."""

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self.kept[checkpoint_id]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        del self.kept[checkpoint_id]
        return True


class Files(Own):
    """Raises as `open` does, and saves without returning anything."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        data = json.dumps(checkpoint.to_dict())
        (self.folder / f"{checkpoint.checkpoint_id}.json").write_text(data)
        return None  # type: ignore[return-value]

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        with open(self.folder / f"{checkpoint_id}.json") as file:
            return WorkflowCheckpoint.from_dict(json.load(file))

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        files = (file.read_text() for file in self.folder.glob("*.json"))
        return [WorkflowCheckpoint.from_dict(json.loads(text)) for text in files]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        (self.folder / f"{checkpoint_id}.json").unlink()
        return True


class Plain:
    """Has plain methods, no coroutines."""

    def __init__(self) -> None:
        self.kept: dict[str, WorkflowCheckpoint] = {}

    def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self.kept[checkpoint.checkpoint_id] = checkpoint
        return checkpoint.checkpoint_id

    def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self.kept.get(checkpoint_id)

    def list_checkpoint_ids(self, workflow_id: str | None = None) -> tuple[str, ...]:
        return tuple(self.kept)

    def list_checkpoints(self, workflow_id: str | None = None) -> Any:
        return self.kept.values()

    def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return self.kept.pop(checkpoint_id, None) is not None


class Generating(Own):
    async def list_checkpoints(  # type: ignore[override]
        self, workflow_id: str | None = None
    ) -> AsyncIterator[WorkflowCheckpoint]:
        for checkpoint in self.kept.values():
            yield checkpoint

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return list(self.kept)


def storages(folder: Path) -> dict[str, Any]:
    by_way = {name: type(name, (Own,), {"way": staticmethod(way)})() for name, way in WAYS.items()}
    others = (Raising(), Files(folder), Plain(), Generating())
    return {**by_way, **{type(one).__name__: one for one in others}}


@pytest.mark.parametrize("name", [*WAYS, "Raising", "Files", "Plain", "Generating"])
async def test_storages_as_people_write_them_resume_a_run(name: str, tmp_path: Path) -> None:
    storage = storages(tmp_path)[name]
    first = await workflow(storage).run(3, run_id="run")
    (question,) = first.get_request_info_events()

    result = await workflow(storage).run_from_checkpoint(
        "run-000001", responses={question.request_id: True}
    )

    assert result.get_outputs() == [PARCEL]
    durable = as_durable(storage)
    assert await durable.load_checkpoint("nothing") is None
    assert await durable.delete_checkpoint("run-000000") is True
    assert await durable.delete_checkpoint("run-000000") is False


@pytest.mark.parametrize("name", WAYS)
async def test_a_copy_of_a_checkpoint_is_the_same_checkpoint(name: str) -> None:
    storage = InMemoryCheckpointStorage(Codec([Parcel]))
    await workflow(storage).run(3, run_id="run")
    for checkpoint in await storage.list_checkpoints():
        for look in (False, True):
            if look:
                assert checkpoint.shared_state is not None
            twin = WAYS[name](checkpoint)
            assert twin.to_dict() == checkpoint.to_dict()
            assert twin.info == checkpoint.info
            assert not twin.diff(checkpoint).changes
    last = copy.deepcopy(checkpoint)
    last.shared_state["parcel"].n = 9
    assert checkpoint.shared_state["parcel"] == PARCEL
    changed = WAYS[name](last)
    assert changed.to_dict()["parts"] == last.to_dict()["parts"] != checkpoint.to_dict()["parts"]


def test_a_checkpoint_made_by_hand_is_a_dataclass_like_any_other() -> None:
    made = WorkflowCheckpoint(checkpoint_id="c", shared_state={"a": [1]})
    assert dataclasses.asdict(made)["shared_state"] == {"a": [1]}
    assert WorkflowCheckpoint(**dataclasses.asdict(made)) == made
    assert copy.deepcopy(made) == made
    assert pickling.loads(pickling.dumps(made)) == made


async def test_storages_workflows_and_executors(tmp_path: Path) -> None:
    codec = Codec([Parcel])
    codec.register(Path, encode=str, decode=Path)
    kept: list[Any] = [
        SqliteCheckpointStorage(tmp_path / "runs.db", codec),
        FileCheckpointStorage(tmp_path / "runs", codec),
    ]
    for storage in kept:
        assert copy.copy(storage) is copy.deepcopy(storage) is storage
        await workflow(storage).run(3, run_id="run")
        opened = pickling.loads(pickling.dumps(storage))
        assert (await opened.load_checkpoint("run-000001")).shared_state["parcel"] == PARCEL
        await opened.aclose()
        await storage.aclose()
    memory = InMemoryCheckpointStorage()
    sealed = EncryptedStorage(memory, Keyring({"k": b"k" * 32}, "k"))
    built = workflow(memory)
    await built.run(3, run_id="run")
    for one in (memory, sealed, built):
        assert copy.copy(one) is copy.deepcopy(one) is one
    with pytest.raises(TypeError, match="holds keys"):
        pickling.dumps(sealed)
    again = pickling.loads(pickling.dumps(memory))
    assert (await again.load_checkpoint("run-000001")).shared_state["parcel"] == PARCEL
    rebuilt = pickling.loads(pickling.dumps(WorkflowBuilder().set_start_executor(show).build()))
    assert (await rebuilt.run(PARCEL)).get_outputs() == [PARCEL]
    assert pickling.loads(pickling.dumps(show)) is copy.deepcopy(show) is show
    with pytest.raises(TypeError, match="'other' cannot be pickled"):
        pickling.dumps(FunctionExecutor(show.func, "other"))


def test_a_class_is_no_storage() -> None:
    for cls in (Own, SqliteCheckpointStorage):
        with pytest.raises(TypeError, match=rf"write {cls.__name__}\(\.\.\.\)"):
            WorkflowBuilder().with_checkpointing(cls)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"write {cls.__name__}\(\.\.\.\)"):
            as_durable(cls)  # type: ignore[arg-type]


async def test_what_a_storage_gives_that_is_no_checkpoint_is_named() -> None:
    class Dicts(Own):
        async def load_checkpoint(self, checkpoint_id: str) -> Any:
            return {"checkpoint_id": checkpoint_id}

        async def list_checkpoints(self, workflow_id: str | None = None) -> Any:
            return [{"checkpoint_id": "c"}]

    class Broken(Own):
        async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
            raise KeyError("password")

    durable = as_durable(Dicts())
    with pytest.raises(StorageError, match=r"Dicts\.load_checkpoint returned dict.*from_dict"):
        await durable.load_checkpoint("c")
    with pytest.raises(StorageError, match=r"Dicts\.list_checkpoints returned dict"):
        await durable.list_checkpoints()
    with pytest.raises(CheckpointSaveError, match="password"):
        await workflow(Broken()).run(3, run_id="run")
