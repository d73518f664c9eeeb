"""Who judges a race: reads what its processes said, looks at what is stored, and goes on with the
run to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import warnings
from collections import Counter
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
from msgspec.structs import replace

from supersteps import InMemoryCheckpointStorage, ManagedStorage, RequestInfoEvent, SuperstepsError
from tests.reliability import judging, racing
from tests.reliability.racing import LIMIT_SECONDS, MAKERS, RUN, Racer
from tests.reliability.table import Verdict

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["__main__", "tests.reliability.racing", "tests.reliability.tidying"]
)

seen: Counter[str] = Counter()
"""What the processes of all races said, counted: whether they met at all."""


class Race:
    """The processes of one race, their logs, and what is wrong with them."""

    def __init__(self, folder: str, store: str) -> None:
        self.folder = Path(folder)
        self.store = str(self.folder / store)
        self.verdict = Verdict()
        self.racers: dict[str, Racer] = {}
        self._processes: dict[str, ForkServerProcess] = {}
        self._starts: list[Barrier] = []

    def racer(self, name: str, task: str = "drive", seed: object = 0, **settings: Any) -> Racer:
        """Return a racer of this race."""
        return Racer(name, task, str(self.folder), self.store, f"{seed} {name}", **settings)

    # -------------------------------------------------------------------------------- the processes

    def begin(self, *racers: Racer) -> None:
        """Let racers begin, all at the same instant."""
        start = CONTEXT.Barrier(len(racers))
        self._starts.append(start)  # it is gone once this process forgets it
        for racer in racers:
            process = CONTEXT.Process(target=racing.live, args=(racer, start), daemon=True)
            process.start()
            self.racers[racer.name] = racer
            self._processes[racer.name] = process

    def begun(self) -> None:
        """Wait until everybody has passed the start."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (
            not all(self.heard(name, "begins") for name in self.racers)
            and time.monotonic() < deadline
        ):
            time.sleep(0.001)

    def pid(self, name: str) -> int:
        pid = self._processes[name].pid
        assert pid is not None
        return pid

    def send(self, name: str, sign: signal.Signals) -> None:
        """Stop, continue or kill a racer that has not ended."""
        process = self._processes[name]
        if process.is_alive():
            os.kill(self.pid(name), sign)

    def wait(self, *names: str) -> None:
        """Wait until racers, all of them if none is named, have ended; one that does not hangs."""
        extra = max(racer.options.get("seconds", 0) for racer in self.racers.values())
        deadline = time.monotonic() + LIMIT_SECONDS + extra
        for name in names or self._processes:
            process = self._processes[name]
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
                self.verdict.wrong.append(f"{name} hangs: {self.errors(name)[-1500:]}")

    def end(self) -> None:
        """Kill the processes that still run."""
        for process in self._processes.values():
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        self._processes.clear()

    def stopped(self, name: str) -> bool:
        """Wait until a racer has stopped or ended; return whether it has stopped."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{self.pid(name)}/stat").read_text().rpartition(") ")[2][0]
            except OSError:
                return False
            if state in "TZX":
                return state == "T"
            time.sleep(0.001)
        self.verdict.wrong.append(f"{name} hangs: {self.errors(name)[-1500:]}")
        return False

    def heard(self, name: str, *words: str) -> bool:
        """Return whether a racer has said one of these words by now."""
        return any(line[0] in words for line in self.said(name))

    def said(self, name: str) -> list[list[str]]:
        """Return a racer's lines, as words."""
        path = self.folder / f"{name}.log"
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [line.split(" ")[1:] for line in lines]

    def errors(self, name: str) -> str:
        path = self.folder / f"{name}.err"
        return path.read_text(errors="replace") if path.exists() else ""

    def killed(self) -> list[str]:
        """Return who was killed."""
        return [
            name for name, process in self._processes.items() if process.exitcode == -signal.SIGKILL
        ]

    def pick(self, word: str, name: str | None = None) -> list[list[str]]:
        """Return the lines that begin with a word, of one racer or of all."""
        return [
            line
            for racer in ([name] if name else self.racers)
            for line in self.said(racer)
            if line[0] == word
        ]

    # -------------------------------------------------------------------------------- the judgement

    def judge_processes(self) -> None:
        """Check how the processes ended: well, unless they were killed, and without a word of
        complaint.
        """
        killed = self.killed()
        for name, process in self._processes.items():
            for line in self.said(name):
                seen[line[0]] += 1
                if line[0] in ("error", "false"):
                    self.verdict.wrong.append(f"{name}: {' '.join(line)[:4000]}")
            if self.errors(name):
                self.verdict.wrong.append(f"{name} complains: {self.errors(name)[-1500:]}")
            if name not in killed and not self.heard(name, "end", "error"):
                self.verdict.wrong.append(
                    f"{name} ended with exit code {process.exitcode} and did not say why"
                )
        seen["killed"] += len(killed)

    def judge_calls(self) -> None:
        """Check that nobody who lived to tell called handlers for a superstep that another one
        committed.
        """
        killed = self.killed()
        owners: dict[str, str] = {}
        for name in self.racers:
            for line in self.pick("step", name):
                if owners.setdefault(line[1], name) != name:
                    self.verdict.doubled.append(
                        f"superstep {line[1]} was committed by {owners[line[1]]} and {name}"
                    )
        for name in self.racers:
            for line in self.pick("call", name):
                if name not in killed and owners.get(line[1], name) != name:
                    self.verdict.doubled.append(
                        f"{name} called {line[2]} for superstep {line[1]}, which "
                        f"{owners[line[1]]} committed"
                    )

    def judge_run(self, answer: str = "fine", gone: frozenset[str] = frozenset()) -> None:
        """Go on with the run to its end, and compare it with the undisturbed one.

        Args:
            answer: What the question must have been answered with.
            gone: Checkpoints that somebody took away.
        """
        pids = {self.pid(name): name for name in self.racers}
        laps = max(racer.laps for racer in self.racers.values())
        undisturbed(laps, answer)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                asyncio.run(
                    asyncio.wait_for(self._judge_run(laps, answer, gone, pids), LIMIT_SECONDS)
                )
        except TimeoutError:
            self.verdict.wrong.append(
                f"the run does not go on: nothing happened for {LIMIT_SECONDS:.0f} s"
            )
        except (SuperstepsError, Warning) as error:
            self.verdict.wrong.append(
                f"what is left cannot be used: {type(error).__name__}: {error}"
            )

    async def _judge_run(
        self, laps: int, answer: str, gone: frozenset[str], pids: dict[int, str]
    ) -> None:
        verdict = self.verdict
        expected_outputs, expected = undisturbed(laps, answer)
        async with racing.open_store(self.store) as storage:
            verdict.wrong += [
                f"damaged: {damage.what}: {damage.problem}" for damage in await storage.verify()
            ]
            outputs = await finish(storage, laps, answer)
            if outputs != expected_outputs:
                kind = verdict.doubled if len(outputs) > len(expected_outputs) else verdict.lost
                kind.append(f"the outputs are {outputs}, not {expected_outputs}")
            for line in self.pick("done"):
                if json.loads(" ".join(line[1:])) != expected_outputs:
                    verdict.wrong.append(f"somebody was given the outputs {' '.join(line[1:])}")
            run = await storage.get_run(RUN)
            assert run is not None
            lineage = await storage.list_lineage(run.head, 10_000)
            numbers = [info.step_number for info in lineage]
            wanted = [n for n in range(len(expected)) if f"{RUN}-{n:06d}" not in gone]
            if numbers != wanted:
                kind = verdict.doubled if len(set(numbers)) < len(numbers) else verdict.lost
                kind.append(f"supersteps of the lineage are {numbers}, not {wanted}")
            headers = await storage.list_headers(RUN)
            if len(headers) != len(lineage):
                verdict.doubled.append(
                    f"{len(headers)} checkpoints, of which {len(lineage)} in the lineage"
                )
            for info in lineage:
                checkpoint = await storage.load_checkpoint(info.checkpoint_id)
                document = {} if checkpoint is None else checkpoint.document()
                made = document.get("scopes", {}).get(MAKERS, {})
                if (
                    not document
                    or comparable(document) != expected[min(info.step_number, len(expected) - 1)]
                ):
                    verdict.wrong.append(
                        f"superstep {info.step_number} does not hold what it holds undisturbed"
                    )
                self._judge_makers(info.step_number, info.checkpoint_id, made, pids)
            for line in self.pick("step"):
                if line[2] not in [info.checkpoint_id for info in lineage] and line[2] not in gone:
                    verdict.lost.append(
                        f"superstep {line[1]} was acknowledged as {line[2]} and is not in the "
                        "lineage"
                    )
            if await storage.read_inbox(RUN):
                verdict.wrong.append("the inbox of the finished run is not empty")
            verdict.wrong += [
                f"damaged at the end: {damage.what}" for damage in await storage.verify()
            ]

    def _judge_makers(
        self, step: int, identifier: str, made: dict[str, list[int]], pids: dict[int, str]
    ) -> None:
        """Check that who committed a superstep made its calls; or somebody before, who was killed
        or stopped.
        """
        owners = [
            name
            for name in self.racers
            for line in self.pick("step", name)
            if line[2] == identifier
        ]
        away = {
            *self.killed(),
            *(name for name in self.racers if self.heard(name, "stops", "fenced")),
        }
        for executor_id, (number, pid) in made.items():
            maker = pids.get(pid, "referee")
            if number == step and owners and maker not in (*owners, *away):
                self.verdict.doubled.append(
                    f"superstep {step}, which {owners} committed, holds a call of {executor_id} "
                    f"that {maker} made"
                )

    def snapshot(self) -> tuple[object, ...]:
        """Return all that is stored of the run, except who owns it: one that comes too late may
        have looked.
        """
        return asyncio.run(self._snapshot())

    async def _snapshot(self) -> tuple[object, ...]:
        async with racing.open_store(self.store) as storage:
            run = await storage.get_run(RUN)
            if run is None:
                return ()
            records = [
                msgspec.json.encode(
                    (header, [(k, str(p)) for k, p in (await _record(storage, header)).items()])
                )
                for header in await storage.list_headers(RUN)
            ]
            return (
                replace(run, epoch=0, lease=None),
                records,
                await storage.read_journal(RUN, run.head),
                await storage.read_inbox(RUN),
            )


