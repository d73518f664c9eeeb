"""The command line on an encrypted store."""

import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

from supersteps import Keyring

WORKFLOW = """
from typing import Never
from supersteps import WorkflowBuilder, WorkflowContext, executor

@executor
async def keep(text: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.set_shared_state("note", text)
    await ctx.yield_output(text.upper())

workflow = WorkflowBuilder(name="notes").set_start_executor(keep).build()
"""


def supersteps(folder: Path, *arguments: str, keys: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SUPERSTEPS_KEYS": keys, "SUPERSTEPS_STORE": "sealed.db"}
    command = [sys.executable, "-m", "supersteps", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def new_key(name: str) -> str:
    return f"{name}:{b64encode(Keyring.generate_key()).decode()}"


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text(WORKFLOW)
    keys = new_key("a")

    done = supersteps(tmp_path, "run", "notes:workflow", "a marked text", keys=keys)
    shown = supersteps(tmp_path, "show", "@latest@1", "--path", "shared_state.note", keys=keys)
    refused = supersteps(tmp_path, "show", "@latest@1", keys=new_key("b"))

    assert (done.returncode, done.stdout) == (0, "A MARKED TEXT\n"), done.stderr
    assert shown.stdout.strip() == '"a marked text"', shown.stderr
    assert refused.returncode == 1
    assert "key" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: key 'a' is needed")
    assert all(line.startswith(("warning: ", "error: ")) for line in refused.stderr.splitlines())
    assert b"marked text" not in b"".join(path.read_bytes() for path in tmp_path.glob("sealed.db*"))
