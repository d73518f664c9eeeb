"""`import supersteps` stays light: nothing is imported that a bare run does not need."""

import json
import subprocess
import sys

HEAVY = {
    "click",
    "http.client",
    "multiprocessing",
    "pydantic",
    "rich",
    "sqlite3",
    "unittest",
    "urllib.request",
}

SCRIPT = """
import json, sys
before = set(sys.modules)
import supersteps
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_import_brings_no_heavy_module() -> None:
    # -I: neither the environment nor the current folder can add or hide a module.
    fresh = subprocess.run([sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, check=False)

    assert fresh.returncode == 0, fresh.stderr
    imported = set(json.loads(fresh.stdout))
    assert "supersteps" in imported
    assert not imported & HEAVY
