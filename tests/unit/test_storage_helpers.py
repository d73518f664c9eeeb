"""The threads and locks beneath the storages."""

import asyncio
import os
import threading

import pytest

from supersteps.storage._workers import Workers
from supersteps.storage.plain.task_lock import TaskLock


async def test_a_job_returns_and_raises() -> None:
    workers = Workers("test", 2)
    assert await workers.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 7, 0)
    await workers.aclose()


async def test_workers_can_be_closed_and_used_again() -> None:
    workers = Workers("test-again", 2)
    await workers.aclose()
    for _ in range(2):
        name = await workers.run(lambda: threading.current_thread().name)
        assert name.startswith("test-again")
        await workers.aclose()
        assert not any(thread.name.startswith("test-again_") for thread in threading.enumerate())


async def test_closing_waits_for_jobs_under_way() -> None:
    workers = Workers("test", 1)
    go = threading.Event()
    job = asyncio.create_task(workers.run(go.wait, 10))
    await asyncio.sleep(0)
    closing = asyncio.create_task(workers.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    go.set()
    assert await job
    await closing


async def test_a_job_that_has_not_begun_is_called_off() -> None:
    workers = Workers("test", 1)
    go = threading.Event()
    ran: list[int] = []
    first = asyncio.create_task(workers.run(go.wait, 10))
    await asyncio.sleep(0)
    second = asyncio.create_task(workers.run(ran.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    await workers.aclose()
    assert ran == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_threads_of_its_own() -> None:
    workers = Workers("test", 1)
    assert asyncio.run(workers.run(os.getpid)) == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(workers.run(os.getpid)) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(workers.aclose())


async def test_a_task_lock_lets_one_in_at_a_time_in_order() -> None:
    lock = TaskLock()
    order: list[int] = []

    async def enter(number: int) -> None:
        async with lock:
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(enter(number) for number in range(5)))
    assert order == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("turns", range(4))
async def test_a_task_lock_passes_over_whoever_gave_up(turns: int) -> None:
    lock = TaskLock()

    async def enter() -> bool:
        async with lock:
            return True

    async with lock:
        waiting = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
    waiting[1].cancel()  # perhaps when its turn has come already
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert results[2] is True
    assert await enter()


def test_a_task_lock_works_across_event_loops() -> None:
    lock = TaskLock()
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
