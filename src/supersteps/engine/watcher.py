"""The watcher: a thread that names executors which block the event loop.

While executors run, it regularly asks their loops to answer. If a loop does not, the watcher finds
out whose task runs in it, and where in the code. So a superstep costs two changes of a dictionary,
and a handler that never returns is named, too. The loop itself need not report anything, which it
could not while it is blocked.

While a loop is blocked, its timeouts, cancellations, consumers and other runs have to wait. Leases
are renewed all the same, because the heartbeat is a thread. Only if the whole process was stopped,
or C code kept the interpreter, may a lease expire. Then another owner may take the run over, and
the superstep's commit is fenced (`RunFencedError`) and has changed nothing. If no owner did, the
commit counts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from supersteps._process_fork import restart_in_child
from supersteps._thread_warnings import report
from supersteps.errors import BlockedLoopWarning
from supersteps.events import WorkflowEvent, WorkflowWarningEvent

BLOCKED_SECONDS = 5.0
"""How long a loop may stand still until a warning names who holds it up."""

LOOKS = 5
"""How often a blocked loop is sampled; the executor seen most often is named."""

REMEMBERED = 10_000
"""For how many executors of runs it is remembered that they were named."""

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_EXECUTION = str(Path(__file__).with_name("execution.py"))
_WORK = ("_run_executor", "_call_apart")
"""The methods of `Execution` whose variable `site` has the executor that is running in a stack."""


class Site(Protocol):
    """An executor that is running in a superstep."""

    @property
    def address(self) -> str:
        """The executor."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def step_number(self) -> int:
        """The superstep."""

    @property
    def emit(self) -> Callable[[WorkflowEvent], None]:
        """Takes live events, on the loop."""


_get_ident = threading.get_ident
_get_running_loop = asyncio.get_running_loop


class _Question:
    """Put to a loop: does it turn?

    Attributes:
        sites: The executors that were running when it was asked.
        is_answered: Whether it does.
        looks: Number of samples without an answer.
        seen: Who was seen to run meanwhile, None for others.
        where: In which file, line and function they were seen last.
    """

    def __init__(self, sites: set[Site]) -> None:
        self.sites = sites
        self.is_answered = False
        self.looks = 0
        self.seen: Counter[Site | None] = Counter()
        self.where: dict[Site | None, tuple[str, int, str]] = {}

    def answer(self) -> None:
        self.is_answered = True


