"""`import supersteps` stays light: nothing is imported that a bare run does not need."""

import json
import subprocess
import sys

HEAVY = {
    "click",
    "cryptography",
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
    fresh = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, check=False
    )

    assert fresh.returncode == 0, fresh.stderr
    imported = set(json.loads(fresh.stdout))
    assert "supersteps" in imported
    assert not imported & HEAVY


def test_every_error_is_exported() -> None:
    import supersteps
    from supersteps import errors

    made_here = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    ]
    assert "PictureError" in made_here
    assert {*made_here} <= {*supersteps.__all__}
    assert all(name in (errors.__doc__ or "") for name in made_here)