async def _record(storage: ManagedStorage, header: Any) -> dict[Any, Any]:
    record = await storage.load_record(header.checkpoint_id)
    return (
        {}
        if record is None
        else {k: p if isinstance(p, bytes) else list(p) for k, p in record.parts.items()}
    )


async def finish(storage: ManagedStorage, laps: int, answer: str) -> list[Any]:
    """Drive the run to its end and return its outputs."""
    run = racing.build(storage, laps).run_stream(1, run_id=RUN, if_exists="attach")
    async for event in run:
        if isinstance(event, RequestInfoEvent):
            await run.send_response(event.request_id, answer)
    return (await run.wait_for_completion()).get_outputs()


@lru_cache(maxsize=100)
def undisturbed(laps: int, answer: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """The outputs of the run when nobody else is there, and the content of its checkpoints,
    superstep by superstep.
    """
    return asyncio.run(_undisturbed(laps, answer))


async def _undisturbed(laps: int, answer: str) -> tuple[list[Any], list[dict[str, Any]]]:
    storage = InMemoryCheckpointStorage()
    outputs = await finish(storage, laps, answer)
    checkpoints = await storage.list_checkpoints(run_id=RUN)
    return outputs, [comparable(checkpoint.document()) for checkpoint in checkpoints]


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content without what differs from run to run, and without who made
    it.
    """
    content = judging.comparable(document)
    content["scopes"] = {name: scope for name, scope in content["scopes"].items() if name != MAKERS}
    return content
