"""Values on their way through the codec and through the commits of a run, on each storage."""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisWarning

from supersteps import (
    CheckpointEncodeError,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from supersteps.checkpoint.codec.codec import Codec
from supersteps.testing.writer import by_hand
from tests.reliability.table import Verdict
from tests.reliability.values import TYPES, poisoned, same, savable


class Keeper(Executor):
    """Keeps what it is given wherever a value can be kept."""

    given: Any = None

    @handler
    async def keep(self, value: Any, ctx: WorkflowContext[Any, Any]) -> None:
        given = value if self.given is None else self.given
        await ctx.set_shared_state("kept", given)
        await ctx.append_shared_state("list", given)
        await ctx.set_state({"own": given})
        await ctx.yield_output(given)


def keeping(storage: ManagedStorage, given: Any = None) -> Workflow:
    """Return a workflow that keeps its input, or what it is given instead."""
    keeper = Keeper("keeper")
    keeper.given = given
    return (
        WorkflowBuilder(name="keep").set_start_executor(keeper).with_checkpointing(storage).build()
    )


def check(number: int, seed: int, trials: int) -> tuple[int, Verdict]:
    """Make values and send them on their way; return how many, and what was wrong with the first
    that did not arrive.

    Args:
        number: Number of the batch.
        seed: Of the whole scenario.
        trials: How many values.
    """
    made = 0
    verdict = Verdict()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", HypothesisWarning)  # the strategies are large to print
        trips = Trips(Path(folder))

        def some(part: int) -> settings:
            return settings(
                max_examples=part,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )

        @some(trials - trials // 3)
        @given(savable)
        def arrives(value: Any) -> None:
            nonlocal made
            made += 1
            runner.run(trips.arrive(value))

        @some(max(1, trials // 3))
        @given(poisoned())
        def is_refused(drawn: tuple[str, Any, str]) -> None:
            nonlocal made
            made += 1
            runner.run(trips.refuse(*drawn, turn=made))

        for trip in (arrives, is_refused):
            try:
                seeded(seed * 100_003 + number)(trip)()
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                verdict.wrong.append(f"{type(error).__name__}: {error} {notes}"[:3000])
        runner.run(trips.aclose())
    return made, verdict


class Trips:
    """The storages.

    Args:
        folder: Where they may write.
    """

    def __init__(self, folder: Path) -> None:
        self.storages: dict[str, ManagedStorage] = {
            "memory": InMemoryCheckpointStorage(Codec(TYPES)),
            "sqlite": SqliteCheckpointStorage(folder / "runs.db", Codec(TYPES)),
            "file": FileCheckpointStorage(folder / "files", Codec(TYPES)),
        }
        self._readers: dict[str, ManagedStorage] = {
            "memory": self.storages["memory"],
            "sqlite": SqliteCheckpointStorage(folder / "runs.db", Codec(TYPES)),
            "file": FileCheckpointStorage(folder / "files", Codec(TYPES)),
        }

    async def aclose(self) -> None:
        for storage in [*self.storages.values(), *self._readers.values()]:
            await storage.aclose()

    async def arrive(self, value: Any) -> None:
        """Send a value through the codec, and through the commits of a run on each storage."""
        codec = Codec(TYPES)
        data = codec.encode(value)
        back = codec.decode(data)
        assert same(value, back), f"{back!r} came back for {value!r}"
        assert codec.encode(back) == data, f"{value!r} is written in two ways"
        assert same(value, codec.copy(value)), f"the copy of {value!r} is another"
        for name, storage in self.storages.items():
            workflow = keeping(storage)
            result = await workflow.run(value, run_id="run")
            assert same([value], result.get_outputs()), (
                f"{name}: the output is {result.get_outputs()!r}"
            )
            reader = self._readers[name]
            run = await reader.get_run("run")
            assert run is not None
            first, last = [
                await reader.load_checkpoint(f"run-{sequence:06}") for sequence in (0, 1)
            ]
            assert first is not None
            assert last is not None
            ((message,),) = first.messages.values()
            for place, found in {
                "message": message["data"],
                "shared state": last.shared_state["kept"],
                "list": last.shared_state["list"][0],
                "own state": last.executor_states["keeper"]["own"],
                "output": last.outputs[0],
            }.items():
                assert same(value, found), f"{name}: the {place} is {found!r}, not {value!r}"
            await storage.delete_run("run")

    async def refuse(self, name: str, value: Any, path: str, turn: int) -> None:
        """Check that a value is refused, by the codec and wherever a run would keep it, before
        anything is stored.
        """
        try:
            Codec(TYPES).encode(value, "it")
        except CheckpointEncodeError as error:
            problem = str(error)
        else:
            raise AssertionError(f"{name} at {path!r} was written")
        is_deep = name == "too deep"
        assert problem.startswith(f"it{path}" if is_deep else f"it{path}: "), (
            f"{name} at {path!r}: {problem}"
        )
        for where, storage in self.storages.items():
            problem = await refusal(keeping(storage).run(value, run_id="run"))
            assert path in problem, f"{where}: {name} at {path!r}: {problem}"
            assert await storage.get_run("run") is None
            problem = await refusal(
                storage.save_checkpoint(by_hand("hand", shared_state={"v": value}))
            )
            assert path in problem, f"{where}: {name} at {path!r}: {problem}"
            assert await storage.list_checkpoint_ids() == []
        name = [*self.storages][turn % len(self.storages)]
        storage = self.storages[name]
        problem = await refusal(keeping(storage, given=value).run(1, run_id="run"))
        assert path in problem, f"{name}: {name} at {path!r}: {problem}"
        assert await storage.list_checkpoint_ids() == ["run-000000"]
        await storage.delete_run("run")


async def refusal(work: Any) -> str:
    """Return the words in which work was refused."""
    try:
        await work
    except CheckpointEncodeError as error:
        return str(error)
    raise AssertionError("what cannot be saved was saved")
