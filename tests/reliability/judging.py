"""What must hold after a crash: everything acknowledged is there, once, and the run ends as if
nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from supersteps import InMemoryCheckpointStorage, ManagedStorage, SuperstepsError, open_storage
from tests.reliability import workload
from tests.reliability.table import Verdict

LIMIT_SECONDS = 60.0


@lru_cache(maxsize=1)
def undisturbed() -> tuple[list[Any], list[dict[str, Any]]]:
    """The outputs of the run when nothing happens to it, and the content of its checkpoints,
    superstep by superstep.
    """
    storage = InMemoryCheckpointStorage()
    with silent():
        outputs = asyncio.run(workload.drive(storage))
        checkpoints = asyncio.run(storage.list_checkpoints(run_id=workload.RUN))
    return outputs, [comparable(checkpoint.document()) for checkpoint in checkpoints]


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content without times and ids that differ from run to run."""
    content = dict(document)
    for section in ("answered", "requests"):
        entries = (
            content[section]
            if isinstance(content[section], list)
            else list(content[section].values())
        )
        content[section] = [
            {k: v for k, v in e.items() if k not in ("timestamp", "request_id")} for e in entries
        ]
    return content


def judge(store: str, acknowledged: list[str]) -> Verdict:
    """Open what a crash has left, check it, go on with the run, and compare it with the
    undisturbed one.

    Args:
        store: Address of the storage.
        acknowledged: What the process that died had said, whole lines.
    """
    verdict = Verdict()
    undisturbed()
    try:
        with silent():
            asyncio.run(asyncio.wait_for(_judge(store, acknowledged, verdict), LIMIT_SECONDS))
    except TimeoutError:
        verdict.wrong.append(f"the run does not go on: nothing happened for {LIMIT_SECONDS:.0f} s")
    except SuperstepsError as error:
        verdict.wrong.append(f"what is left cannot be used: {type(error).__name__}: {error}")
    return verdict


async def _judge(store: str, acknowledged: list[str], verdict: Verdict) -> None:
    storage = open_storage(store)
    assert isinstance(storage, ManagedStorage)
    async with storage:
        await check_rest(storage, acknowledged, verdict)
        outputs, expected = undisturbed()
        got = await workload.drive(storage)
        if got != outputs:
            kind = verdict.doubled if len(got) > len(outputs) else verdict.lost
            kind.append(f"the outputs are {got}, not {outputs}")
        await check_history(storage, expected, verdict)


async def check_rest(storage: ManagedStorage, acknowledged: list[str], verdict: Verdict) -> None:
    """Check what is stored before the run continues: whole, and nothing acknowledged is missing."""
    damages = await storage.verify()
    verdict.wrong += [f"damaged: {damage.what}: {damage.problem}" for damage in damages]
    run = await storage.get_run(workload.RUN)
    steps = [int(line.split()[1]) for line in acknowledged if line.startswith("step ")]
    if run is None:
        if acknowledged:
            verdict.lost.append(f"the run is gone, though {acknowledged[-1]!r} was acknowledged")
        return
    lineage = await storage.list_lineage(run.head, 10_000)
    numbers = [info.step_number for info in lineage]
    if numbers != sorted(set(numbers)):
        verdict.doubled.append(f"supersteps of the lineage are {numbers}")
    if steps and numbers[-1] < steps[-1] and "begin restore" not in acknowledged:
        verdict.lost.append(
            f"superstep {steps[-1]} was acknowledged, the head is superstep {numbers[-1]}"
        )
    answers = [line for line in acknowledged if line.startswith("answer ")]
    if answers and not (await storage.read_inbox(run.run_id) or await _answered(storage, run.head)):
        verdict.lost.append("an accepted answer is gone")


async def _answered(storage: ManagedStorage, head: str) -> int:
    checkpoint = await storage.load_checkpoint(head)
    return 0 if checkpoint is None else len(checkpoint.answered)


async def check_history(
    storage: ManagedStorage, expected: list[dict[str, Any]], verdict: Verdict
) -> None:
    """Check that every superstep of the lineage is there, once, with the content that it has when
    nothing happens.
    """
    run = await storage.get_run(workload.RUN)
    assert run is not None
    lineage = await storage.list_lineage(run.head, 10_000)
    numbers = [info.step_number for info in lineage]
    if len(numbers) == len(expected) and numbers != list(range(len(expected))):
        verdict.lost.append(f"the history has a gap: supersteps {numbers}")
    for info in lineage:
        checkpoint = await storage.load_checkpoint(info.checkpoint_id)
        if checkpoint is None or comparable(checkpoint.document()) != expected[info.step_number]:
            verdict.wrong.append(
                f"superstep {info.step_number} does not hold what it holds undisturbed"
            )
    verdict.wrong += [f"damaged at the end: {damage.what}" for damage in await storage.verify()]


def acknowledgements(output: bytes) -> list[str]:
    """Return the whole lines that a process has said."""
    return output.decode().rpartition("\n")[0].splitlines()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep the workload's acknowledgements and warnings to themselves."""
    said = workload.acknowledge
    workload.acknowledge = lambda *words: None
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        workload.acknowledge = said


def size_of(folder: Path) -> int:
    """Return how many bytes a folder holds."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def environment() -> dict[str, str]:
    """Return the environment for a process of the lab: nothing but the library writes files."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
