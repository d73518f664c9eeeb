"""Contract: many tasks, event loops and threads use one storage."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import AlreadyAnsweredError, RunExistsError, RunFencedError, SuperstepsError
from supersteps.ids import checkpoint_id
from supersteps.testing.subject import Subject
from supersteps.testing.writer import REQUEST, Writer, plain, request

MANY = 8


def on_many_loops(job: Callable[[int], Awaitable[str]], many: int = MANY) -> list[str]:
    """Run `job` on many threads with their own event loops; return results or error names."""
    results = [""] * many
    start = threading.Barrier(many)

    async def attempt(number: int) -> str:
        return await job(number)

    def work(number: int) -> None:
        start.wait()
        try:
            results[number] = asyncio.run(attempt(number))
        except SuperstepsError as error:
            results[number] = type(error).__name__

    threads = [threading.Thread(target=work, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Concurrency(Subject):
    """One of many writers wins, nothing is lost, and readers see consistent states."""

    async def test_many_runs_at_once(self) -> None:
        storage = self.storage

        async def advance(number: int) -> None:
            writer = Writer(storage, f"run {number}")
            for step in range(5):
                await writer.commit(Changes(appends={OUTPUTS: [b"%d" % step]}))

        await asyncio.gather(*(advance(number) for number in range(20)))

        assert len(await storage.list_checkpoint_ids()) == 100
        for number in range(20):
            assert plain(await storage.load_record(checkpoint_id(f"run {number}", 4))) == {
                OUTPUTS: [b"0", b"1", b"2", b"3", b"4"]
            }

    def test_one_of_many_creators_wins(self) -> None:
        async def create(number: int) -> str:
            await Writer(self.storage).put(n=b"%d" % number)
            return str(number)

        results = on_many_loops(create)

        (winner,) = [result for result in results if result.isdigit()]
        assert Counter(results)[RunExistsError.__name__] == MANY - 1
        assert plain(asyncio.run(self.storage.load_record("run-000000"))) == {
            ("shared_state", "n"): winner.encode()
        }

    def test_one_of_many_commits_wins(self) -> None:
        asyncio.run(Writer(self.storage).commit())

        async def follow(number: int) -> str:
            writer = Writer(self.storage)
            writer.head, writer.sequence = "run-000000", 0
            await writer.put(n=b"%d" % number)
            return str(number)

        results = on_many_loops(follow)

        (winner,) = [result for result in results if result.isdigit()]
        assert Counter(results)[RunFencedError.__name__] == MANY - 1
        assert plain(asyncio.run(self.storage.load_record("run-000001"))) == {
            ("shared_state", "n"): winner.encode()
        }

    def test_each_takeover_has_an_epoch_of_its_own(self) -> None:
        asyncio.run(Writer(self.storage).commit())

        async def take(number: int) -> str:
            writer = Writer(self.storage)
            await writer.take()
            return str(writer.epoch)

        assert sorted(on_many_loops(take)) == [str(epoch) for epoch in range(2, MANY + 2)]

    def test_one_of_many_answers_is_accepted(self) -> None:
        asyncio.run(Writer(self.storage).commit(Changes(puts={request("q"): REQUEST})))

        async def answer(number: int) -> str:
            await self.storage.add_answers("run", [("q", b"%d" % number)])
            return str(number)

        results = on_many_loops(answer)

        (winner,) = [result for result in results if result.isdigit()]
        assert Counter(results)[AlreadyAnsweredError.__name__] == MANY - 1
        assert [entry.value for entry in asyncio.run(self.storage.read_inbox("run"))] == [
            winner.encode()
        ]

    def test_handles_that_fight_over_a_run_lose_no_step(self) -> None:
        asyncio.run(Writer(self.storage).commit(Changes(appends={OUTPUTS: [b"0"]})))

        async def fight(number: int) -> str:
            committed = 0
            writer = Writer(self.storage)
            while committed < 5:
                try:
                    await writer.take()
                    await writer.commit(Changes(appends={OUTPUTS: [b"%d" % number]}))
                    committed += 1
                except RunFencedError:
                    continue
            return "done"

        assert on_many_loops(fight, 3) == ["done"] * 3

        run = asyncio.run(self.storage.get_run("run"))
        assert run is not None
        assert run.sequence == 15
        outputs = plain(asyncio.run(self.storage.load_record(run.head)))[OUTPUTS]
        assert Counter(outputs) == {b"0": 6, b"1": 5, b"2": 5}

    async def test_reading_while_others_write(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.commit(Changes(appends={OUTPUTS: [b"0"]}))
        busy = True

        async def write() -> None:
            nonlocal busy
            for number in range(1, 15):
                await storage.append_journal(
                    "run", 1, checkpoint_id("run", number - 1), [b"%d" % number]
                )
                await writer.commit(Changes(appends={OUTPUTS: [b"%d" % number]}))
            busy = False

        async def read() -> None:
            seen = 0
            while busy:
                run = await storage.get_run("run")
                assert run is not None
                assert run.sequence >= seen
                seen = run.sequence
                assert len(plain(await storage.load_record(run.head))[OUTPUTS]) == seen + 1
                assert await storage.list_checkpoint_ids() >= [
                    checkpoint_id("run", n) for n in range(seen + 1)
                ]
                await storage.read_journal("run", run.head)
                await asyncio.sleep(0)

        await asyncio.gather(write(), read(), read())

    async def test_a_cancelled_commit_is_there_or_not(self) -> None:
        for turns in range(4):
            self.elsewhere(f"cancelled after {turns}")
            await self._cancel_a_commit(turns)

    async def _cancel_a_commit(self, turns: int) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.put(n=b"1")
        commit = writer.next(Changes(puts={("shared_state", "n"): b"2"}))
        task = asyncio.create_task(storage.commit(commit))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        before = await storage.get_run("run")
        assert before is not None
        assert (before.sequence, len(await storage.list_checkpoint_ids())) in {(0, 1), (1, 2)}
        await storage.commit(commit)  # a retry completes it
        assert plain(await storage.load_record("run-000001")) == {("shared_state", "n"): b"2"}
        assert await storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