class Watcher:
    """Watches the loops in which executors are running.

    Attributes:
        at_work: Which executors are, and in which threads.
        untold: What was said of executors, while their consumers do not know it.
    """

    def __init__(
        self, seconds: float = BLOCKED_SECONDS, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Prepare.

        Args:
            seconds: How long a loop may stand still.
            pause: Lets that many seconds pass between two looks.
        """
        self.at_work: dict[Site, int] = {}
        self.untold: dict[Site, str] = {}
        self._seconds = seconds
        self._pause = pause
        restart_in_child(self)
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._questions: dict[asyncio.AbstractEventLoop, _Question] = {}
        self._named: dict[tuple[str, str, bool], None] = {}
        self._working = threading.Event()
        self._is_awake = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def restart(self) -> None:
        """Forget the threads and loops of the process that this one was forked from."""
        for table in (self.at_work, self.untold, self._loops, self._questions, self._named):
            table.clear()
        self._working = threading.Event()
        self._is_awake = False
        self._starting = threading.Lock()
        self._thread = None

    def watch(self, site: Site) -> None:
        """Look after this thread's loop while an executor is in `at_work`."""
        self.at_work[site] = thread = _get_ident()
        self._loops[thread] = _get_running_loop()
        if not self._is_awake:
            self._wake()

    def tell(self, site: Site) -> None:
        """Emit, on the loop, the warning event about an executor.

        That is when the loop turns again, or before the superstep continues.
        """
        text = self.untold.pop(site, None)
        if text is not None:
            site.emit(WorkflowWarningEvent(text))

    def _wake(self) -> None:
        self._is_awake = True
        self._working.set()
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look_on, name="supersteps-watcher", daemon=True
                )
                with suppress(
                    RuntimeError
                ):  # no thread can be started in this process, so no executor is named
                    self._thread.start()

    def _look_on(self) -> None:
        while True:
            self._working.wait()
            self._pause(self._seconds / LOOKS)
            try:
                self.look()
            except Exception as error:  # whatever it was, the next look may be better
                report(error)
            self._working.clear()
            self._is_awake = False
            if self.at_work or self._questions:
                self._is_awake = True
                self._working.set()

    def look(self) -> None:
        """Look at every loop once.

        Samples are counted, not seconds: a stopped process blocks no loop.
        """
        loops: dict[asyncio.AbstractEventLoop, tuple[int, set[Site]]] = {}
        for site, thread in self.at_work.copy().items():
            loop = self._loops.get(thread)
            if loop is not None:
                loops.setdefault(loop, (thread, set()))[1].add(site)
        for gone in self._questions.keys() - loops.keys():
            del self._questions[gone]
        for thread, loop in self._loops.copy().items():
            if loop.is_closed() and self._loops.get(thread) is loop:
                del self._loops[thread]
        for loop, (thread, sites) in loops.items():
            question = self._questions.get(loop)
            if question is None or question.is_answered or not loop.is_running():
                self._ask(loop, sites)
            else:
                self._wait_on(loop, question, thread, sites)

    def _ask(self, loop: asyncio.AbstractEventLoop, sites: set[Site]) -> None:
        self._questions.pop(loop, None)
        if loop.is_closed():  # its tasks were left behind
            for site in sites:
                self.at_work.pop(site, None)
                self.untold.pop(site, None)
        elif loop.is_running():
            question = _Question(sites)
            with suppress(RuntimeError):  # closed at this moment
                loop.call_soon_threadsafe(question.answer)
                self._questions[loop] = question

    def _wait_on(
        self, loop: asyncio.AbstractEventLoop, question: _Question, thread: int, sites: set[Site]
    ) -> None:
        """Note who runs in a loop that has not answered; in the end, name the most frequent."""
        question.sites &= sites
        if (
            not question.sites
        ):  # other work holds the loop up: that of the engine itself, or of no executor
            del self._questions[loop]
            return
        site, where = _running(sys._current_frames().get(thread))
        question.looks += 1
        question.seen[site] += 1
        question.where[site] = where
        if question.looks < LOOKS:
            return
        culprit = question.seen.most_common(1)[0][0]
        question.looks = 0
        question.seen.clear()
        is_sure = culprit is not None
        suspects = (
            [culprit]
            if culprit is not None
            else sorted(question.sites, key=lambda site: site.address)
        )
        news = [
            site for site in suspects if (site.run_id, site.address, is_sure) not in self._named
        ]
        if news:
            for site in news:  # an executor that is named for sure is no longer suspected
                self._named.update(
                    {(site.run_id, site.address, sure): None for sure in {is_sure, False}}
                )
            while len(self._named) > REMEMBERED:
                del self._named[next(iter(self._named))]
            self._warn(loop, news, question.where[culprit], is_sure=is_sure)

    def _warn(
        self,
        loop: asyncio.AbstractEventLoop,
        sites: list[Site],
        where: tuple[str, int, str],
        *,
        is_sure: bool,
    ) -> None:
        file, line, function = where
        names = " or ".join(f"executor {site.address!r}" for site in sites[:3])
        if len(sites) > 3:
            names += f" (or one of {len(sites) - 3} others)"
        who = names if is_sure else f"something that {names} started, or that runs beside it,"
        first = sites[0]
        text = (
            f"{who} has kept the event loop from turning for {self._seconds:g} seconds, in "
            f"{function}() at line {line} of {Path(file).name}. Meanwhile timeouts, cancellation, "
            "the events' consumer and everything else on that loop have to wait. Make it a plain "
            "`def` handler, which runs in a thread, or await asyncio.to_thread(...) for what "
            "takes long."
        )
        for site in {site.run_id: site for site in sites}.values():
            self.untold[site] = text
            with suppress(RuntimeError):  # the loop was closed at this moment
                loop.call_soon_threadsafe(self.tell, site)
        said = f"run {first.run_id!r}, superstep {first.step_number}: {text}"
        try:
            warnings.warn_explicit(said, BlockedLoopWarning, file, line)
        except (
            Exception
        ) as error:  # a filter has turned it into an error, which no caller could catch
            report(error)


def _running(frame: FrameType | None) -> tuple[Site | None, tuple[str, int, str]]:
    """Return whose handler runs in a stack, None for none, and where: file, line and function."""
    own = innermost = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _EXECUTION and code.co_name in _WORK:
            return frame.f_locals.get("site"), _place(own or innermost)
        if not code.co_filename.startswith(_PACKAGE):
            own = frame
            innermost = innermost or frame
        frame = frame.f_back
    return None, _place(innermost)


def _place(frame: FrameType | None) -> tuple[str, int, str]:
    if frame is None:
        return "<unknown>", 0, "?"
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname


_watcher = Watcher()
watch, unwatch, untold, tell = _watcher.watch, _watcher.at_work.pop, _watcher.untold, _watcher.tell
