"""Who is compared, and where each is installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(__file__).with_name(".envs")


class PeerFailed(Exception):
    """A peer could not be installed, or its script failed."""


def run_command(command: list[str]) -> str:
    """Run a command and return what it prints.

    Raises:
        PeerFailed: It failed; the message is the last line that it printed.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        raise PeerFailed(lines[-1])
    return done.stdout


@dataclass(frozen=True)
class Peer:
    """A library that does the same work.

    Attributes:
        name: What it is called in the tables.
        script: The module that does the work.
        durable: Where its durable mode keeps what it saves.
        requirements: What is installed, the peer itself first. Nothing: it runs in this
            environment.
        modes: What the script is asked for, the durable mode last.
    """

    name: str
    script: str
    durable: str
    requirements: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("bare", "memory", "durable")

    @property
    def package(self) -> str:
        """The peer's own package."""
        return self.requirements[0].partition("==")[0]

    @property
    def folder(self) -> Path:
        """Where its environment is: peers with the same requirements share one."""
        return ENVIRONMENTS / self.requirements[0].replace("==", "-").replace("*", "x")

    @property
    def python(self) -> str:
        """The interpreter that runs its script."""
        return str(self.folder / "bin" / "python") if self.requirements else sys.executable

    def install(self) -> None:
        """Make its environment, unless it is there and whole.

        Raises:
            PeerFailed: That did not work.
        """
        if not self.requirements:
            return
        installed, asked = self.folder / "installed.txt", "\n".join(self.requirements)
        if installed.exists() and installed.read_text() == asked:
            return
        print(f"Installing {' '.join(self.requirements)} …", file=sys.stderr)
        run_command([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            run_command([*pip, *self.requirements])
        except PeerFailed:  # the index may have no such version: the newest is the closest
            print(f"There is no {self.requirements[0]} here; trying the newest.", file=sys.stderr)
            run_command([*pip, self.package, *self.requirements[1:]])
        installed.write_text(asked)

    def version(self) -> str:
        """Return the version that is installed."""
        if not self.requirements:
            return ""
        asking = f"from importlib.metadata import version; print(version({self.package!r}))"
        return run_command([self.python, "-c", asking]).strip()

    def command(self, folder: Path, *arguments: str) -> list[str]:
        """Return the command that runs its script."""
        return [self.python, "-m", self.script, "--folder", str(folder), *arguments]


LANGGRAPH = ("langgraph==1.2.*", "langgraph-checkpoint-sqlite")

PEERS = (
    Peer("by hand", "benchmarks.peers.by_hand", "SQLite"),
    Peer("supersteps", "benchmarks.peers.peer_supersteps", "SqliteCheckpointStorage"),
    Peer(
        "agent-framework-core",
        "benchmarks.peers.peer_agent_framework",
        "FileCheckpointStorage",
        ("agent-framework-core==1.23.*",),
    ),
    Peer(
        "agent-framework-core",
        "benchmarks.peers.peer_agent_framework",
        "FileCheckpointStorage",
        (
            "agent-framework-core==1.0.0b251001",
            "mcp==1.15.0",
            "pydantic==2.11.9",
            "websockets",
            "opentelemetry-semantic-conventions-ai",
        ),
    ),
    Peer("langgraph", "benchmarks.peers.peer_langgraph", "AsyncSqliteSaver, sync", LANGGRAPH),
    Peer(
        "langgraph",
        "benchmarks.peers.peer_langgraph",
        "SqliteSaver, sync",
        LANGGRAPH,
        modes=("durable-sync",),
    ),
    Peer("dbos", "benchmarks.peers.peer_dbos", "SQLite", ("dbos==3.*",)),
)
