"""The owner of a run, unique across machines, boots and containers."""

from __future__ import annotations

import functools
import os
import socket
import sys

import msgspec

from supersteps._process_fork import in_child


class Owner(msgspec.Struct, frozen=True, gc=False):
    """A process that may hold leases, and its handle.

    Attributes:
        host: Host name.
        boot_id: Identity of this boot of the machine, empty if the system has none.
        pid_namespace: Identity of the process-id namespace (containers), empty if there are none.
        pid: Process id.
        started: When the process started, as the system writes it, empty if unknown.
        handle: Identity of the run handle within the process.
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: str
    handle: str = ""

    def describe(self) -> str:
        """Return the owner in words."""
        return f"process {self.pid} on {self.host}"


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Return when a process started, None if there is no such process, "" if it is unknown."""
    if sys.platform.startswith("linux"):
        stat = _read_text(f"/proc/{pid}/stat")
        if not stat:
            return None
        fields = stat[
            stat.rfind(")") + 2 :
        ].split()  # the name may contain spaces; field 22 of proc(5) is the start
        return None if fields[0] in "ZX" else fields[19]
    if sys.platform == "win32":
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


@functools.cache
def _process_identity(pid: int) -> Owner:
    """Return this process's identity; `pid` is the cache key: a forked child gets its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Owner(
        host=socket.gethostname(),
        boot_id=_read_text("/proc/sys/kernel/random/boot_id"),
        pid_namespace=namespace,
        pid=pid,
        started=_process_start(pid) or "",
    )


in_child(_process_identity.cache_clear)  # a process id may have been that of an ancestor


def this_process(handle: str = "") -> Owner:
    """Return a handle of this process as an owner."""
    return msgspec.structs.replace(_process_identity(os.getpid()), handle=handle)


def is_this_process(owner: Owner) -> bool:
    """Return whether an owner is a handle of this process."""
    return owner.pid == os.getpid() and msgspec.structs.replace(owner, handle="") == this_process()


_advancing: set[str] = set()
in_child(_advancing.clear)  # those handles are running in the parent


def mark_advancing(handle: str, advancing: bool) -> None:
    """Record whether a handle of this process is in a superstep; an idle one may be superseded."""
    (_advancing.add if advancing else _advancing.discard)(
        handle
    )  # atomic: one operation on a set of strings


_claiming: set[str] = set()
in_child(_claiming.clear)  # so are those workers


def mark_claiming(worker: str, claiming: bool) -> None:
    """Record whether a worker of this process takes runs, by its handle.

    What it has taken is leased to handles named after it (`claims.handle_of`). None of these is
    idle while the worker is at work: they keep their runs until the leases end.
    """
    (_claiming.add if claiming else _claiming.discard)(worker)


def is_alive(owner: Owner) -> bool | None:
    """Return whether an owner may be running, None if only its lease's time can tell.

    That is the case for an owner on another machine or in another container.

    A handle of this process counts as running only during a superstep, so that an idle one can be
    superseded. That of a worker which is about to open a run keeps it for the time of its lease.
    """
    if is_this_process(owner):
        if owner.handle in _advancing:
            return True
        return None if owner.handle.partition("/")[0] in _claiming else False
    me = this_process()
    if not owner.boot_id or (owner.host, owner.boot_id, owner.pid_namespace) != (
        me.host,
        me.boot_id,
        me.pid_namespace,
    ):
        return None
    return _process_start(owner.pid) == owner.started
